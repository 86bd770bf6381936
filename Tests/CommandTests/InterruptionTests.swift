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
      (SIGHUP, "SIGHUP", "student", nil, nil),
      // mpirun itself would end the ranks a second later.
      (SIGTERM, "SIGTERM", "adnet", 2, 3), (SIGINT, "SIGINT", "control", 3, nil),
      (SIGHUP, "SIGHUP", "teacher", 2, 2),
    ])
    func aSignalEndsWithACheckpoint(
      signal: Int32, name: String, stage: String, ranks: Int?, then: Int?
    ) throws {
      let folder = try Scratch(), run = folder / "run", job = try started(run, ranks: ranks)
      // Until the first epoch is kept, the second has a step or two to go.
      wait(for: "\(run)/\(stage)/checkpoints/epoch-0001", job)
      job.signal(signal)
      let stopped = try job.outcome()
      expectStopped(stopped, ranks == nil ? name : "SIGUSR1", run)
      if ranks != nil {
        #expect(stopped.errors.contains("scripts/mpirun: \(name) came: asking the ranks for a checkpoint"))
      }
      let outcome = try Program.start(Fixture.study(run, "--resume"), ranks: then).outcome()
      #expect(outcome.code == 0, "\(outcome.errors)")
      try Fixture.expectResults(run)
    }

    private func endless(_ run: String) throws -> Job {
      try started(run, "--set", "teacher.epochs=100000", ranks: 2)
    }

    /// What is killed can tell nobody: the ranks notice it, and stop as if they had been asked to.
    @Test func aKilledLauncherLeavesNobodyBehind() throws {
      let folder = try Scratch(), run = folder / "run", job = try endless(run)
      wait(for: "\(run)/teacher/checkpoints/epoch-0001", job)
      let ranks = job.ranks
      try #require(ranks.count == 2)
      job.signal(SIGKILL)
      #expect(Job.areGone(ranks) && Job.areGone(folder))
      #expect(exists("\(run)/unfinished") && exists("\(run)/teacher/checkpoints/latest/state.json"))
    }

    /// A closed terminal and a batch system send SIGCONT beside the signal that asks for the end.
    @Test(arguments: [[SIGHUP, SIGCONT], [SIGCONT, SIGTERM]])
    func aSignalStopsWithSIGCONTToo(signals: [Int32]) throws {
      let folder = try Scratch(), run = folder / "run", job = try endless(run)
      wait(for: "\(run)/teacher/checkpoints/epoch-0001", job)
      for signal in signals { job.signal(signal) }
      expectStopped(try job.outcome(), "SIGUSR1", run)
      #expect(Job.areGone(folder))
    }

    @Test func aSecondInterruptEndsAtOnce() throws {
      let folder = try Scratch(), run = folder / "run", job = try endless(run)
      wait(for: "\(run)/teacher/checkpoints/epoch-0001", job)
      job.signal(SIGINT)
      job.signal(SIGINT)
      // Two that come together are one to the shell.
      while job.isRunning {
        usleep(100_000)
        job.signal(SIGINT)
      }
      let outcome = try job.outcome()
      #expect([75, 130].contains(outcome.code), "\(outcome.code)")
      // mpirun often ends with a fault of its own then, whose trace is for nobody.
      for words in ["Segmentation fault", "*** Process received signal", "mpirun("] {
        #expect(!outcome.errors.contains(words), "\(outcome.errors)")
      }
      #expect(Job.areGone(folder))
    }

    /// Who has nobody to tell goes on training: the journal tells it all.
    @Test(arguments: ["2>/dev/full", "2>&-", "<&- >&- 2>&-", "2> >(exit)"], [nil, 2])
    func standardErrorThatCannotBeWrittenStopsNothing(redirection: String, ranks: Int?) throws {
      let folder = try Scratch(), run = folder / "run"
      let command = Program.command(
        ["train"] + (try Fixture.study(run)).dropFirst().filter { $0 != "--quiet" } + ["--verbose"],
        ranks: ranks)
      let outcome = try Job(["bash", "-c", "exec \"$@\" \(redirection)", "bash"] + command).outcome()
      #expect(outcome.code == 0, "\(outcome.code) \(outcome.errors)")
      for name in ["checkpoints/epoch-0002", "checkpoints/best"] {
        try expectSame("\(Fixture.run())/teacher/\(name)", "\(run)/teacher/\(name)")
      }
      #expect(!exists("\(run)/unfinished"))
      let journal = try text("\(run)/log.jsonl")
      #expect(
        journal.hasPrefix("{\"time\"") && journal.components(separatedBy: "\"event\": \"step\"").count == 5)
    }

    /// A terminal that is closed under a run that does not belong to it any more.
    @Test(arguments: [nil, 2]) func aClosedTerminalStopsNothing(ranks: Int?) throws {
      let folder = try Scratch(), run = folder / "run"
      let (terminal, name) = try pseudoTerminal()
      let command = Program.command(
        ["train"] + (try Fixture.study(run)).dropFirst().filter { $0 != "--quiet" } + ["--verbose"],
        ranks: ranks)
      let job = try Job(["bash", "-c", "exec \"$@\" 2> \(name)", "bash"] + command)
      // Until something has been told there.
      var byte: UInt8 = 0
      #expect(read(terminal, &byte, 1) == 1)
      close(terminal)
      let outcome = try job.outcome()
      #expect(outcome.code == 0, "\(outcome.code)")
      try expectSame(
        "\(Fixture.run())/teacher/checkpoints/epoch-0002", "\(run)/teacher/checkpoints/epoch-0002")
    }

    /// Under mpirun ranks have a pipe: who sits at the launcher's terminal sees the bar all the same.
    @Test(arguments: [nil, 2]) func aTerminalGetsTheBarInItsWidth(ranks: Int?) throws {
      let folder = try Scratch(), (terminal, name) = try pseudoTerminal()
      var size = winsize(ws_row: 24, ws_col: 40, ws_xpixel: 0, ws_ypixel: 0)
      try #require(ioctl(terminal, UInt(TIOCSWINSZ), &size) == 0)
      let arguments = (try Fixture.study(folder / "run")).dropFirst().filter { $0 != "--quiet" }
      let command = Program.command(["train"] + arguments, ranks: ranks)
      let job = try Job(["bash", "-c", "exec \"$@\" 2> \(name)", "bash"] + command)
      var seen: [UInt8] = [], buffer = [UInt8](repeating: 0, count: 4096)
      // Nobody holds the other end any more once the program has ended.
      while true {
        let count = read(terminal, &buffer, buffer.count)
        if count > 0 { seen += buffer[..<count] } else if !job.isRunning { break } else { usleep(5000) }
      }
      close(terminal)
      #expect(try job.outcome().code == 0)
      let shown = String(decoding: seen, as: UTF8.self)
      let bars = shown.split(separator: "\r").filter { $0.hasPrefix("Teacher [") }
      #expect(bars.count > 1, "\(shown)")
      let widths = bars.map { $0.prefix { $0 != "\u{1B}" }.count }
      #expect(widths.allSatisfy { $0 <= 39 } && widths.contains(39), "\(bars)")
    }

    /// A program that reads standard error is told all that the journal is told.
    @Test(arguments: [nil, 2]) func jsonTellsEveryEventWithItsFields(ranks: Int?) throws {
      let folder = try Scratch(), run = folder / "run"
      let arguments = ["train"] + (try Fixture.study(run)).dropFirst().filter { $0 != "--quiet" }
      let outcome = try Program.start(arguments + ["--log", "json"], ranks: ranks).outcome()
      #expect(outcome.code == 0, "\(outcome.errors)")
      let told = try outcome.messages.map { try json($0) }
      let kept = try text("\(run)/log.jsonl").split(separator: "\n").map { try json(String($0)) }
      func events(_ list: [[String: Any]]) -> [NSDictionary] {
        list.filter { !["message", "warning"].contains($0["event"] as? String) }.map { event in
          NSDictionary(dictionary: event.filter { $0.key != "time" })
        }
      }
      #expect(events(told) == events(kept) && events(kept).count > 6)
      #expect(told.allSatisfy { $0["time"] is String })
      // Faults too, of the command line as well.
      for (arguments, code) in [
        (["train", folder / "absent.yaml"], 66), (["train", "--threads", "0", "x"], 64),
      ] {
        let outcome = try Program.start(arguments + ["--log", "json"], ranks: ranks).outcome()
        #expect(outcome.code == Int32(code))
        let fault = try json(#require(outcome.messages.first))
        #expect(fault["event"] as? String == "fault" && fault["code"] as? Int == code)
        #expect((fault["text"] as? String)?.isEmpty == false)
      }
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

    @Test(arguments: ["inf", "nan", "1e308", "-1e308", "text", "", "1"])
    func anEndOfTheJobThatIsNoneIsTold(text: String) throws {
      let folder = try Scratch()
      let arguments = (try Fixture.study(folder / "run")).dropFirst().filter { $0 != "--quiet" }
      let outcome = try Job(
        Program.command(["train"] + arguments),
        environment: ["SLURM_JOB_ID": "1", "SLURM_JOB_END_TIME": text]
      ).outcome()
      #expect(outcome.code == 0, "\(outcome.errors)")
      #expect(
        outcome.messages.contains(
          "warning: SLURM_JOB_END_TIME=\(text) is no time at which this job ends: it is ignored"),
        "\(outcome.errors)")
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
