import Foundation
import Testing

/// A Slurm cluster of two nodes on this machine, for as long as it is held.
private final class Cluster {
  let folder: Scratch
  private static let tools = "\(Program.root)/Tests/Cluster"

  /// Whether there can be one: that takes root and Slurm's daemons.
  static let isPossible: Bool = {
    let folders = "\(ProcessInfo.processInfo.environment["PATH"] ?? ""):/usr/sbin:/sbin".split(separator: ":")
    return geteuid() == 0
      && ["slurmctld", "slurmd", "sbatch", "munged"].allSatisfy { name in
        folders.contains { FileManager.default.isExecutableFile(atPath: "\($0)/\(name)") }
      }
  }()

  init() throws {
    folder = try Scratch()
    // Ports of its own, so that another cluster of this machine is left alone.
    let port = "\(21000 + 10 * (getpid() % 1000))"
    try tool("\(Cluster.tools)/slurm-up", "-n", "2", "-c", "4", "-p", port, "-d", folder / "slurm")
  }

  /// Cuts a node's power, or gives it back.
  func power(_ isOn: Bool, _ node: String) throws {
    try tool("\(Cluster.tools)/slurm-\(isOn ? "up" : "down")", "-N", node, "-d", folder / "slurm")
  }

  deinit { _ = try? tool("\(Cluster.tools)/slurm-down", "-r", "-d", folder / "slurm") }

  /// Runs a command with the cluster's environment in the package's folder.
  @discardableResult
  func run(_ command: String...) throws -> String {
    let outcome = try Job(
      ["env", "-C", Program.root] + command,
      environment: [
        "SLURM_CONF": folder / "slurm/slurm.conf", "HADNET_DIST": Program.path,
        "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        // Both nodes' first core is the same.
        "OMPI_MCA_hwloc_base_binding_policy": "none",
      ]
    ).outcome()
    try #require(outcome.code == 0, "\(command): \(outcome.errors)")
    return outcome.output.trimmingCharacters(in: .whitespacesAndNewlines)
  }

  /// What Slurm says of a job once no job is left.
  func facts(of job: String) throws -> String {
    try waitForAll()
    return try run("scontrol", "--oneliner", "show", "job", job)
  }

  /// Waits until no job is left.
  func waitForAll(seconds: Double = 240) throws {
    let end = Date(timeIntervalSinceNow: seconds)
    while try !run("squeue", "--noheader").isEmpty {
      if Date() > end {
        let processes = try Job(["ps", "axfww", "-o", "pid,stat,etimes,args"]).outcome().output
        Issue.record("\(try run("squeue")) \(processes)")
        break
      }
      usleep(300_000)
    }
  }
}

extension Commands {
  /// The scripts in slurm/ on a real Slurm of two nodes.
  @Suite(
    .serialized,
    .enabled(if: Cluster.isPossible, "needs root and Slurm: scripts/install-dependencies --tests brings it"))
  struct SlurmTests {
    private let cluster: Cluster
    private let folder: Scratch
    private var run: String { folder / "run" }
    private var log: String { folder / "log" }

    init() throws {
      cluster = try Cluster()
      folder = try Scratch()
      // The fixture's gate, which a script does not set.
      let recipe = Fixture.recipeText.replacingOccurrences(
        of: "hadnet: {epochs: 2, rate: 1e-3}", with: "hadnet: {epochs: 2, rate: 1e-3, gate: 0.5}")
      try Data(recipe.utf8).write(to: URL(fileURLWithPath: folder / "recipe.yaml"))
    }

    @discardableResult
    private func submit(_ script: String, program: String = Program.path) throws -> String {
      let outcome = try cluster.run(
        "env", "HADNET_DIST=\(program)", "sbatch", "--parsable", "--nodes=2", "--ntasks-per-node=1",
        "--cpus-per-task=1", "--output=\(log)",
        "slurm/\(script)", folder / "recipe.yaml", Fixture.data(), run)
      return outcome
    }

