import Collective
import Foundation

/// What happens while a run goes on, for whoever shows or keeps it. Only rank 0 tells.
public enum TrainingEvent: Sendable {
  /// A stage begins, or goes on after `done` epochs.
  case began(Stage, epochs: Int, done: Int, steps: Int)
  /// A step of an epoch has ended.
  case step(Stage, epoch: Int, step: Int, of: Int, loss: Double, StepTimes)
  case epoch(Stage, EpochRecord, seconds: Double, isBest: Bool)
  /// A stage was done before.
  case found(Stage, epochs: Int)
  case evaluating(Stage, cases: Int)
  case warning(String)
}

/// Where a step's time went on rank 0, in seconds, and what it sent.
public struct StepTimes: Equatable, Sendable {
  /// `exposed`: waiting for other ranks, or for what is exchanged with them.
  public var compute = 0.0, exposed = 0.0, dataWait = 0.0
  public var bytesSent = 0
}

/// Trains one stage: epochs of steps, validation, schedule, checkpoint.
public final class Trainer {
  private let recipe: Recipe
  private let stage: Stage
  private let data: TrainingData
  private let run: RunFolder
  private let communicator: Communicator
  private let workers: Workers
  private let stop: StopWatch
  private let tell: (TrainingEvent) -> Void
  private let reduction: Reduction
  private let seed: UInt64
  private var state: TrainingState
  private var program: Program
  /// The last checkpoint, while it is not known to be on the disk. Rank 0 only.
  private var saving: BackgroundWork?

  /// The step that is run, with the networks and optimisers it owns.
  private enum Program {
    case pretraining(PretrainingStep)
    case distillation(DistillationStep)
  }

  /// Networks with their start values; the state of a checkpoint comes in `train`. `recipe` is the run folder's.
  public init(
    _ recipe: Recipe, _ stage: Stage, _ data: TrainingData, _ run: RunFolder, over communicator: Communicator,
    _ workers: Workers, stop: StopWatch, tell: @escaping (TrainingEvent) -> Void
  ) throws {
    self.stop = stop
    self.recipe = recipe
    self.stage = stage
    self.data = data
    self.run = run
    self.communicator = communicator
    self.workers = workers
    self.tell = communicator.rank == 0 ? tell : { _ in }
    seed = stage.seed(recipe)
    state = TrainingState(stage)
    let batch = recipe.batch ?? communicator.size
    reduction = Reduction(
      Slots(batch, over: communicator.size), over: communicator, method: recipe.reduction)
    let k = recipe.network.k
    if let settings = stage.pretraining(recipe) {
      let network = UNet(inputs: stage.sight.channels.count, k: k)
      program = .pretraining(
        PretrainingStep(
          network, stage.sight, network.initialParameters(seed: seed, part: 0),
          .init(
            beta1: settings.beta1, beta2: settings.beta2, epsilon: settings.epsilon, decay: settings.decay),
          size: data.commonSize, reduction, workers))
      state.plateau = Plateau(patience: settings.plateau.patience, factor: settings.plateau.factor)
      return
    }
    let settings = recipe.hadnet
    let optimiser = Adam.Settings(beta1: settings.beta1, beta2: settings.beta2, epsilon: settings.epsilon)
    if stage == .control {
      let student = try communicator.rootFirst { try Trainer.best(.student, recipe, data, run) }
      program = .pretraining(
        PretrainingStep(
          student.network, stage.sight, student.p, optimiser, size: data.commonSize, reduction, workers))
      return
    }
    let (teacher, student) = try communicator.rootFirst {
      (try Trainer.best(.teacher, recipe, data, run), try Trainer.best(.student, recipe, data, run))
    }
    let discriminator = Discriminator(k: k, hierarchical: stage == .hadnet)
    program = .distillation(
      DistillationStep(
        student: student.network, student.p, teacher: teacher.network, teacher.p, discriminator,
        discriminator.initialParameters(seed: seed, part: 0),
        .init(
          lambda: Float(settings.lambda), gate: settings.gate,
          rate: settings.rate * Trainer.factor(recipe.scaling, batch), optimiser: optimiser),
        size: data.commonSize, reduction, workers))
  }

