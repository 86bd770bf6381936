import Compute
import Files
import Imaging
import Learning
import Networks

/// Training of a network by itself: AdamW, augmentation, decaying class weights.
///
/// Source: HAD-Net, section 3, appendix B and published code.
package struct Pretraining: Equatable, Sendable {
  package var epochs = 400
  package var rate = 2e-4
  package var beta1 = 0.9
  package var beta2 = 0.999
  package var epsilon = 1e-8
  /// Decoupled weight decay.
  package var decay = 1e-5
  package var plateau = PlateauSettings()
  /// Class weights are multiplied by it in each epoch after the first…
  package var classWeightDecay: Float = 0.98
  /// …but never fall below it.
  package var classWeightFloor: Float = 1
  package var augmentation = AugmentationSettings()
  /// A model file, or a folder with one, whose network training starts from; nil: random numbers.
  package var start: String?
  /// Epochs from one validation to the next.
  package var validationInterval = 1

  package init() {}
}

/// Random changes of a case in pre-training.
package struct AugmentationSettings: Equatable, Sendable {
  package var enabled = true
  /// Probability of a flip of x.
  package var flip: Float = 0.5
  /// Probability of an affine map.
  package var affine: Float = 0.8
  /// Largest rotation about each axis, degrees.
  package var rotation: Float = 4
  /// Largest shear.
  package var shear: Float = 0.04
  /// Largest change of scale.
  package var scale: Float = 0.04

  package init() {}
}

extension Pretraining: RecipeSection {
  package mutating func visit(_ v: inout some RecipeVisitor) throws(Fault) {
    try visitTraining(&v)
    try v.value("decay", &decay, .number(from: 0, to: 1))
    try v.section("plateau", &plateau)
    try v.value("class_weight_decay", &classWeightDecay, .number(above: 0, to: 1))
    try v.value("class_weight_floor", &classWeightFloor, .number(from: 0, to: 1e6))
    try v.section("augmentation", &augmentation)
    try v.value("start", &start, .orNull(.text("a model file"), "random numbers"))
    try visitValidation(&v)
  }
}

extension AugmentationSettings: RecipeSection {
  package mutating func visit(_ v: inout some RecipeVisitor) throws(Fault) {
    try v.value("enabled", &enabled, .flag)
    try v.value("flip", &flip, .number(from: 0, to: 1))
    try v.value("affine", &affine, .number(from: 0, to: 1))
    try v.value("rotation", &rotation, .number(from: 0, to: 180))
    try v.value("shear", &shear, .number(from: 0, below: 1))
    try v.value("scale", &scale, .number(from: 0, below: 1))
  }
}

extension Pretraining: EpochSettings {
  package var schedule: Schedule {
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
  package static let teacher = pretraining(.teacher, title: "Teacher", stream: 1, inputs: .all)
  /// Sees what will be there, and learns from the truth alone.
  package static let student = pretraining(.student, title: "Student", stream: 2, inputs: .present)

  private static func pretraining(
    _ section: Section<Pretraining>, title: String, stream: UInt64, inputs: InputSequences
  ) -> Method {
    Method(
      key: section.key, title: title, stream: stream, inputs: inputs, section: AnySection(section),
      network: section.key,
      memory: { PretrainingStep.memory(inputs, $0) },
      make: { context in
        let settings = context.settings(section),
          seen = inputs.channels(context.task)
        let network = UNet(inputs: seen.count, k: context.networks.k, classes: context.task.classCount)
        let weights = DecayingWeights(
          context.data.startWeights, decay: settings.classWeightDecay, floor: settings.classWeightFloor)
        let start = try settings.start.flatMap { try context.data.start($0, of: context.method, network) }
        let step = PretrainingStep(
          section.key, network, seen,
          start.map { ParameterVector(copying: $0) }
            ?? network.initialParameters(seed: context.seed, part: 0),
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
          }, metadata: context.metadata)
      })
  }
}
