import Foundation
import Testing

extension Commands {
  /// A run that is stopped, by whatever, goes on to the bits of one that was not.
  @Suite(.serialized) struct InterruptionTests {
    private func started(_ run: String, _ more: String..., ranks: Int?) throws -> Job {
      try Program.start(Fixture.study(run) + more, ranks: ranks)
    }

    private func wait(for path: String, _ job: Job) {
      while job.isRunning, !exists(path) { usleep(2000) }
    }

    private func expectStopped(
      _ outcome: Outcome, _ cause: String, _ run: String, sourceLocation: SourceLocation = #_sourceLocation
    ) {
      expectFault(outcome, 75, ["stopped by \(cause)", "--resume"], sourceLocation: sourceLocation)
      #expect(exists("\(run)/unfinished"), sourceLocation: sourceLocation)
      #expect(!exists("\(run)/evaluation/table1.md"), sourceLocation: sourceLocation)
    }

    @Test(arguments: [
      (signal: SIGUSR1, name: "SIGUSR1", stage: "hadnet", ranks: Int?.some(3), then: Int?.some(2)),
      (SIGUSR2, "SIGUSR2", "student", 2, nil), (SIGTERM, "SIGTERM", "teacher", nil, 4),
      (SIGINT, "SIGINT", "hadnet", nil, 3), (SIGUSR1, "SIGUSR1", "kdnet", 2, 3),
      (SIGTERM, "SIGTERM", "uhemis", nil, 3), (SIGUSR2, "SIGUSR2", "uhved", 3, nil),
    ])
    func aSignalEndsWithACheckpoint(
      signal: Int32, name: String, stage: String, ranks: Int?, then: Int?
    ) throws {
      let folder = try Scratch(), run = folder / "run", job = try started(run, ranks: ranks)
      // Until the first epoch is kept, the second has a step or two to go.
      wait(for: "\(run)/\(stage)/checkpoints/epoch-0001", job)
      job.signal(signal)
      expectStopped(try job.outcome(), name, run)
      let outcome = try Program.start(Fixture.study(run, "--resume"), ranks: then).outcome()
      #expect(outcome.code == 0, "\(outcome.errors)")
      try Fixture.expectResults(run)
    }

    /// A scheduler may reach some ranks only: all stop after the same step.
    @Test(arguments: [0, 2]) func aSignalToOneRankStopsAll(rank: Int) throws {
      let folder = try Scratch(), run = folder / "run", job = try started(run, ranks: 3)
      wait(for: "\(run)/student/checkpoints/epoch-0001", job)
      let ranks = job.ranks
      try #require(ranks.count == 3)
      kill(ranks[rank], SIGTERM)
      expectStopped(try job.outcome(), "SIGTERM", run)
      let outcome = try Program.start(Fixture.study(run, "--resume")).outcome()
      #expect(outcome.code == 0, "\(outcome.errors)")
      try Fixture.expectResults(run)
    }

    /// Two ranks add two sums: the library's order is the tree's, so even its bits are.
    @Test func theLibrarysReductionGivesTheSameBitsOnTheSameRanks() throws {
      let folder = try Scratch(), run = folder / "run"
      let job = try started(run, "--set", "reduction=mpi", ranks: 2)
      wait(for: "\(run)/student/checkpoints/epoch-0001", job)
      job.signal(SIGUSR1)
      expectStopped(try job.outcome(), "SIGUSR1", run)
      let outcome = try Program.start(Fixture.study(run, "--resume", "--set", "reduction=mpi"), ranks: 2)
        .outcome()
      #expect(outcome.code == 0, "\(outcome.errors)")
      for stage in Fixture.stages {
        // All but the recipe's fingerprint, which knows of the other reduction.
        let path = "\(stage)/checkpoints/epoch-0002"
        for (file, content) in try contents("\(Fixture.run())/\(path)") where file.hasSuffix(".safetensors") {
          #expect(try bytes("\(run)/\(path)/\(file)") == content, "\(path)/\(file)")
        }
      }
    }

    @Test func aTimeLimitIsKept() throws {
      let folder = try Scratch(), run = folder / "run"
      var stops = 0
      // Every run makes its step, however little time it is given.
      while stops < 3 {
        let outcome = try started(run, "--resume", "--time-limit", "0:01", ranks: 2).outcome()
        if outcome.code == 0 { break }
        expectStopped(outcome, "the time limit", run)
        stops += 1
      }
      #expect(stops > 0)
      let outcome = try Program.start(Fixture.study(run, "--resume"), ranks: 3).outcome()
      #expect(outcome.code == 0, "\(outcome.errors)")
      try Fixture.expectResults(run)
    }

    @Test(arguments: ["0:0:0:1", "1-", "x", "-5", "1:x"]) func aTimeLimitThatIsNoneIsRefused(text: String)
      throws
    {
      let outcome = try Program.run("train", "r.yaml", "--time-limit=\(text)")
      #expect(outcome.code == 64 && outcome.errors.contains("--time-limit"), "\(outcome.errors)")
    }

    /// Twenty kills of a random rank at random times, each time gone on with on another number of ranks.
    @Test(arguments: 1...4) func killedAgainAndAgain(part: Int) throws {
      let folder = try Scratch(), run = folder / "run"
      var state = UInt64(part)
      func random(_ below: Int) -> Int {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return Int(state >> 33) % below
      }
      for _ in 0..<5 {
        let ranks = 1 + random(4)
        let job = try started(run, "--resume", ranks: ranks > 1 ? ranks : nil)
        let end = Date(timeIntervalSinceNow: 0.4 + Double(random(1500)) / 1000)
        while Date() < end, job.isRunning { usleep(1000) }
        let found = job.ranks
        if !found.isEmpty { kill(found[random(found.count)], SIGKILL) }
        let outcome = try job.outcome()
        #expect(outcome.code == 0 || outcome.code == 137, "\(outcome.code) \(outcome.errors)")
        #expect(job.ranks.isEmpty)
      }
      let outcome = try Program.start(Fixture.study(run, "--resume"), ranks: 2).outcome()
      #expect(outcome.code == 0, "\(outcome.errors)")
      try Fixture.expectResults(run)
    }
  }
}
