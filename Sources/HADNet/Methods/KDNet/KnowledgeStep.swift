import Collective
import Compute
import Evaluation
import Imaging
import Learning
import Networks

/// One step of KD-Net+: a frozen teacher's softened outputs and latent maps teach a student that begins with random
/// weights; no discriminator.
///
/// total = λ · (CE + Dice against the softened teacher) + (1 − λ) · (CE + Dice against the truth) + α · latent divergence.
/// Source: Hu et al., MICCAI 2020, on HAD-Net's networks.
package final class KnowledgeStep: TrainingProgram {
  /// Weights of the loss's terms, and what the optimiser is set to.
  package struct Settings: Equatable, Sendable {
    var temperature: Float
    /// λ, the share of the softened teacher.
    var lambda: Double
    /// α, the weight of the latent divergence.
    var alpha: Double
    var optimiser: Adam.Settings

    package init(temperature: Float, lambda: Double, alpha: Double, optimiser: Adam.Settings) {
      self.temperature = temperature
      self.lambda = lambda
      self.alpha = alpha
      self.optimiser = optimiser
    }
  }

  package let terms: [Term] = KnowledgeStep.terms
  package let learners: [Learner]
  package let workers: Workers
  let student, teacher: UNet
  let teacherP: FrozenParameters
  let settings: Settings
  package let studentPass, teacherPass: UNetPass
  private let all, present: InputChannels
  private let dropout: StepDropout

  package var studentP: ParameterVector { learners[0].p }
  package var network: Model.Network { .unet(student) }

  /// `present`: the channels that the student sees; the teacher sees all. Its dropout is off.
  package init(
    student: UNet, _ studentP: ParameterVector, teacher: UNet, _ teacherP: FrozenParameters,
    _ settings: Settings, present: InputChannels, size: Size, dropout: StepDropout, _ layout: BatchLayout,
    _ workers: Workers
  ) {
    self.student = student
    self.teacher = teacher
    self.teacherP = teacherP
    self.settings = settings
    all = InputChannels(Array(0..<teacher.inputs))
    self.present = present
    self.dropout = dropout
    self.workers = workers
    let places = VolumePlan(student, teacher, size), volumes = places.plan.volumes()
    teacherPass = UNetPass(places.teacher, volumes)
    studentPass = UNetPass(places.student, volumes)
    learners = [Learner("student", studentP, settings.optimiser, layout, workers)]
  }

  /// One plan for the whole step.
  struct VolumePlan {
    private(set) var plan = WorkspacePlan()
    let student, teacher: UNetPass.VolumePlan

    init(_ student: UNet, _ teacher: UNet, _ size: Size) {
      let forward = UNetPass.VolumePlan.forwardMoments, backward = 2 * forward
      self.teacher = UNetPass.VolumePlan(teacher, size, in: &plan, forward: 0, centre: backward)
      self.student = UNetPass.VolumePlan(
        student, size, in: &plan, forward: forward, backward: backward, centre: backward)
    }
  }

  package func losses(_ item: SlotCase, _ batch: Batch) -> StepValues? {
    losses(item, dropout: dropout.draw(.dropout, batch, item))
  }

  package func judge(_ item: SlotCase) -> (labels: LabelVolume, loss: Double?) {
    let loss = losses(item, dropout: nil).loss
    return (Segmentation.labels(studentPass.logits, workers), loss)
  }

  /// The losses of a case, whose gradients by logits and latent map are left in the pass.
  package func losses(_ item: SlotCase, dropout: DropoutDraw?) -> StepValues {
    workers.phase(.teacher) {
      all.copy(item.images, into: teacherPass.image)
      teacher.forward(teacherPass, teacherP, workers)
    }
    workers.phase(.student) {
      present.copy(item.images, into: studentPass.image)
      student.forward(studentPass, studentP, dropout: dropout, workers)
    }
    return workers.phase(.loss) {
      let lambda = settings.lambda, foreground = 1..<student.classes
      let hard = OverlapLoss(classes: foreground).losses(
        studentPass.logits, .classes(item.truth), weight: Float(1 - lambda), gradient: studentPass.dLogits,
        workers)
      let soft = OverlapLoss(classes: foreground, temperature: settings.temperature).losses(
        studentPass.logits, .logits(teacherPass.logits, truth: item.truth), weight: Float(lambda),
        gradient: studentPass.dLogits, adding: true, workers)
      let latent = LatentDivergence.loss(
        student: studentPass.centre, teacher: teacherPass.centre, weight: Float(settings.alpha),
        gradient: studentPass.centreGradient, workers)
      let total =
        lambda * (soft.crossEntropy + soft.dice) + (1 - lambda) * (hard.crossEntropy + hard.dice)
        + settings.alpha * latent
      return StepValues(
        terms, loss: total,
        [
          .hardCrossEntropy: hard.crossEntropy, .hardDice: hard.dice, .softCrossEntropy: soft.crossEntropy,
          .softDice: soft.dice, .latent: latent,
        ])
    }
  }

  package func backward(
    _ learner: Int, _ item: SlotCase, _ batch: Batch, finished: (Range<Int>) -> Void
  ) -> StepValues? {
    workers.phase(.studentBackward) {
      learners[0].gradient.fill(0, workers)
      student.backward(
        studentPass, studentP, into: learners[0].gradient, featureGradients: .centre, workers,
        finished: finished)
    }
    return nil
  }

  @Sendable static func memory(_ request: MemoryRequest) -> StepMemory {
    let k = request.k, size = request.size, task = request.task
    let student = UNet(inputs: task.present.count, k: k, classes: task.classCount)
    let teacher = UNet(inputs: task.sequences.count, k: k, classes: task.classCount)
    return StepMemory(
      trained: student.layout.count, frozen: teacher.layout.count,
      volumes: VolumePlan(student, teacher, size).plan.count, kept: teacher.transforms(size).reduce(0, +),
      layers: student.transforms(size))
  }
}

extension Term {
  /// Against the truth.
  fileprivate static let hardCrossEntropy = Term("ref_cross_entropy", .loss, unit: "nat")
  fileprivate static let hardDice = Term("ref_dice", .loss)
  /// Against the softened teacher.
  fileprivate static let softCrossEntropy = Term("kd_cross_entropy", .loss, unit: "nat")
  fileprivate static let softDice = Term("kd_dice", .loss)
  fileprivate static let latent = Term("latent", .loss, unit: "nat")
}

extension KnowledgeStep {
  package static let terms: [Term] = [.hardCrossEntropy, .hardDice, .softCrossEntropy, .softDice, .latent]
}