  /// The best network of an earlier stage of this run.
  private static func best(
    _ stage: Stage, _ recipe: Recipe, _ data: TrainingData, _ run: RunFolder
  ) throws -> Model {
    let folder = run.checkpoints(stage).best
    guard FileManager.default.fileExists(atPath: folder) else {
      throw Fault(
        .missing,
        "\(folder): no such checkpoint; train the \(stage.rawValue) first (--stage \(stage.rawValue))")
    }
    let model = try Model.load(folder)
    guard model.facts.k == recipe.network.k, model.facts.size == data.commonSize else {
      throw Fault(
        .invalid,
        "\(folder): a network of k = \(model.facts.k) for \(model.facts.size) voxels; this run has "
          + "k = \(recipe.network.k) and \(data.commonSize)")
    }
    return model
  }

  private static func factor(_ scaling: RateScaling, _ batch: Int) -> Double {
    switch scaling {
    case .none: 1
    case .sqrt: Double(batch).squareRoot()
    case .linear: Double(batch)
    }
  }

  // MARK: The stage

  /// Trains the stage to its end, from its newest checkpoint if it has one and `resume` is on. Gives the state at
  /// the end; a stage that was done before is not trained again.
  public func train(resume: Bool) throws -> TrainingState {
    let epochs = stage.epochs(recipe), steps = stepsPerEpoch
    // Whatever ends the run, an epoch that was trained is not lost.
    defer { _ = try? saving?.wait() }
    try takeUp(epochs: epochs, resume: resume)
    if state.epoch >= epochs {
      tell(.found(stage, epochs: state.epoch))
      return state
    }
    tell(.began(stage, epochs: epochs, done: state.epoch, steps: steps))
    while state.epoch < epochs {
      let start = ContinuousClock.now
      guard var record = try trainEpoch() else {
        try save()
        try finishSaving()
        try communicator.barrier()
        throw Unfinished(
          place:
            "\(stage.method), epoch \(state.epoch + 1) of \(epochs), after step \(state.begun?.steps ?? 0) of \(steps)"
        )
      }
      state.epoch += 1
      state.begun = nil
      let trained = ContinuousClock.now
      var isBest = false
      if state.epoch % stage.validationInterval(recipe) == 0 || state.epoch == epochs {
        isBest = try validate(&record)
      }
      try tellDamage()
      state.history.append(record)
      try save()
      stop.noteEpochEnd((ContinuousClock.now - trained) / .seconds(1))
      tell(.epoch(stage, record, seconds: (ContinuousClock.now - start) / .seconds(1), isBest: isBest))
    }
    try finishSaving()
    try communicator.barrier()
    return state
  }

  private var stepsPerEpoch: Int {
    (data.split.train.count + reduction.slots.count - 1) / reduction.slots.count
  }

  /// Rank 0 looks for the newest good checkpoint and whether it may be taken, all ranks read it.
  private func takeUp(epochs: Int, resume: Bool) throws {
    var found = ""
    if communicator.rank == 0, let newest = try run.checkpoints(stage).newest(warn: { tell(.warning($0)) }) {
      found = newest.folder
      guard newest.recipe == recipe.fingerprint else {
        throw Fault(.recipe, "\(found) was made with another recipe than \(run.recipe)")
      }
      guard resume || newest.state.epoch >= epochs else {
        throw Fault(
          .usage,
          "\(run.path) has a \(stage.rawValue) at epoch \(newest.state.epoch) of \(epochs): go on with --resume, or "
            + "choose another --run")
      }
    }
    found = try communicator.broadcast(found)
    guard !found.isEmpty else { return }
    state = try Checkpoint(found).state
    for (vector, file) in parameters { try Safetensors(path: "\(found)/\(file)").read("", into: vector) }
    let moments = try Safetensors(path: "\(found)/\(Trainer.momentsFile)")
    for (prefix, vector) in self.moments { try vector.read(prefix, from: moments) }
    for (name, optimiser) in optimisers { optimiser.updates = state.updates[name] ?? 0 }
  }

