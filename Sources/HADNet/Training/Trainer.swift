import Collective
import Foundation

/// What happens while a run goes on, for whoever shows or keeps it. Only rank 0 tells.
public enum TrainingEvent: Sendable {
  /// A stage begins, or goes on after `done` epochs; `steps` are left.
  case began(Stage, epochs: Int, done: Int, steps: Int, Updates)
  /// A step of an epoch has ended.
  case step(
    Stage, epoch: Int, step: Int, of: Int, loss: Double, terms: [(String, Double)], StepTimes)
  case epoch(Stage, EpochRecord, seconds: Double, isBest: Bool)
  /// A stage was done before.
  case found(Stage, epochs: Int)
  case evaluating(Stage, EvaluatedSet, cases: Int)
  case sampling(Stage, EvaluatedSet, samples: Int, cases: Int)
  /// How the cases are divided; told at each start.
  case split(SplitTable)
  case warning(String)
  /// What is unusual and may be meant.
  case note(String)
}

/// How often a stage's networks are updated.
public struct Updates: Equatable, Sendable {
  /// Cases, or windows, in a step.
  public let batch: Int
  /// Steps of the first epoch, and of all.
  public let perEpoch, all: Int
  /// What the paper's batch of one makes of the same cases.
  public let alone: Int
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
  private let locks: RunLocks?
  /// Whether a stage that was trained with other images or another truth is kept.
  private let acceptsChangedData: Bool
  /// What the stage is made from.
  private let origin: Checkpoint.Origin
  private let reduction: Reduction
  private var state: TrainingState
  private let program: any StageProgram
  private let feed: any Feed
  /// What the network is used with afterwards.
  private let facts: Model.Facts
  /// The last checkpoint, while it is not known to be on the disk. Rank 0 only.
  private var saving: BackgroundWork?

  /// Networks with their start values; the state of a checkpoint comes in `train`. `recipe` is the run folder's; rank 0
  /// holds the `locks`. All ranks together.
  public init(
    _ recipe: Recipe, _ stage: Stage, _ data: TrainingData, _ run: RunFolder, over communicator: Communicator,
    _ workers: Workers, locks: RunLocks? = nil, acceptsChangedData: Bool = false, stop: StopWatch,
    tell: @escaping (TrainingEvent) -> Void
  ) throws {
    self.locks = locks
    self.acceptsChangedData = acceptsChangedData
    self.stop = stop
    self.recipe = recipe
    self.stage = stage
    self.data = data
    self.run = run
    self.communicator = communicator
    self.workers = workers
    self.tell = communicator.rank == 0 ? tell : { _ in }
    state = TrainingState(stage)
    if let settings = stage.plateau(recipe) {
      state.plateau = Plateau(patience: settings.patience, factor: settings.factor)
    }
    let batch = recipe.batch ?? communicator.size
    reduction = Reduction(
      Slots(batch, over: communicator.size), over: communicator, method: recipe.reduction)
    let memory = RankMemory(
      stage, recipe, size: data.commonSize, slots: reduction.slots, threads: workers.count)
    // Once for ranks that find the same.
    try communicator.rootFirst {
      try memory.check(
        stage, size: data.commonSize, k: recipe.network.k, ranks: communicator.localSize,
        left: AvailableMemory().bytes(sharedBy: communicator.localSize))
    }
    var origin = Checkpoint.Origin(cases: data.contents(data.split.train + data.split.validation))
    for earlier in stage.builds {
      origin.networks[earlier.rawValue] = try communicator.rootFirst {
        try Checkpoint.facts(of: try run.best(earlier), earlier).fingerprint
      }
    }
    self.origin = origin
    let plan = StagePlan(recipe, stage, data, run, reduction, workers)
    (program, feed, facts) = try plan.make(over: communicator)
  }

  // MARK: The stage

