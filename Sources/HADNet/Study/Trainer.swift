import Collective
import Compute
import Evaluation
import Files
import Foundation
import Imaging
import Learning
import Methods
import Networks

/// What happens while a run goes on, for whoever shows or keeps it. Only rank 0 tells.
package enum TrainingEvent: Sendable {
  /// A stage begins, or goes on after `done` epochs; `steps` are left.
  case began(Method, epochs: Int, done: Int, steps: Int, Updates)
  /// A step of an epoch has ended.
  case step(Method, epoch: Int, step: Int, of: Int, StepValues, StepTimes)
  case epoch(Method, EpochRecord, seconds: Double, isBest: Bool)
  /// A stage was done before.
  case found(Method, epochs: Int)
  case evaluating(Method, EvaluatedSet, cases: Int)
  case sampling(Method, EvaluatedSet, samples: Int, cases: Int)
  /// How the cases are divided; told at each start.
  case split(SplitTable)
  case warning(String)
  /// What is unusual and may be meant.
  case note(String)
}

/// How often a stage's networks are updated.
package struct Updates: Equatable, Sendable {
  /// Cases, or windows, in a step.
  package let batch: Int
  /// Steps of the first epoch, and of all.
  package let perEpoch, all: Int
  /// What the paper's batch of one makes of the same cases.
  package let alone: Int
}

/// Where a step's time went on rank 0, in seconds, and what it sent.
package struct StepTimes: Equatable, Sendable {
  /// `exposed`: waiting for other ranks, or for what is exchanged with them.
  package var compute = 0.0, exposed = 0.0, dataWait = 0.0
  package var bytesSent = 0
}

