import Files
import Imaging
import Learning
import Networks

/// KD-Net+: a softened teacher and its latent maps teach a student from random weights. The original's code was not found:
/// the numbers are this project's reading of its paper (Hu et al., MICCAI 2020).
package struct KnowledgeDistillation: Equatable, Sendable {
  package var epochs = 500
  package var rate = 1e-4
  package var beta1 = 0.9
  package var beta2 = 0.999
  package var epsilon = 1e-8
  /// On the validation loss.
  package var plateau = PlateauSettings(patience: 50, factor: 0.2)
  /// T, by which logits are divided where the teacher's are the target.
  package var temperature: Float = 5
  /// λ, the share of the softened teacher in the loss; 1 − λ is the truth's.
  package var lambda = 0.75
  /// α, the weight of the latent divergence.
  package var alpha = 10.0
  /// Probability of a flip of each axis.
  package var flip: Float = 0.5
  /// Epochs from one validation to the next.
  package var validationInterval = 1

  package init() {}
}

extension KnowledgeDistillation: RecipeSection {
  package mutating func visit(_ v: inout some RecipeVisitor) throws(Fault) {
    try visitTraining(&v)
    try v.section("plateau", &plateau)
    try v.value("temperature", &temperature, .number(above: 0, to: 1000))
    try v.value("lambda", &lambda, .number(from: 0, to: 1))
    try v.value("alpha", &alpha, .number(from: 0, to: 100_000))
    try v.value("flip", &flip, .number(from: 0, to: 1))
    try visitValidation(&v)
  }
}

extension KnowledgeDistillation: EpochSettings {
  package var schedule: Schedule {
    Schedule(
      rate: rate, optimiser: adam(),
      validationInterval: validationInterval, plateau: plateau, plateauFollows: .loss)
  }
}

extension Section<KnowledgeDistillation> {
  static let kdnet = Section(key: "kdnet")
}

extension Method {
  /// KD-Net+: no discriminator; the teacher's softened outputs and latent maps are the student's targets.
  package static let kdnet = Method(
    key: "kdnet", title: "KD-Net+", stream: 6, needs: [.teacher], section: AnySection(.kdnet),
    terms: KnowledgeStep.terms,
    memory: KnowledgeStep.memory,
    make: { context in
      let settings = context.settings(.kdnet), teacher = try context.data.best(.teacher)
      let task = context.task
      let student = UNet(inputs: task.present.count, k: context.networks.k, classes: task.classCount)
      let step = KnowledgeStep(
        student: student, student.initialParameters(seed: context.seed, part: 0), teacher: teacher.network,
        teacher.p,
        .init(
          temperature: settings.temperature, lambda: settings.lambda, alpha: settings.alpha,
          optimiser: settings.schedule.optimiser),
        present: InputSequences.present.channels(task), size: context.itemSize, dropout: context.dropout,
        context.layout, context.workers)
      let mirror = MirrorAugmentation(flip: settings.flip)
      return MethodSetup(
        program: step,
        cases: {
          context.cases(settings.epochs) { item, truth, random in
            mirror.apply(images: item.images, labels: truth, random: &random)
          }
        }, metadata: context.metadata)
    })
}
