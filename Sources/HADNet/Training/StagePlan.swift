import Collective
import Foundation

/// What a stage is made of, by recipe: its networks with their start values, the step that trains them, the order of its
/// cases, and what the trained network is used with.
struct StagePlan {
  private let recipe: Recipe
  private let stage: Stage
  private let data: TrainingData
  private let run: RunFolder
  private let reduction: Reduction
  private let workers: Workers
  private let seed: UInt64

  init(
    _ recipe: Recipe, _ stage: Stage, _ data: TrainingData, _ run: RunFolder, _ reduction: Reduction,
    _ workers: Workers
  ) {
    self.recipe = recipe
    self.stage = stage
    self.data = data
    self.run = run
    self.reduction = reduction
    self.workers = workers
    seed = stage.seed(recipe)
  }

  /// All ranks together.
  func make(
    over communicator: Communicator
  ) throws -> (program: any StageProgram, feed: any Feed, facts: Model.Facts) {
    let k = recipe.network.k, size = data.commonSize
    let dropout = StageDropout(probability: recipe.network.dropout, seed: seed)
    let optimiser = stage.optimiser(recipe)
    switch stage {
    case .teacher, .student:
      let settings = stage == .teacher ? recipe.teacher : recipe.student
      let network = UNet(inputs: stage.sight.channels.count, k: k)
      let step = PretrainingStep(
        network, stage.sight, network.initialParameters(seed: seed, part: 0), optimiser, size: size,
        reduction, workers)
      let weights = DecayingWeights(
        data.startWeights, decay: settings.classWeightDecay, floor: settings.classWeightFloor)
      let change = settings.augmentation
      let augmentation = Augmentation(
        flip: change.flip, affine: change.affine, rotation: change.rotation * .pi / 180,
        shear: change.shear, scale: change.scale)
      let feed = feed(settings.epochs) { item, truth, random in
        guard change.enabled else { return (item.images, truth) }
        return augmentation.apply(
          images: item.images, labels: truth, mask: item.mask, random: &random, workers)
      }
      return (PretrainingProgram(step, stage.file, dropout) { weights.weights(epoch: $0) }, feed, facts)

    case .control:
      let student = try communicator.rootFirst { try best(.student) }
      let step = PretrainingStep(
        student.network, stage.sight, student.p, optimiser, size: size, reduction, workers)
      let weights = distillationWeights
      return (
        PretrainingProgram(step, stage.file, dropout) { _ in weights }, feed(recipe.hadnet.epochs), facts
      )

    case .hadnet, .adnet:
      let settings = recipe.hadnet
      let (teacher, student) = try communicator.rootFirst { (try best(.teacher), try best(.student)) }
      let discriminator = Discriminator(k: k, hierarchical: stage == .hadnet)
      let step = DistillationStep(
        student: student.network, student.p, teacher: teacher.network, teacher.p, discriminator,
        discriminator.initialParameters(seed: seed, part: 0),
        .init(
          lambda: Float(settings.lambda), gate: settings.gate,
          rate: settings.rate * recipe.scaling.factor(batch: reduction.slots.count), optimiser: optimiser),
        size: size, reduction, workers)
      let program = DistillationProgram(
        step, dropout, teacherDropout: settings.teacherDropout, weights: distillationWeights)
      return (program, feed(settings.epochs), facts)

    case .kdnet:
      let settings = recipe.kdnet
      let teacher = try communicator.rootFirst { try best(.teacher) }
      let student = UNet(inputs: stage.sight.channels.count, k: k)
      let step = KnowledgeStep(
        student: student, student.initialParameters(seed: seed, part: 0), teacher: teacher.network,
        teacher.p,
        .init(
          temperature: settings.temperature, lambda: settings.lambda, alpha: settings.alpha,
          optimiser: optimiser),
        size: size, reduction, workers)
      let mirror = MirrorAugmentation(flip: settings.flip)
      let feed = feed(settings.epochs) { item, truth, random in
        mirror.apply(images: item.images, labels: truth, random: &random)
      }
      return (KnowledgeProgram(step, dropout), feed, facts)

    case .uhemis: return try windows(.moments, recipe.uhemis, optimiser, over: communicator)
    case .uhved: return try windows(.gaussians, recipe.uhved.training, optimiser, over: communicator)
    }
  }

  private func feed(
    _ epochs: Int,
    augment: @escaping (PreparedCase, LabelVolume, inout Philox) -> (images: Volume, labels: LabelVolume) = {
      item, truth, _ in (item.images, truth)
    }
  ) -> CaseFeed {
    CaseFeed(
      data.split.train, epochs: epochs, slots: reduction.slots.count, seed: seed, data.store,
      augment: augment)
  }

  private func windows(
    _ fusion: FusionNetwork.Fusion, _ settings: WindowTraining, _ optimiser: Adam.Settings,
    over communicator: Communicator
  ) throws -> (program: any StageProgram, feed: any Feed, facts: Model.Facts) {
    let network = FusionNetwork(fusion, width: settings.width)
    let (preparation, store) = try data.standardised(settings, run, over: communicator)
    let step = FusionStep(
      network, network.initialParameters(seed: seed, part: 0),
      .init(
        decay: settings.decay, divergence: recipe.uhved.divergence,
        reconstruction: recipe.uhved.reconstruction, optimiser: optimiser),
      size: Size(settings.patch, settings.patch, settings.patch), reduction, workers)
    let feed = WindowFeed(
      data.split.train,
      .init(
        windows: settings.windows, perCase: settings.windowsPerCase, queue: settings.queue,
        patch: settings.patch,
        augmentation: .init(
          flip: settings.flip, least: 1 - settings.scale, most: 1 + settings.scale)),
      slots: reduction.slots.count, seed: seed, store, Workers(workers.count))
    let side = settings.window
    return (
      FusionProgram(step, stage.file, seed: seed), feed,
      Model.Facts(
        method: stage.method, k: settings.width, dropout: 0, sequences: stage.sight.modalities,
        size: Size(side, side, side), preparation: used(preparation),
        latent: fusion == .gaussians ? (recipe.uhved.means ? .means : .sample(seed: seed)) : nil)
    )
  }

  private var facts: Model.Facts {
    Model.Facts(
      method: stage.method, k: recipe.network.k, dropout: recipe.network.dropout,
      sequences: stage.sight.modalities, size: data.commonSize, preparation: used(data.preparation))
  }

  /// A preparation as it is without truth, of what the trained network sees.
  private func used(_ preparation: Preparation) -> Preparation {
    var used = preparation
    used.modalities = stage.sight.modalities
    used.readsTruth = false
    return used
  }

  private var distillationWeights: [Float] {
    switch recipe.hadnet.classWeights {
    case .fixed(let weights)?: weights
    case .data?: data.survey.classWeights(data.split.train)
    case nil: data.startWeights
    }
  }

  /// The best network of an earlier stage of this run.
  private func best(_ stage: Stage) throws -> (network: UNet, p: ParameterVector) {
    let folder = try run.best(stage)
    let model = try Model(file: try Checkpoint.network(in: folder, of: stage))
    guard case .unet(let network) = model.network, model.facts.k == recipe.network.k,
      model.facts.size == data.commonSize
    else {
      throw Fault(
        .invalid,
        "\(folder): a network of k = \(model.facts.k) for \(model.facts.size) voxels; this run has "
          + "k = \(recipe.network.k) and \(data.commonSize)")
    }
    return (network, model.p)
  }
}