/// Trains one stage: epochs of steps, validation, schedule, checkpoint.
package final class Trainer {
  private let recipe: Recipe
  private let stage: Method
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
  private let layout: BatchLayout
  private var state: TrainingState
  private let program: any TrainingProgram
  private let step: SlotStep
  private let cases: any CaseOrder
  private let schedule: Schedule
  /// What the network is used with afterwards.
  private let metadata: Model.Metadata
  /// The last checkpoint, while it is not known to be on the disk. Rank 0 only.
  private var saving: BackgroundWork?

  /// Networks with their start values; the state of a checkpoint comes in `train`. `recipe` is the run folder's; rank 0
  /// holds the `locks`. All ranks together.
  package init(
    _ recipe: Recipe, _ stage: Method, _ data: TrainingData, _ run: RunFolder,
    over communicator: Communicator,
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
    schedule = recipe.schedule(stage)
    if let settings = schedule.plateau {
      state.plateau = Plateau(patience: settings.patience, factor: settings.factor)
    }
    let batch = recipe.batch ?? communicator.size
    layout = BatchLayout(
      Slots(batch, over: communicator.size), over: communicator, method: recipe.reduction)
    let memory = RankMemory(
      stage, recipe, data.task, size: data.commonSize, slots: layout.slots, threads: workers.count)
    // Once for ranks that find the same.
    try communicator.rootFirst {
      try memory.check(
        stage, size: data.commonSize, k: recipe.network.k, ranks: communicator.localSize,
        left: AvailableMemory().bytes(sharedBy: communicator.localSize))
    }
    var origin = Checkpoint.Origin(cases: data.contents(data.split.train + data.split.validation))
    for earlier in stage.needs {
      origin.networks[earlier.rawValue] = try communicator.broadcast(
        communicator.rank == 0 ? try Checkpoint.facts(of: try run.best(earlier), earlier).fingerprint : "")
    }
    self.origin = origin
    let setup = try stage.make(
      MethodContext(
        method: stage, settings: recipe.settings(stage), networks: recipe.network, seed: recipe.seed(stage),
        size: data.commonSize, slotSize: nil, layout: layout, workers: workers,
        data: RunData(data, recipe, run, over: communicator, tell: self.tell)))
    program = setup.program
    step = SlotStep(program, layout)
    cases = setup.cases()
    metadata = setup.metadata
  }

  // MARK: The stage

  /// Trains the stage to its end, from its newest checkpoint if it has one and `resume` is on; a stage that
  /// was done before is not trained again.
  package func train(resume: Bool) throws {
    let epochs = cases.epochs
    // Whatever ends the run, an epoch that was trained is not lost.
    defer { _ = try? saving?.wait() }
    try takeUp(epochs: epochs, resume: resume)
    if state.epoch >= epochs {
      tell(.found(stage, epochs: state.epoch))
      return
    }
    tell(
      .began(
        stage, epochs: epochs, done: state.epoch,
        steps: (state.epoch..<epochs).reduce(0) { $0 + cases.steps($1) },
        Updates(
          batch: layout.slots.count, perEpoch: cases.steps(0),
          all: (0..<epochs).reduce(0) { $0 + cases.steps($1) },
          alone: cases.seen(epochs - 1, cases.steps(epochs - 1) - 1))))
    while state.epoch < epochs {
      let start = ContinuousClock.now, steps = cases.steps(state.epoch)
      guard var record = try trainEpoch() else {
        try save()
        try finishSaving()
        try communicator.barrier()
        throw Unfinished(
          place:
            "\(stage.title), epoch \(state.epoch + 1) of \(epochs), after step \(state.begun?.steps ?? 0) of \(steps)"
        )
      }
      state.epoch += 1
      state.begun = nil
      let trained = ContinuousClock.now
      var isBest = false
      if let interval = schedule.validationInterval {
        if state.epoch % interval == 0 || state.epoch == epochs {
          isBest = try validate(&record, interval: interval)
        }
      } else {
        state.bestEpoch = state.epoch
      }
      try cases.store.tellDamage(over: communicator, tell)
      state.history.append(record)
      if let warning = stage.watch(state.history.map { $0.values(stage.terms) }) {
        tell(.warning("\(stage.title), epoch \(state.epoch): \(warning)"))
      }
      try save()
      stop.noteEpochEnd((ContinuousClock.now - trained) / .seconds(1))
      tell(.epoch(stage, record, seconds: (ContinuousClock.now - start) / .seconds(1), isBest: isBest))
    }
    try finishSaving()
    try communicator.barrier()
  }

  /// Rank 0 looks for the newest good checkpoint and whether it may be taken. It alone reads it: the others get the state
  /// and the parameters from it, and each its shards of the moments.
  private func takeUp(epochs: Int, resume: Bool) throws {
    let found = communicator.rank == 0 ? try newest(epochs, resume) : nil
    let text = try communicator.broadcast(try found.map { [UInt8](try JSONEncoder().encode($0.state)) } ?? [])
    guard !text.isEmpty else { return }
    state = try found?.state ?? JSONDecoder().decode(TrainingState.self, from: Data(text))
    for learner in program.learners {
      try found?.file("\(learner.name).safetensors", isSealed: true).read("", into: learner.p)
      try communicator.broadcast(learner.p)
      learner.optimiser.updates = state.updates[learner.name] ?? 0
    }
    let moments = try found?.file(Trainer.momentsFile)
    for (prefix, vector) in self.moments { try vector.read(prefix, from: moments, over: communicator) }
  }

  /// The newest good checkpoint, if it may be taken, with what a kill has kept from being made of it; else nil. Rank 0
  /// only.
  private func newest(_ epochs: Int, _ resume: Bool) throws -> Checkpoint? {
    let checkpoints = run.checkpoints(stage), warn = { self.tell(.warning($0)) }
    try checkpoints.tidy(warn: warn)
    guard let newest = try checkpoints.newest(warn: warn) else { return nil }
    guard newest.recipe == recipe.fingerprint else {
      throw Fault(.recipe, "\(newest.folder) was made with another recipe than \(run.recipe)")
    }
    if let other = stage.needs.first(where: {
      newest.origin.networks[$0.rawValue] != origin.networks[$0.rawValue]
    }) {
      tell(
        .warning(
          "\(stage.title) is stale: it was built on another \(other.title) than the run's best; it is trained anew"
        ))
      try FileManager.default.removeItem(atPath: checkpoints.path)
      return nil
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
          + (checkpoints.points().count > 1
            ? "remove it to go on from the one before" : "remove \(checkpoints.path) to start the stage anew")
      )
    }
    try checkData(newest)
    try checkpoints.relink(newest.state, warn: warn)
    try Trainer.writeHistory(newest.state, to: run.history(stage))
    return newest
  }

  /// What keeps a state from being one of this stage's; nil: nothing.
  private func problem(_ state: TrainingState, _ epochs: Int) -> String? {
    guard state.epoch <= epochs else { return "\(state.epoch) epochs of \(epochs)" }
    let before = (0..<state.epoch).reduce(0) { $0 + cases.steps($1) }
    if let begun = state.begun, state.epoch >= epochs || begun.steps > cases.steps(state.epoch) {
      return "\(begun.steps) steps of epoch \(state.epoch + 1)"
    }
    guard state.step == before + (state.begun?.steps ?? 0) else {
      return "\(state.step) steps in \(state.epoch) epochs"
    }
    let settings = schedule.plateau
    guard state.plateau?.patience == settings?.patience, state.plateau?.factor == settings?.factor else {
      return "another plateau than the recipe's"
    }
    guard Set(state.updates.keys) == Set(program.learners.map(\.name)) else {
      return "updates of other networks"
    }
    // The first is what is trained; others may be left out of a step.
    let first = program.learners[0].name
    guard state.updates[first] == state.step else {
      return "\(state.updates[first] ?? 0) updates of the \(first) in \(state.step) steps"
    }
    return nil
  }

  /// The files of this stage's checkpoints.
  private var files: Set<String> {
    Set(program.learners.map { "\($0.name).safetensors" } + [Trainer.momentsFile])
  }

  /// Where a case's images or its truth are others than those the stage was trained with: throws, or, if that is
  /// accepted, notes it.
  private func checkData(_ newest: Checkpoint) throws {
    guard let change = data.change(from: newest.origin.cases, to: origin.cases) else { return }
    let accepted = AcceptedData(run.acceptedData(stage))
    if accepted.cases == origin.cases { return }
    let what = "\(stage.title) (\(newest.folder)) was trained with other data: \(change)"
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
    let epoch = state.epoch, slots = layout.slots, steps = cases.steps(epoch)
    var begun = state.begun ?? .init()
    for step in begun.steps..<steps {
      if saving?.isOver ?? false { try finishSaving() }
      let start = ContinuousClock.now
      let place = "\(stage.title), epoch \(epoch + 1), step \(step + 1) of \(steps)"
      let filled = cases.filled(epoch, step)
      let mine = slots.run(of: communicator.rank, filled: filled)
      // The cases so far, the last one under way: a fault at the end of the step may be of any.
      var seen: [String] = []
      workers.onPhase = { [communicator] phase in
        communicator.courier?.note("\(place): \(phase.rawValue)" + seen.map { ", \($0)" }.joined())
      }
      defer { workers.onPhase = nil }
      let exposedBefore = self.step.exposed, dataWaitBefore = self.step.dataWait, sentBefore = bytesSent
      let batch = Batch(
        count: mine.count, filled: filled, epoch: epoch, step: state.step, rate: rate(step),
        wantsStop: { self.stop.wantsStop(atEpochEnd: step + 1 == steps) }
      ) { [cases] i in
        let item = try cases.load(epoch, step, slot: mine.lowerBound + i, of: mine) {
          self.note("\(place): \($0)")
        }
        seen.append(item.id)
        return item
      }
      let (means, stops) = try self.step.run(batch)
      let values = means.all
      if begun.totals.isEmpty { begun.totals = values.map { _ in 0 } }
      for (i, value) in values.enumerated() { begun.totals[i] += value * Double(filled) }
      begun.steps += 1
      state.step += 1
      stop.noteStep((ContinuousClock.now - start) / .seconds(1))
      let waited = self.step.exposed - exposedBefore, dataWait = self.step.dataWait - dataWaitBefore
      tell(
        .step(
          stage, epoch: epoch + 1, step: step + 1, of: steps, means,
          StepTimes(
            compute: (ContinuousClock.now - start) / .seconds(1) - waited - dataWait, exposed: waited,
            dataWait: dataWait, bytesSent: bytesSent - sentBefore)))
      if stops {
        try self.step.settle()
        state.begun = begun
        return nil
      }
    }
    try step.settle()
    // Ranks that have drifted apart would go on with another network each.
    for learner in program.learners {
      try communicator.agree(
        on: "\(learner.name).safetensors after epoch \(epoch + 1)", learner.p.fingerprint)
    }
    let count = (0..<steps).reduce(0) { $0 + cases.filled(epoch, $1) }
    let means = StepValues(stage.terms, all: begun.totals.map { $0 / Double(count) })
    return EpochRecord(epoch: epoch + 1, rate: rate(0), means)
  }

  private var bytesSent: Int { communicator.courier?.bytesSent ?? 0 }

  /// Tells who waits for this rank where it is.
  private func note(_ place: String) { communicator.courier?.note(place) }

  /// The rate of a step of the epoch that is under way.
  private func rate(_ step: Int) -> Double {
    let rate = schedule.rate(seen: cases.seen(state.epoch, step), scale: state.plateau?.scale ?? 1)
    return rate * recipe.scaling.factor(batch: layout.slots.count)
  }

  /// Validation cases are dealt over all ranks; rank 0 judges and tells the others. Gives whether the epoch is the
  /// best so far.
  private func validate(_ record: inout EpochRecord, interval: Int) throws -> Bool {
    note("\(stage.title), epoch \(state.epoch): validation")
    let ids = data.split.validation, task = data.task
    let mine = stride(from: communicator.rank, to: ids.count, by: communicator.size).map { $0 }
    var rows: [ValidationRow] = []
    for (i, index) in mine.enumerated() {
      let prepared = try data.store.load(ids[index])
      if i + 1 < mine.count { data.store.prefetch(ids[mine[i + 1]]) }
      guard let truth = prepared.labels else { throw Fault(.missing, "\(prepared.id) has no truth") }
      let (prediction, loss) = program.judge(
        SlotCase(slot: 0, id: prepared.id, images: prepared.images, truth: truth))
      let overlaps = Overlaps(truth: truth, prediction: prediction, regions: task.regions)
      rows.append(
        ValidationRow(
          index: index, dice: overlaps.values.map(\.smoothedDice), score: overlaps.score(task.score),
          loss: loss ?? 0))
    }
    let all = try communicator.gather(rows.flatMap(\.numbers))
    // Of the mean the place is that of no case.
    var mean = ValidationRow(index: 0, dice: task.regions.map { _ in 0 }, score: 0, loss: 0)
    if communicator.rank == 0 {
      mean = ValidationRow.mean(all.flatMap { ValidationRow.rows($0, regions: task.regions.count) })
    }
    mean = ValidationRow(try communicator.broadcast(mean.numbers))
    record.dice = zip(task.regions, mean.dice).map { .init(region: $0.name, dice: $1) }
    record.score = mean.score
    switch schedule.plateauFollows {
    case .score: state.plateau?.observe(mean.score, epochs: interval)
    case .loss:
      record.validationLoss = mean.loss
      state.plateau?.observe(-mean.loss, epochs: interval)
    }
    return state.observe(mean.score)
  }

  // MARK: Checkpoints

  private static let momentsFile = "moments.safetensors"

  /// The optimisers' moments, with their prefixes in one file.
  private var moments: [(prefix: String, vector: ShardedVector)] {
    program.learners.flatMap { learner in
      let prefix = program.learners.count == 1 ? "" : "\(learner.name).", optimiser = learner.optimiser
      return [("\(prefix)first.", optimiser.first), ("\(prefix)second.", optimiser.second)]
    }
  }

  /// Rank 0 writes the files, the moments as they come from the other ranks. That they reach the disk and become the
  /// newest checkpoint goes on behind the next steps; a fault of it ends the run at the next step.
  private func save() throws {
    try finishSaving()
    let start = ContinuousClock.now
    let learners = program.learners
    for learner in learners { state.updates[learner.name] = learner.optimiser.updates }
    note("\(stage.title), epoch \(state.epoch): checkpoint")
    let moments = Safetensors.Writer(moments.map { $0.vector.whole($0.prefix, over: communicator) })
    guard communicator.rank == 0 else { return try moments.forEachPiece { _ in } }
    try locks?.check(stage)
    let folder = run.checkpoints(stage), model = Model(metadata, program.network, learners[0].p)
    var files = [(name: "\(learners[0].name).safetensors", write: model.writer.write)]
    for learner in learners.dropFirst() {
      files.append(("\(learner.name).safetensors", Safetensors.Writer([.init("", learner.p)]).write))
    }
    files.append((Trainer.momentsFile, moments.write))
    let state = state, progress = CheckpointFolder.Progress(state), keep = recipe.checkpoints.keep
    let unsealed = try Checkpoint.Unsealed(
      state, recipe: recipe.fingerprint, origin: origin, files: files, to: folder.folder(progress))
    let history = run.history(stage)
    saving = BackgroundWork {
      try unsealed.seal()
      try folder.point(at: progress, best: state.bestEpoch, keep: keep)
      try Trainer.writeHistory(state, to: history)
    }
    stop.noteCheckpoint((ContinuousClock.now - start) / .seconds(1))
  }

  /// Waits until the last checkpoint is on the disk.
  private func finishSaving() throws {
    guard let saving else { return }
    self.saving = nil
    note("\(stage.title), epoch \(state.epoch): checkpoint")
    stop.noteSealing(try saving.wait())
  }

  static func writeHistory(_ state: TrainingState, to path: String) throws {
    // The regions are those of the first epoch that was validated.
    let regions = state.history.lazy.map { $0.dice.map(\.region) }.first { !$0.isEmpty } ?? []
    var history = History(columns: EpochRecord.columns(state.stage, regions: regions))
    for record in state.history { history.append(record.values(state.stage, regions: regions)) }
    let data = Data(history.csv.utf8)
    if FileManager.default.contents(atPath: path) != data { try AtomicFile.write(data, to: path) }
  }
}

