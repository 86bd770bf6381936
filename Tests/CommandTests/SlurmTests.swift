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
    try tool("\(Cluster.tools)/slurm-up", "-n", "2", "-c", "4", "-p", "26917", "-d", folder / "slurm")
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

  /// Waits until no job is left.
  func waitForAll(seconds: Double = 240) throws {
    let end = Date(timeIntervalSinceNow: seconds)
    while try !run("squeue", "--noheader").isEmpty {
      if Date() > end {
        Issue.record("\(try run("squeue"))")
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
    private func submit(_ script: String, _ more: String...) throws -> String {
      let outcome = try cluster.run(
        "sbatch", "--parsable", "--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=1", "--output=\(log)",
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

    @Test func stagesFollowEachOther() throws {
      try cluster.run(
        "slurm/stages.sh", folder / "recipe.yaml", Fixture.data(), run, "--nodes=2", "--output=\(log)")
      try cluster.waitForAll()
      for stage in Fixture.stages {
        try expectSame(
          "\(Fixture.run())/\(stage)/checkpoints/epoch-0002", "\(run)/\(stage)/checkpoints/epoch-0002")
      }
      for job in 1...5 { unlink("\(Program.root)/hadnet-train-\(job).log") }
    }

    @Test func anArrayHasItsSeeds() throws {
      try cluster.run(
        "sbatch", "--parsable", "--array=3", "--output=\(log)", "slurm/seeds.sbatch", folder / "recipe.yaml",
        Fixture.data(), folder / "runs")
      try cluster.waitForAll()
      try Fixture.expectResults(folder / "runs/seed-3")
    }
  }
}
