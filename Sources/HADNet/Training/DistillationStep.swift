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
    /// Whether the discriminator is updated.
    public let updated: Bool
    /// What is watched beside: see `DistillationStep.terms`, from `adversarial` on.
    public let diagnostics: [Double]
    /// Whether any rank wants to stop after this step.
    public let stops: Bool
  }

  /// Names of what a step tells after its loss: the cross-entropy, L_HD and the accuracy that the gate looks at; the
  /// share of steps with an update; the least-squares terms mean((HD(student) − 1)²), mean(HD(student)²) and
  /// mean((HD(teacher) − 1)²); the accuracy on the teacher's and on the student's patches; and how far the student's
  /// features are from the teacher's at the three scales, from the finest (`FeatureDistance`).
  public static let terms =
    ["cross_entropy", "discriminator_loss", "accuracy", "updated"] + diagnosticTerms
  private static let diagnosticTerms = [
    "adversarial", "judged_fake", "judged_real", "accuracy_real", "accuracy_fake", "distance_1", "distance_2",
    "distance_3",
  ]
  /// Numbers of a case: the losses and the accuracy, then the diagnostics.
  private static let width = 4 + diagnosticTerms.count

  public let student, teacher: UNet
  public let discriminator: Discriminator
  public let studentP, teacherP, discriminatorP: ParameterVector
  public var studentOptimiser: Adam { studentReducer.optimiser }
  public var discriminatorOptimiser: Adam { discriminatorReducer.optimiser }
  public let settings: Settings
  let studentPass, teacherPass: UNetPass
  let fake, real: DiscriminatorPass
  private let studentReducer, discriminatorReducer: GradientReducer
  var studentGradient: ParameterVector { studentReducer.gradient }
  var discriminatorGradient: ParameterVector { discriminatorReducer.gradient }
  private let reduction: Reduction
  private let workers: Workers
  private var cases: [SlotCase] = []
  /// Seconds spent waiting for other ranks or for what is exchanged with them.
  public var exposed: Double { exposure.seconds }
  private let exposure: Exposure

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
    self.reduction = reduction
    exposure = Exposure(reduction)
    let places = Places(student, teacher, discriminator, size), volumes = places.plan.volumes()
    teacherPass = UNetPass(places.teacher, volumes)
    studentPass = UNetPass(places.student, volumes)
    fake = DiscriminatorPass(places.fake, volumes)
    real = DiscriminatorPass(places.real, volumes)
    studentReducer = GradientReducer(studentP, settings.optimiser, reduction, workers)
    discriminatorReducer = GradientReducer(discriminatorP, settings.optimiser, reduction, workers)
  }

  /// One plan for the whole step: what teacher and student need only for themselves, and the discriminator on its way
  /// back, takes turns in the same memory.
  struct Places {
    private(set) var plan = WorkspacePlan()
    let student, teacher: UNetPass.Places
    let fake, real: DiscriminatorPass.Places

    init(_ student: UNet, _ teacher: UNet, _ discriminator: Discriminator, _ size: Size) {
      let judged = 2 * UNetPass.Places.forwardMoments, through = judged + 1
      let backward = through + DiscriminatorPass.Places.backwardMoments + 1
      let learns = backward + UNetPass.Places.backwardMoments + 1
      let end = learns + DiscriminatorPass.Places.backwardMoments + 1
      self.teacher = UNetPass.Places(teacher, size, in: &plan, forward: 0, features: (end, judged))
      self.student = UNetPass.Places(
        student, size, in: &plan, forward: UNetPass.Places.forwardMoments, backward: backward,
        features: (end, through))
      fake = DiscriminatorPass.Places(
        discriminator, size, in: &plan, forward: judged, backwards: [through, learns])
      real = DiscriminatorPass.Places(discriminator, size, in: &plan, forward: judged, backwards: [learns])
    }
  }

  /// A step over `filled` slots of the batch, of which `cases` are this rank's. `studentDropout` and
  /// `teacherDropout` give the masks of a slot (the original leaves the teacher's dropout on), `wantsStop` whether this
  /// rank wants the run to stop.
  ///
  /// With several ranks the student's update goes on behind the discriminator's backward pass, and the
  /// discriminator's behind the next step's teacher and student; `settle` waits for both. With one case a rank a
  /// gated-off update costs nothing; with several, all but the last case's gradients are made before the gate is known.
  public func run(
    _ cases: [SlotCase], filled: Int, weights: [Float], studentDropout: (Int) -> DropoutDraw?,
    teacherDropout: (Int) -> DropoutDraw?, wantsStop: () -> Bool = { false }
  ) throws -> Report {
    try settleStudent()
    let before = self.cases
    self.cases = cases
    var isSettled = false
    var rows: [[Double]] = []
    var tally: Tally?
    studentReducer.begin(filled: filled)
    for (i, item) in cases.enumerated() {
      let isLast = i + 1 == cases.count
      infer(item, dropout: teacherDropout(item.slot))
      study(item, dropout: studentDropout(item.slot))
      if !isSettled {
        try settleDiscriminator(before)
        discriminatorReducer.begin(filled: filled)
        isSettled = true
      }
      rows.append(score(item, weights: weights))
      if isLast {
        tally = Tally(rows, width: DistillationStep.width, filled: filled, stops: wantsStop(), reduction)
        studentReducer.addLast()
        learn { self.studentReducer.finished($0) }
      } else {
        learn()
        studentReducer.add()
        learnToJudge()
        discriminatorReducer.add()
      }
    }
    if !isSettled {
      try settleDiscriminator(before)
      discriminatorReducer.begin(filled: filled)
    }
    let numbers =
      tally ?? Tally(rows, width: DistillationStep.width, filled: filled, stops: wantsStop(), reduction)
    let (means, stops) = try exposure.measure { try numbers.wait() }
    try guardFinite(
      means,
      ["student's loss", "cross-entropy", "discriminator's loss", "accuracy"]
        + DistillationStep.diagnosticTerms,
      rows, cases, reduction)
    try workers.phase(.update) { try studentReducer.update(rate: settings.rate) }

    // The accuracy is that of the whole batch, so every rank takes the same way.
    let updated = means[3] <= settings.gate
    if updated {
      if !cases.isEmpty {
        discriminatorReducer.addLast()
        learnToJudge { self.discriminatorReducer.finished($0) }
      }
      try workers.phase(.update) { try discriminatorReducer.update(rate: settings.rate) }
    }
    return Report(
      loss: means[0], crossEntropy: means[1], discriminatorLoss: means[2], accuracy: means[3],
      updated: updated, diagnostics: Array(means[4...]), stops: stops)
  }

  /// Waits until all parameters are those after the last step.
  public func settle() throws {
    try settleStudent()
    try settleDiscriminator(cases)
  }

  private func settleStudent() throws {
    try studentReducer.settle(cases, exposure)
  }

  private func settleDiscriminator(_ cases: [SlotCase]) throws {
    try discriminatorReducer.settle(cases, exposure)
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

  /// The student's outputs for a case.
  func study(_ item: SlotCase, dropout: DropoutDraw?) {
    workers.phase(.student) {
      Sight.withoutContrast.copy(item.images, into: studentPass.image)
      student.forward(studentPass, studentP, dropout: dropout, workers)
    }
  }

  /// The discriminator's scores of student and teacher, made with the same weights, and all losses: L_S = CE +
  /// λ · mean((HD(student) − 1)²), CE, L_HD, accuracy, and the diagnostics. Leaves the gradients of L_S by logits and scores in the passes.
  func score(_ item: SlotCase, weights: [Float]) -> [Double] {
    workers.phase(.judge) {
      discriminator.forward(
        [fakeSample, realSample], sequences: studentPass.image, discriminatorP, workers)
    }
    return workers.phase(.loss) {
      // L_HD first: its gradient by the student's scores is made again in `learnToJudge`.
      let n = real.scores.shape.count
      var rightOfReal = 0, rightOfFake = 0
      for i in 0..<n {
        if real.scores.base[i] >= 0.5 { rightOfReal += 1 }
        if fake.scores.base[i] <= 0.5 { rightOfFake += 1 }
      }
      let judged = discriminatorLoss()
      let crossEntropy = CrossEntropy.loss(
        studentPass.logits, item.truth, weights: weights, gradient: studentPass.dLogits, workers)
      let adversarial = LeastSquares.loss(
        fake.scores, target: 1, factor: settings.lambda, gradient: fake.dScores)
      return [
        crossEntropy + Double(settings.lambda) * adversarial, crossEntropy, judged.fake + judged.real,
        Double(rightOfReal + rightOfFake) / Double(2 * n), adversarial, judged.fake, judged.real,
        Double(rightOfReal) / Double(n), Double(rightOfFake) / Double(n),
      ] + distances()
    }
  }

  /// The two terms of L_HD, and their gradients by the scores of both passes.
  private func discriminatorLoss() -> (fake: Double, real: Double) {
    (
      LeastSquares.loss(fake.scores, target: 0, factor: 1, gradient: fake.dScores),
      LeastSquares.loss(real.scores, target: 1, factor: 1, gradient: real.dScores)
    )
  }

  private func distances() -> [Double] {
    (0..<3).map { pair in
      FeatureDistance.of(
        [
          (studentPass.encoderFeature(pair), teacherPass.encoderFeature(pair)),
          (
            studentPass.decoderFeature(pair, upsampled: false),
            teacherPass.decoderFeature(pair, upsampled: false)
          ),
        ], workers)
    }
  }

  /// The student's gradient of L_S.
  func learn(finished: (Range<Int>) -> Void = { _ in }) {
    // It needs the discriminator's data gradient only, not its weights'.
    workers.phase(.through) {
      discriminator.backward(
        [fakeSample], sequences: studentPass.image, discriminatorP, into: nil, intoNetwork: true, workers)
    }
    workers.phase(.studentBackward) {
      studentGradient.fill(0, workers)
      student.backward(
        studentPass, studentP, into: studentGradient,
        featureGradients: discriminator.hierarchical ? .all : .none, workers,
        finished: finished)
    }
  }

  private var fakeSample: Discriminator.Sample { Discriminator.Sample(fake, of: studentPass) }
  private var realSample: Discriminator.Sample { Discriminator.Sample(real, of: teacherPass) }

  /// The discriminator's gradient of L_HD; teacher and student are constants here.
  func learnToJudge(finished: (Range<Int>) -> Void = { _ in }) {
    workers.phase(.discriminatorBackward) {
      _ = discriminatorLoss()
      discriminatorGradient.fill(0, workers)
      discriminator.backward(
        [realSample, fakeSample], sequences: studentPass.image, discriminatorP, into: discriminatorGradient,
        intoNetwork: false, workers, finished: finished)
    }
  }
}
