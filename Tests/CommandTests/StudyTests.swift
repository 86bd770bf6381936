import Foundation
import Testing

extension Commands {
  /// The central promise: the same bits on any number of ranks and threads, stopped or not.
  @Suite struct StudyTests {
    @Test(arguments: [(1, 2), (2, 1), (2, 2), (3, 1), (3, 2), (4, 1), (4, 2)])
    func sameBitsForAllRanksAndThreads(ranks: Int, threads: Int) throws {
      let folder = try Scratch(), run = folder / "run"
      let arguments = try Fixture.study(run, threads: threads)
      let outcome = try Program.start(arguments, ranks: ranks > 1 ? ranks : nil).outcome()
      #expect(outcome.code == 0, "\(outcome.errors)")
      try Fixture.expectResults(run)
    }

    /// A change of bits is a decision, and stands in the changelog. The fingerprints are of every stage's newest checkpoint,
    /// of one kind of OpenBLAS's kernels, with which alone they are compared.
    @Test func checkpointsHaveTheBytesThatAreWrittenDown() throws {
      let doctor = try Program.run("doctor", "--threads", "1").output
      guard doctor.contains("blas       OpenBLAS 0.3.21 Haswell;") else { return }
      let run = try Fixture.run()
      let found = try Fixture.stages.map { stage in
        let state = try json(text("\(run)/\(stage)/checkpoints/latest/state.json"))
        return (stage, try #require(state["xxh3"] as? String))
      }
      #expect(
        Dictionary(uniqueKeysWithValues: found) == [
          "teacher": "e50fd0762ab5ac514a77995bafb10122",
          "student": "047532fd42d1b486a976c6a048bb71a9",
          "hadnet": "b55ffedcaaf86868a29e49660070cf92",
          "control": "fbe84dd7e75d14f529da05ea836df34d",
          "adnet": "fec82b1cd17760802b315dd4aa285ce6",
          "kdnet": "7c67e234ddf3126074999ee94585cbdf",
          "uhemis": "0905b4f2340a4ec5cc8638332cb5e311",
          "uhved": "71b071eb13241e158d8488ba72459087",
        ])
    }

    @Test(arguments: [1, 2, 3, 4, 6], [1, 2])
    func sameBitsWithRoomForSixRanks(ranks: Int, threads: Int) throws {
      let folder = try Scratch(), run = folder / "run"
      let arguments = try Fixture.wideStudy(run, threads: threads)
      let outcome = try Program.start(arguments, ranks: ranks > 1 ? ranks : nil).outcome()
      #expect(outcome.code == 0, "\(outcome.errors)")
      try Fixture.expectResults(run, of: Fixture.wideRun())
      #expect(Job.areGone(folder))
    }

    /// Same bits mean little unless the studies have what makes them hard.
    @Test(arguments: [(isWide: false, batch: 4, cases: 7), (true, 6, 9)])
    func batchesArePartialAndTheGateOpensAndCloses(isWide: Bool, batch: Int, cases: Int) throws {
      let run = try isWide ? Fixture.wideRun() : Fixture.run()
      let split = try json(text("\(run)/split.json"))
      #expect((split["train"] as? [String])?.count == cases)
      let journal = try text("\(run)/log.jsonl").split(separator: "\n").map { try json(String($0)) }
      func events(_ name: String, _ stage: String? = nil) -> [[String: Any]] {
        journal.filter { $0["event"] as? String == name && (stage == nil || $0["stage"] as? String == stage) }
      }
      #expect(events("start").map { $0["batch"] as? Int } == [batch])
      // An epoch's steps hold more slots than cases, or windows.
      for stage in Fixture.stages {
        let steps = stage.hasPrefix("uh") ? (isWide ? 9 : 11) : 4
        #expect(events("stage", stage).map { $0["steps"] as? Int } == [steps])
        #expect(events("step", stage).count == steps && steps * batch > 2 * cases)
      }
      #expect(cases > batch && cases < 2 * batch)
      let shares = events("epoch", "hadnet").compactMap { $0["updated"] as? Double }
      #expect(shares.count == 2)
      let mean = shares.reduce(0, +) / 2
      #expect(mean > 0 && mean < 1, "\(shares)")
    }

