import Files
import Foundation
import Testing

@testable import Collective
@testable import Compute
@testable import Evaluation
@testable import Imaging
@testable import Learning
@testable import Methods
@testable import Networks
@testable import Study
@testable import TestSupport

/// A run of this process alone, on nine small phantom cases: five to train on, two to validate with, two to be scored.
private final class TinyRun {
  private static let cases = Result {
    let scratch = Scratch()
    try Phantom.write(
      to: scratch.file("data"), cases: 9, shape: Size(32, 32, 32), seed: 5, layout: .brats2019)
    return scratch
  }

  let scratch = Scratch()
  private(set) var events: [TrainingEvent] = []
  private let settings: [String]
  private var asked = 0
  var run: RunFolder { RunFolder(scratch.file("run")) }

  init(_ settings: String...) { self.settings = settings }

  /// Trains the student, then scores it if `evaluates`. `stop`: the number of the step after which it is told to stop.
  func start(resume: Bool = false, evaluates: Bool = false, stop: Int? = nil) throws {
    let text = """
      name: tiny
      batch: 2
      data: {split: {train: 5, validation: 2, test: 2}, class_weights: data}
      network: {k: 2, dropout: 0}
      student: {epochs: 2, rate: 1e-3, augmentation: {enabled: true}}
      """
    let world = Communicator(), root = try TinyRun.cases.get().file("data")
    let recipe = try run.open(Recipe(yaml: text, overrides: settings), ranks: 1, resume: resume)
    (events, asked) = ([], 0)
    let tell: (TrainingEvent) -> Void = { [unowned self] in events.append($0) }
    let data = try TrainingData(
      recipe, root: root, run: run, for: [.student], evaluates: evaluates, cache: scratch.file("cache"),
      over: world, tell: tell)
    let watch = StopWatch(isSignalled: { [unowned self] in
      asked += 1
      return asked == stop
    })
    let study = Study(recipe, run, data, over: world, Workers(1), stop: watch, tell: tell)
    try study.train(.student, resume: resume)
    if evaluates { try study.evaluate([.student]) }
  }

  /// The best network's file.
  func network() throws -> Data {
    try Data(contentsOf: URL(fileURLWithPath: "\(run.best(.student))/student.safetensors"))
  }

  var steps: [(epoch: Int, step: Int, of: Int, means: StepValues)] {
    events.compactMap { event in
      if case .step(_, let epoch, let step, let of, let means, _) = event {
        (epoch, step, of, means)
      } else {
        nil
      }
    }
  }

  var epochs: [(record: EpochRecord, isBest: Bool)] {
    events.compactMap { if case .epoch(_, let record, _, let isBest) = $0 { (record, isBest) } else { nil } }
  }

  var isFound: Bool { events.contains { if case .found = $0 { true } else { false } } }
  var isScored: Bool { events.contains { if case .evaluating = $0 { true } else { false } } }
}