/// What validation says of a case, in the form that ranks exchange.
private struct ValidationRow {
  /// The case's place in the split.
  var index: Int
  /// Each region's Dice, in the original's smoothed form.
  var dice: [Double]
  /// The mean of those that score.
  var score: Double
  /// 0 where the method's rate does not follow it.
  var loss: Double

  var numbers: [Double] { [Double(index), score, loss] + dice }

  init(index: Int, dice: [Double], score: Double, loss: Double) {
    self.index = index
    self.dice = dice
    self.score = score
    self.loss = loss
  }

  init(_ numbers: [Double]) {
    self.init(
      index: Int(numbers[0]), dice: Array(numbers.dropFirst(3)), score: numbers[1], loss: numbers[2])
  }

  static func rows(_ numbers: [Double], regions: Int) -> [ValidationRow] {
    let width = 3 + regions
    return stride(from: 0, to: numbers.count, by: width).map {
      ValidationRow(Array(numbers[$0..<$0 + width]))
    }
  }

  /// In the order of the split, so that the bits do not follow how cases were dealt.
  static func mean(_ rows: [ValidationRow]) -> ValidationRow {
    let rows = rows.sorted { $0.index < $1.index }
    func mean(_ value: (ValidationRow) -> Double) -> Double {
      rows.reduce(0) { $0 + value($1) } / Double(rows.count)
    }
    return ValidationRow(
      index: 0, dice: (rows.first?.dice ?? []).indices.map { i in mean { $0.dice[i] } },
      score: mean(\.score), loss: mean(\.loss))
  }
}
