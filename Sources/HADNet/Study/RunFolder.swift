import Files
import Foundation
import Imaging
import Methods
import Terminal

/// The folder of a run, and where things lie in it.
package struct RunFolder: Sendable {
  package let path: String

  /// The folder need not be there.
  package init(_ path: String) { self.path = path }

  package var recipe: String { "\(path)/recipe.yaml" }
  package var log: String { "\(path)/log.jsonl" }
  package var report: String { "\(path)/report.html" }
  package var split: String { "\(path)/split.json" }
  /// What the run segments from what, as JSON.
  package var taskFile: String { "\(path)/task.json" }
  package var survey: String { "\(path)/survey.json" }
  /// They depend on the least side of the box that is cropped out.
  package func landmarks(leastSide: Int) -> String { "\(path)/landmarks-\(leastSide).json" }
  package var unfinished: String { "\(path)/unfinished" }
  /// The stages that a study was asked for, a line each; absent where it was asked for all.
  var asked: String { "\(path)/stages" }
  package var cache: String { "\(path)/cache" }
  package var evaluation: String { "\(path)/evaluation" }
  package var figures: String { "\(path)/figures" }
  package func stage(_ stage: Method) -> String { "\(path)/\(stage.rawValue)" }
  package func unfinished(_ stage: Method) -> String { "\(path)/\(stage.rawValue)/unfinished" }
  package func history(_ stage: Method) -> String { "\(path)/\(stage.rawValue)/history.csv" }
  package func checkpoints(_ stage: Method) -> CheckpointFolder {
    CheckpointFolder("\(path)/\(stage.rawValue)/checkpoints", stage)
  }
  package func acceptedData(_ stage: Method) -> String { "\(path)/\(stage.rawValue)/accepted-data.json" }
  func lock(_ stage: Method) -> String { "\(path)/\(stage.rawValue)/lock" }
  var evaluationLock: String { "\(evaluation)/lock" }
  package func evaluation(_ stage: Method) -> String { "\(evaluation)/\(stage.title)" }
  package func predictions(_ stage: Method) -> String { "\(evaluation(stage))/predictions" }
  package func summary(_ stage: Method) -> String { "\(evaluation(stage))/summary.json" }
  package func source(_ stage: Method) -> String { "\(evaluation(stage))/source" }
  package func curves(_ stage: Method) -> String { "\(evaluation(stage))/curves.csv" }

  /// The folder of a trained stage's best network. Throws `.missing` where it has none.
  package func best(_ stage: Method) throws(Fault) -> String {
    let checkpoints = checkpoints(stage)
    guard let folder = checkpoints.best else {
      throw Fault(
        .missing,
        "\(checkpoints.path)/best: no such checkpoint; train the \(stage.rawValue) first (--stage \(stage.rawValue))"
      )
    }
    return folder
  }

  /// A run has begun once its cases are split: a start that failed before (damaged data, a wrong split) may be
  /// repeated with a mended recipe.
  package var hasBegun: Bool { [recipe, split].allSatisfy(FileManager.default.fileExists(atPath:)) }

  /// Opens the folder for `recipe`, or makes it: the recipe with which a run began stays that of the run, and its
  /// batch is fixed when it begins.
  ///
  /// - `stage`: the only one that this start trains; nil: all of them. Other stages may be trained beside it by other
  ///   jobs.
  /// - `resume`: whether stages may go on to more epochs than the run's recipe has so far.
  /// - `locks`: those that this start holds.
  ///
  /// Throws `.recipe` where the folder belongs to another recipe, naming the first difference, or to a study over
  /// several seeds.
  package func open(
    _ recipe: Recipe, ranks: Int, stage: Method? = nil, resume: Bool = false, locks: RunLocks? = nil
  ) throws -> Recipe {
    var recipe = recipe
    if let seed = seeds.first {
      throw Fault(
        .recipe,
        "\(path) belongs to a study over several seeds (\(self.seed(seed).path)); give study its --seeds, or choose "
          + "another --run")
    }
    guard hasBegun else {
      recipe.batch = try RunFolder.batch(recipe.batch, ranks: ranks)
      // Last, so that a start that is refused leaves no folder behind that belongs to its recipe.
      // A survey that a failed start has left may have been made with another preparation.
      System.unlink(survey)
      try AtomicFile.write(Data(recipe.yaml.utf8), to: self.recipe)
      return recipe
    }
    let kept = try Recipe.load(self.recipe)
    if recipe.batch == nil { recipe.batch = kept.batch }
    if let difference = recipe.difference(from: kept, exceptEpochs: true) {
      throw Fault(.recipe, "\(path) belongs to another recipe: \(difference); choose another --run")
    }
    if let difference = recipe.difference(from: kept) {
      guard recipe.hasNoFewerEpochs(than: kept) else {
        throw Fault(
          .recipe,
          "\(path): \(difference); epochs may grow, not shrink: leave the recipe out to go on "
            + "with the run's own, or choose another --run")
      }
      guard resume else {
        throw Fault(
          .recipe,
          "\(path) belongs to another recipe: \(difference); --resume goes on to more, or choose another --run"
        )
      }
    }
    _ = try RunFolder.batch(recipe.batch, ranks: ranks, isFixed: true)
    removeTorn(of: stage, locks)
    if recipe != kept { try AtomicFile.write(Data(recipe.yaml.utf8), to: self.recipe) }
    return recipe
  }

  /// The batch with which the run here began, or the first of several seeds; nil where none has begun.
  package func begunBatch() throws(Fault) -> Int? {
    guard let run = hasBegun ? self : seeds.first.map(seed) else { return nil }
    return try Recipe.load(run.recipe).batch
  }

  /// Cases in a step: what the recipe says, else one a rank. Throws where there are fewer than ranks.
  ///
  /// `isFixed`: whether the run has begun with it.
  static func batch(_ batch: Int?, ranks: Int, isFixed: Bool = false) throws(Fault) -> Int {
    let batch = batch ?? ranks
    guard ranks <= batch else {
      let cases = batch.named("case"), most = batch.named("rank")
      throw Fault(
        .recipe,
        isFixed
          ? "\(ranks) ranks share a batch of \(cases), with which this run began: start at most \(most), or choose "
            + "another --run"
          : "\(ranks) ranks share a batch of \(cases); start at most \(most), or set batch: \(ranks)"
      )
    }
    return batch
  }

  /// Where a run goes whose folder is not given: runs/NAME. `file` has the recipe. Throws `.recipe` for a name that is no folder's there.
  package static func standard(for recipe: Recipe, from file: String) throws(Fault) -> String {
    let name = recipe.name
    let isPlain =
      name.utf8.count <= 200 && !name.hasPrefix(".")
      && name.unicodeScalars.allSatisfy { $0 != "/" && $0.value >= 0x20 && $0.value != 0x7F }
    guard !name.isEmpty, isPlain else {
      throw Fault(
        .recipe,
        "\(file): name: it makes no folder in runs/, which takes up to 200 bytes without / and no dot in front; give another "
          + "name, or --run DIR")
    }
    return "runs/\(name)"
  }

  /// Removes what a killed run has left of files that were being written, outside the cache, which others may share, and
  /// the checkpoints, which look after themselves. Of one stage only its own: other jobs may be writing.
  private func removeTorn(of only: Method?, _ locks: RunLocks?) {
    let own = (only.map { [$0] } ?? Method.allCases).filter {
      locks?.holds($0) ?? true || !FileManager.default.fileExists(atPath: lock($0))
    }
    var folders = own.map(stage)
    if only == nil {
      folders += [evaluation, figures] + Method.allCases.flatMap { [evaluation($0), predictions($0)] }
      if own.count == Method.allCases.count { folders.append(path) }
    }
    for folder in folders { AtomicFile.removeTemporary(from: folder) }
    // Here others may be writing: what is old is nobody's.
    for folder in [path, cache] { AtomicFile.removeTemporary(from: folder, olderThan: 3600) }
  }

  /// What is older than a network that it was made with: stages built on another network than the run's best of that
  /// stage, and scores of another network. A study makes them again.
  package func stale() -> [String] {
    var best: [Method: (fingerprint: String, origin: Checkpoint.Origin)] = [:]
    for stage in Method.allCases {
      best[stage] = checkpoints(stage).best.flatMap { try? Checkpoint.facts(of: $0, stage) }
    }
    var stale: [String] = []
    for stage in Method.allCases {
      guard let own = best[stage] else { continue }
      let changed = stage.needs.filter { earlier in
        best[earlier].map { $0.fingerprint != own.origin.networks[earlier.rawValue] } ?? false
      }
      if !changed.isEmpty {
        stale.append("\(stage.title) (built on another \(changed.map(\.title).joined(separator: " and ")))")
      } else if let source = EvaluationSource(source(stage)), source.network != own.fingerprint {
        stale.append("the scores of \(stage.title)")
      }
    }
    return stale
  }

  // MARK: What was asked for

  /// The stages that a study here was last asked for, in their order, with those that were trained on their own since; nil
  /// where it was all of them.
  package var askedStages: [Method]? {
    guard let text = FileManager.default.contents(atPath: asked) else { return nil }
    let names = String(decoding: text, as: UTF8.self).split(whereSeparator: \.isNewline).map(String.init)
    let stages = Method.allCases.filter { names.contains($0.rawValue) }
    return stages.isEmpty ? nil : stages
  }

  /// Keeps what a study is asked for, for `--resume`; nil: all stages.
  package func ask(for stages: [Method]?) throws {
    guard let stages else {
      System.unlink(asked)
      return
    }
    try AtomicFile.write(Data(stages.map { "\($0.rawValue)\n" }.joined().utf8), to: asked)
  }

  /// Adds a stage that is trained on its own. Jobs of other stages may do so at the same moment: a line each.
  package func ask(alsoFor stage: Method) throws {
    guard let stages = askedStages, !stages.contains(stage) else { return }
    let file = System.open(asked, O_WRONLY | O_APPEND)
    guard file >= 0 else { throw AtomicFile.failure("write", asked, errno) }
    defer { close(file) }
    let code = writeAll(Array("\(stage.rawValue)\n".utf8), to: file)
    if code != 0 { throw AtomicFile.failure("write", asked, code) }
  }

  // MARK: Marks

  // A batch script asks for a mark before it queues its job again. A job of one stage has its own beside the run's,
  // since others may run at the same time.

  /// Says in the marks that the run, or one stage, would fail again as it is: a batch script does not start it again.
  package func mark(fault: Fault.Kind, of stage: Method? = nil) throws {
    for mark in marks(of: stage) {
      try AtomicFile.write(Data("fault: exit code \(fault.rawValue)\n".utf8), to: mark)
    }
  }

  /// Marks the run, or one stage, as unfinished.
  package func markUnfinished(_ stage: Method? = nil) throws {
    for mark in marks(of: stage) { try AtomicFile.write(Data("run again with --resume\n".utf8), to: mark) }
  }

  /// Takes the marks away; the run's goes with the last stage's.
  package func markFinished(_ stage: Method? = nil) {
    for done in stage.map({ [$0] }) ?? Method.allCases { System.unlink(unfinished(done)) }
    func isAnyLeft() -> Bool {
      Method.allCases.contains { FileManager.default.fileExists(atPath: unfinished($0)) }
    }
    if isAnyLeft() { return }
    System.unlink(unfinished)
    // Another stage's job may just have begun.
    if isAnyLeft() { try? markUnfinished() }
  }

  /// The stage's first: whoever then looks for one leaves the run's alone.
  private func marks(of stage: Method?) -> [String] { (stage.map { [unfinished($0)] } ?? []) + [unfinished] }
}

extension RunFolder {
  /// The task of a run that has begun; nil where its file is absent. Throws `.invalid` where it is damaged.
  package func task() throws(Fault) -> SegmentationTask? {
    guard let data = FileManager.default.contents(atPath: taskFile) else { return nil }
    guard let task = SegmentationTask(json: String(decoding: data, as: UTF8.self)) else {
      throw Fault(.invalid, "\(taskFile): no task; take it away, and study writes it again")
    }
    return task
  }
}
