import Collective
import Compute
import Evaluation
import Files
import Foundation
import Imaging
import Inference
import Learning
import Methods
import Networks

/// A whole study: every stage in order, then the evaluation of all methods on the judged cases. What is done already
/// is not done again.
package struct Study {
  private let recipe: Recipe
  private let run: RunFolder
  private let data: TrainingData
  private let communicator: Communicator
  private let workers: Workers
  private let locks: RunLocks?
  private let acceptsChangedData: Bool
  private let stop: StopWatch
  private let tell: (TrainingEvent) -> Void

  /// `recipe` is the run folder's; rank 0 holds the `locks`. All ranks together.
  ///
  /// `acceptsChangedData`: whether networks that were trained with other data are kept, and scores made anew.
  package init(
    _ recipe: Recipe, _ run: RunFolder, _ data: TrainingData, over communicator: Communicator,
    _ workers: Workers, locks: RunLocks? = nil, acceptsChangedData: Bool = false, stop: StopWatch,
    tell: @escaping (TrainingEvent) -> Void
  ) {
    self.locks = locks
    self.acceptsChangedData = acceptsChangedData
    self.recipe = recipe
    self.run = run
    self.data = data
    self.communicator = communicator
    self.workers = workers
    self.stop = stop
    self.tell = tell
  }

  /// Trains one stage.
  package func train(_ stage: Method, resume: Bool) throws {
    try Trainer(
      recipe, stage, data, run, over: communicator, workers, locks: locks,
      acceptsChangedData: acceptsChangedData, stop: stop, tell: tell
    ).train(resume: resume)
    locks?.release(stage)
  }

  /// Gives the run's locks back.
  package func release() { locks?.release() }

  /// The cases that methods are compared on, and what they consist of.
  private var judgedContents: [String: String] { data.contents(Study.judged(data.split)) }

  /// Throws where scores of a stage were made with other images or another truth than there are now, unless that is
  /// accepted: before anything is trained. All ranks together.
  package func checkScores(_ stages: [Method]) throws {
    try communicator.rootFirst {
      guard communicator.rank == 0, !acceptsChangedData else { return }
      for stage in stages {
        guard let old = EvaluationSource(run.source(stage)),
          let change = data.change(from: old.cases, to: judgedContents)
        else { continue }
        throw Fault(
          .invalid,
          "\(run.evaluation(stage)) was made with other data: \(change); put it back, or --accept-changed-data keeps "
            + "the networks and scores anew, or choose another --run")
      }
    }
  }

  /// The cases that methods are compared on: the test cases, or, where the split has none, the validation cases.
  package static func judged(_ split: Split) -> [String] {
    judgedSet(split) == .test ? split.test : split.validation
  }

  /// Which they are.
  package static func judgedSet(_ split: Split) -> EvaluatedSet { split.test.isEmpty ? .validation : .test }

  /// Segments the judged cases with each stage's best network, scores them against the truth on the patients' own
  /// grids, and writes predictions, uncertainty maps, cases.csv and summary.json.
  package func evaluate(_ stages: [Method]) throws {
    for stage in stages {
      if try communicator.any(stop.wantsStop()) {
        throw Unfinished(place: "before \(stage.title)'s evaluation")
      }
      try evaluate(stage)
    }
  }

  private func put(_ text: String, _ path: String) throws {
    try AtomicFile.write(Data(text.utf8), to: path)
  }

  private func evaluate(_ stage: Method) throws {
    let ids = Study.judged(data.split)
    let best = try communicator.rootFirst { try run.best(stage) }
    let fingerprint = try communicator.broadcast(
      communicator.rank == 0 ? try Checkpoint.facts(of: best, stage).fingerprint : "")
    let settings = stage.hasDropout && recipe.network.dropout > 0 ? recipe.uncertainty : .init(samples: 0)
    let source = EvaluationSource(
      network: fingerprint, settings: settings.text, cases: judgedContents
    ).text
    let mark = run.source(stage)
    let isDone = try communicator.all(
      FileManager.default.contents(atPath: mark) == Data(source.utf8)
        && FileManager.default.fileExists(atPath: run.summary(stage))
        && (settings.samples == 0 || (try? MeanCurves.load(run.curves(stage), data.task.regions)) != nil))
    if isDone { return }
    if communicator.rank == 0 { try locks?.checkEvaluation() }
    if communicator.rank == 0 { tell(.evaluating(stage, Study.judgedSet(data.split), cases: ids.count)) }
    let model = try communicator.rootFirst { try Model.load(best, of: stage) }
    // Standardised cases are those of the sequences that the network is used with: T1ce is not opened.
    let store =
      model.metadata.preparation.standardisation == nil ? data.store : data.store(model.metadata.preparation)
    let cases = try ids.map { id in
      guard let files = data.dataset[id], files.segmentation != nil else {
        throw Fault(.missing, "\(id) is in the split but not in \(data.dataset.root)")
      }
      return files
    }
    let predictor = Predictor(model, workers)
    let mine = stride(from: communicator.rank, to: cases.count, by: communicator.size).map { cases[$0] }
    // Where the mean of the samples segments, it's written with them.
    let isMean = settings.samples > 0 && settings.segmentsMean
    for (i, files) in (isMean ? [] : mine).enumerated() {
      communicator.courier?.note("\(stage.title)'s evaluation: \(files.id)")
      let prepared = try store.load(files.id)
      if i + 1 < mine.count { store.prefetch(mine[i + 1].id) }
      _ = try predictor.write(prepared, values: files.values, into: run.predictions(stage))
    }
    if settings.samples > 0 { try sample(stage, model, settings, cases, store, source) }
    let evaluator = Evaluator(data.task), regions = data.task.regions
    var scores: [String] = [], curves: [Double] = []
    for files in mine {
      communicator.courier?.note("\(stage.title)'s scores: \(files.id)")
      let pair = Evaluator.Pair(
        id: files.id, truth: files.segmentation ?? "",
        prediction: "\(run.predictions(stage))/\(files.id).nii.gz", values: files.values,
        maps: settings.samples == 0
          ? [:]
          : Dictionary(
            uniqueKeysWithValues: zip(
              regions, UncertaintyWriter.files(files.id, regions, in: run.predictions(stage)))),
        brain: files.files[.t1])
      let found = try evaluator.evaluate(pair)
      scores.append(
        MethodEvaluation(method: stage.title, regions: regions, cases: [files.id: found.scores]).json)
      curves += MeanCurves.numbers(found.curves, regions)
    }
    // Each rank's cases as JSON, one text a case.
    let parts = try communicator.allGather(scores.joined(separator: "\u{1e}"))
    var evaluation = MethodEvaluation(
      method: stage.title, regions: regions, settings: evaluator.settings(hasMaps: settings.samples > 0))
    evaluation.settings?.set = Study.judgedSet(data.split)
    for text in parts.flatMap({ $0.split(separator: "\u{1e}") }) {
      let part = try MethodEvaluation(json: Data(text.utf8), file: best, method: stage.title)
      evaluation.cases.merge(part.cases) { first, _ in first }
    }
    let numbers = try communicator.gather(curves)
    if communicator.rank == 0 {
      if let mean = MeanCurves(dealt: numbers, cases: cases.count, regions, evaluator.thresholds.curve) {
        try put(mean.csv, run.curves(stage))
      }
      try put(evaluation.json, run.summary(stage))
      try put(evaluation.csv, "\(run.evaluation(stage))/cases.csv")
      try put(source, mark)
    }
    try store.tellDamage(over: communicator, tell)
  }

  /// Uncertainty maps beside the predictions. Those of an evaluation that was stopped are kept.
  private func sample(
    _ stage: Method, _ model: Model, _ settings: UncertaintySettings, _ cases: [CaseFiles],
    _ store: CaseStore,
    _ source: String
  ) throws {
    let folder = run.predictions(stage), mark = "\(run.evaluation(stage))/sampled"
    try communicator.rootFirst {
      if communicator.rank == 0, FileManager.default.contents(atPath: mark) != Data(source.utf8) {
        for file in cases.flatMap({ UncertaintyWriter.files($0.id, data.task.regions, settings, in: folder) })
        {
          System.unlink(file)
        }
        try UncertaintyWriter.removeUnscaled(from: folder)
        try put(source, mark)
      }
    }
    if communicator.rank == 0 {
      tell(
        .sampling(stage, Study.judgedSet(data.split), samples: settings.samples, cases: cases.count))
    }
    let writer = try UncertaintyWriter(model, settings, seed: recipe.seed, over: communicator, workers)
    try writer.write(
      cases, from: store, into: folder, skipsDone: true,
      between: {
        communicator.courier?.note("\(stage.title)'s samples")
        if try communicator.any(stop.wantsStop()) {
          throw Unfinished(place: "\(stage.title)'s samples")
        }
      })
  }
}