    /// What `hadnet-dist slurm` prints, submitted as it is from another folder.
    @Test(arguments: ["srun", "mpirun"]) func aPrintedScriptRunsTheStudy(launcher: String) throws {
      let spaced = folder / "a run's"
      let printed = try Program.run(
        "slurm", folder / "recipe.yaml", "--nodes", "2", "--cores-per-node", "1", "--data", Fixture.data(),
        "--run", spaced, "--launcher", launcher)
      #expect(printed.code == 0 && printed.errors == "", "\(printed.errors)")
      let script = try folder.put(printed.output, "job.sbatch")
      let job = try cluster.run("sbatch", "--parsable", "--output=\(log)", script)
      for _ in 0..<20_000 where !exists("\(spaced)/student/checkpoints/epoch-0001") { usleep(3000) }
      if launcher == "srun" {
        try cluster.run("scancel", "--signal=USR1", job)
      } else {
        try cluster.run("scancel", "--signal=USR1", "--batch", job)
      }
      try cluster.waitForAll()
      let said = try text(log)
      #expect(said.contains("job \(job) goes back into the queue"), "\(said)")
      try Fixture.expectResults(spaced)
      #expect(try text("\(spaced)/log.jsonl").contains("\"hosts\": 2"))
    }

    private func waitForFirstEpoch(_ stage: String) {
      for _ in 0..<20_000 where !exists("\(run)/\(stage)/checkpoints/epoch-0001") { usleep(3000) }
    }

    @Test(arguments: ["study.sbatch", "study-mpirun.sbatch"]) func twoNodesGiveTheSameBits(script: String)
      throws
    {
      try submit(script)
      try cluster.waitForAll()
      try Fixture.expectResults(run)
      #expect(try text("\(run)/log.jsonl").contains("\"hosts\": 2"))
    }

    /// As before the time limit: a signal to the ranks, or to the script, which hands it on.
    @Test(arguments: [("study.sbatch", []), ("study-mpirun.sbatch", ["--batch"])] as [(String, [String])])
    func aWarningPutsTheJobBackIntoTheQueue(script: String, to: [String]) throws {
      let job = try submit(script)
      waitForFirstEpoch("student")
      if to.isEmpty {
        try cluster.run("scancel", "--signal=USR1", job)
      } else {
        try cluster.run("scancel", "--signal=USR1", to[0], job)
      }
      try cluster.waitForAll()
      let said = try text(log)
      #expect(
        said.contains("stopped by SIGUSR1") && said.contains("job \(job) goes back into the queue"), "\(said)"
      )
      try Fixture.expectResults(run)
    }

    /// A node loses power under way and is back as soon as Slurm has noticed, or later: the job is put back by Slurm
    /// or by the script and ends with the bits of a run in peace. What the node's power left behind in its folder
    /// keeps the first step from starting there.
    @Test(arguments: [("study.sbatch", 0.0), ("study.sbatch", 5.0), ("study-mpirun.sbatch", 0)])
    func aJobThatLosesANodeGoesOn(script: String, pause: Double) throws {
      let recipe = try text(folder / "recipe.yaml").replacingOccurrences(
        of: "teacher: {epochs: 2", with: "teacher: {epochs: \(SlurmTests.longEpochs)")
      try Data(recipe.utf8).write(to: URL(fileURLWithPath: folder / "recipe.yaml"))
      let job = try submit(script)
      // Old epochs soon go, the newest one's link stays.
      for _ in 0..<20_000 where !exists("\(run)/teacher/checkpoints/latest") { usleep(3000) }
      try cluster.power(false, "n2")
      let isOver = exists("\(run)/student/checkpoints")
      #expect(!isOver, "the teacher was done before the node was lost")
      // Slurm notices after 20 s, a rank that writes to the lost one at once.
      let end = Date(timeIntervalSinceNow: 90)
      while try cluster.run("squeue", "--noheader", "--states=RUNNING") != "", Date() < end {
        usleep(100_000)
      }
      #expect(Date() < end, "the loss was not noticed")
      usleep(UInt32(pause * 1e6))
      try cluster.power(true, "n2")
      let facts = try cluster.facts(of: job), said = try text(log)
      #expect(facts.contains("JobState=COMPLETED "), "\(facts) \(said)")
      #expect(!facts.contains("Restarts=0 "), "\(facts)")
      #expect(!exists("\(run)/unfinished") && !exists("\(run)/idle"))

      let here = try Program.start(
        [
          "study", folder / "recipe.yaml", "--data", Fixture.data(), "--run", folder / "here", "--threads",
          "1", "--quiet",
        ],
        ranks: 2
      ).outcome()
      #expect(here.code == 0, "\(here.errors)")
      for stage in Fixture.stages {
        for name in ["latest", "best"] {
          try expectSame(
            folder / "here/\(stage)/checkpoints/\(name)", "\(run)/\(stage)/checkpoints/\(name)")
        }
      }
      try expectSame(folder / "here/evaluation", "\(run)/evaluation")
      #expect(Job.areGone(folder))
    }
    /// Of a teacher that is not done within the seconds that a test needs to cut a node off.
    private static let longEpochs = 400