  // MARK: Epochs

  /// The rest of an epoch's steps; nil where the run has to stop before its end.
  private func trainEpoch() throws -> EpochRecord? {
    let ids = data.split.train, slots = reduction.slots, steps = stepsPerEpoch
    var random = Philox(seed: seed, .permutation, state.epoch)
    let order = random.permutation(ids.count)
    let weights = classWeights()
    var begun = state.begun ?? .init()
    func cases(_ step: Int) -> (mine: Range<Int>, filled: Int) {
      let filled = max(0, min(slots.count, ids.count - step * slots.count))
      return (slots.run(of: communicator.rank, filled: filled), filled)
    }
    for step in begun.steps..<steps {
      if saving?.isOver ?? false { try finishSaving() }
      let start = ContinuousClock.now
      let (mine, filled) = cases(step)
      let place = "\(stage.method), epoch \(state.epoch + 1), step \(step + 1) of \(steps)"
      let batch = try mine.map { slot in
        let index = order[step * slots.count + slot]
        note("\(place): reading \(ids[index])")
        return try load(index, of: ids, slot: slot)
      }
      workers.onPhase = { [communicator] phase in
        communicator.courier?.note("\(place): \(phase.rawValue)" + batch.map { ", \($0.id)" }.joined())
      }
      defer { workers.onPhase = nil }
      if step + 1 < steps {
        for slot in cases(step + 1).mine { data.store.prefetch(ids[order[(step + 1) * slots.count + slot]]) }
      }
      let loaded = ContinuousClock.now, exposedBefore = exposed, sentBefore = bytesSent
      let values: [Double], stops: Bool
      func wantsStop() -> Bool { stop.wantsStop(atEpochEnd: step + 1 == steps) }
      switch program {
      case .pretraining(let program):
        let report = try program.run(
          batch, filled: filled, weights: weights, rate: rate, dropout: draw(.dropout), wantsStop: wantsStop)
        (values, stops) = ([report.loss], report.stops)
      case .distillation(let program):
        let report = try program.run(
          batch, filled: filled, weights: weights, studentDropout: draw(.dropout),
          teacherDropout: recipe.hadnet.teacherDropout ? draw(.teacherDropout) : { _ in nil },
          wantsStop: wantsStop)
        values = [report.loss, report.crossEntropy, report.discriminatorLoss, report.accuracy]
        stops = report.stops
        if report.updated { begun.updates += 1 }
      }
      for (i, value) in values.enumerated() { begun.totals[i] += value * Double(filled) }
      begun.steps += 1
      state.step += 1
      stop.noteStep((ContinuousClock.now - start) / .seconds(1))
      let waited = exposed - exposedBefore
      tell(
        .step(
          stage, epoch: state.epoch + 1, step: step + 1, of: steps, loss: values[0],
          StepTimes(
            compute: (ContinuousClock.now - loaded) / .seconds(1) - waited, exposed: waited,
            dataWait: (loaded - start) / .seconds(1), bytesSent: bytesSent - sentBefore)))
      if stops {
        try settle()
        state.begun = begun
        return nil
      }
    }
    try settle()
    // Ranks that have drifted apart would go on with another network each.
    for (vector, file) in parameters {
      try communicator.agree(on: "\(file) after epoch \(state.epoch + 1)", vector.fingerprint)
    }
    let means = begun.totals.map { $0 / Double(ids.count) }
    var record = EpochRecord(epoch: state.epoch + 1, rate: rate, loss: means[0])
    if case .distillation = program {
      record.crossEntropy = means[1]
      record.discriminatorLoss = means[2]
      record.accuracy = means[3]
      record.updated = Double(begun.updates) / Double(steps)
    }
    return record
  }

  /// Seconds that the program has spent waiting for other ranks.
  private var exposed: Double {
    switch program {
    case .pretraining(let step): step.exposed
    case .distillation(let step): step.exposed
    }
  }
  private var bytesSent: Int { communicator.courier?.bytesSent ?? 0 }

  /// Tells who waits for this rank where it is.
  private func note(_ place: String) { communicator.courier?.note(place) }

