import ArgumentParser
import Collective
import Foundation
import HADNet

extension Stage: ExpressibleByArgument {}

/// What `train` and `study` have in common.
struct RunOptions: ParsableArguments {
  @Argument(help: "The recipe, a YAML file.")
  var recipe: String
  @Option(help: "The data set's folder; default: the recipe's data.path.")
  var data: String?
  @Option(name: .customLong("run"), help: "The run's folder; default: runs/ and the recipe's name.")
  var folder: String?
  @Flag(help: "Go on from the newest checkpoint, if there is one, on any number of ranks.")
  var resume = false
  @Option(name: .customLong("set"), help: "Change a value of the recipe: key=value, e.g. hadnet.rate=1e-4.")
  var set: [String] = []
  @Option(
    help: "GiB of prepared cases that a rank keeps; default: a quarter of the node's memory over its ranks.")
  var memory: Double?
  @Option(
    help: ArgumentHelp(
      "Stop in time with a checkpoint, after so many minutes, or as MM:SS, HH:MM:SS or D-HH:MM.",
      discussion: "Default: the end of the Slurm job, if it says so."))
  var timeLimit: TimeLimit?
  @Option(help: "Seconds of waiting for another rank until it is named.")
  var stallWarning = 60.0
  @Option(help: "Seconds of waiting for another rank until the job ends.")
  var stallLimit = 1800.0
  @OptionGroup var shared: SharedOptions

  func validate() throws {
    for (name, value) in [("warning", stallWarning), ("limit", stallLimit)] where !(1...1e9).contains(value) {
      throw ValidationError("--stall-\(name) is \(value); 1 second and more are possible")
    }
    if let memory, !(0...1_000_000).contains(memory) {
      throw ValidationError("--memory is \(memory); 0 GiB and more are possible")
    }
  }

  /// All ranks run the same program on the same recipe, or the job ends.
  private func agree(_ communicator: Communicator) throws {
    do {
      try communicator.agree(on: "the program's version", HADNetDist.version)
      try communicator.agree(on: "OpenBLAS's kernels, which decide the last bits", BLAS.core)
      // Rank 0's copy counts; a node that does not see the file has none that could differ.
      let first = try communicator.broadcast(Recipe.contentHash(recipe, overrides: set) ?? "")
      try communicator.agree(on: "the recipe \(recipe)", Recipe.contentHash(recipe, overrides: set) ?? first)
    } catch let disagreement as Disagreement {
      throw Fault(.recipe, disagreement.description)
    }
  }

  /// Opens the run folder and calls `body` on all ranks; the run counts as unfinished until `body` has ended.
  func start(_ body: (Study, RunFolder, Narrator) throws -> Void) -> Never {
    Interrupts.watch()
    let stop = StopWatch(
      limit: timeLimit?.seconds ?? TimeLimit.ofSlurmJob, isSignalled: { Interrupts.isCaught })
    runForCode { communicator in
      communicator.courier?.patience = .init(warning: stallWarning, limit: stallLimit)
      // Rank 0 reads, so that a mistake in the recipe is said once.
      var text = "", path = ""
      if communicator.rank == 0 {
        var recipe = try Recipe.load(self.recipe, overrides: set)
        guard let root = data ?? recipe.data.path else {
          throw Fault(.usage, "no data set: give --data DIR, or data.path in \(self.recipe)")
        }
        // Absolute, so that `report` finds the data set from any folder.
        recipe.data.path = URL(fileURLWithPath: root).path
        // Found before the folder is made, so that a wrong path leaves nothing behind.
        _ = try Dataset.find(root, needsTruth: true)
        path = folder ?? "runs/\(recipe.name)"
        text = try RunFolder(path).open(recipe, ranks: communicator.size).yaml
      }
      try agree(communicator)
      text = try communicator.broadcast(text)
      path = try communicator.broadcast(path)
      let recipe = try Recipe(yaml: text, file: "\(path)/recipe.yaml")
      let runFolder = RunFolder(path)
      let workers = try shared.workers(communicator)
      let narrator = try Narrator(runFolder, recipe, communicator, workers, shared)
      if communicator.rank == 0 { try runFolder.mark(unfinished: true) }
      communicator.courier?.note("reading the data set")
      do {
        let data = try TrainingData(
          recipe, root: recipe.data.path ?? "", run: runFolder, cache: shared.cache,
          memoryLimit: memory.map { Int($0 * 0x1p30) }, over: communicator,
          warn: { if communicator.rank == 0 { narrator.tell(.warning($0)) } })
        try body(
          Study(recipe, runFolder, data, over: communicator, workers, stop: stop, tell: narrator.tell),
          runFolder,
          narrator)
      } catch let end as Unfinished {
        // All ranks have stopped at the same place.
        let causes = try communicator.gather(Interrupts.name ?? "")
        narrator.finish()
        narrator.stopped(end.place, by: causes.first { !$0.isEmpty } ?? "the time limit")
        return Fault.Kind.unfinished.rawValue
      } catch let fault as Fault where fault.kind != .other {
        // srun hides the code where it ends the other ranks itself.
        try? runFolder.mark(fault: fault.kind)
        throw fault
      }
      try communicator.barrier()
      if communicator.rank == 0 { try runFolder.mark(unfinished: false) }
      narrator.finish()
      return 0
    }
  }
}

struct TrainCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "train", abstract: "Train one stage.",
    discussion:
      "Example: mpirun -n 4 hadnet-dist train recipes/paper.yaml --data BraTS2019 --run run --stage teacher")

  @OptionGroup var options: RunOptions
  @Option(
    help: """
      teacher, student, hadnet, control (the student trained on with λ = 0), adnet, kdnet, uhemis or uhved. hadnet and \
      adnet start from teacher and student of the same run, control from the student, kdnet from the teacher.
      """)
  var stage = Stage.teacher

  func run() throws {
    options.start { study, _, _ in try study.train(stage, resume: options.resume) }
  }
}

struct StudyCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "study",
    abstract: "Train every stage in order, evaluate all methods on the test cases, report.",
    discussion: """
      What is done already is not done again.

      Example: mpirun -n 2 hadnet-dist study recipes/demo.yaml --data data --run run
      """)

  @OptionGroup var options: RunOptions
  @Option(help: "Which of them, such as teacher,student,hadnet; default: all.")
  var stages = StageList(stages: Stage.allCases)

  func run() throws {
    options.start { study, folder, narrator in
      for stage in stages.stages { try study.train(stage, resume: options.resume) }
      try study.evaluate(stages.stages)
      guard narrator.isFirst else { return }
      try folder.mark(unfinished: false)
      let report = RunReport(folder)
      try report.write()
      print(try report.table() ?? "")
      narrator.say("report: \(folder.report)")
    }
  }
}

extension TimeLimit: ExpressibleByArgument {
  init?(argument: String) { self.init(argument) }
}

/// Stages of a study, in their order, with what they build on.
struct StageList: ExpressibleByArgument {
  let stages: [Stage]

  init(stages: [Stage]) { self.stages = stages }

  init?(argument: String) {
    let named = argument.split(separator: ",", omittingEmptySubsequences: false).map {
      Stage(rawValue: String($0))
    }
    guard !named.contains(nil) else { return nil }
    let wanted = Set(named.compactMap { $0 }.flatMap { [$0] + $0.builds })
    stages = Stage.allCases.filter { wanted.contains($0) }
  }

  var defaultValueDescription: String { stages.map(\.rawValue).joined(separator: ",") }
}
