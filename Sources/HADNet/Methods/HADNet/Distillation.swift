import Compute
import Files
import Imaging
import Learning
import Networks

/// Distillation from teacher to student against a discriminator: two Adam optimisers with the same settings.
///
/// Source: HAD-Net, section 3 and published code.
package struct Distillation: Equatable, Sendable {
  package var epochs = 800
  package var rate = 2e-4
  package var beta1 = 0.5
  package var beta2 = 0.999
  package var epsilon = 1e-8
  /// λ, the share of the adversarial term in the student's loss.
  package var lambda = 0.2
  /// The discriminator learns only while its accuracy is at most this.
  package var gate = 0.8
  /// Whether the teacher's dropout is on, as in the original.
  package var teacherDropout = true
  /// Class weights, fixed for the whole stage; nil: those that pre-training starts with.
  package var classWeights: ClassWeights?
  /// Epochs from one validation to the next.
  package var validationInterval = 1

  package init() {}
}

extension Distillation: RecipeSection {
  package mutating func visit(_ v: inout some RecipeVisitor) throws(Fault) {
    try visitTraining(&v)
    try v.value("lambda", &lambda, .number(from: 0, to: 1000))
    try v.value("gate", &gate, .number(from: 0, to: 1))
    try v.value("teacher_dropout", &teacherDropout, .flag)
    try v.value("class_weights", &classWeights, .orNull(.weights, "those of data"))
    try visitValidation(&v)
  }
}

extension Distillation: EpochSettings {
  package var schedule: Schedule {
    Schedule(
      rate: rate, optimiser: adam(),
      validationInterval: validationInterval)
  }

  /// Fixed for the whole of the training.
  fileprivate func classWeights(_ data: any MethodData) -> [Float] {
    switch classWeights {
    case .fixed(let weights)?: weights
    case .data?: data.countedWeights
    case nil: data.startWeights
    }
  }
}

extension Section<Distillation> {
  static let hadnet = Section(key: "hadnet")
}

extension Method {
  /// HAD-Net, the paper's method: a discriminator of all scales tells student from teacher.
  package static let hadnet = adversarial(key: "hadnet", title: "HAD-Net", stream: 3, hierarchical: true)

  /// HAD-Net with a discriminator that sees logits and sequences only.
  package static let adnet = adversarial(key: "adnet", title: "AD-Net", stream: 5, hierarchical: false)

  /// The student trained on as HAD-Net is, without the adversarial term: tells what distillation gives from what more
  /// training gives. The paper has no such column.
  package static let control = Method(
    key: "control", title: "Control", stream: 4, needs: [.student], section: AnySection(.hadnet),
    remark: "the student trained on as long as HAD-Net, without the adversarial term",
    memory: { PretrainingStep.memory(.present, $0) },
    make: { context in
      let settings = context.settings(.hadnet), student = try context.data.best(.student)
      let weights = settings.classWeights(context.data)
      let step = PretrainingStep(
        "student", student.network, InputSequences.present.channels(context.task),
        ParameterVector(copying: student.p),
        settings.schedule.optimiser,
        size: context.itemSize, dropout: context.dropout, weights: { _ in weights },
        context.layout, context.workers)
      return MethodSetup(program: step, cases: { context.cases(settings.epochs) }, metadata: context.metadata)
    })

  private static func adversarial(
    key: String, title: String, stream: UInt64, hierarchical: Bool
  ) -> Method {
    Method(
      key: key, title: title, stream: stream, needs: [.teacher, .student], section: AnySection(.hadnet),
      terms: DistillationStep.terms,
      memory: { DistillationStep.memory(hierarchical: hierarchical, $0) },
      watch: DiscriminatorWatch.warning,
      make: { context in
        let settings = context.settings(.hadnet)
        let teacher = try context.data.best(.teacher), student = try context.data.best(.student)
        let discriminator = Discriminator(
          k: context.networks.k, classes: context.task.classCount, sequences: context.task.present.count,
          hierarchical: hierarchical)
        let step = DistillationStep(
          student: student.network, ParameterVector(copying: student.p), teacher: teacher.network, teacher.p,
          discriminator,
          discriminator.initialParameters(seed: context.seed, part: 0),
          .init(
            lambda: Float(settings.lambda), gate: settings.gate,
            classWeights: settings.classWeights(context.data), optimiser: settings.schedule.optimiser),
          present: InputSequences.present.channels(context.task), size: context.itemSize,
          dropout: context.dropout,
          teacherDropout: settings.teacherDropout, context.layout, context.workers)
        return MethodSetup(
          program: step, cases: { context.cases(settings.epochs) }, metadata: context.metadata)
      })
  }
}
