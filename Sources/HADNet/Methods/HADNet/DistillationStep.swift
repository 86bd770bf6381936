import Compute
import Evaluation
import Imaging
import Learning
import Networks

/// One HAD-Net step: the frozen teacher infers, the student learns from truth and discriminator, the discriminator
/// learns to tell them apart unless it is already good at it.
///
/// Source: HAD-Net, section 2 and published code. The order of the parts is `SlotStep`'s.
package final class DistillationStep: TrainingProgram {
  /// Weights of the losses, the gate, and what both optimisers are set to.
  package struct Settings: Equatable, Sendable {
    /// Weight λ of the adversarial term in the student's loss.
    var lambda: Float
    /// The discriminator learns only while its accuracy is at most this.
    var gate: Double
    /// Of (background, NET, ED, ET) in the cross-entropy.
    var classWeights: [Float]
    var optimiser: Adam.Settings

    package init(lambda: Float, gate: Double, classWeights: [Float], optimiser: Adam.Settings) {
      self.lambda = lambda
      self.gate = gate
      self.classWeights = classWeights
      self.optimiser = optimiser
    }
  }

  package let terms: [Term] = DistillationStep.terms
  /// The student and the discriminator.
  package let learners: [Learner]
  package let workers: Workers
  let student, teacher: UNet
  let discriminator: Discriminator
  let teacherP: FrozenParameters
  let settings: Settings
  package let studentPass, teacherPass: UNetPass
  package let fake, real: DiscriminatorPass
  private let all, present: InputChannels
  private let dropout: StepDropout
  private let teacherDropout: Bool

  package var studentP: ParameterVector { learners[0].p }
  package var discriminatorP: ParameterVector { learners[1].p }

  /// `present`: the channels that the student sees; the teacher sees all. `teacherDropout`: whether the teacher's is on, as in the original.
  package init(
    student: UNet, _ studentP: ParameterVector, teacher: UNet, _ teacherP: FrozenParameters,
    _ discriminator: Discriminator, _ discriminatorP: ParameterVector, _ settings: Settings,
    present: InputChannels, size: Size,
    dropout: StepDropout, teacherDropout: Bool, _ layout: BatchLayout, _ workers: Workers
  ) {
    self.student = student
    self.teacher = teacher
    self.discriminator = discriminator
    self.teacherP = teacherP
    self.settings = settings
    all = InputChannels(Array(0..<teacher.inputs))
    self.present = present
    self.dropout = dropout
    self.teacherDropout = teacherDropout
    self.workers = workers
    let places = VolumePlan(student, teacher, discriminator, size), volumes = places.plan.volumes()
    teacherPass = UNetPass(places.teacher, volumes)
    studentPass = UNetPass(places.student, volumes)
    fake = DiscriminatorPass(places.fake, volumes)
    real = DiscriminatorPass(places.real, volumes)
    learners = [
      Learner("student", studentP, settings.optimiser, layout, workers),
      Learner("discriminator", discriminatorP, settings.optimiser, layout, workers),
    ]
  }

  package var lossName: String { "student's loss" }
  package var network: Model.Network { .unet(student) }

  /// One plan for the whole step: what teacher and student need only for themselves, and the discriminator on its way
  /// back, takes turns in the same memory.
  struct VolumePlan {
    private(set) var plan = WorkspacePlan()
    let student, teacher: UNetPass.VolumePlan
    let fake, real: DiscriminatorPass.VolumePlan

    init(_ student: UNet, _ teacher: UNet, _ discriminator: Discriminator, _ size: Size) {
      let judged = 2 * UNetPass.VolumePlan.forwardMoments, through = judged + 1
      let backward = through + DiscriminatorPass.VolumePlan.backwardMoments + 1
      let learns = backward + UNetPass.VolumePlan.backwardMoments + 1
      let end = learns + DiscriminatorPass.VolumePlan.backwardMoments + 1
      self.teacher = UNetPass.VolumePlan(teacher, size, in: &plan, forward: 0, features: (end, judged))
      self.student = UNetPass.VolumePlan(
        student, size, in: &plan, forward: UNetPass.VolumePlan.forwardMoments, backward: backward,
        features: (end, through))
      fake = DiscriminatorPass.VolumePlan(
        discriminator, size, in: &plan, forward: judged, backwards: [through, learns])
      real = DiscriminatorPass.VolumePlan(
        discriminator, size, in: &plan, forward: judged, backwards: [learns])
    }
  }

  // MARK: A step

  /// The frozen teacher's outputs for a case, and the student's.
  package func infer(_ item: SlotCase, _ batch: Batch) {
    workers.phase(.teacher) {
      all.copy(item.images, into: teacherPass.image)
      teacher.forward(
        teacherPass, teacherP, dropout: teacherDropout ? dropout.draw(.teacherDropout, batch, item) : nil,
        workers
      )
    }
    workers.phase(.student) {
      present.copy(item.images, into: studentPass.image)
      student.forward(studentPass, studentP, dropout: dropout.draw(.dropout, batch, item), workers)
    }
  }

  /// The discriminator's scores of student and teacher, made with the same weights, and all losses. Leaves the gradients of
  /// L_S = CE + λ · mean((HD(student) − 1)²) by logits and scores in the passes.
  package func losses(_ item: SlotCase, _ batch: Batch) -> StepValues? {
    workers.phase(.judge) {
      discriminator.forward(
        [fakeSample, realSample], sequences: studentPass.image, discriminatorP, workers)
    }
    return workers.phase(.loss) {
      // L_HD first: its gradient by the student's scores is made again on the discriminator's way back.
      let n = real.scores.shape.count, ofReal = real.scores, ofFake = fake.scores
      let realScores = ofReal.values, fakeScores = ofFake.values
      var rightOfReal = 0, rightOfFake = 0
      for i in 0..<n {
        if realScores[i] >= 0.5 { rightOfReal += 1 }
        if fakeScores[i] <= 0.5 { rightOfFake += 1 }
      }
      let judged = discriminatorLoss()
      let crossEntropy = CrossEntropy.loss(
        studentPass.logits, item.truth, weights: settings.classWeights, gradient: studentPass.dLogits, workers
      )
      let adversarial = LeastSquares.loss(
        fake.scores, target: 1, factor: settings.lambda, gradient: fake.dScores)
      var values = StepValues(
        terms, loss: crossEntropy + Double(settings.lambda) * adversarial,
        [
          .crossEntropy: crossEntropy, .discriminatorLoss: judged.fake + judged.real,
          .accuracy: Double(rightOfReal + rightOfFake) / Double(2 * n), .adversarial: adversarial,
          .judgedFake: judged.fake, .judgedReal: judged.real, .accuracyReal: Double(rightOfReal) / Double(n),
          .accuracyFake: Double(rightOfFake) / Double(n),
        ])
      for (pair, term) in Term.distances.enumerated() { values[term] = distance(pair) }
      return values
    }
  }

  package func backward(
    _ learner: Int, _ item: SlotCase, _ batch: Batch, finished: (Range<Int>) -> Void
  ) -> StepValues? {
    learner == 0 ? studentBackward(finished) : discriminatorBackward(finished)
    return nil
  }

  /// The gate: the discriminator learns while it is not too good at its work.
  package func learns(_ learner: Int, after means: inout StepValues, always: Bool) -> Bool {
    let learns = always || means[.accuracy] <= settings.gate
    means[.updated] = learns ? 1 : 0
    return learns
  }

  package func judge(_ item: SlotCase) -> (labels: LabelVolume, loss: Double?) {
    present.copy(item.images, into: studentPass.image)
    student.forward(studentPass, studentP, workers)
    return (Segmentation.labels(studentPass.logits, workers), nil)
  }

  // MARK: Parts

  /// The two terms of L_HD, and their gradients by the scores of both passes.
  private func discriminatorLoss() -> (fake: Double, real: Double) {
    (
      LeastSquares.loss(fake.scores, target: 0, factor: 1, gradient: fake.dScores),
      LeastSquares.loss(real.scores, target: 1, factor: 1, gradient: real.dScores)
    )
  }

  /// How far the student's features are from the teacher's at a scale, 0 the finest.
  private func distance(_ pair: Int) -> Double {
    FeatureDistance.of(
      [
        (studentPass.encoderFeature(pair), teacherPass.encoderFeature(pair)),
        (
          studentPass.decoderFeature(pair, upsampled: false),
          teacherPass.decoderFeature(pair, upsampled: false)
        ),
      ], workers)
  }

  /// The student's gradient of L_S.
  private func studentBackward(_ finished: (Range<Int>) -> Void) {
    // It needs the discriminator's data gradient only, not its weights'.
    workers.phase(.through) {
      discriminator.backward(
        [fakeSample], sequences: studentPass.image, discriminatorP, into: nil, intoNetwork: true, workers)
    }
    workers.phase(.studentBackward) {
      learners[0].gradient.fill(0, workers)
      student.backward(
        studentPass, studentP, into: learners[0].gradient,
        featureGradients: discriminator.hierarchical ? .all : .none, workers, finished: finished)
    }
  }

  private var fakeSample: Discriminator.Sample { Discriminator.Sample(fake, of: studentPass) }
  private var realSample: Discriminator.Sample { Discriminator.Sample(real, of: teacherPass) }

  /// The discriminator's gradient of L_HD; teacher and student are constants here.
  private func discriminatorBackward(_ finished: (Range<Int>) -> Void) {
    workers.phase(.discriminatorBackward) {
      _ = discriminatorLoss()
      learners[1].gradient.fill(0, workers)
      discriminator.backward(
        [realSample, fakeSample], sequences: studentPass.image, discriminatorP, into: learners[1].gradient,
        intoNetwork: false, workers, finished: finished)
    }
  }

  // MARK: Memory

  static func memory(hierarchical: Bool, _ request: MemoryRequest) -> StepMemory {
    let k = request.k, size = request.size, task = request.task, classes = task.classCount
    let student = UNet(inputs: task.present.count, k: k, classes: classes)
    let teacher = UNet(inputs: task.sequences.count, k: k, classes: classes)
    let discriminator = Discriminator(
      k: k, classes: classes, sequences: task.present.count, hierarchical: hierarchical)
    return StepMemory(
      trained: student.layout.count + discriminator.layout.count, frozen: teacher.layout.count,
      volumes: VolumePlan(student, teacher, discriminator, size).plan.count,
      kept: teacher.transforms(size).reduce(0, +),
      layers: student.transforms(size) + discriminator.transforms(size))
  }
}