  /// Trains the stage to its end, from its newest checkpoint if it has one and `resume` is on. Gives the state at
  /// the end; a stage that was done before is not trained again.
  public func train(resume: Bool) throws -> TrainingState {
    let epochs = feed.epochs
    // Whatever ends the run, an epoch that was trained is not lost.
    defer { _ = try? saving?.wait() }
    try takeUp(epochs: epochs, resume: resume)
    if state.epoch >= epochs {
      tell(.found(stage, epochs: state.epoch))
      return state
    }
    tell(
      .began(
        stage, epochs: epochs, done: state.epoch,
        steps: (state.epoch..<epochs).reduce(0) { $0 + feed.steps($1) },
        Updates(
          batch: reduction.slots.count, perEpoch: feed.steps(0),
          all: (0..<epochs).reduce(0) { $0 + feed.steps($1) },
          alone: feed.seen(epochs - 1, feed.steps(epochs - 1) - 1))))
    while state.epoch < epochs {
      let start = ContinuousClock.now, steps = feed.steps(state.epoch)
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
      if let interval = stage.validationInterval(recipe) {
        if state.epoch % interval == 0 || state.epoch == epochs {
          isBest = try validate(&record, interval: interval)
        }
      } else {
        state.bestEpoch = state.epoch
      }
      try feed.store.tellDamage(over: communicator, tell)
      state.history.append(record)
      if let warning = DiscriminatorWatch.warning(state.history) {
        tell(.warning("\(stage.method), epoch \(state.epoch): \(warning)"))
      }
      try save()
      stop.noteEpochEnd((ContinuousClock.now - trained) / .seconds(1))
      tell(.epoch(stage, record, seconds: (ContinuousClock.now - start) / .seconds(1), isBest: isBest))
    }
    try finishSaving()
    try communicator.barrier()
    return state
  }

  /// Rank 0 looks for the newest good checkpoint and whether it may be taken, all ranks read it.
  private func takeUp(epochs: Int, resume: Bool) throws {
    let found = try communicator.broadcast(communicator.rank == 0 ? try newest(epochs, resume) : "")
    guard !found.isEmpty else { return }
    state = try Checkpoint(found, of: stage).state
    for (name, p, optimiser) in program.trained {
      try Safetensors(path: "\(found)/\(name).safetensors", isSealed: true).read("", into: p)
      optimiser.updates = state.updates[name] ?? 0
    }
    let moments = try Safetensors(path: "\(found)/\(Trainer.momentsFile)")
    for (prefix, vector) in self.moments { try vector.read(prefix, from: moments) }
  }

  /// The folder of the newest good checkpoint, if it may be taken, else none: with what a kill has kept from being
  /// made of it. Rank 0 only.
  private func newest(_ epochs: Int, _ resume: Bool) throws -> String {
    let checkpoints = run.checkpoints(stage), warn = { self.tell(.warning($0)) }
    try checkpoints.tidy(warn: warn)
    guard let newest = try checkpoints.newest(warn: warn) else { return "" }
    guard newest.recipe == recipe.fingerprint else {
      throw Fault(.recipe, "\(newest.folder) was made with another recipe than \(run.recipe)")
    }
    if let other = stage.builds.first(where: {
      newest.origin.networks[$0.rawValue] != origin.networks[$0.rawValue]
    }) {
      tell(
        .warning(
          "\(stage.method) is stale: it was built on another \(other.method) than the run's best; it is trained anew"
        ))
      try FileManager.default.removeItem(atPath: checkpoints.path)
      return ""
    }
    guard resume || newest.state.epoch >= epochs else {
      throw Fault(
        .usage,
        "\(run.path) has a \(stage.rawValue) at epoch \(newest.state.epoch) of \(epochs): go on with --resume, or "
          + "choose another --run")
    }
    let problem =
      problem(newest.state, epochs)
      ?? (newest.files == files ? nil : "other files than a \(stage.rawValue) has")
    if let problem {
      throw Fault(
        .invalid,
        "\(newest.folder): damaged checkpoint: state.json: \(problem); "
          + (checkpoints.marks().count > 1
            ? "remove it to go on from the one before" : "remove \(checkpoints.path) to start the stage anew")
      )
    }
    try checkData(newest)
    try checkpoints.relink(newest.state, warn: warn)
    try Trainer.writeHistory(newest.state, to: run.history(stage))
    return newest.folder
  }

  /// What keeps a state from being one of this stage's; nil: nothing.
  private func problem(_ state: TrainingState, _ epochs: Int) -> String? {
    guard state.epoch <= epochs else { return "\(state.epoch) epochs of \(epochs)" }
    let before = (0..<state.epoch).reduce(0) { $0 + feed.steps($1) }
    if let begun = state.begun, state.epoch >= epochs || begun.steps > feed.steps(state.epoch) {
      return "\(begun.steps) steps of epoch \(state.epoch + 1)"
    }
    guard state.step == before + (state.begun?.steps ?? 0) else {
      return "\(state.step) steps in \(state.epoch) epochs"
    }
    let settings = stage.plateau(recipe)
    guard state.plateau?.patience == settings?.patience, state.plateau?.factor == settings?.factor else {
      return "another plateau than the recipe's"
    }
    guard Set(state.updates.keys) == Set(program.trained.map(\.name)) else {
      return "updates of other networks"
    }
    // The first is what is trained; others may be left out of a step.
    let first = program.trained[0].name
    guard state.updates[first] == state.step else {
      return "\(state.updates[first] ?? 0) updates of the \(first) in \(state.step) steps"
    }
    return nil
  }