    @Test func aCancelledJobStaysCancelled() throws {
      let job = try submit("study.sbatch")
      waitForFirstEpoch("student")
      try cluster.run("scancel", job)
      let facts = try cluster.facts(of: job), said = try text(log)
      #expect(facts.contains("JobState=CANCELLED ") && facts.contains("Restarts=0 "), "\(facts)")
      #expect(said.contains("stopped by SIGTERM") && !said.contains("back into the queue"), "\(said)")
      #expect(Job.areGone(folder))
    }

    /// Three starts without progress: a rank is killed; the launcher says that all is well; the warning comes before
    /// the ranks can handle it.
    @Test func aJobWithoutProgressIsGivenUp() throws {
      let ends = """
        case ${SLURM_RESTART_COUNT-0} in
          0) \(begin); kill -KILL $$ ;;
          1) \(begin) ;;
          *) kill -USR1 $$ ;;
        esac
        """
      let job = try submit("study.sbatch", program: try program(ends))
      let facts = try cluster.facts(of: job), said = try text(log)
      #expect(facts.contains("JobState=FAILED ") && facts.contains("Restarts=2 "), "\(facts)")
      #expect(
        said.matches(of: /the launcher ended before all was done/).count == 1
          && !said.contains("trying again") && said.contains("job \(job) made no progress in three starts"),
        "\(said)")
    }

    /// A launcher that starts nothing and says that all is well.
    @Test func aStartThatNeverWasIsNoSuccess() throws {
      let job = try submit("study.sbatch", program: try program(""))
      let facts = try cluster.facts(of: job), said = try text(log)
      #expect(facts.contains("JobState=FAILED ") && facts.contains("Restarts=0 "), "\(facts)")
      #expect(
        said.matches(of: /the ranks did not start: trying again/).count == 2
          && said.contains("the launcher ended before all was done") && !exists(run), "\(said)")
    }

    @Test func aRefusedStartLeavesNothingBehind() throws {
      unlink(folder / "recipe.yaml")
      let job = try submit("study.sbatch")
      let facts = try cluster.facts(of: job), said = try text(log)
      // Its code is 66, if srun does not hide it.
      #expect(facts.contains("JobState=FAILED ") && facts.contains("Restarts=0 "), "\(facts)")
      #expect(said.contains("there is no such recipe") && !exists(run), "\(said)")
    }

    /// The launcher fails when all is done.
    @Test func aLaunchersLateFailureIsNoFault() throws {
      let job = try submit("study.sbatch", program: try program("rm '\(run)/unfinished'; exit 205"))
      let facts = try cluster.facts(of: job), said = try text(log)
      #expect(facts.contains("JobState=COMPLETED ") && facts.contains("Restarts=0 "), "\(facts)")
      #expect(said.contains("all was done before the launcher ended with code 205"), "\(said)")
    }

    /// What would fail again is not started again.
    @Test(arguments: [64, 65, 66, 70, 74, 78]) func aFaultsCodeIsKnown(code: Int) throws {
      let job = try submit("study.sbatch", program: try program("\(begin); exit \(code)"))
      let facts = try cluster.facts(of: job)
      #expect(facts.contains("ExitCode=\(code):0 ") && facts.contains("Restarts=0 "), "\(facts)")
      #expect(try text(log).contains("back into the queue") == false)
    }

    /// srun ends the other rank and may give its code instead of the program's.
    @Test(arguments: ["study.sbatch", "study-mpirun.sbatch"]) func aFaultIsNotStartedAgain(script: String)
      throws
    {
      try folder.folder("run/teacher")
      try folder.put("not a folder", "run/teacher/checkpoints")
      let job = try submit(script)
      let facts = try cluster.facts(of: job), said = try text(log)
      #expect(facts.contains("JobState=FAILED ") && facts.contains("Restarts=0 "), "\(facts)")
      #expect(
        said.contains(
          "rank 0 of 2 (n1), Teacher, epoch 1: checkpoint: cannot make the folder \(run)/teacher/checkpoints")
          && !said.contains("back into the queue"), "\(said)")
      #expect(try text("\(run)/unfinished") == "fault: exit code 74\n")
      // Mended, a new job goes on.
      unlink("\(run)/teacher/checkpoints")
      try submit(script)
      try cluster.waitForAll()
      try Fixture.expectResults(run)
    }

    private var begin: String { "echo started > '\(run)/unfinished'" }
    /// A program of which rank 0 runs some lines of bash; the others end at once.
    private func program(_ lines: String) throws -> String {
      try executable("[[ $SLURM_PROCID == 0 ]] || exit 0\nsleep 1\n\(lines)")
    }

    private func executable(_ lines: String) throws -> String {
      let path = try folder.put("#!/bin/bash\n\(lines)\n", "program")
      chmod(path, 0o755)
      return path
    }

    /// Teacher and student, and those that need neither, at the same time; one of them is warned.
    @Test func stagesRunBesideEachOther() throws {
      // HAD-Net's job is over soon: the signal comes when the program has its handlers.
      let warned = try executable(
        """
        [[ $SLURM_JOB_ID-${SLURM_RESTART_COUNT-0} == 3-0 ]] || exec '\(Program.path)' "$@"
        '\(Program.path)' "$@" &
        until [[ $(readlink /proc/$!/exe) == *hadnet-dist ]] && grep -q '^SigCgt:.*[2367abef]..$' /proc/$!/status
        do sleep 0.01; done
        kill -USR1 $!
        wait $!
        """)
      let jobs = try cluster.run(
        "env", "HADNET_DIST=\(warned)", "slurm/stages.sh", folder / "recipe.yaml", Fixture.data(), run,
        "--ntasks-per-node=1", "--cpus-per-task=1", "--output=\(log)")
      defer { for job in 1...2 { unlink("\(Program.root)/hadnet-train-\(job).log") } }
      var wereBeside = false
      for _ in 0..<20_000 where !wereBeside {
        wereBeside =
          try cluster.run("squeue", "--noheader", "--states=RUNNING").split(separator: "\n").count > 1
      }
      #expect(wereBeside)
      try cluster.waitForAll()
      let said = try text(log)
      #expect(jobs.contains("hadnet 3\n"), "\(jobs)")
      #expect(
        said.contains("stopped by SIGUSR1") && said.contains("job 3 goes back into the queue"), "\(said)")
      for stage in Fixture.stages { #expect(!exists("\(run)/\(stage)/unfinished")) }
      try Fixture.expectResults(run)
    }

    @Test func anArrayHasItsSeeds() throws {
      let runs = folder / "runs"
      try cluster.run(
        "sbatch", "--parsable", "--array=3-4", "--output=\(log)", "slurm/seeds.sbatch",
        folder / "recipe.yaml",
        Fixture.data(), runs)
      try cluster.waitForAll()
      // The table needs no more training: without --resume that would be refused.
      let table = try Program.start(Fixture.study(runs, "--seeds", "2")).outcome()
      #expect(table.code == 0 && table.output.contains("over 2 seeds (3, 4)"), "\(table.errors)")
      for stage in Fixture.stages {
        #expect(
          try bytes("\(runs)/seed-3/\(stage)/history.csv") == bytes("\(Fixture.run())/\(stage)/history.csv"))
      }
      #expect(
        try bytes("\(runs)/seed-3/evaluation/table1.md") == bytes("\(Fixture.run())/evaluation/table1.md"))
      // Four steps a stage, eleven of those with windows: none was made twice.
      #expect(try text("\(runs)/seed-4/log.jsonl").matches(of: /"event": "step"/).count == 6 * 4 + 2 * 11)
    }

    /// A job of several seeds that is warned in the second one.
    @Test func aPrintedScriptRunsSeveralSeeds() throws {
      let printed = try Program.run(
        "slurm", folder / "recipe.yaml", "--nodes", "2", "--cores-per-node", "1", "--data", Fixture.data(),
        "--run",
        run, "--seeds", "2")
      let script = try folder.put(printed.output, "job.sbatch")
      let job = try cluster.run("sbatch", "--parsable", "--output=\(log)", script)
      for _ in 0..<20_000 where !exists("\(run)/seed-4/student/checkpoints/epoch-0001") { usleep(3000) }
      try cluster.run("scancel", "--signal=USR1", job)
      try cluster.waitForAll()
      let said = try text(log)
      #expect(
        said.contains("stopped by SIGUSR1 in seed 4, ")
          && said.contains("job \(job) goes back into the queue"),
        "\(said)")
      #expect(exists("\(run)/evaluation/table1.md") && !exists("\(run)/unfinished") && !exists("\(run)/idle"))
    }
  }
}