    @Test(arguments: [
      (stage: "teacher", ranks: Int?.some(3), then: Int?.some(2)),
      (stage: "student", ranks: nil, then: 4),
      (stage: "hadnet", ranks: 2, then: nil), (stage: "adnet", ranks: 3, then: nil),
      (stage: "kdnet", ranks: nil, then: 3), (stage: "uhemis", ranks: 2, then: 3),
      (stage: "uhved", ranks: 3, then: 2),
    ])
    func killedAndResumedOnOtherRanksGivesTheSameBits(stage: String, ranks: Int?, then: Int?) throws {
      let folder = try Scratch(), run = folder / "run"
      let job = try Program.start(Fixture.study(run), ranks: ranks)
      while job.isRunning, !exists("\(run)/\(stage)/checkpoints/epoch-0001") { usleep(2000) }
      job.kill()
      #expect(exists("\(run)/unfinished"))
      #expect(!exists("\(run)/evaluation/table1.md"))

      // A stage that was stopped before its end does not go on unasked.
      if !exists("\(run)/\(stage)/checkpoints/epoch-0002") {
        let again = try Program.start(Fixture.study(run), ranks: then).outcome()
        expectFault(again, 64, ["--resume", stage, run])
      }
      let outcome = try Program.start(Fixture.study(run, "--resume"), ranks: then).outcome()
      #expect(outcome.code == 0, "\(outcome.errors)")
      try Fixture.expectResults(run)
    }

    private static let canTrace = (try? Job(["strace", "-o", "/dev/null", "true"]).outcome().code) == 0

    /// The others get what they need from rank 0: a stage's own checkpoint, and the networks that it is built on.
    @Test(.enabled(if: canTrace, "no process can be traced here"))
    func rankZeroAloneOpensCheckpoints() throws {
      let folder = try Scratch(), run = try folder.copy(Fixture.run(), "run"), trace = folder / "trace"
      let last = "hadnet/checkpoints/epoch-0002"
      try FileManager.default.removeItem(atPath: "\(run)/\(last)")
      let train = [
        Program.path, "train", try Fixture.recipe(), "--data", try Fixture.data(), "--run", run, "--stage",
        "hadnet",
        "--quiet", "--threads", "1", "--set", "hadnet.gate=0.5", "--resume",
      ]
      let strace = ["strace", "-f", "-e", "trace=/open", "-o", trace]
      let outcome = try Job(
        ["\(Program.root)/scripts/mpirun", "-n", "1"] + train + [":", "-n", "1"] + strace + train
      ).outcome()
      #expect(outcome.code == 0, "\(outcome.errors)")
      let opened = try text(trace).split(separator: "\n")
      #expect(opened.contains { $0.contains(".case") })
      let checkpoints = opened.filter { $0.contains("/checkpoints") || $0.contains(".safetensors") }
      #expect(checkpoints.isEmpty, "\(checkpoints.joined(separator: "\n"))")
      try expectSame("\(Fixture.run())/\(last)", "\(run)/\(last)")
    }

    @Test func stageAfterStageEqualsTheStudy() throws {
      let folder = try Scratch(), run = folder / "run"
      func train(_ stage: String) throws -> Outcome {
        try Program.run(
          "train", Fixture.recipe(), "--data", Fixture.data(), "--run", run, "--stage", stage, "--quiet",
          "--threads", "1", "--set", "hadnet.gate=0.5")
      }
      expectFault(try train("hadnet"), 66, ["teacher", run])
      #expect(!exists(run))
      for stage in Fixture.stages {
        let outcome = try train(stage)
        #expect(outcome.code == 0, "\(outcome.errors)")
        #expect(!exists("\(run)/unfinished") && !exists("\(run)/\(stage)/unfinished"))
        try expectSame(
          "\(Fixture.run())/\(stage)/checkpoints/epoch-0002", "\(run)/\(stage)/checkpoints/epoch-0002")
      }
    }

