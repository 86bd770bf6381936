import ArgumentParser
import Collective
import Compute
import Files
import Foundation
import Imaging
import Methods
import Report
import Study
import Terminal

extension Method: ExpressibleByArgument {}

/// What `train` and `study` have in common.
struct RunOptions: ParsableArguments {
  @Argument(
    help: "The recipe, a YAML file or pipe; default with --resume: the one in --run.",
    completion: .file(extensions: ["yaml", "yml"]))
  var recipe: String?
  @Option(help: "The data set's folder; default: the recipe's data.path.", completion: .directory)
  var data: String?
  @Option(
    name: .customLong("run"), help: "The run's folder; default: runs/ and the recipe's name.",
    completion: .directory)
  var folder: String?
  @Flag(help: "Go on from the newest checkpoint, if there is one; also to more epochs than before.")
  var resume = false
  @Flag(
    help: "Keep networks that were trained with other images or another truth than there are now; score anew."
  )
  var acceptChangedData = false
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
  @Option(
    help: "Folder of prepared cases that train and study share on a node; default: RUN/cache.",
    completion: .directory)
  var cache: String?
  // How faults look is known before others are looked for.
  @OptionGroup var messages: MessageOptions
  @OptionGroup var threads: ThreadOptions
  @Flag(help: "Say what each step did.")
  var verbose = false

  func validate() throws {
    for (name, value) in [("warning", stallWarning), ("limit", stallLimit)] where !(1...1e9).contains(value) {
      throw ValidationError("--stall-\(name) is \(value); 1 second and more are possible")
    }
    if let memory, !(0...1_000_000).contains(memory) {
      throw ValidationError("--memory is \(memory); 0 GiB and more are possible")
    }
  }

  /// All ranks run the same program on the same recipe, or the job ends. `text` is the recipe that rank 0 has read.
  private func agree(_ communicator: Communicator, _ text: String) throws {
    do {
      try communicator.agree(on: "the program's version", HADNetDist.version)
      try communicator.agree(on: "OpenBLAS's kernels, which decide the last bits", BLAS.core)
      // Rank 0's copy counts; a node that does not see the file has none that could differ, and a pipe is rank 0's alone.
      guard let recipe else { return }
      let first = try communicator.broadcast(Recipe.contentHash(of: text, overrides: set))
      let own = AtomicFile.isFile(recipe) && communicator.rank > 0 ? try? Recipe.text(recipe) : nil
      try communicator.agree(
        on: "the recipe \(recipe)", own.map { Recipe.contentHash(of: $0, overrides: set) } ?? first)
    } catch let disagreement as Disagreement {
      throw Fault(.recipe, disagreement.description)
    }
  }

  /// The recipe that the run has, or, of a study over several seeds, its first seed.
  private func keptRecipe(_ seeds: Int) throws -> String {
    // Not while options are parsed, where a mistyped one would be told as this.
    guard resume, let folder else {
      throw Fault(.usage, "no recipe is given; --resume --run RUN takes that of a run")
    }
    let run = RunFolder(folder), first = seeds > 1 ? run.seeds.first.map(run.seed) : run
    if seeds == 1, !run.seeds.isEmpty {
      throw Fault(
        .usage,
        "\(run.path) is a study over several seeds: give study its --seeds, such as --seeds \(run.seeds.count)"
      )
    }
    guard let file = first?.recipe, FileManager.default.fileExists(atPath: file) else {
      throw Fault(
        .missing,
        "\(run.path): no run \(seeds > 1 ? "of several seeds " : "")to resume is there; give a recipe")
    }
    return file
  }

  /// What rank 0 has found and opened before a run goes on.
  private struct Opened {
    /// The recipe as it was typed, whether it sets a batch, and the run's recipes: one, or one of each seed.
    var text = "", hasBatch = true, recipes: [String] = []
    /// The run's folder.
    var path = ""
    /// What is said of a task that the data set has told.
    var task: String?
    /// The stages to be trained, and those that the run was asked for before, if this start asks for none.
    var stages: [Method] = [], kept: [Method]?
    var locks: RunLocks?
  }

