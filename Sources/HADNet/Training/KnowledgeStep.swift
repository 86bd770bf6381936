import Collective

/// One step of KD-Net+: a frozen teacher's softened outputs and latent maps teach a student that begins with random
/// weights; no discriminator.
///
/// total = λ · (CE + Dice against the softened teacher) + (1 − λ) · (CE + Dice against the truth) + α · latent divergence.
/// Source: Hu et al., MICCAI 2020, on HAD-Net's networks.
public final class KnowledgeStep {
  public struct Settings: Equatable, Sendable {
    public var temperature: Float
    /// λ, the share of the softened teacher.
    public var lambda: Double
    /// α, the weight of the latent divergence.
    public var alpha: Double
    public var optimiser: Adam.Settings

    public init(temperature: Float, lambda: Double, alpha: Double, optimiser: Adam.Settings) {
      self.temperature = temperature
      self.lambda = lambda
      self.alpha = alpha
      self.optimiser = optimiser
    }
  }

  /// Means over the global batch, from before the step's update.
  public struct Report: Equatable, Sendable {
    /// Total, then `terms`.
    public let values: [Double]
    public let stops: Bool
  }

  /// Names of a report's values after the total.
  public static let terms = ["ref_cross_entropy", "ref_dice", "kd_cross_entropy", "kd_dice", "latent"]

  public let student, teacher: UNet
  public let studentP, teacherP: ParameterVector
  public let settings: Settings
  public var optimiser: Adam { reducer.optimiser }
  let studentPass, teacherPass: UNetPass
  private let reducer: GradientReducer
  var gradient: ParameterVector { reducer.gradient }
  private let reduction: Reduction
  private let workers: Workers
  private var cases: [SlotCase] = []
  public var exposed: Double { exposure.seconds }
  private let exposure: Exposure

  public init(
    student: UNet, _ studentP: ParameterVector, teacher: UNet, _ teacherP: ParameterVector,
    _ settings: Settings, size: Size, _ reduction: Reduction, _ workers: Workers
  ) {
    self.student = student
    self.teacher = teacher
    self.studentP = studentP
    self.teacherP = teacherP
    self.settings = settings
    self.reduction = reduction
    self.workers = workers
    teacherP.freeze()
    exposure = Exposure(reduction)
    let places = Places(student, teacher, size), volumes = places.plan.volumes()
    teacherPass = UNetPass(places.teacher, volumes)
    studentPass = UNetPass(places.student, volumes)
    reducer = GradientReducer(studentP, settings.optimiser, reduction, workers)
  }

  /// One plan for the whole step.
  struct Places {
    private(set) var plan = WorkspacePlan()
    let student, teacher: UNetPass.Places

    init(_ student: UNet, _ teacher: UNet, _ size: Size) {
      let forward = UNetPass.Places.forwardMoments, backward = 2 * forward
      self.teacher = UNetPass.Places(teacher, size, in: &plan, forward: 0, centre: backward)
      self.student = UNetPass.Places(
        student, size, in: &plan, forward: forward, backward: backward, centre: backward)
    }
  }

  /// A step over `filled` slots of the batch, of which `cases` are this rank's. The teacher's dropout is off. The update
  /// may still be under way: `settle` waits for it.
  public func run(
    _ cases: [SlotCase], filled: Int, rate: Double, dropout: (Int) -> DropoutDraw?,
    wantsStop: () -> Bool = { false }
  ) throws -> Report {
    try settle()
    self.cases = cases
    reducer.begin(filled: filled)
    var rows: [[Double]] = []
    for (i, item) in cases.enumerated() {
      rows.append(losses(item, dropout: dropout(item.slot)))
      if i + 1 < cases.count {
        learn()
        reducer.add()
      }
    }
    let names = ["loss"] + KnowledgeStep.terms
    let tally = Tally(rows, width: names.count, filled: filled, stops: wantsStop(), reduction)
    if !cases.isEmpty {
      reducer.addLast()
      learn { self.reducer.finished($0) }
    }
    let (means, stops) = try exposure.measure { try tally.wait() }
    try guardFinite(means, names, rows, cases, reduction)
    try reducer.update(rate: rate)
    return Report(values: means, stops: stops)
  }

  /// Waits until the parameters are those after the last step.
  public func settle() throws {
    try reducer.settle(cases, exposure)
  }

  /// The student's segmentation of a case as it stands, and the total loss, dropout off.
  func judge(_ item: SlotCase) -> (labels: LabelVolume, loss: Double) {
    let loss = losses(item, dropout: nil)[0]
    return (Segmentation.labels(studentPass.logits, workers), loss)
  }

  /// The losses of a case, total first, whose gradients by logits and latent map are left in the pass.
  func losses(_ item: SlotCase, dropout: DropoutDraw?) -> [Double] {
    workers.phase(.teacher) {
      Sight.all.copy(item.images, into: teacherPass.image)
      teacher.forward(teacherPass, teacherP, workers)
    }
    workers.phase(.student) {
      Sight.withoutContrast.copy(item.images, into: studentPass.image)
      student.forward(studentPass, studentP, dropout: dropout, workers)
    }
    return workers.phase(.loss) {
      let lambda = settings.lambda, foreground = 1..<UNet.classes
      let hard = OverlapLoss(classes: foreground).losses(
        studentPass.logits, .classes(item.truth), weight: Float(1 - lambda), gradient: studentPass.dLogits,
        workers)
      let soft = OverlapLoss(classes: foreground, temperature: settings.temperature).losses(
        studentPass.logits, .logits(teacherPass.logits), weight: Float(lambda),
        gradient: studentPass.dLogits, adding: true, workers)
      let latent = LatentDivergence.loss(
        student: studentPass.centre, teacher: teacherPass.centre, weight: Float(settings.alpha),
        gradient: studentPass.centreGradient, workers)
      let total =
        lambda * (soft.crossEntropy + soft.dice) + (1 - lambda) * (hard.crossEntropy + hard.dice)
        + settings.alpha * latent
      return [total, hard.crossEntropy, hard.dice, soft.crossEntropy, soft.dice, latent]
    }
  }

  /// The student's gradient.
  func learn(finished: (Range<Int>) -> Void = { _ in }) {
    workers.phase(.studentBackward) {
      gradient.fill(0, workers)
      student.backward(
        studentPass, studentP, into: gradient, featureGradients: .centre, workers, finished: finished)
    }
  }
}