    @Test func finishedStudyIsNotDoneAgain() throws {
      let folder = try Scratch(), run = try folder.copy(Fixture.run(), "run")
      let parts = Fixture.stages.map { "\($0)/checkpoints" } + Fixture.methods.map { "evaluation/\($0)" }
      func times() throws -> [String: Date] {
        var times: [String: Date] = [:]
        for part in parts {
          for name in try FileManager.default.subpathsOfDirectory(atPath: "\(run)/\(part)") {
            let facts = try FileManager.default.attributesOfItem(atPath: "\(run)/\(part)/\(name)")
            times["\(part)/\(name)"] = facts[.modificationDate] as? Date
          }
        }
        return times
      }
      let before = try times()
      for ranks in [nil, 2] {
        let outcome = try Program.start(Fixture.study(run), ranks: ranks).outcome()
        #expect(outcome.code == 0, "\(outcome.errors)")
        #expect(outcome.output.contains("| WT  | "), "\(outcome.output)")
      }
      #expect(try times() == before)
      try Fixture.expectResults(run)
    }

    /// Without test cases the validation cases are scored: called so wherever their scores stand.
    @Test func withoutTestCasesTheValidationCasesAreNamed() throws {
      let folder = try Scratch(), run = folder / "run"
      var arguments = try Fixture.study(run, "--stages", "teacher", "--set", "batch=2")
      arguments += ["--set", "data.split={train: 4, validation: 2, test: 0}", "--set", "teacher.epochs=1"]
      let outcome = try Program.start(arguments.filter { $0 != "--quiet" }).outcome()
      #expect(outcome.code == 0, "\(outcome.errors)")
      let split = try json(text("\(run)/split.json"))
      let count = try #require(split["validation"] as? [String]).count
      let said = "\(count) validation case"
      #expect(outcome.errors.contains("segmenting \(said)"), "\(outcome.errors)")
      #expect(outcome.errors.contains("dropout samples of \(said)"), "\(outcome.errors)")
      // Steps, updates and the paper's number of them.
      let cases = try #require(split["train"] as? [String]).count, steps = (cases + 1) / 2
      let updates = "1 epoch of \(steps) steps, \(steps) updates; the paper's batch of 1 makes \(cases)"
      #expect(outcome.errors.contains(updates), "\(outcome.errors)")
      func expectNamed() throws {
        for name in [
          "evaluation/table1.md", "evaluation/table2.md", "evaluation/statistics.md", "report.html",
        ] {
          let text = try text("\(run)/\(name)")
          #expect(text.contains(said) && text.contains("optimistic"), "\(name)")
          #expect(!text.lowercased().contains("test case"), "\(name)")
        }
      }
      try expectNamed()
      #expect(try text("\(run)/report.html").contains("Validation cases with the most enhancing tumour"))
      let scores = try json(text("\(run)/evaluation/Teacher/summary.json"))
      #expect((scores["settings"] as? [String: Any])?["set"] as? String == "validation")
      let again = try Program.run("report", run)
      #expect(again.code == 0 && again.output.contains(said), "\(again.errors)")
      try expectNamed()
      // The pictures say it too: one line more than the same of test cases.
      func heights() throws -> [Int] {
        try ["figure2", "figure3"].map { name in
          try bytes("\(run)/figures/\(name).png")[20..<24].reduce(0) { $0 << 8 + Int($1) }
        }
      }
      let named = try heights()
      let judged = try #require(split["validation"] as? [String])
      let other = ["train": split["train"] ?? [], "validation": [], "test": judged]
      try JSONSerialization.data(withJSONObject: other).write(to: URL(fileURLWithPath: "\(run)/split.json"))
      #expect(try Program.run("report", run).code == 0)
      #expect(try zip(named, heights()).allSatisfy { $0 > $1 }, "\(named)")
    }