  /// A training case in its slot, augmented in pre-training.
  private func load(_ index: Int, of ids: [String], slot: Int) throws -> SlotCase {
    let prepared = try data.store.load(ids[index])
    guard let truth = prepared.labels else { throw Fault(.missing, "\(prepared.id) has no truth") }
    guard let settings = stage.pretraining(recipe)?.augmentation, settings.enabled else {
      return SlotCase(slot: slot, id: prepared.id, images: prepared.images, truth: truth)
    }
    var random = Philox(seed: seed, .augmentation, state.epoch, index)
    let augmented = Augmentation(
      flip: settings.flip, affine: settings.affine, rotation: settings.rotation * .pi / 180,
      shear: settings.shear, scale: settings.scale
    ).apply(images: prepared.images, labels: truth, mask: prepared.mask, random: &random)
    return SlotCase(slot: slot, id: prepared.id, images: augmented.images, truth: augmented.labels)
  }

  /// All ranks together: a disk that alters files is worth a word, though nothing is lost.
  private func tellDamage() throws {
    let found = try communicator.gather(data.store.takeDamaged().joined(separator: "\n"))
    for path in Set(found.flatMap { $0.split(separator: "\n") }).sorted() {
      tell(.warning("\(path): damaged; the case was prepared anew from the patient's files"))
    }
  }

  private func draw(_ purpose: Philox.Purpose) -> (Int) -> DropoutDraw? {
    let probability = recipe.network.dropout, seed = seed, step = state.step
    guard probability > 0 else { return { _ in nil } }
    return { DropoutDraw(probability: probability, seed: seed, purpose, step: step, slot: $0) }
  }

  private var rate: Double {
    (stage.pretraining(recipe)?.rate ?? recipe.hadnet.rate) * (state.plateau?.scale ?? 1)
      * Trainer.factor(recipe.scaling, reduction.slots.count)
  }

  private func classWeights() -> [Float] {
    if let settings = stage.pretraining(recipe) {
      return DecayingWeights(
        data.startWeights, decay: settings.classWeightDecay, floor: settings.classWeightFloor
      ).weights(epoch: state.epoch)
    }
    switch recipe.hadnet.classWeights {
    case .fixed(let weights)?: return weights
    case .data?: return data.survey.classWeights(data.split.train)
    case nil: return data.startWeights
    }
  }

  /// Validation cases are dealt over all ranks; rank 0 judges and tells the others. Gives whether the epoch is the
  /// best so far.
  private func validate(_ record: inout EpochRecord) throws -> Bool {
    note("\(stage.method), epoch \(state.epoch): validation")
    let ids = data.split.validation
    let mine = stride(from: communicator.rank, to: ids.count, by: communicator.size).map { $0 }
    var rows: [Double] = []
    for (i, index) in mine.enumerated() {
      let prepared = try data.store.load(ids[index])
      if i + 1 < mine.count { data.store.prefetch(ids[mine[i + 1]]) }
      guard let truth = prepared.labels else { throw Fault(.missing, "\(prepared.id) has no truth") }
      let prediction: LabelVolume
      switch program {
      case .pretraining(let program): prediction = program.segment(prepared.images)
      case .distillation(let program): prediction = program.segment(prepared.images)
      }
      let overlaps = Overlaps(truth: truth, prediction: prediction)
      rows += [
        Double(index), overlaps.wt.smoothedDice, overlaps.tc.smoothedDice, overlaps.et.smoothedDice,
        overlaps.score,
      ]
    }
    let all = try communicator.gather(rows)
    var means: [Double] = []
    if communicator.rank == 0 {
      var byCase: [[Double]] = []
      for part in all {
        for start in stride(from: 0, to: part.count, by: 5) { byCase.append(Array(part[start..<start + 5])) }
      }
      byCase.sort { $0[0] < $1[0] }
      means = (1...4).map { column in byCase.reduce(0) { $0 + $1[column] } / Double(ids.count) }
    }
    means = try communicator.broadcast(means)
    record.wt = means[0]
    record.tc = means[1]
    record.et = means[2]
    record.score = means[3]
    state.plateau?.observe(means[3])
    return state.observe(means[3])
  }

