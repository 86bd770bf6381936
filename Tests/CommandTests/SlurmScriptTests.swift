import Foundation
import Testing

extension Commands {
  /// The batch script that `slurm` prints, and the mistakes it finds.
  @Suite struct SlurmScriptTests {
    private let folder: Scratch
    private var recipe: String { folder / "recipe.yaml" }

    init() throws {
      folder = try Scratch()
      try folder.put("name: my study\nbatch: 12\n", "recipe.yaml")
    }

    private func slurm(_ more: String...) throws -> Outcome {
      try Program.start(["slurm", recipe] + more).outcome()
    }

    /// The script's options, `nodes=2`.
    private func options(_ more: String...) throws -> [String: String] {
      let outcome = try Program.start(["slurm", recipe, "--data", "data"] + more).outcome()
      #expect(outcome.code == 0 && outcome.errors == "", "\(outcome.errors)")
      var options: [String: String] = [:]
      for line in outcome.output.split(separator: "\n") where line.hasPrefix("#SBATCH --") {
        let parts = line.dropFirst("#SBATCH --".count).split(separator: "=", maxSplits: 1).map(String.init)
        options[parts[0]] = parts.count > 1 ? parts[1] : ""
      }
      return options
    }

    @Test func theScriptSaysWhatAJobNeeds() throws {
      let found = try options(
        "--nodes", "2", "--cores-per-node", "48", "--time", "2-00:00:00", "--partition", "cpu", "--account",
        "brain")
      let expected = [
        "job-name": "hadnet-my-study", "nodes": "2", "ntasks-per-node": "6", "cpus-per-task": "8",
        "time": "2-00:00:00", "partition": "cpu", "account": "brain", "output": "%x-%j.log",
        "signal": "USR1@120", "requeue": "", "open-mode": "append",
      ]
      #expect(found.filter { $0.key != "mem" } == expected)
      // Six ranks of the paper's size and k, each with a gigabyte of cases.
      let mem = try #require(found["mem"].flatMap { Int($0.dropLast()) })
      #expect((55_000..<75_000).contains(mem) && found["mem"]?.last == "M", "\(mem)")
      #expect(try options("--nodes", "1", "--launcher", "mpirun")["signal"] == "B:USR1@120")
    }

    /// Cores of a node, what is asked for, and the ranks × threads it gives with a batch of 12 cases.
    @Test(arguments: [
      (64, ["--nodes", "2"], 6, 10), (64, ["--nodes", "1"], 6, 10), (64, ["--nodes", "12"], 1, 64),
      (6, ["--nodes", "1"], 1, 6), (14, ["--nodes", "1"], 2, 7),
      (64, ["--nodes", "4", "--threads", "4"], 3, 4), (64, ["--nodes", "1", "--ranks-per-node", "4"], 4, 16),
      (64, ["--nodes", "2", "--set", "batch=null"], 8, 8),
    ])
    func ranksFollowCoresAndBatch(cores: Int, asked: [String], ranks: Int, threads: Int) throws {
      let outcome = try Program.start(
        ["slurm", recipe, "--data", "data", "--cores-per-node", "\(cores)"] + asked
      ).outcome()
      #expect(outcome.output.contains("#SBATCH --ntasks-per-node=\(ranks)\n"), "\(outcome.output)")
      #expect(outcome.output.contains("#SBATCH --cpus-per-task=\(threads)\n"))
    }

    @Test func memoryThatIsGivenGoesToCases() throws {
      let outcome = try slurm(
        "--nodes", "1", "--data", "d", "--ranks-per-node", "1", "--memory-per-node", "64g")
      #expect(outcome.output.contains("#SBATCH --mem=65536M\n"))
      let kept = try #require(outcome.output.firstMatch(of: /--memory ([0-9.]+)/))
      #expect(try #require(Double(kept.1)) > 45)
    }

    /// What the batch makes of the training, beside the paper's.
    @Test func theHeadTellsStepsAndUpdates() throws {
      let script = try slurm(
        "--nodes", "1", "--data", Fixture.data(), "--set", "data.split={train: 7, validation: 3, test: 3}",
        "--set",
        "batch=7")
      #expect(script.errors == "")
      #expect(script.output.contains("# 7 training cases make 1 step an epoch: Teacher "), "\(script.output)")
      let open = try slurm(
        "--nodes", "4", "--cores-per-node", "64", "--data", "absent", "--set", "batch=null", "--set",
        "hadnet.epochs=240")
      #expect(open.output.contains("the paper's 200 training cases make 7 steps an epoch"), "\(open.output)")
      #expect(open.output.contains("HAD-Net 1680 updates in 240 epochs (the paper's batch of 1: 48000)"))
      #expect(
        open.errors.contains(
          "warning: the recipe sets no batch, so 32 ranks make it 32, with 32 times fewer"),
        "\(open.errors)")
    }

