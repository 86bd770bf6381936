import ArgumentParser
import Collective
import Compute
import Files
import Foundation
import Imaging
import Learning
import Methods
import Networks
import Study
import Terminal

struct SlurmCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "slurm",
    abstract: "Print a batch script for Slurm, fitted to a recipe; nothing is submitted.",
    discussion: """
      Ranks, threads and memory follow from the recipe and the nodes; a head of comments says how. The script puts its \
      job back into the queue until the run is done.

      Example: hadnet-dist slurm recipes/paper.yaml --nodes 4 --cores-per-node 64 --data BraTS2019 > job.sbatch
      """)

  enum Task: String, ExpressibleByArgument, CaseIterable { case study, train }
  enum Launcher: String, ExpressibleByArgument, CaseIterable { case srun, mpirun }

  @Argument(help: "The recipe, a YAML file.", completion: .file(extensions: ["yaml", "yml"]))
  var recipe: String
  @Option(help: "Nodes of the job.")
  var nodes: Int
  @Option(help: "Cores of a node that the job takes; default: those this process may use here.")
  var coresPerNode: Int?
  @Option(
    help: "Threads of a rank; default: the largest divisor of the cores up to 8, more where ranks are few.")
  var threads: Int?
  @Option(help: "Ranks on a node; default: as many as have cores, and a case of the batch.")
  var ranksPerNode: Int?
  @Option(help: "Memory of a node that the job takes, as sbatch has it (180G); default: what the ranks need.")
  var memoryPerNode: String?
  @Option(help: "The job's time limit, as sbatch has it; a job that reaches it is queued again.")
  var time = "24:00:00"
  @Option(help: "Partition, if it is not the cluster's default.")
  var partition: String?
  @Option(help: "Account that the job is charged to.")
  var account: String?
  @Option(help: "What starts the ranks: srun, or mpirun where srun knows no pmix.")
  var launcher = Launcher.srun
  @Option(help: "study: every stage and the evaluation; train: one stage.")
  var command = Task.study
  @Option(help: "The stage for --command train.")
  var stage: Method?
  @Option(help: "Seeds of --command study, one after the other in one job.")
  var seeds: Int?
  @Option(help: "The data set's folder; default: the recipe's data.path.", completion: .directory)
  var data: String?
  @Option(
    name: .customLong("run"), help: "The run's folder; default: runs/ and the recipe's name.",
    completion: .directory)
  var folder: String?
  @Option(help: "The job's name; default: hadnet- and the recipe's name.")
  var name: String?
  @Option(name: .customLong("set"), help: "Change a value of the recipe: key=value, e.g. batch=8.")
  var set: [String] = []

  func run() throws {
    try checkOptions()
    let recipe = try Recipe.load(self.recipe, overrides: set)
    guard AtomicFile.isFile(self.recipe) else {
      throw Fault(.usage, "\(self.recipe) is a pipe: the job reads the recipe later, from a file")
    }
    guard let root = data ?? recipe.data.path else {
      throw Fault(.usage, "no data set: give --data DIR, or data.path in \(self.recipe)")
    }
    // The job may be submitted from any folder.
    let run = SlurmCommand.absolute(try folder ?? RunFolder.standard(for: recipe, from: self.recipe))
    // A run that has begun keeps its batch, whatever it is resumed on.
    let begun = recipe.batch == nil ? try RunFolder(run).begunBatch() : nil
    let (ranks, threads) = try layout(
      cores: coresPerNode ?? Cores.mask().count, batch: recipe.batch ?? begun, begun: begun == nil ? nil : run
    )
    let slots = Slots(recipe.batch ?? begun ?? nodes * ranks, over: nodes * ranks)
    let task = try SlurmCommand.task(recipe, root, RunFolder(run))
    let (size, sizeIsFrom) = SlurmCommand.size(recipe, task, root)
    let memories = (command == .study ? Method.allCases : [stage ?? .teacher]).map {
      RankMemory($0, recipe, task, size: size, slots: slots, threads: threads)
    }
    // There is a stage.
    let memory = memories.max { $0.training < $1.training }!
    let (wanted, kept) = try share(memory, ranks: ranks)
    let head = [
      "\(command.rawValue) of the recipe \(self.recipe), printed by hadnet-dist \(HADNetDist.version); submit it with "
        + "sbatch.",
      "Nodes × ranks × threads: \(nodes) × \(ranks) × \(threads); batch \(slots.count)"
        + (recipe.batch != nil
          ? "."
          : begun != nil
            ? ", with which the run in \(run) began." : ", one case a rank: fixed when the run begins."),
      try updates(recipe, task, batch: slots.count, root),
      "A case has \(size) voxels (x, y, z; \(sizeIsFrom)), k is \(recipe.network.k).",
      "Memory of a rank: \(SlurmCommand.gib(memory.training, .up)) GiB to train, \(SlurmCommand.gib(kept, .down)) GiB of "
        + "prepared cases.",
    ]
    if recipe.batch == nil, begun == nil, slots.count > 1 {
      StandardError.say(
        "warning: the recipe sets no batch, so \(slots.count) ranks make it \(slots.count), with \(slots.count) times "
          + "fewer updates than the paper's batch of 1; --set batch=N fixes it, and the ranks with it")
    }
    let plainName = String(recipe.name.map { SlurmCommand.isPlain("\($0)") ? $0 : "-" })
    var options = [
      "job-name=\(name ?? "hadnet-\(plainName)")", "nodes=\(nodes)", "ntasks-per-node=\(ranks)",
      "cpus-per-task=\(threads)", "mem=\((wanted + 0xFFFFF) >> 20)M", "time=\(time)", "output=%x-%j.log",
      // With mpirun the script gets the signal, and hands it on.
      launcher == .mpirun ? "signal=B:USR1@120" : "signal=USR1@120", "requeue", "open-mode=append",
    ]
    if let partition { options.append("partition=\(partition)") }
    if let account { options.append("account=\(account)") }
    var words = [
      SlurmCommand.program, command.rawValue, SlurmCommand.absolute(self.recipe), "--data",
      SlurmCommand.absolute(root), "--run", run, "--memory", SlurmCommand.gib(kept, .down), "--resume",
    ]
    // Where the mark lies that the script asks for.
    var folder = run
    if command == .train {
      let stage = stage ?? .teacher
      words += ["--stage", stage.rawValue]
      folder = RunFolder(run).stage(stage)
    }
    if let seeds { words += ["--seeds", "\(seeds)"] }
    for change in set { words += ["--set", change] }
    Output.print(
      """
      #!/bin/bash
      \(head.map { "# " + $0.split(whereSeparator: \.isNewline).joined(separator: " ") }.joined(separator: "\n"))
      \(options.map { "#SBATCH --" + $0 }.joined(separator: "\n"))
      set -uo pipefail
      [[ -n ${SLURM_JOB_ID-} ]] || { echo "submit this script with sbatch" >&2; exit 64; }
      launcher=\(launcher.rawValue) folder=\(SlurmCommand.quoted(folder))
      set -- \(words.map(SlurmCommand.quoted).joined(separator: " "))
      \(SlurmCommand.ending)
      """, terminator: "")
  }

  /// What the batch means for the training: steps an epoch and updates, beside those of the paper's batch of one case.
  private func updates(
    _ recipe: Recipe, _ task: SegmentationTask, batch: Int, _ root: String
  ) throws -> String {
    let seen = SlurmCommand.trainingCases(recipe, task, root)
    if let seen, batch > seen {
      throw Fault(
        .recipe,
        "a batch of \(batch) cases, and \(root) has \(seen.named("training case")): take fewer ranks, or --set batch=\(seen)"
      )
    }
    var cases = seen
    if case .counts(let train, _, _) = recipe.data.split { cases = cases ?? train }
    let known = cases.map { $0.named("training case") } ?? "the paper's 200 training cases"
    let count = cases ?? 200, steps = (count + batch - 1) / batch
    let stages = command == .train ? [stage ?? .teacher] : Method.subject.needs.prefix(1) + [.subject]
    let all = stages.compactMap { stage -> String? in
      // Methods that see windows count those, not cases.
      guard let epochs = recipe.settings(stage).epochCount else { return nil }
      return "\(stage.title) \((epochs * steps).named("update")) in \(epochs.named("epoch"))"
        + (batch > 1 ? " (the paper's batch of 1: \(epochs * count))" : "")
    }
    if all.isEmpty { return "Windows, not cases, make the steps of \(stages[0].title)." }
    return
      "\(known) \(cases == 1 ? "makes" : "make") \(steps) step\(steps == 1 ? "" : "s") an epoch: \(all.joined(separator: ", "))."
  }

  /// Bytes of a node that the job asks for, and how many of them each rank keeps for prepared cases.
  private func share(_ memory: RankMemory, ranks: Int) throws -> (wanted: Int, kept: Int) {
    let needed = ranks * memory.training
    guard let memoryPerNode else {
      // A gigabyte of cases a rank; the others are read anew from the cache folder.
      return (needed + ranks << 30, 1 << 30)
    }
    let given = try SlurmCommand.bytes(memoryPerNode)
    guard given >= needed else {
      throw Fault(
        .usage,
        "--memory-per-node is \(memoryPerNode), but \(ranks == 1 ? "a rank needs" : "\(ranks) ranks need") "
          + "\(SlurmCommand.gib(needed, .up)) GiB"
          + (ranks == 1 ? "" : ": take fewer --ranks-per-node with more --threads"))
    }
    return (given, (given - needed) / ranks)
  }

  // MARK: Checks

  private func checkOptions() throws {
    for (option, value, most) in [
      ("--nodes", nodes, 100_000), ("--cores-per-node", coresPerNode, 4096), ("--threads", threads, 4096),
      ("--ranks-per-node", ranksPerNode, 4096), ("--seeds", seeds, 1000),
    ] {
      if let value, !(1...most).contains(value) {
        throw Fault(.usage, "\(option) is \(value); 1 to \(most) are possible")
      }
    }
    guard let limit = TimeLimit(time) else {
      throw Fault(.usage, "--time is \(excerpt(time)); write minutes, HH:MM:SS, D-HH or D-HH:MM:SS")
    }
    guard limit.seconds >= 300 else {
      throw Fault(
        .usage, "--time is \(excerpt(time)); five minutes at least, as two are for the last checkpoint")
    }
    for (option, value) in [("--partition", partition), ("--account", account), ("--name", name)] {
      if let value, !SlurmCommand.isPlain(value) {
        throw Fault(.usage, "\(option) is '\(excerpt(value))'; letters, digits and . _ , + @ - are possible")
      }
    }
    if stage != nil, command != .train { throw Fault(.usage, "--stage needs --command train") }
    if seeds != nil, command != .study { throw Fault(.usage, "--seeds needs --command study") }
  }

  private static func isPlain(_ text: String) -> Bool { text.wholeMatch(of: /[A-Za-z0-9._,+@\-]+/) != nil }

  /// Ranks of a node and threads of a rank. Every rank has a case of the batch at least; `begun` is the run that began
  /// with that batch.
  private func layout(cores: Int, batch: Int?, begun: String?) throws -> (ranks: Int, threads: Int) {
    if let threads, threads > cores {
      throw Fault(
        .usage, "--threads \(threads) are more than the \(cores) cores of a node (--cores-per-node)")
    }
    if let batch, nodes * (ranksPerNode ?? 1) > batch {
      let ranks = nodes * (ranksPerNode ?? 1)
      throw Fault(
        .recipe,
        "\(ranks) ranks share a batch of \(batch.named("case"))"
          + (begun.map { ", with which the run in \($0) began" } ?? "")
          + "; start at most \(batch.named("rank")), or "
          + (begun == nil ? "set batch: \(ranks)" : "choose another --run")
      )
    }
    guard let ranks = ranksPerNode else {
      let wish = threads ?? (1...8).last { cores % $0 == 0 } ?? 1
      var ranks = cores / wish
      if let batch {
        // The fewest ranks with which none has more cases than it must.
        ranks = min(ranks, batch / nodes)
        let cases = (batch + nodes * ranks - 1) / (nodes * ranks)
        ranks = ((batch + cases - 1) / cases + nodes - 1) / nodes
      }
      return (ranks, threads ?? cores / ranks)
    }
    guard ranks * (threads ?? 1) <= cores else {
      throw Fault(
        .usage,
        "\(ranks) ranks × \(threads ?? 1) threads are more than the \(cores) cores of a node (--cores-per-node)"
      )
    }
    return (ranks, threads ?? cores / ranks)
  }

  // MARK: Sizes

  /// The task that the job will have. Where the data set cannot be seen from here, BraTS's is planned for.
  private static func task(
    _ recipe: Recipe, _ root: String, _ run: RunFolder
  ) throws -> SegmentationTask {
    guard AtomicFile.isFolder(root) else { return recipe.task?.whole ?? TaskPreset.brats.task }
    do {
      let choice = try recipe.choice(root, run)
      if let question = choice.question { throw question }
      return choice.task
    } catch let fault as Fault where fault.kind == .missing {
      return recipe.task?.whole ?? TaskPreset.brats.task
    }
  }

  /// The training cases of a data set that can be seen.
  private static func trainingCases(_ recipe: Recipe, _ task: SegmentationTask, _ root: String) -> Int? {
    guard let cases = (try? Dataset.inspect(root, task))?.cases, !cases.isEmpty else { return nil }
    let seed = recipe.data.splitSeed ?? recipe.seed
    let split = try? recipe.data.split.divide(cases, seed: seed, allowLeak: true)
    return split?.train.count
  }

  /// The size of a case, and how it is known. Of a data set that can be seen only one header is read: a brain is not
  /// larger than its file, nor than those of BraTS 2019.
  private static func size(_ recipe: Recipe, _ task: SegmentationTask, _ root: String) -> (Size, String) {
    if let size = recipe.data.size { return (size, "data.size") }
    let brats = Size(160, 192, 160)
    guard let path = (try? Dataset.inspect(root, task))?.cases.first?.files[task.sequences[0]],
      let file = try? NIfTIHeader.read(path).size
    else { return (brats, "as in BraTS 2019: data.size sets another") }
    let least = Discriminator.leastSide
    func side(_ n: Int, _ most: Int) -> Int { max(least, min(n, most)) }
    let box = Size(side(file.z, brats.z), side(file.y, brats.y), side(file.x, brats.x))
    return (Preparation.commonSize([box]), "at most, after the data set's first file")
  }

  /// Bytes of a number as sbatch's --mem has it: mebibytes, or with K, M, G or T.
  private static func bytes(_ text: String) throws -> Int {
    guard let match = text.wholeMatch(of: /([1-9][0-9]{0,9})([KMGT]?)/.ignoresCase()),
      let number = Int(match.1), let unit = "KMGT".firstIndex(of: match.2.uppercased().first ?? "M")
    else { throw Fault(.usage, "--memory-per-node is \(excerpt(text)); write it as 180G or 184320M") }
    let bytes = number.multipliedReportingOverflow(
      by: 1 << (10 * (1 + "KMGT".distance(from: "KMGT".startIndex, to: unit))))
    guard !bytes.overflow else {
      throw Fault(.usage, "--memory-per-node is \(excerpt(text)); no node has as much")
    }
    return bytes.partialValue
  }

  /// GiB with one decimal.
  private static func gib(_ bytes: Int, _ rounding: FloatingPointRoundingRule) -> String {
    String(format: "%.1f", (Double(bytes) / 0x1p30 * 10).rounded(rounding) / 10)
  }

  // MARK: Text

  /// The last part of slurm/run.sh: starts the ranks, hands signals on, and queues the job again.
  private static var ending: String {
    let text = String(decoding: PackageResources.run_sh, as: UTF8.self)
    guard let start = text.range(of: "\nthreads=") else { preconditionFailure("run.sh is another script") }
    return String(text[text.index(after: start.lowerBound)...])
  }

  private static var program: String {
    (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? CommandLine.arguments[0]
  }

  private static func absolute(_ path: String) -> String {
    URL(fileURLWithPath: path).standardizedFileURL.path
  }

  /// One word for the shell.
  private static func quoted(_ word: String) -> String {
    word.wholeMatch(of: /[A-Za-z0-9._,+@\/=:\-]+/) != nil
      ? word : "'" + word.replacing("'", with: #"'\''"#) + "'"
  }
}