  /// Reads the recipe, looks whether all is there that the run begins with, and opens its folder. Rank 0 only.
  private func open(
    _ seeds: Int, _ seed: UInt64?, _ stage: Method?, _ stages: [Method]?, ranks: Int
  ) throws -> Opened {
    var opened = Opened()
    let file = try self.recipe ?? keptRecipe(seeds)
    opened.text = try Recipe.text(file)
    var recipe = try Recipe(yaml: opened.text, file: file, overrides: set)
    guard let root = data ?? recipe.data.path else {
      throw Fault(.usage, "no data set: give --data DIR, or data.path in \(file)")
    }
    // Absolute, so that `report` finds the data set from any folder.
    recipe.data.path = URL(fileURLWithPath: root).path
    opened.path = try folder ?? RunFolder.standard(for: recipe, from: file)
    let run = RunFolder(opened.path)
    // Found before the folder is made, so that a wrong path leaves nothing behind.
    let choice = try recipe.choice(root, run.hasBegun ? run : run.seeds.first.map(run.seed) ?? run)
    if let question = choice.question { throw question }
    if recipe.task?.whole == nil, choice.task != TaskPreset.brats.task {
      opened.task = "task \(choice.task.preset?.rawValue ?? choice.task.regionNames): \(choice.reason)"
    }
    recipe.task = .whole(choice.task)
    _ = try Dataset.find(root, choice.task, needsTruth: true)
    opened.hasBatch = recipe.batch != nil
    if let seed { recipe = recipe.with(seed: seed) }
    // What a stage builds on is there before the stage is marked as begun.
    for earlier in stage?.needs ?? [] { _ = try run.best(earlier) }
    if stage == nil, stages == nil, resume {
      opened.kept = run.askedStages ?? run.seeds.first.flatMap { run.seed($0).askedStages }
    }
    opened.stages = stage.map { [$0] } ?? stages ?? opened.kept ?? Method.allCases
    // Before anything is written that another job may be writing. Each of several seeds has locks of its own.
    let locks = try RunLocks(run, seeds > 1 ? [] : opened.stages, evaluates: stage == nil)
    opened.locks = locks
    let recipes =
      try seeds > 1
      ? run.open(recipe, seeds: seeds, ranks: ranks, resume: resume)
      : [run.open(recipe, ranks: ranks, stage: stage, resume: resume, locks: locks)]
    opened.recipes = recipes.map(\.yaml)
    if let stage { try run.ask(alsoFor: stage) } else { try run.ask(for: stages ?? opened.kept) }
    return opened
  }