// MARK: - Terms

extension Term {
  package static let crossEntropy = Term("cross_entropy", .loss, unit: "nat", spoken: "cross-entropy")
  /// L_HD.
  package static let discriminatorLoss = Term(
    "discriminator_loss", .loss, spoken: "discriminator's loss", label: "discriminator")
  /// Of the discriminator, on both networks' patches: what the gate looks at.
  package static let accuracy = Term("accuracy", .accuracy)
  /// Of steps, those in which the discriminator learns.
  package static let updated = Term("updated", .share, label: "steps updated")
  /// The least-squares terms mean((HD(student) − 1)²), mean(HD(student)²) and mean((HD(teacher) − 1)²).
  fileprivate static let adversarial = Term("adversarial", .loss)
  fileprivate static let judgedFake = Term("judged_fake", .loss)
  fileprivate static let judgedReal = Term("judged_real", .loss)
  /// On the teacher's patches, and on the student's.
  fileprivate static let accuracyReal = Term("accuracy_real", .accuracy, label: "accuracy, real")
  fileprivate static let accuracyFake = Term("accuracy_fake", .accuracy, label: "accuracy, fake")
  /// How far the student's features are from the teacher's at the three scales, from the finest (`FeatureDistance`).
  fileprivate static let distances = (1...3).map { Term("distance_\($0)", .distance, label: "scale \($0)") }
}

extension DistillationStep {
  package static let terms: [Term] =
    [
      .crossEntropy, .discriminatorLoss, .accuracy, .updated, .adversarial, .judgedFake, .judgedReal,
      .accuracyReal, .accuracyFake,
    ] + Term.distances
}

extension Profile.Phase {
  fileprivate static let judge = Self(rawValue: "discriminator on both")
  fileprivate static let through = Self(rawValue: "back through discriminator")
  fileprivate static let discriminatorBackward = Self(rawValue: "discriminator backward")
}