@Suite struct TrainerTests {
  @Test func anEpochTellsItsStepsAndThenItsMeans() throws {
    let tiny = TinyRun()
    try tiny.start()
    // Five cases in batches of two: the last has one.
    #expect(
      tiny.steps.map { [$0.epoch, $0.step, $0.of] } == [1, 2].flatMap { e in (1...3).map { [e, $0, 3] } })
    #expect(tiny.epochs.map(\.record.epoch) == [1, 2])
    for (i, epoch) in tiny.epochs.enumerated() {
      let losses = tiny.steps[3 * i..<3 * i + 3].map(\.means.loss)
      #expect(epoch.record.loss == (2 * losses[0] + 2 * losses[1] + losses[2]) / 5)
      #expect(epoch.record.rate == 1e-3)
    }
    let begun = tiny.events.compactMap { event -> (Int, Updates)? in
      if case .began(_, 2, 0, let steps, let updates) = event { (steps, updates) } else { nil }
    }
    #expect(begun.count == 1 && begun[0].0 == 6)
    #expect(begun[0].1 == Updates(batch: 2, perEpoch: 3, all: 6, alone: 10))
  }

  /// At a rate that moves nothing what is trained is what was started from.
  @Test func aStageStartsFromTheNetworkThatItIsGiven() throws {
    let first = TinyRun("student.epochs=1"), path = first.run.path
    try first.start()
    let second = TinyRun("student.epochs=1", "student.rate=1e-20", "student.decay=0", "student.start=\(path)")
    try second.start()
    let start = try Model.load(first.run.best(.student)).p, end = try Model.load(second.run.best(.student)).p
    #expect(start.fingerprint == end.fingerprint)
    #expect(
      second.events.contains {
        if case .note("the student starts from \(path) (Student)") = $0 { true } else { false }
      })
    for (setting, words) in [
      ("network.k=4", "student.start: \(path): a network of k = 2, and network.k is 4"),
      (
        "task={preset: brats, missing: [t2]}",
        "its first layer sees flair, t1, t2, and the student's sees flair, t1ce, t1: give a network of these"
      ),
      (
        "task={preset: brats, classes: {a: 1, b: 2}, read_as: {4: a}, regions: {a: [a], b: [b]}}",
        "it tells background, NET, ED, ET apart, and this task background, a, b: its last layer does not fit"
      ),
    ] {
      do {
        try TinyRun("student.start=\(path)", setting).start()
        Issue.record("\(setting) is taken")
      } catch let fault as Fault {
        #expect(fault.kind == .recipe && fault.description.contains(words), "\(fault)")
      }
    }
  }

  @Test func theBestEpochHasTheBestScore() throws {
    let tiny = TinyRun("student.epochs=4")
    try tiny.start()
    var most = -1.0
    for epoch in tiny.epochs {
      let score = try #require(epoch.record.score)
      #expect(epoch.isBest == (score > most), "epoch \(epoch.record.epoch)")
      most = max(most, score)
    }
    let expected = try #require(tiny.epochs.last { $0.isBest }).record.epoch
    let best = URL(fileURLWithPath: try tiny.run.best(.student)).resolvingSymlinksInPath().lastPathComponent
    #expect(best == CheckpointFolder.Progress(epoch: expected).name)
  }

  @Test func whatIsDoneIsNotTrainedAgain() throws {
    let tiny = TinyRun()
    try tiny.start()
    let network = try tiny.network()
    try tiny.start()
    #expect(tiny.isFound && tiny.steps.isEmpty)
    #expect(try tiny.network() == network)
  }

  /// After a step within an epoch, after its last step, and after the second epoch's first.
  @Test(arguments: [(2, 1, 2, 4), (3, 1, 3, 3), (4, 2, 1, 2)])
  func aStopKeepsWhatIsDoneAndTheBitsStayTheSame(stop: Int, epoch: Int, step: Int, left: Int) throws {
    let whole = TinyRun(), parted = TinyRun()
    try whole.start()
    do {
      try parted.start(stop: stop)
      Issue.record("the run was not stopped")
    } catch let unfinished as Unfinished {
      #expect(unfinished.place == "Student, epoch \(epoch) of 2, after step \(step) of 3")
    }
    let refused = fault { try parted.start() }
    #expect(refused?.kind == .usage && refused?.description.contains("--resume") == true)
    try parted.start(resume: true)
    #expect(parted.steps.count == left)
    #expect(try parted.network() == whole.network())
    #expect(parted.epochs.last?.record == whole.epochs.last?.record)
  }

  @Test func moreEpochsGoOnFromTheLast() throws {
    let whole = TinyRun("student.epochs=3"), short = TinyRun()
    try whole.start()
    try short.start()
    let longer = TinyRun("student.epochs=3")
    try FileManager.default.copyItem(atPath: short.run.path, toPath: longer.run.path)
    try longer.start(resume: true)
    #expect(longer.steps.map(\.epoch) == [3, 3, 3])
    #expect(try longer.network() == whole.network())
  }
}

@Suite struct StudyTests {
  @Test func aNetworkIsScoredOnceAndAgainWhereItOrTheDataChanged() throws {
    let tiny = TinyRun()
    try tiny.start(evaluates: true)
    #expect(tiny.isScored)
    let path = tiny.run.summary(.student), summary = try Data(contentsOf: URL(fileURLWithPath: path))
    let scores = try MethodEvaluation(json: summary, file: path, method: "Student")
    #expect(scores.cases.count == 2)
    try tiny.start(evaluates: true)
    #expect(!tiny.isScored)
    // Scores that nothing is known of are made anew, and are the same.
    try FileManager.default.removeItem(atPath: tiny.run.source(.student))
    try tiny.start(evaluates: true)
    #expect(tiny.isScored)
    #expect(try Data(contentsOf: URL(fileURLWithPath: path)) == summary)
  }

  @Test func whereThereAreNoTestCasesValidationCasesAreJudged() throws {
    let split = try Split(train: ["a", "b"], validation: ["c"], test: ["d"])
    let rest = try Split(train: ["a", "b"], validation: ["c"], test: [])
    #expect(Study.judged(split) == ["d"] && Study.judgedSet(split) == .test)
    #expect(Study.judged(rest) == ["c"] && Study.judgedSet(rest) == .validation)
  }
}