    // MARK: Seeds

    /// The first seed's numbers are those of a plain run, each seed's those of a job of its own, stopped or not.
    @Test func seedsGiveTheBitsOfTheirOwnRuns() throws {
      let folder = try Scratch(), run = folder / "run", apart = folder / "apart"
      let stages = ["teacher", "student"]
      func study(_ run: String, _ more: String..., ranks: Int? = nil) throws -> Job {
        try Program.start(
          Fixture.study(run, "--stages", stages.joined(separator: ",")) + more, ranks: ranks)
      }
      let stopped = try study(run, "--seeds", "2", ranks: 2)
      while stopped.isRunning, !exists("\(run)/seed-4/teacher/checkpoints/epoch-0001") { usleep(2000) }
      stopped.kill()
      #expect(exists("\(run)/unfinished") && exists("\(run)/seed-4/unfinished"))
      #expect(!exists("\(run)/seed-3/unfinished") && !exists("\(run)/evaluation/table1.md"))
      // The first seed alone is in the tables of a report under way.
      let half = try Program.run("report", run)
      #expect(half.code == 0 && half.output.contains("over 1 seed (3)"), "\(half.errors)")
      #expect(try text("\(run)/report.html").contains("Unfinished: seed 4"))

      let resumed = try study(run, "--seeds", "2", "--resume").outcome()
      #expect(resumed.code == 0 && resumed.output.contains("over 2 seeds (3, 4)"), "\(resumed.errors)")
      #expect(!exists("\(run)/unfinished") && !exists("\(run)/seed-4/unfinished"))
      // Each start is noted, as slurm/run.sh looks for.
      #expect(try text("\(run)/log.jsonl").matches(of: /"event": "start"/).count == 2)
      for stage in stages {
        let plain = try Fixture.run()
        #expect(try bytes("\(run)/seed-3/\(stage)/history.csv") == bytes("\(plain)/\(stage)/history.csv"))
        #expect(try bytes("\(run)/seed-4/\(stage)/history.csv") != bytes("\(plain)/\(stage)/history.csv"))
      }

      for seed in [4, 3] {
        let job = try study("\(apart)/seed-\(seed)", "--seed", "\(seed)", "--cache", "\(apart)/cache")
          .outcome()
        #expect(job.code == 0, "\(job.errors)")
      }
      let all = try study(apart, "--seeds", "2", ranks: 2).outcome()
      #expect(all.code == 0, "\(all.errors)")
      for seed in [3, 4] {
        #expect(try text("\(apart)/seed-\(seed)/log.jsonl").matches(of: /"event": "step"/).count == 8)
        let checkpoints = stages.flatMap { stage in
          ["epoch-0002", "best", "latest"].map { "\(stage)/checkpoints/\($0)" }
        }
        for part in checkpoints + ["evaluation"] {
          try expectSame("\(run)/seed-\(seed)/\(part)", "\(apart)/seed-\(seed)/\(part)")
        }
        for name in ["recipe.yaml", "split.json", "survey.json"] {
          #expect(try bytes("\(run)/seed-\(seed)/\(name)") == bytes("\(apart)/seed-\(seed)/\(name)"))
        }
      }
      #expect(try bytes("\(run)/seed-3/split.json") == bytes("\(run)/seed-4/split.json"))
      try expectSame("\(run)/evaluation", "\(apart)/evaluation")
      #expect(
        try contents("\(run)/evaluation").keys.sorted() == [
          "seeds.json", "table1.csv", "table1.md", "table2.csv", "table2.md",
        ])
      let page = try text("\(run)/report.html")
      #expect(page.contains("href=\"seed-4/report.html\"") && exists("\(run)/seed-4/report.html"))