  /// The files of this stage's checkpoints.
  private var files: Set<String> {
    Set(program.trained.map { "\($0.name).safetensors" } + [Trainer.momentsFile])
  }

  /// Where a case's images or its truth are others than those the stage was trained with: throws, or, if that is
  /// accepted, notes it.
  private func checkData(_ newest: Checkpoint) throws {
    guard let change = data.change(from: newest.origin.cases, to: origin.cases) else { return }
    let accepted = AcceptedData(run.acceptedData(stage))
    if accepted.cases == origin.cases { return }
    let what = "\(stage.method) (\(newest.folder)) was trained with other data: \(change)"
    guard acceptsChangedData else {
      throw Fault(
        .invalid,
        "\(what); put it back, or --accept-changed-data keeps the networks and scores anew, or choose another --run"
      )
    }
    tell(.warning("\(what); the network is kept"))
    try AcceptedData(cases: origin.cases).write(run.acceptedData(stage))
  }

  // MARK: Epochs

  /// The rest of an epoch's steps; nil where the run has to stop before its end.
  private func trainEpoch() throws -> EpochRecord? {
    let epoch = state.epoch, slots = reduction.slots, steps = feed.steps(epoch)
    var begun = state.begun ?? .init()
    for step in begun.steps..<steps {
      if saving?.isOver ?? false { try finishSaving() }
      let start = ContinuousClock.now
      let place = "\(stage.method), epoch \(epoch + 1), step \(step + 1) of \(steps)"
      let filled = feed.filled(epoch, step)
      let cases = try slots.run(of: communicator.rank, filled: filled).map { slot in
        try feed.load(epoch, step, slot: slot) { note("\(place): \($0)") }
      }
      workers.onPhase = { [communicator] phase in
        communicator.courier?.note("\(place): \(phase.rawValue)" + cases.map { ", \($0.id)" }.joined())
      }
      defer { workers.onPhase = nil }
      let loaded = ContinuousClock.now, exposedBefore = program.exposed, sentBefore = bytesSent
      let (values, stops) = try program.run(
        Batch(
          cases: cases, filled: filled, epoch: epoch, step: state.step, rate: rate(step),
          wantsStop: { self.stop.wantsStop(atEpochEnd: step + 1 == steps) }))
      if begun.totals.isEmpty { begun.totals = values.map { _ in 0 } }
      for (i, value) in values.enumerated() { begun.totals[i] += value * Double(filled) }
      begun.steps += 1
      state.step += 1
      stop.noteStep((ContinuousClock.now - start) / .seconds(1))
      let waited = program.exposed - exposedBefore
      tell(
        .step(
          stage, epoch: epoch + 1, step: step + 1, of: steps, loss: values[0],
          terms: Array(zip(stage.terms, values.dropFirst())),
          StepTimes(
            compute: (ContinuousClock.now - loaded) / .seconds(1) - waited, exposed: waited,
            dataWait: (loaded - start) / .seconds(1), bytesSent: bytesSent - sentBefore)))
      if stops {
        try program.settle()
        state.begun = begun
        return nil
      }
    }
    try program.settle()
    // Ranks that have drifted apart would go on with another network each.
    for (name, p, _) in program.trained {
      try communicator.agree(on: "\(name).safetensors after epoch \(epoch + 1)", p.fingerprint)
    }
    let cases = (0..<steps).reduce(0) { $0 + feed.filled(epoch, $1) }
    let means = begun.totals.map { $0 / Double(cases) }
    var record = EpochRecord(epoch: epoch + 1, rate: rate(0), loss: means[0])
    for (name, mean) in zip(stage.terms, means.dropFirst()) { record.terms[name] = mean }
    return record
  }

  private var bytesSent: Int { communicator.courier?.bytesSent ?? 0 }

  /// Tells who waits for this rank where it is.
  private func note(_ place: String) { communicator.courier?.note(place) }