  // MARK: Checkpoints

  private static let momentsFile = "moments.safetensors"

  /// The parameters that a checkpoint holds, each in a file.
  private var parameters: [(vector: ParameterVector, file: String)] {
    switch program {
    case .pretraining(let step): [(step.p, "\(stage.file).safetensors")]
    case .distillation(let step):
      [(step.studentP, "student.safetensors"), (step.discriminatorP, "discriminator.safetensors")]
    }
  }

  /// The optimisers' moments, with their prefixes in one file.
  private var moments: [(prefix: String, vector: ShardedVector)] {
    func both(_ prefix: String, _ optimiser: Adam) -> [(prefix: String, vector: ShardedVector)] {
      [(prefix + "first.", optimiser.first), (prefix + "second.", optimiser.second)]
    }
    switch program {
    case .pretraining(let step): return both("", step.optimiser)
    case .distillation(let step):
      return both("student.", step.studentOptimiser) + both("discriminator.", step.discriminatorOptimiser)
    }
  }

  /// Waits until all parameters are those after the last step.
  private func settle() throws {
    switch program {
    case .pretraining(let step): try step.settle()
    case .distillation(let step): try step.settle()
    }
  }

  private var optimisers: [String: Adam] {
    switch program {
    case .pretraining(let step): [stage.file: step.optimiser]
    case .distillation(let step):
      ["student": step.studentOptimiser, "discriminator": step.discriminatorOptimiser]
    }
  }

  private var model: Model {
    let network: UNet, p: ParameterVector
    switch program {
    case .pretraining(let step): (network, p) = (step.network, step.p)
    case .distillation(let step): (network, p) = (step.student, step.studentP)
    }
    let modalities = stage.sight.modalities
    return Model(
      .init(
        method: stage.method, k: recipe.network.k, dropout: recipe.network.dropout, sequences: modalities,
        size: data.commonSize,
        preparation: Preparation(
          modalities: modalities, mask: data.preparation.mask, negative: data.preparation.negative,
          readsTruth: false, ceiling: data.preparation.ceiling)), network, p)
  }

  /// Rank 0 writes the files, the moments as they come from the other ranks. That they reach the disk and become the
  /// newest checkpoint goes on behind the next steps; a fault of it ends the run at the next step.
  private func save() throws {
    try finishSaving()
    let start = ContinuousClock.now
    for (name, optimiser) in optimisers { state.updates[name] = optimiser.updates }
    note("\(stage.method), epoch \(state.epoch): checkpoint")
    let moments = Safetensors.Draft(moments.map { $0.vector.whole($0.prefix, over: communicator) })
    guard communicator.rank == 0 else { return try moments.forEachPiece { _ in } }
    let folder = run.checkpoints(stage), modelFile = "\(stage.file).safetensors"
    var files = [(name: modelFile, write: model.draft.write)]
    for (vector, file) in parameters where file != modelFile {
      files.append((file, Safetensors.Draft([.init("", vector)]).write))
    }
    files.append((Trainer.momentsFile, moments.write))
    let state = state, mark = CheckpointFolder.Mark(state), keep = recipe.checkpoints.keep
    let draft = try Checkpoint.Draft(
      state, recipe: recipe.fingerprint, files: files, to: folder.folder(mark))
    let history = run.history(stage)
    saving = BackgroundWork {
      try draft.seal()
      try folder.point(at: mark, best: state.bestEpoch, keep: keep)
      try Trainer.writeHistory(state, to: history)
    }
    stop.noteCheckpoint((ContinuousClock.now - start) / .seconds(1))
  }

  /// Waits until the last checkpoint is on the disk.
  private func finishSaving() throws {
    guard let saving else { return }
    self.saving = nil
    stop.noteSealing(try saving.wait())
  }

  private static func writeHistory(_ state: TrainingState, to path: String) throws {
    var history = History(columns: EpochRecord.columns)
    for record in state.history { history.append(record.values) }
    try history.write(to: path)
  }
}