      // A report alone gives the same.
      let table = try text("\(run)/evaluation/table1.md")
      try FileManager.default.removeItem(atPath: "\(run)/evaluation")
      let report = try Program.run("report", run)
      // It is aligned for a terminal.
      func plain(_ text: String) -> String { text.filter { !" \n-\\".contains($0) } }
      #expect(report.code == 0 && plain(report.output).hasPrefix(plain(table)), "\(report.errors)")
      try expectSame("\(run)/evaluation", "\(apart)/evaluation")

      expectFault(try study(run).outcome(), 78, [run, "several seeds", "--seeds"])
      expectFault(
        try study("\(run)/seed-3", "--seeds", "2", ranks: 2).outcome(), 78, ["\(run)/seed-3", "single seed"])
      let differing = try study(run, "--seeds", "2", "--set", "student.rate=1e-4").outcome()
      expectFault(differing, 78, ["\(run)/seed-3", "student.rate"])
    }

    @Test func seedsThatMakeNoSenseAreRefused() throws {
      let run = try Scratch() / "run"
      for (options, words) in [
        (["--seeds", "0"], "--seeds is 0; 1 to 1000 are possible"),
        (["--seeds", "2", "--seed", "4"], "--seed is one of several, --seeds all of them"),
      ] {
        let outcome = try Program.start(Fixture.study(run) + options).outcome()
        #expect(outcome.code == 64 && outcome.errors.contains(words), "\(outcome.errors)")
      }
      #expect(!exists(run))
    }

    // MARK: Evaluation and report

    /// What the mean of the samples has segmented stays, whenever an evaluation is stopped; and a file of curves that is
    /// damaged or gone is made again.
    @Test func segmentationsByTheMeanAreKept() throws {
      let folder = try Scratch(), run = folder / "run"
      func study(_ more: String...) throws {
        let outcome = try Program.start(
          Fixture.study(run, "--stages", "student", "--set", "uncertainty.segment_mean=true") + more
        ).outcome()
        #expect(outcome.code == 0, "\(outcome.errors)")
      }
      try study()
      let evaluation = "\(run)/evaluation", before = try contents(evaluation)
      let plain = try contents("\(Fixture.run())/evaluation/Student/predictions")
      #expect(plain.contains { before["Student/predictions/\($0.key)"] != $0.value })
      for name in ["source", "summary.json", "curves.csv"] { unlink("\(evaluation)/Student/\(name)") }
      try study("--resume")
      let resumed = try contents(evaluation) == before
      #expect(resumed)
      try Data().write(to: URL(fileURLWithPath: "\(evaluation)/Student/curves.csv"))
      try study("--resume")
      let mended = try contents(evaluation) == before
      #expect(mended)
    }

    /// The same names, but other volumes.
    @Test func aReportOnOtherDataHasNoPictures() throws {
      let folder = try Scratch(), run = try folder.copy(Fixture.run(), "run"), data = folder / "data"
      let made = try Program.run("phantom", data, "--cases", "13", "--shape", "40x36x34")
      #expect(made.code == 0, "\(made.errors)")
      let recipe = try text("\(run)/recipe.yaml").replacingOccurrences(of: try Fixture.data(), with: data)
      try Data(recipe.utf8).write(to: URL(fileURLWithPath: "\(run)/recipe.yaml"))
      let report = try Program.run("report", run)
      #expect(report.code == 0 && report.output.contains("| ET  | "), "\(report.errors)")
      #expect(try text("\(run)/report.html").contains("Without pictures: "))
    }

    // MARK: Damaged checkpoints

    @Test func cutCheckpointIsPassedOverWithAWarning() throws {
      let folder = try Scratch(), run = try folder.copy(Fixture.run(), "run")
      let checkpoints = "\(run)/hadnet/checkpoints"
      try cut("\(checkpoints)/epoch-0002/moments.safetensors")
      let arguments = try Fixture.study(run, "--resume").filter { $0 != "--quiet" }
      let outcome = try Program.start(arguments, ranks: 2).outcome()
      #expect(outcome.code == 0, "\(outcome.errors)")
      let warnings = outcome.messages.filter { $0.contains("damaged checkpoint") }
      #expect(warnings.count == 1, "\(outcome.errors)")
      #expect(warnings.first?.hasPrefix("warning: \(checkpoints)/epoch-0002") == true)
      #expect(warnings.first?.contains("the one before it is taken") == true)
      try Fixture.expectResults(run)
    }