/// What an evaluation was made from: a small text file beside it.
package struct EvaluationSource: Equatable {
  /// The checkpoint's fingerprint.
  var network: String
  /// Those of the samples.
  var settings: String
  /// What each case consists of, by ID.
  var cases: [String: String]

  init(network: String, settings: String, cases: [String: String]) {
    self.network = network
    self.settings = settings
    self.cases = cases
  }

  /// Reads a file; nil where it is absent or no such text.
  package init?(_ path: String) {
    guard let data = FileManager.default.contents(atPath: path) else { return nil }
    let lines = String(decoding: data, as: UTF8.self).split(separator: "\n").map(String.init)
    guard lines.count > 2 else { return nil }
    (network, settings) = (lines[0], lines[1])
    cases = [:]
    for line in lines.dropFirst(2) {
      guard let end = line.firstIndex(of: "\t") else { return nil }
      cases[String(line[..<end])] = String(line[line.index(after: end)...])
    }
  }

  /// The half of the hash that a case's truth had; nil where it isn't known.
  package func truth(_ id: String) -> String? {
    cases[id]?.split(separator: " ").first { $0.hasPrefix("seg=") }.map { String($0.dropFirst(4)) }
  }

  var text: String {
    ([network, settings] + cases.sorted { $0.key < $1.key }.map { "\($0.key)\t\($0.value)" }).map {
      $0 + "\n"
    }.joined()
  }
}