  /// Opens the run folder and calls `body` on all ranks; the run counts as unfinished until `body` has ended.
  ///
  /// - `seeds`: how many; more than one have a folder each.
  /// - `seed`: the only one, on the split of the recipe's own; nil: the recipe's.
  /// - `stage`: the only one that is trained; nil: a study of `stages`.
  /// - `stages`: those that a study is asked for; nil: with --resume those that its run was asked for, else all.
  func start(
    seeds: Int = 1, seed: UInt64? = nil, stage: Method? = nil, stages: [Method]? = nil,
    _ body: (Session) throws -> Void
  ) -> Never {
    Interrupts.watch()
    var warnings: [String] = []
    let stop = StopWatch(
      limit: timeLimit?.seconds ?? TimeLimit.ofSlurmJob { warnings.append($0) },
      isSignalled: { Interrupts.isCaught })
    runForCode { communicator in
      warnings.forEach(messages.bar(rank: communicator.rank).warn)
      communicator.courier?.stallLimits = .init(warning: stallWarning, limit: stallLimit)
      // Rank 0 reads, so that a mistake in the recipe is said once.
      let opened =
        communicator.rank == 0
        ? try open(seeds, seed, stage, stages, ranks: communicator.size) : Opened()
      defer { opened.locks?.release() }
      try agree(communicator, opened.text)
      // A recipe quotes such a character.
      let texts = try communicator.broadcast(opened.recipes.joined(separator: "\u{1e}"))
        .split(separator: "\u{1e}").map(String.init)
      let path = try communicator.broadcast(opened.path)
      let chosen = try communicator.broadcast(opened.stages.map(\.rawValue).joined(separator: " "))
        .split(separator: " ")
        .compactMap { Method(rawValue: String($0)) }
      let session = try Session(
        texts.map { try Recipe(yaml: $0, file: "\(path)/recipe.yaml") }, RunFolder(path), chosen,
        isAsked: (stages ?? opened.kept) != nil, communicator, stop, self, opened.locks)
      let run = session.run, narrator = session.narrator
      if let task = opened.task { narrator.say(task) }
      if communicator.rank == 0, !opened.hasBatch, let batch = session.recipes[0].batch {
        narrator.say(
          "the recipe sets no batch: it is \(batch), one case a rank when this run began, and stays that"
            + (batch > 1 ? "; the paper's is 1 (--set batch=1, on one rank, in another --run)" : ""))
      }
      if let kept = opened.kept {
        narrator.say(
          "the run was asked for \(kept.map(\.rawValue).joined(separator: ", ")) and goes on with that; --stages changes it"
        )
      }
      if communicator.rank == 0 { try run.markUnfinished(stage) }
      do {
        try body(session)
      } catch let end as Unfinished {
        // All ranks have stopped at the same place.
        let causes = try communicator.gather(Interrupts.name ?? "")
        narrator.finish()
        narrator.stopped(end.place, by: causes.first { !$0.isEmpty } ?? "the time limit")
        return Fault.Kind.unfinished.rawValue
      } catch let fault as Fault where fault.kind != .other {
        // srun hides the code where it ends the other ranks itself.
        try? run.mark(fault: fault.kind, of: stage)
        throw fault
      }
      try communicator.barrier()
      if communicator.rank == 0 { run.markFinished(stage) }
      narrator.finish()
      return 0
    }
  }
}

/// What this start's trainings have in common, on each rank.
struct Session {
  /// The run's, or of each seed.
  let recipes: [Recipe]
  let run: RunFolder
  /// Those that are trained.
  let stages: [Method]
  let narrator: Narrator
  /// Whether a study is of `stages` alone.
  private let isAsked: Bool
  private let communicator: Communicator
  private let workers: Workers
  private let stop: StopWatch
  private let options: RunOptions
  /// The run's; rank 0 only.
  private let locks: RunLocks?

  /// All ranks together.
  init(
    _ recipes: [Recipe], _ run: RunFolder, _ stages: [Method], isAsked: Bool, _ communicator: Communicator,
    _ stop: StopWatch, _ options: RunOptions, _ locks: RunLocks?
  ) throws {
    self.stages = stages
    self.isAsked = isAsked
    self.locks = locks
    self.recipes = recipes
    self.run = run
    self.communicator = communicator
    self.stop = stop
    self.options = options
    workers = try options.threads.workers(communicator)
    narrator = try Narrator(
      run, recipes[0], communicator, workers, options.messages, isVerbose: options.verbose)
  }

  var isFirst: Bool { communicator.rank == 0 }

  /// Tells who waits for this rank where it is.
  func note(_ place: String) { communicator.courier?.note(place) }

  /// Opens the folder of one of the recipes, the run's own or a seed's, and reads the data set for what is to be done
  /// with it; all ranks together.
  func study(_ recipe: Recipe, evaluates: Bool) throws -> (study: Study, folder: RunFolder) {
    var folder = run, locks = locks
    if recipes.count > 1 {
      folder = run.seed(recipe.seed)
      if isFirst {
        locks = try RunLocks(folder, stages, evaluates: evaluates)
        _ = try run.open(seed: recipe, ranks: communicator.size, locks: locks)
        try folder.ask(for: isAsked ? stages : nil)
        try folder.markUnfinished()
      }
      try narrator.begin(seed: recipe.seed, folder)
    }
    communicator.courier?.note("reading the data set")
    // All seeds have the same cases and the same split.
    let isTold = recipe.seed == recipes[0].seed
    let data = try TrainingData(
      recipe, root: recipe.data.path ?? "", run: folder, for: stages, evaluates: evaluates,
      cache: options.cache ?? run.cache, memoryLimit: options.memory.map { Int($0 * 0x1p30) },
      over: communicator, tell: { narrator.tell($0, aloud: isTold) })
    let study = Study(
      recipe, folder, data, over: communicator, workers, locks: locks,
      acceptsChangedData: options.acceptChangedData, stop: stop, tell: narrator.tell)
    return (study, folder)
  }
}

