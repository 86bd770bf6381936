/// One HAD-Net step: the frozen teacher infers, the student learns from truth and discriminator, the discriminator
/// learns to tell them apart unless it is already good at it.
///
/// Source: HAD-Net, section 2 and published code; see `run` for the order.
public final class DistillationStep {
  public struct Settings: Equatable, Sendable {
    /// Weight λ of the adversarial term in the student's loss.
    public var lambda: Float
    /// The discriminator learns only while its accuracy is at most this.
    public var gate: Double
    public var rate: Double
    public var optimiser: Adam.Settings

    public init(lambda: Float, gate: Double, rate: Double, optimiser: Adam.Settings) {
      self.lambda = lambda
      self.gate = gate
      self.rate = rate
      self.optimiser = optimiser
    }
  }

  /// Means over the global batch, from before the step's updates.
  public struct Report: Equatable, Sendable {
    public let loss, crossEntropy, discriminatorLoss, accuracy: Double
    /// Whether the discriminator was updated.
    public let updated: Bool
  }

  public let student, teacher: UNet
  public let discriminator: Discriminator
  public let studentP, teacherP, discriminatorP: ParameterVector
  public let studentOptimiser, discriminatorOptimiser: Adam
  public let settings: Settings
  let studentPass, teacherPass: UNetPass
  let fake, real: DiscriminatorPass
  let studentGradient, discriminatorGradient: ParameterVector
  private let studentReducer, discriminatorReducer: GradientReducer
  private let workers: Workers

  public init(
    student: UNet, _ studentP: ParameterVector, teacher: UNet, _ teacherP: ParameterVector,
    _ discriminator: Discriminator, _ discriminatorP: ParameterVector, _ settings: Settings, size: Size,
    _ reduction: Reduction, _ workers: Workers
  ) {
    self.student = student
    self.teacher = teacher
    self.discriminator = discriminator
    self.studentP = studentP
    self.teacherP = teacherP
    self.discriminatorP = discriminatorP
    self.settings = settings
    self.workers = workers
    teacherP.freeze()
    studentOptimiser = Adam(student.layout, settings.optimiser)
    discriminatorOptimiser = Adam(discriminator.layout, settings.optimiser)
    // One plan for the whole step: what teacher and student need only for themselves, and the discriminator on its way
    // back, takes turns in the same memory.
    var plan = WorkspacePlan()
    let judged = 2 * UNetPass.Places.forwardMoments, through = judged + 1
    let backward = through + DiscriminatorPass.Places.backwardMoments + 1
    let learns = backward + UNetPass.Places.backwardMoments + 1
    let end = learns + DiscriminatorPass.Places.backwardMoments + 1
    let teacherPlaces = UNetPass.Places(teacher, size, in: &plan, forward: 0, features: (end, judged))
    let studentPlaces = UNetPass.Places(
      student, size, in: &plan, forward: UNetPass.Places.forwardMoments, backward: backward,
      features: (end, through))
    let fakePlaces = DiscriminatorPass.Places(
      discriminator, size, in: &plan, forward: judged, backwards: [through, learns])
    let realPlaces = DiscriminatorPass.Places(
      discriminator, size, in: &plan, forward: judged, backwards: [learns])
    let volumes = plan.volumes()
    teacherPass = UNetPass(teacherPlaces, volumes)
    studentPass = UNetPass(studentPlaces, volumes)
    fake = DiscriminatorPass(fakePlaces, volumes)
    real = DiscriminatorPass(realPlaces, volumes)
    studentGradient = ParameterVector(zeros: student.layout)
    discriminatorGradient = ParameterVector(zeros: discriminator.layout)
    studentReducer = GradientReducer(student.layout, reduction)
    discriminatorReducer = GradientReducer(discriminator.layout, reduction)
  }