    /// A recipe that leaves the batch open, and a run that has taken one.
    @Test func aBegunRunKeepsItsBatch() throws {
      let run = folder / "run"
      func begin(_ run: String) throws {
        try FileManager.default.createDirectory(atPath: run, withIntermediateDirectories: true)
        for name in ["recipe.yaml", "split.json"] {
          try FileManager.default.copyItem(atPath: "\(Fixture.run())/\(name)", toPath: "\(run)/\(name)")
        }
      }
      func script(_ more: String...) throws -> Outcome {
        try Program.start(
          ["slurm", recipe, "--data", "data", "--cores-per-node", "16", "--run", run, "--set", "batch=null"]
            + more
        ).outcome()
      }
      let fresh = try script("--nodes", "2")
      #expect(fresh.output.contains("#SBATCH --ntasks-per-node=2\n"), "\(fresh.output)")
      #expect(fresh.output.contains("batch 4, one case a rank: fixed when the run begins."))
      #expect(fresh.errors.contains("the recipe sets no batch"), "\(fresh.errors)")
      try begin(run)
      let begun = try script("--nodes", "1")
      #expect(begun.code == 0 && begun.errors == "", "\(begun.errors)")
      #expect(
        begun.output.contains("1 × 2 × 8; batch 4, with which the run in \(run) began.\n"), "\(begun.output)")
      #expect(try script("--nodes", "4").output.contains("#SBATCH --ntasks-per-node=1\n"))
      expectFault(
        try script("--nodes", "5"), 78,
        ["5 ranks share a batch of 4 cases, with which the run in \(run) began", "choose another --run"])
      // Of a study over several seeds, the first's.
      try FileManager.default.removeItem(atPath: run)
      try begin("\(run)/seed-3")
      let seeds = try script("--nodes", "1", "--seeds", "2")
      #expect(seeds.output.contains("batch 4, with which the run in \(run) began.\n"), "\(seeds.output)")
    }

    @Test func aSmallDataSetNeedsLittle() throws {
      expectFault(
        try slurm("--nodes", "1", "--data", Fixture.data()), 78, ["a batch of 12 cases", "--set batch=7"])
      let outcome = try slurm(
        "--nodes", "1", "--data", Fixture.data(), "--set", "network.k=2", "--set", "batch=7")
      #expect(
        outcome.output.contains("# A case has 32×32×32 voxels (x, y, z; at most, "), "\(outcome.output)")
    }

    /// The part of slurm/run.sh that is shared is the end of the script.
    @Test func theScriptEndsAsRunDoes() throws {
      let run = try text("\(Program.root)/slurm/run.sh")
      let shared = try #require(run.range(of: "\nthreads="))
      let script = try slurm("--nodes", "1", "--data", "d").output
      #expect(script.hasSuffix(run[shared.lowerBound...]))
      #expect(script.contains("srun --mpi=pmix --kill-on-bad-exit=1") && script.contains("scontrol requeue"))
    }

    @Test func pathsMayHoldAnything() throws {
      let odd = folder / "a 'b' \"c\" $(touch x) `d` \\ #e;&\n#SBATCH --nodes=9"
      try FileManager.default.createDirectory(atPath: odd, withIntermediateDirectories: true)
      try FileManager.default.copyItem(atPath: recipe, toPath: odd + "/recipe.yaml")
      let outcome = try Program.run(
        "slurm", odd + "/recipe.yaml", "--nodes", "1", "--data", odd + "/data", "--run", odd + "/run",
        "--set",
        "name=it's")
      #expect(outcome.code == 0, "\(outcome.errors)")
      let script = try folder.put(outcome.output, "job.sbatch")
      try tool("bash", "-n", script)
      // sbatch reads options up to the first command.
      let options = outcome.output.split(separator: "\n").prefix { $0.hasPrefix("#") }
      #expect(options.filter { $0.hasPrefix("#SBATCH --nodes") } == ["#SBATCH --nodes=1"])
      // The words as the shell reads them.
      let words = outcome.output.split(separator: "\nthreads=")[0].split(separator: "set -uo pipefail\n")[1]
        .replacing(/\[\[ -n.*/, with: "")
      try folder.put(words + "\nprintf '%s\\0' \"$@\"", "words.sh")
      let read = try tool("bash", folder / "words.sh").split(separator: "\0").map(String.init)
      #expect(
        read == [
          URL(fileURLWithPath: Program.path).resolvingSymlinksInPath().path, "study", odd + "/recipe.yaml",
          "--data",
          odd + "/data", "--run", odd + "/run", "--memory", "1.0", "--resume", "--set", "name=it's",
        ])
    }

    /// A job that is refused since another is at work in the folder must not take that one's mark for its own.
    @Test func aRefusedJobLeavesTheMarkOfAnother() throws {
      let bin = try folder.folder("bin"), run = try folder.folder("run")
      try folder.put("#!/bin/sh\nexit 78\n", "bin/srun")
      try folder.put("#!/bin/sh\necho JobState=RUNNING\n", "bin/scontrol")
      try tool("chmod", "+x", "\(bin)/srun", "\(bin)/scontrol")
      try folder.put("run again with --resume\n", "run/unfinished")
      let path = ProcessInfo.processInfo.environment["PATH"] ?? ""
      let outcome = try Job(
        ["bash", "\(Program.root)/slurm/run.sh", "srun", run, "true"],
        environment: ["SLURM_JOB_ID": "1", "PATH": "\(bin):\(path)"]
      ).outcome()
      #expect(outcome.code == 78, "\(outcome.output) \(outcome.errors)")
      #expect(try text("\(run)/unfinished") == "run again with --resume\n")
    }

    @Test func aStageIsTrained() throws {
      let outcome = try slurm("--nodes", "1", "--data", "d", "--command", "train", "--stage", "hadnet")
      #expect(outcome.output.contains(" train ") && outcome.output.contains(" --stage hadnet"))
    }

    @Test func aStudyMayHaveSeveralSeeds() throws {
      let outcome = try slurm("--nodes", "1", "--data", "d", "--seeds", "3")
      #expect(outcome.output.contains(" study ") && outcome.output.contains(" --resume --seeds 3\n"))
    }

    @Test func withoutSlurmTheScriptSaysWhereItBelongs() throws {
      let script = try folder.put(try slurm("--nodes", "1", "--data", "d").output, "job.sbatch")
      let outcome = try Job(["env", "-u", "SLURM_JOB_ID", "bash", script]).outcome()
      #expect(outcome.code == 64 && outcome.errors == "submit this script with sbatch\n", "\(outcome.errors)")
    }

    @Test(arguments: [
      (["--nodes", "0"], 64, "--nodes is 0; 1 to 100000 are possible"),
      (
        ["--nodes", "13"], 78, "13 ranks share a batch of 12 cases; start at most 12 ranks, or set batch: 13"
      ),
      (["--nodes", "4", "--ranks-per-node", "4"], 78, "16 ranks share a batch of 12 cases"),
      (["--nodes", "1", "--threads", "9"], 64, "--threads 9 are more than the 8 cores of a node"),
      (
        ["--nodes", "1", "--threads", "3", "--ranks-per-node", "3"], 64,
        "3 ranks × 3 threads are more than the 8 cores of a node"
      ),
      (["--nodes", "1", "--time", "1:2:3:4"], 64, "--time is 1:2:3:4; write minutes, HH:MM:SS"),
      (["--nodes", "1", "--time", "2"], 64, "five minutes at least"),
      (["--nodes", "1", "--partition", "a;b"], 64, "--partition is 'a;b'; letters, digits"),
      (["--nodes", "1", "--memory-per-node", "lots"], 64, "--memory-per-node is lots; write it as 180G"),
      (["--nodes", "1", "--memory-per-node", "4G"], 64, "--memory-per-node is 4G, but a rank needs"),
      (["--nodes", "1", "--stage", "teacher"], 64, "--stage needs --command train"),
      (["--nodes", "1", "--command", "train", "--seeds", "2"], 64, "--seeds needs --command study"),
      (["--nodes", "1", "--seeds", "0"], 64, "--seeds is 0; 1 to 1000 are possible"),
      (["--nodes", "1", "--set", "bacth=2"], 78, "did you mean batch?"),
    ])
    func mistakesAreNamed(options: [String], code: Int, words: String) throws {
      let outcome = try Program.start(
        ["slurm", recipe, "--data", "data", "--cores-per-node", "8"] + options
      ).outcome()
      expectFault(outcome, Int32(code), [words])
      #expect(outcome.output == "")
    }

    @Test func aRecipeOrDataThatIsMissingIsNamed() throws {
      expectFault(try slurm("--nodes", "1"), 64, ["no data set: give --data DIR"])
      expectFault(
        try Program.run("slurm", folder / "absent.yaml", "--nodes", "1"), 66, ["there is no such recipe"])
      let piped = try Job(
        ["bash", "-c", "exec \"$@\" < <(cat '\(recipe)')", "bash"]
          + Program.command(["slurm", "/dev/stdin", "--nodes", "1", "--data", "data"])
      ).outcome()
      expectFault(piped, 64, ["/dev/stdin is a pipe: the job reads the recipe later"])
    }
  }
}