  /// The rate of a step of the epoch that is under way.
  private func rate(_ step: Int) -> Double {
    var rate = stage.rate(recipe) * (state.plateau?.scale ?? 1)
    if let windows = stage.windows(recipe) {
      for _ in 0..<feed.seen(state.epoch, step) / windows.rateInterval { rate *= windows.rateFactor }
    }
    return rate * recipe.scaling.factor(batch: reduction.slots.count)
  }

  /// Validation cases are dealt over all ranks; rank 0 judges and tells the others. Gives whether the epoch is the
  /// best so far.
  private func validate(_ record: inout EpochRecord, interval: Int) throws -> Bool {
    note("\(stage.method), epoch \(state.epoch): validation")
    let ids = data.split.validation
    let mine = stride(from: communicator.rank, to: ids.count, by: communicator.size).map { $0 }
    var rows: [Double] = []
    for (i, index) in mine.enumerated() {
      let prepared = try data.store.load(ids[index])
      if i + 1 < mine.count { data.store.prefetch(ids[mine[i + 1]]) }
      guard let truth = prepared.labels else { throw Fault(.missing, "\(prepared.id) has no truth") }
      let (prediction, loss) = program.judge(
        SlotCase(slot: 0, id: prepared.id, images: prepared.images, truth: truth))
      let overlaps = Overlaps(truth: truth, prediction: prediction)
      rows += [
        Double(index), overlaps.wt.smoothedDice, overlaps.tc.smoothedDice, overlaps.et.smoothedDice,
        overlaps.score, loss ?? 0,
      ]
    }
    let all = try communicator.gather(rows)
    var means: [Double] = []
    if communicator.rank == 0 {
      var byCase: [[Double]] = []
      for part in all {
        for start in stride(from: 0, to: part.count, by: 6) { byCase.append(Array(part[start..<start + 6])) }
      }
      byCase.sort { $0[0] < $1[0] }
      means = (1...5).map { column in byCase.reduce(0) { $0 + $1[column] } / Double(ids.count) }
    }
    means = try communicator.broadcast(means)
    record.wt = means[0]
    record.tc = means[1]
    record.et = means[2]
    record.score = means[3]
    if stage == .kdnet {
      // Its rate follows the loss.
      record.validationLoss = means[4]
      state.plateau?.observe(-means[4], epochs: interval)
    } else {
      state.plateau?.observe(means[3], epochs: interval)
    }
    return state.observe(means[3])
  }

  // MARK: Checkpoints

  private static let momentsFile = "moments.safetensors"

  /// The optimisers' moments, with their prefixes in one file.
  private var moments: [(prefix: String, vector: ShardedVector)] {
    let trained = program.trained
    return trained.flatMap { name, _, optimiser in
      let prefix = trained.count == 1 ? "" : "\(name)."
      return [("\(prefix)first.", optimiser.first), ("\(prefix)second.", optimiser.second)]
    }
  }

  /// Rank 0 writes the files, the moments as they come from the other ranks. That they reach the disk and become the
  /// newest checkpoint goes on behind the next steps; a fault of it ends the run at the next step.
  private func save() throws {
    try finishSaving()
    let start = ContinuousClock.now
    let trained = program.trained
    for (name, _, optimiser) in trained { state.updates[name] = optimiser.updates }
    note("\(stage.method), epoch \(state.epoch): checkpoint")
    let moments = Safetensors.Draft(moments.map { $0.vector.whole($0.prefix, over: communicator) })
    guard communicator.rank == 0 else { return try moments.forEachPiece { _ in } }
    try locks?.check(stage)
    let folder = run.checkpoints(stage), model = Model(facts, program.network, trained[0].p)
    var files = [(name: "\(trained[0].name).safetensors", write: model.draft.write)]
    for (name, p, _) in trained.dropFirst() {
      files.append(("\(name).safetensors", Safetensors.Draft([.init("", p)]).write))
    }
    files.append((Trainer.momentsFile, moments.write))
    let state = state, mark = CheckpointFolder.Mark(state), keep = recipe.checkpoints.keep
    let draft = try Checkpoint.Draft(
      state, recipe: recipe.fingerprint, origin: origin, files: files, to: folder.folder(mark))
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
    note("\(stage.method), epoch \(state.epoch): checkpoint")
    stop.noteSealing(try saving.wait())
  }

  static func writeHistory(_ state: TrainingState, to path: String) throws {
    var history = History(columns: EpochRecord.columns(state.stage))
    for record in state.history { history.append(record.values(state.stage)) }
    let data = Data(history.csv.utf8)
    if FileManager.default.contents(atPath: path) != data { try AtomicFile.write(data, to: path) }
  }
}
