import Files
import Imaging
import Networks

/// Training of a network by itself: AdamW, augmentation, decaying class weights.
public struct Pretraining: Equatable, Sendable {
  public var epochs = 400
  public var rate = 2e-4
  public var beta1 = 0.9
  public var beta2 = 0.999
  public var epsilon = 1e-8
  /// Decoupled weight decay.
  public var decay = 1e-5
  public var plateau = PlateauSettings()
  /// Class weights are multiplied by it in each epoch after the first…
  public var classWeightDecay: Float = 0.98
  /// …but never fall below it.
  public var classWeightFloor: Float = 1
  public var augmentation = AugmentationSettings()
  /// Epochs from one validation to the next.
  public var validationInterval = 1

  public init() {}
}

/// Random changes of a case in pre-training.
public struct AugmentationSettings: Equatable, Sendable {
  public var enabled = true
  /// Probability of a flip of x.
  public var flip: Float = 0.5
  /// Probability of an affine map.
  public var affine: Float = 0.8
  /// Largest rotation about each axis, degrees.
  public var rotation: Float = 4
  /// Largest shear.
  public var shear: Float = 0.04
  /// Largest change of scale.
  public var scale: Float = 0.04

  public init() {}
}

extension Pretraining: RecipeSection {
  public mutating func visit(_ v: inout some RecipeVisitor) throws(Fault) {
    try visitTraining(&v)
    try v.value("decay", &decay, .number(from: 0, to: 1))
    try v.section("plateau", &plateau)
    try v.value("class_weight_decay", &classWeightDecay, .number(above: 0, to: 1))
    try v.value("class_weight_floor", &classWeightFloor, .number(from: 0, to: 1e6))
    try v.section("augmentation", &augmentation)
    try visitValidation(&v)
  }
}

extension AugmentationSettings: RecipeSection {
  public mutating func visit(_ v: inout some RecipeVisitor) throws(Fault) {
    try v.value("enabled", &enabled, .flag)
    try v.value("flip", &flip, .number(from: 0, to: 1))
    try v.value("affine", &affine, .number(from: 0, to: 1))
    try v.value("rotation", &rotation, .number(from: 0, to: 180))
    try v.value("shear", &shear, .number(from: 0, below: 1))
    try v.value("scale", &scale, .number(from: 0, below: 1))
  }
}

extension Pretraining: EpochSettings {
  public var schedule: Schedule {
    Schedule(
      rate: rate, optimiser: adam(decay: decay),
      validationInterval: validationInterval, plateau: plateau)
  }
}

extension Section<Pretraining> {
  static let teacher = Section(key: "teacher")
  static let student = Section(key: "student")
}

extension Method {
  /// Sees all sequences; a student learns from it.
  public static let teacher = pretraining(.teacher, title: "Teacher", stream: 1, inputs: .all)
  /// Sees what will be there, and learns from the truth alone.
  public static let student = pretraining(.student, title: "Student", stream: 2, inputs: .withoutContrast)

  private static func pretraining(
    _ section: Section<Pretraining>, title: String, stream: UInt64, inputs: Sight
  ) -> Method {
    Method(
      key: section.key, title: title, stream: stream, inputs: inputs, section: AnySection(section),
      network: section.key,
      memory: { PretrainingStep.memory(inputs, $0) },
      make: { context in
        let settings = context.settings(section),
          network = UNet(inputs: inputs.channels.count, k: context.networks.k)
        let weights = DecayingWeights(
          context.data.startWeights, decay: settings.classWeightDecay, floor: settings.classWeightFloor)
        let step = PretrainingStep(
          section.key, network, inputs, network.initialParameters(seed: context.seed, part: 0),
          settings.schedule.optimiser, size: context.itemSize, dropout: context.dropout,
          weights: { weights.weights(epoch: $0) }, context.layout, context.workers)
        let change = settings.augmentation, workers = context.workers
        let augmentation = Augmentation(
          flip: change.flip, affine: change.affine, rotation: change.rotation * .pi / 180,
          shear: change.shear, scale: change.scale)
        return MethodSetup(
          program: step,
          cases: {
            context.cases(settings.epochs) { item, truth, random in
              guard change.enabled else { return (item.images, truth) }
              return augmentation.apply(
                images: item.images, labels: truth, mask: item.mask, random: &random, workers)
            }
          }, facts: context.facts)
      })
  }
}
