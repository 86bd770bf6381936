/// What a stage trains, and how: the networks and optimisers it owns, and one step over a batch.
protocol StageProgram: AnyObject {
  /// What is trained: the name of its file in a checkpoint, parameters and optimiser. The first is the network that is
  /// used afterwards.
  var trained: [(name: String, p: ParameterVector, optimiser: Adam)] { get }
  var network: Model.Network { get }
  /// Seconds spent waiting for other ranks or for what is exchanged with them.
  var exposed: Double { get }

  /// A step: means over the global batch of the loss and of the stage's terms, and whether any rank wants to stop.
  func run(_ batch: Batch) throws -> (values: [Double], stops: Bool)
  /// Waits until all parameters are those after the last step.
  func settle() throws
  /// The segmentation of a validation case, dropout off, and its loss where the stage's rate follows it.
  func judge(_ item: SlotCase) -> (labels: LabelVolume, loss: Double?)
}

/// What a step is made of.
struct Batch {
  /// This rank's cases.
  let cases: [SlotCase]
  /// Slots of the global batch that hold a case.
  let filled: Int
  /// Epochs and steps that are done.
  let epoch, step: Int
  let rate: Double
  /// Whether this rank wants the run to stop after the step.
  let wantsStop: () -> Bool
}

/// Dropout of a stage: masks are a function of its seed, the step and the slot.
struct StageDropout {
  let probability: Float
  let seed: UInt64

  func draw(_ purpose: Philox.Purpose, step: Int) -> (Int) -> DropoutDraw? {
    guard probability > 0 else { return { _ in nil } }
    return { DropoutDraw(probability: probability, seed: seed, purpose, step: step, slot: $0) }
  }
}

/// Teacher, student, and the control, which goes on from the best student.
final class PretrainingProgram: StageProgram {
  private let step: PretrainingStep
  private let name: String
  private let dropout: StageDropout
  private let weights: (_ epoch: Int) -> [Float]

  init(
    _ step: PretrainingStep, _ name: String, _ dropout: StageDropout, weights: @escaping (Int) -> [Float]
  ) {
    self.step = step
    self.name = name
    self.dropout = dropout
    self.weights = weights
  }

  var trained: [(name: String, p: ParameterVector, optimiser: Adam)] { [(name, step.p, step.optimiser)] }
  var network: Model.Network { .unet(step.network) }
  var exposed: Double { step.exposed }

  func run(_ batch: Batch) throws -> (values: [Double], stops: Bool) {
    let report = try step.run(
      batch.cases, filled: batch.filled, weights: weights(batch.epoch), rate: batch.rate,
      dropout: dropout.draw(.dropout, step: batch.step), wantsStop: batch.wantsStop)
    return ([report.loss], report.stops)
  }

  func settle() throws { try step.settle() }
  func judge(_ item: SlotCase) -> (labels: LabelVolume, loss: Double?) { (step.segment(item.images), nil) }
}

/// HAD-Net and AD-Net.
final class DistillationProgram: StageProgram {
  private let step: DistillationStep
  private let dropout: StageDropout
  private let teacherDropout: Bool
  private let weights: [Float]

  init(_ step: DistillationStep, _ dropout: StageDropout, teacherDropout: Bool, weights: [Float]) {
    self.step = step
    self.dropout = dropout
    self.teacherDropout = teacherDropout
    self.weights = weights
  }

  var trained: [(name: String, p: ParameterVector, optimiser: Adam)] {
    [
      ("student", step.studentP, step.studentOptimiser),
      ("discriminator", step.discriminatorP, step.discriminatorOptimiser),
    ]
  }
  var network: Model.Network { .unet(step.student) }
  var exposed: Double { step.exposed }

  func run(_ batch: Batch) throws -> (values: [Double], stops: Bool) {
    let report = try step.run(
      batch.cases, filled: batch.filled, weights: weights,
      studentDropout: dropout.draw(.dropout, step: batch.step),
      teacherDropout: teacherDropout ? dropout.draw(.teacherDropout, step: batch.step) : { _ in nil },
      wantsStop: batch.wantsStop)
    return (
      [
        report.loss, report.crossEntropy, report.discriminatorLoss, report.accuracy,
        report.updated ? 1 : 0,
      ] + report.diagnostics, report.stops
    )
  }

  func settle() throws { try step.settle() }
  func judge(_ item: SlotCase) -> (labels: LabelVolume, loss: Double?) { (step.segment(item.images), nil) }
}

/// KD-Net+.
final class KnowledgeProgram: StageProgram {
  private let step: KnowledgeStep
  private let dropout: StageDropout

  init(_ step: KnowledgeStep, _ dropout: StageDropout) {
    self.step = step
    self.dropout = dropout
  }

  var trained: [(name: String, p: ParameterVector, optimiser: Adam)] {
    [("student", step.studentP, step.optimiser)]
  }
  var network: Model.Network { .unet(step.student) }
  var exposed: Double { step.exposed }

  func run(_ batch: Batch) throws -> (values: [Double], stops: Bool) {
    let report = try step.run(
      batch.cases, filled: batch.filled, rate: batch.rate,
      dropout: dropout.draw(.dropout, step: batch.step), wantsStop: batch.wantsStop)
    return (report.values, report.stops)
  }

  func settle() throws { try step.settle() }
  func judge(_ item: SlotCase) -> (labels: LabelVolume, loss: Double?) {
    let (labels, loss) = step.judge(item)
    return (labels, loss)
  }
}

/// U-HeMIS and U-HVED.
final class FusionProgram: StageProgram {
  private let step: FusionStep
  private let name: String
  private let seed: UInt64

  init(_ step: FusionStep, _ name: String, seed: UInt64) {
    self.step = step
    self.name = name
    self.seed = seed
  }

  var trained: [(name: String, p: ParameterVector, optimiser: Adam)] { [(name, step.p, step.optimiser)] }
  var network: Model.Network { .fusion(step.network) }
  var exposed: Double { step.exposed }

  func run(_ batch: Batch) throws -> (values: [Double], stops: Bool) {
    let seed = seed, workers = step.workers
    let report = try step.run(
      batch.cases, filled: batch.filled, rate: batch.rate,
      draw: { item in
        var random = Philox(seed: seed, .sequences, batch.step, item.slot)
        let present = Modality.present(random: &random)
        return .init(present: Modality.allCases.map(present.contains)) { level, noise in
          Philox(seed: seed, .noise, batch.step, item.slot, part: level)
            .fillNormal(noise.base, count: noise.shape.count, workers)
        }
      }, wantsStop: batch.wantsStop)
    return (report.values, report.stops)
  }

  func settle() throws { try step.settle() }
  func judge(_ item: SlotCase) -> (labels: LabelVolume, loss: Double?) {
    preconditionFailure("\(name) is not validated")
  }
}