    @Test(arguments: [nil, 2]) func noGoodCheckpointIsAnError(ranks: Int?) throws {
      let folder = try Scratch(), run = try folder.copy(Fixture.run(), "run")
      let checkpoints = "\(run)/student/checkpoints"
      try cut("\(checkpoints)/epoch-0001/state.json")
      try cut("\(checkpoints)/epoch-0002/student.safetensors")
      let outcome = try Program.start(Fixture.study(run, "--resume"), ranks: ranks).outcome()
      #expect(outcome.code == 65)
      let last = try #require(outcome.messages.last)
      #expect(last.contains("\(checkpoints)/epoch-0001") && last.contains("there is none before it"))
    }

    // MARK: Disks

    private static func disk(_ folder: String, _ size: String) throws -> Job {
      try Job(["mount", "-t", "tmpfs", "-o", "size=\(size)", "hadnet-test", folder])
    }

    /// Whether a small disk can be had: that takes root, and a system that lets it mount.
    static let canMount: Bool = {
      guard geteuid() == 0, let folder = try? Scratch() else { return false }
      let isMounted = (try? disk(folder.path, "1m").outcome().code) == 0
      if isMounted { _ = try? tool("umount", folder.path) }
      return isMounted
    }()

    @Test(.enabled(if: canMount, "a small disk can't be mounted here"))
    func fullDiskLeavesAGoodCheckpoint() throws {
      let folder = try Scratch(), small = try Scratch(), run = small / "run", cache = folder / "cache"
      // All but the second epoch of the last stage fits.
      #expect(try StudyTests.disk(small.path, "10m").outcome().code == 0)
      defer { _ = try? tool("umount", "-l", small.path) }
      let outcome = try Program.start(Fixture.study(run, "--cache", cache), ranks: 2).outcome()
      expectFault(outcome, 74, ["\(run)/hadnet/checkpoints/epoch-0002", "No space left", "free space"])
      #expect(exists("\(run)/unfinished"))
      try tool("mount", "-o", "remount,size=100m", small.path)
      let resumed = try Program.start(Fixture.study(run, "--cache", cache, "--resume"), ranks: 3).outcome()
      #expect(resumed.code == 0, "\(resumed.errors)")
      try Fixture.expectResults(run)
    }

    @Test func limitOnTheSizeOfFilesIsTold() throws {
      let folder = try Scratch(), run = folder / "run"
      // 1 MiB is less than a checkpoint of the last stage has. Open MPI keeps a larger file of its own unless told
      // not to.
      let outcome = try Job(
        ["bash", "-c", "ulimit -f 1024; exec \"$@\"", "bash"] + Program.command(try Fixture.study(run)),
        environment: ["PMIX_MCA_gds": "hash"]
      ).outcome()
      expectFault(outcome, 74, ["\(run)/hadnet/checkpoints/epoch-0001", "File too large", "ulimit"])
      let resumed = try Program.start(Fixture.study(run, "--resume")).outcome()
      #expect(resumed.code == 0, "\(resumed.errors)")
      try Fixture.expectResults(run)
    }

    @Test(arguments: [nil, 2]) func runFolderThatCannotBeMadeIsTold(ranks: Int?) throws {
      let folder = try Scratch(), file = try folder.put("not a folder", "file")
      expectFault(try Program.start(Fixture.study(file), ranks: ranks).outcome(), 74, [file])
      let nowhere = "/proc/hadnet/run"
      expectFault(try Program.start(Fixture.study(nowhere), ranks: ranks).outcome(), 74, ["/proc/hadnet"])
    }
  }
}
