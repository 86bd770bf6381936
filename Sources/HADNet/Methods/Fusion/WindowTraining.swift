import Collective
import Compute
import Files
import Imaging
import Learning
import Networks

/// U-HeMIS: windows of cases, of which any sequences may be missing. No validation: the last weights are used.
/// Source: U-HVED's code (Dorent et al., MICCAI 2019) and NiftyNet 0.5.
package struct WindowTraining: Equatable, Sendable {
  /// Channels of the first convolution.
  package var width = 8
  /// Windows that are seen in all; the original's steps, whose batch is one.
  package var windows = 60_000
  /// Windows that are cut out of a case each time it is loaded.
  package var windowsPerCase = 32
  /// Windows that wait, from which the next is drawn.
  package var queue = 30
  /// Voxels of a window's side in training.
  package var patch = 112
  /// Voxels of a window's side at inference.
  package var window = 128
  package var rate = 1e-3
  /// What the rate is multiplied by…
  package var rateFactor = 0.25
  /// …each time so many windows more have been seen.
  package var rateInterval = 10_000
  package var beta1 = 0.9
  package var beta2 = 0.999
  package var epsilon = 1e-8
  /// Weight decay as a term of the loss, ½ Σ w², the mean over the kernels.
  package var decay = 1e-5
  /// Probability of a flip of each axis.
  package var flip: Float = 0.5
  /// Largest change of scale of each axis.
  package var scale: Float = 0.1
  /// A side of the cropped volume is widened to this.
  package var leastSide = 128
  /// Where the landmarks of histogram standardisation come from.
  package var landmarks = LandmarkSource.data

  package init() {}
}

/// Landmarks of histogram standardisation.
package enum LandmarkSource: String, CaseIterable, Sendable {
  /// Means over the training cases.
  case data
  /// Those of the authors' BraTS 2018 training set.
  case published
}

/// U-HVED: as U-HeMIS, and its own terms.
package struct HeteromodalTraining: Equatable, Sendable {
  package var training = WindowTraining()
  /// Weight of the divergences of the products of Gaussians.
  package var divergence = 0.1
  /// Weight of the reconstruction.
  package var reconstruction = 0.1
  /// Segments from the means instead of a sample.
  package var means = false

  package init() {}
}

extension WindowTraining: RecipeSection {
  package mutating func visit(_ v: inout some RecipeVisitor) throws(Fault) {
    try v.value("width", &width, .even(2...256))
    try v.value("windows", &windows, .whole(1...1_000_000_000))
    try v.value("windows_per_case", &windowsPerCase, .whole(1...100_000))
    try v.value("queue", &queue, .whole(1...100_000))
    try v.value("patch", &patch, .whole(16...4096))
    try v.value("window", &window, .whole(32...4096))
    try v.value("rate", &rate, .number(above: 0, to: 1))
    try v.value("rate_factor", &rateFactor, .number(above: 0, to: 1))
    try v.value("rate_interval", &rateInterval, .whole(1...1_000_000_000))
    try v.value("beta1", &beta1, .number(from: 0, below: 1))
    try v.value("beta2", &beta2, .number(from: 0, below: 1))
    try v.value("epsilon", &epsilon, .number(above: 0, to: 1))
    try v.value("decay", &decay, .number(from: 0, to: 1))
    try v.value("flip", &flip, .number(from: 0, to: 1))
    try v.value("scale", &scale, .number(from: 0, below: 1))
    try v.value("least_side", &leastSide, .whole(1...4096))
    try v.value("landmarks", &landmarks, .choice())
  }
}

extension HeteromodalTraining: RecipeSection {
  package mutating func visit(_ v: inout some RecipeVisitor) throws(Fault) {
    try training.visit(&v)
    try v.value("divergence", &divergence, .number(from: 0, to: 1000))
    try v.value("reconstruction", &reconstruction, .number(from: 0, to: 1000))
    try v.value("means", &means, .flag)
  }
}

extension WindowTraining: MethodSettings {
  package var channels: Int? {
    get { width }
    set { width = newValue ?? width }
  }

  package var schedule: Schedule {
    Schedule(
      rate: rate,
      optimiser: .init(beta1: beta1, beta2: beta2, epsilon: epsilon, isEpsilonUncorrected: true),
      steps: (rateFactor, rateInterval))
  }
}

extension HeteromodalTraining: MethodSettings {
  package var channels: Int? {
    get { training.channels }
    set { training.channels = newValue }
  }

  package var schedule: Schedule { training.schedule }
}

extension Section<WindowTraining> {
  static let uhemis = Section(key: "uhemis")
}

extension Section<HeteromodalTraining> {
  static let uhved = Section(key: "uhved")
}

extension Method {
  /// Fuses moments of whatever sequences there are.
  package static let uhemis = fusion(
    key: "uhemis", title: "U-HeMIS", stream: 7, section: AnySection(.uhemis), .moments
  ) { settings in
    var own = HeteromodalTraining()
    own.training = Section.uhemis.settings(settings)
    return own
  }

  /// Fuses Gaussians, and makes the sequences again.
  package static let uhved = fusion(
    key: "uhved", title: "U-HVED", stream: 8, section: AnySection(.uhved), .gaussians
  ) { Section.uhved.settings($0) }

  /// `settings`: U-HeMIS has none of U-HVED's own terms, whose weights it ignores.
  private static func fusion(
    key: String, title: String, stream: UInt64, section: AnySection, _ fusion: FusionNetwork.Fusion,
    settings: @escaping @Sendable (any MethodSettings) -> HeteromodalTraining
  ) -> Method {
    Method(
      key: key, title: title, stream: stream, section: section, terms: FusionStep.terms(fusion),
      network: "network", hasDropout: false,
      memory: { FusionStep.memory(fusion, settings($0.settings).training, $0) },
      make: { try setUp(fusion, settings($0.settings), $0) })
  }

  private static func setUp(
    _ fusion: FusionNetwork.Fusion, _ settings: HeteromodalTraining, _ context: MethodContext
  ) throws -> MethodSetup {
    let training = settings.training, patch = training.patch, seed = context.seed
    let task = context.task
    let network = FusionNetwork(
      fusion, width: training.width, sequences: task.sequences, classes: task.classCount)
    let (preparation, store) = try context.data.standardised(
      training.landmarks, leastSide: training.leastSide)
    let step = FusionStep(
      network, network.initialParameters(seed: seed, part: 0),
      .init(
        decay: training.decay, divergence: settings.divergence, reconstruction: settings.reconstruction,
        optimiser: training.schedule.optimiser),
      size: context.slotSize ?? Size(patch, patch, patch), draw: .random(task.sequences.count, seed: seed),
      context.layout,
      context.workers)
    let side = training.window
    return MethodSetup(
      program: step,
      cases: {
        WindowOrder(
          context.data.trainingCases,
          .init(
            windows: training.windows, perCase: training.windowsPerCase, queue: training.queue, patch: patch,
            augmentation: .init(
              flip: training.flip, least: 1 - training.scale, most: 1 + training.scale)),
          slots: context.layout.slots.count, seed: seed, store, Workers(context.workers.count))
      },
      metadata: Model.Metadata(
        method: context.method.title, k: training.width, dropout: 0,
        sequences: context.sequences, size: Size(side, side, side),
        preparation: context.used(preparation),
        latent: fusion == .gaussians ? (settings.means ? .means : .sample(seed: seed)) : nil))
  }
}