struct TrainCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "train", abstract: "Train one stage.",
    discussion:
      "Example: mpirun -n 4 hadnet-dist train recipes/paper.yaml --data BraTS2019 --run run --stage teacher")

  @OptionGroup var options: RunOptions
  @Option(help: ArgumentHelp("What is trained.", discussion: "One of \(Method.help)."))
  var stage = Method.teacher

  func run() throws {
    options.start(stage: stage) { session in
      let (study, folder) = try session.study(session.recipes[0], evaluates: false)
      try study.train(stage, resume: options.resume)
      guard session.isFirst else { return }
      let stale = folder.stale()
      if !stale.isEmpty {
        session.narrator.say("stale: \(stale.joined(separator: ", ")); study --resume makes them again")
      }
      session.narrator.say("model: \(folder.checkpoints(stage).path)/best")
    }
  }
}

struct StudyCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "study",
    abstract: "Train every stage in order, evaluate all methods on the test cases, report.",
    discussion: """
      What is done already is not done again. Where the split has no test cases, the validation cases are scored, and \
      every table says so.

      Example: mpirun -n 2 hadnet-dist study recipes/demo.yaml --data data --run run --seeds 3
      """)

  @OptionGroup var options: RunOptions
  @Option(
    help: ArgumentHelp(
      "Stages that are trained and compared, with what they build on; such as hadnet,kdnet.",
      discussion: """
        Default: with --resume those that the run was last asked for, else all: \
        \(Method.allCases.map(\.rawValue).joined(separator: ",")).
        """))
  var stages: StageList?
  @Option(
    help: ArgumentHelp(
      "Repeat the study with so many seeds, from the recipe's on, on the same split of cases.",
      discussion: "Each is a run of its own in RUN/seed-S; tables over all of them in RUN."))
  var seeds = 1
  @Option(
    help: ArgumentHelp(
      "One seed as --seeds has it, in place of the recipe's, on the split of the recipe's.",
      discussion: """
        With --run RUN/seed-S --cache RUN/cache each may be a job of its own; --seeds then finds them done.
        """))
  var seed: UInt64?

  func validate() throws {
    guard (1...1000).contains(seeds) else {
      throw ValidationError("--seeds is \(seeds); 1 to 1000 are possible")
    }
    if seed != nil, seeds > 1 { throw ValidationError("--seed is one of several, --seeds all of them") }
  }

  func run() throws {
    options.start(seeds: seeds, seed: seed, stages: stages?.stages) { session in
      for recipe in session.recipes {
        let (study, folder) = try session.study(recipe, evaluates: true)
        defer { study.release() }
        try study.checkScores(session.stages)
        for stage in session.stages { try study.train(stage, resume: options.resume) }
        try study.evaluate(session.stages)
        guard session.isFirst else { continue }
        session.note("tables and report")
        folder.markFinished()
        let table = try RunReport(folder).write()
        if seeds == 1 { Output.printTables(table) }
        session.narrator.say("report: \(folder.report)")
      }
      guard seeds > 1, session.isFirst else { return }
      session.note("tables and report over the seeds")
      session.run.markFinished()
      Output.printTables(try SeedReport(session.run).write())
      session.narrator.say("report: \(session.run.report)")
    }
  }
}

extension TimeLimit: ExpressibleByArgument {
  init?(argument: String) { self.init(argument) }
}

/// Stages of a study, in their order, with what they build on.
struct StageList: ExpressibleByArgument {
  let stages: [Method]

  init?(argument: String) {
    let named = argument.split(separator: ",", omittingEmptySubsequences: false).map {
      Method(rawValue: String($0))
    }
    guard !named.contains(nil) else { return nil }
    let wanted = Set(named.compactMap { $0 }.flatMap { [$0] + $0.needs })
    stages = Method.allCases.filter { wanted.contains($0) }
  }
}