  /// A step over `filled` slots of the batch, of which `cases` are this rank's. `studentDropout` and
  /// `teacherDropout` give the masks of a slot (the original leaves the teacher's dropout on).
  ///
  /// With one case a rank the gate is known before the discriminator's backward pass, and a gated-off update costs
  /// nothing. With several the passes' memory serves one case after the other, so the gradient is made before the
  /// gate is known and dropped if it closes.
  public func run(
    _ cases: [SlotCase], filled: Int, weights: [Float], studentDropout: (Int) -> DropoutDraw?,
    teacherDropout: (Int) -> DropoutDraw?
  ) throws -> Report {
    studentReducer.begin(filled: filled)
    discriminatorReducer.begin(filled: filled)
    let together = try studentReducer.largestRun() <= 1
    var rows: [[Double]] = []
    for item in cases {
      infer(item, dropout: teacherDropout(item.slot))
      var row = learn(item, weights: weights, dropout: studentDropout(item.slot))
      studentReducer.add(studentGradient)
      row += judge()
      rows.append(row)
      if !together {
        learnToJudge()
        discriminatorReducer.add(discriminatorGradient)
      }
    }
    let means = try studentReducer.mean(rows, count: 4)
    try guardFinite(means[0], "student's loss", cases)
    try guardFinite(means[2], "discriminator's loss", cases)
    try workers.phase(.update) {
      studentOptimiser.update(
        studentP, gradient: try studentReducer.finish(), scale: 1 / Float(filled), rate: settings.rate,
        workers)
    }

    // The accuracy is that of the whole batch, so every rank takes the same way.
    let updated = means[3] <= settings.gate
    if updated {
      if together {
        for _ in cases {
          learnToJudge()
          discriminatorReducer.add(discriminatorGradient)
        }
      }
      try workers.phase(.update) {
        discriminatorOptimiser.update(
          discriminatorP, gradient: try discriminatorReducer.finish(), scale: 1 / Float(filled),
          rate: settings.rate, workers)
      }
    }
    return Report(
      loss: means[0], crossEntropy: means[1], discriminatorLoss: means[2], accuracy: means[3],
      updated: updated)
  }

  /// The student's segmentation of a case as it stands, dropout off.
  public func segment(_ images: Volume) -> LabelVolume {
    Sight.withoutContrast.copy(images, into: studentPass.image)
    student.forward(studentPass, studentP, workers)
    return Segmentation.labels(studentPass.logits, workers)
  }

  /// The frozen teacher's outputs for a case.
  func infer(_ item: SlotCase, dropout: DropoutDraw?) {
    workers.phase(.teacher) {
      Sight.all.copy(item.images, into: teacherPass.image)
      teacher.forward(teacherPass, teacherP, dropout: dropout, workers)
    }
  }

  /// The student's turn: L_S = CE + λ · mean((HD(student) − 1)²) and its gradient. Gives [L_S, CE].
  func learn(_ item: SlotCase, weights: [Float], dropout: DropoutDraw?) -> [Double] {
    workers.phase(.student) {
      Sight.withoutContrast.copy(item.images, into: studentPass.image)
      student.forward(studentPass, studentP, dropout: dropout, workers)
    }
    // The teacher's outputs are judged now as well, with the same weights: the two share the work on them.
    workers.phase(.judge) {
      discriminator.forward(
        [fakeSample, realSample], sequences: studentPass.image, discriminatorP, workers)
    }
    let (crossEntropy, adversarial) = workers.phase(.loss) {
      (
        CrossEntropy.loss(
          studentPass.logits, item.truth, weights: weights, gradient: studentPass.dLogits, workers),
        LeastSquares.loss(fake.scores, target: 1, factor: settings.lambda, gradient: fake.dScores)
      )
    }
    let features = discriminator.hierarchical
    // The student's loss needs the discriminator's data gradient only, not its weights'.
    workers.phase(.through) {
      discriminator.backward(
        [fakeSample], sequences: studentPass.image, discriminatorP, into: nil, intoNetwork: true, workers)
    }
    workers.phase(.studentBackward) {
      studentGradient.fill(0, workers)
      student.backward(studentPass, studentP, into: studentGradient, featureGradients: features, workers)
    }
    return [crossEntropy + Double(settings.lambda) * adversarial, crossEntropy]
  }

  private var fakeSample: Discriminator.Sample { Discriminator.Sample(fake, of: studentPass) }
  private var realSample: Discriminator.Sample { Discriminator.Sample(real, of: teacherPass) }

  /// The discriminator's scores of teacher and student, made in the student's turn. Gives [L_HD, accuracy] and leaves
  /// ∂L_HD/∂scores in both passes.
  func judge() -> [Double] {
    let n = real.scores.shape.count
    var right = 0
    for i in 0..<n {
      if real.scores.base[i] >= 0.5 { right += 1 }
      if fake.scores.base[i] <= 0.5 { right += 1 }
    }
    let loss =
      LeastSquares.loss(fake.scores, target: 0, factor: 1, gradient: fake.dScores)
      + LeastSquares.loss(real.scores, target: 1, factor: 1, gradient: real.dScores)
    return [loss, Double(right) / Double(2 * n)]
  }

  /// The discriminator's gradient of L_HD; teacher and student are constants here.
  func learnToJudge() {
    workers.phase(.discriminatorBackward) {
      discriminatorGradient.fill(0, workers)
      discriminator.backward(
        [realSample, fakeSample], sequences: studentPass.image, discriminatorP, into: discriminatorGradient,
        intoNetwork: false, workers)
    }
  }
}
