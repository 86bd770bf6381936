import Foundation
import Testing

extension Commands {
  /// What a run folder may meet between two starts: other jobs, other data, a copy, a kill at a bad moment.
  @Suite(.serialized) struct RunTests {
    private func train(_ run: String, _ more: String..., ranks: Int? = nil) throws -> Job {
      try Program.start(
        ["train", try Fixture.recipe(), "--data", try Fixture.data(), "--run", run, "--threads", "1"] + more,
        ranks: ranks)
    }

    // MARK: Two jobs

    @Test func ofTwoJobsThatStartAtOnceOneTrains() throws {
      let folder = try Scratch(), run = folder / "run"
      let jobs = [try train(run), try train(run)]
      let outcomes = try jobs.map { try $0.outcome() }
      let refused = try #require(outcomes.first { $0.code != 0 }),
        done = try #require(outcomes.first { $0.code == 0 })
      expectFault(
        refused, 78, ["\(run)/teacher: another job trains the teacher: process ", "choose another --run"])
      #expect(done.messages.last == "model: \(run)/teacher/checkpoints/best", "\(done.errors)")
      let network = "teacher/checkpoints/best/teacher.safetensors"
      #expect(try bytes("\(Fixture.run())/\(network)") == bytes("\(run)/\(network)"))
      // The mark, which batch scripts go by, was not the refused one's to change.
      #expect(!exists("\(run)/unfinished") && !exists("\(run)/teacher/lock"))
    }

    /// The owner is named on all ranks' behalf, by one; another stage may be trained beside; a killed owner is none.
    @Test func aStageThatIsTrainedIsRefused() throws {
      let folder = try Scratch(), run = folder / "run"
      let owner = try train(run, "--set", "teacher.epochs=500")
      while owner.isRunning, !exists("\(run)/teacher/checkpoints/epoch-0001") { usleep(2000) }
      let mark = try text("\(run)/teacher/unfinished")
      for ranks in [nil, 3] {
        let outcome = try train(run, "--set", "teacher.epochs=500", "--resume", ranks: ranks).outcome()
        expectFault(outcome, 78, ["another job trains the teacher: process \(owner.ranks.first ?? 0) on "])
      }
      let study = try Program.start(Fixture.study(run, "--resume", "--set", "teacher.epochs=500")).outcome()
      #expect(study.code == 78, "\(study.errors)")
      #expect(try text("\(run)/teacher/unfinished") == mark)
      let beside = try train(run, "--stage", "student", "--set", "teacher.epochs=500").outcome()
      #expect(beside.code == 0, "\(beside.errors)")
      let report = try Program.run("report", run)
      #expect(report.code == 0, "\(report.errors)")
      owner.kill()
      #expect(exists("\(run)/teacher/lock"))
      let next = try train(run, "--set", "teacher.epochs=500", "--resume", "--time-limit", "0:01").outcome()
      expectFault(next, 75, ["run again with --resume"], progress: true)
      #expect(!exists("\(run)/teacher/lock"))
    }

    private func expectFault(_ outcome: Outcome, _ code: Int32, _ words: [String], progress: Bool = false) {
      #expect(outcome.code == code, "\(outcome.errors)")
      for word in words { #expect(outcome.errors.contains(word), "\(word) is not in: \(outcome.errors)") }
      #expect(progress || (1...2).contains(outcome.messages.count), "\(outcome.errors)")
    }

    // MARK: Changed data

    /// Another truth for one voxel of a case.
    private func change(_ data: String, _ id: String) throws -> String {
      let number = try #require((1...13).first { Fixture.id($0) == id })
      let path = Fixture.file(data, number, "seg")
      try edit(path) { bytes in
        // A voxel of the tumour becomes background.
        let voxel = bytes[352...].firstIndex { $0 != 0 } ?? 352
        bytes[voxel] = 0
      }
      return path
    }

    private func split(_ run: String, _ name: String) throws -> [String] {
      try #require(json(text("\(run)/split.json"))[name] as? [String])
    }

    @Test func aChangedTruthIsNotScoredWithAnOldTable() throws {
      let folder = try Scratch(), run = try folder.copy(Fixture.run(), "run")
      let data = try folder.copy(Fixture.data(), "data"), id = try split(run, "test")[1]
      let networks = try contents("\(run)/hadnet/checkpoints/best"),
        old = try text("\(run)/evaluation/table1.md")
      let path = try change(data, id)
      func study(_ more: String...) throws -> Outcome {
        try Program.start(Fixture.study(run) + ["--data", data] + more).outcome()
      }
      for _ in 1...2 {
        expectFault(
          try study(), 65,
          ["made with other data: \(id): \(path) has changed;", "--accept-changed-data keeps the networks"])
        #expect(try text("\(run)/evaluation/table1.md") == old)
      }
      // No picture shows another truth than the one that was scored.
      #expect(try Program.run("report", run).code == 0)
      #expect(try text("\(run)/report.html").contains("has changed since \(id) was scored"))
      let accepted = try study("--accept-changed-data")
      #expect(accepted.code == 0, "\(accepted.errors)")
      #expect(try text("\(run)/evaluation/table1.md") != old)
      #expect(try contents("\(run)/hadnet/checkpoints/best") == networks)
      // What was accepted once is so from then on.
      #expect(try study().code == 0)
    }

    /// The page and the tables over several seeds remark what those of each seed do, and have the split.
    @Test func theReportOfSeveralSeedsRemarksWhatTheirsDo() throws {
      let folder = try Scratch(), run = folder / "run", data = try folder.copy(Fixture.data(), "data")
      func study(_ more: String...) throws {
        let outcome = try Program.start(
          Fixture.study(
            run, "--seeds", "2", "--stages", "teacher", "--set", "uncertainty.samples=0", "--set",
            "teacher.epochs=1") + ["--data", data] + more
        ).outcome()
        #expect(outcome.code == 0, "\(outcome.errors)")
      }
      /// What the page has beside the reports of the seeds.
      func page() throws -> String {
        #expect(try Program.run("report", run).code == 0)
        return try text("\(run)/report.html")
      }
      try study()
      let before = try page()
      #expect(before.contains(">Split</h2>") && before.contains("<td>7</td>"), "\(before)")
      for words in ["Stale: ", "has changed since", "Trained with data"] { #expect(!before.contains(words)) }
      let tested = try split("\(run)/seed-3", "test")[1], path = try change(data, tested)
      let words = "Seeds 3, 4: \(path) has changed since \(tested) was scored; study tells what can be done."
      #expect(try page().contains(words))
      #expect(try text("\(run)/evaluation/table1.md").contains(words))
      _ = try change(data, try split("\(run)/seed-3", "train")[0])
      try study("--accept-changed-data")
      let accepted = try page()
      #expect(!accepted.contains("has changed since"))
      #expect(
        accepted.contains(
          "Seeds 3, 4: Trained with data that have changed since (--accept-changed-data): Teacher."))
      // Scores of one seed are of another network.
      let source = "\(run)/seed-4/evaluation/Teacher/source"
      let lines = try text(source).split(separator: "\n").dropFirst()
      try Data((["other"] + lines).joined(separator: "\n").utf8).write(to: URL(fileURLWithPath: source))
      #expect(try page().contains("Seed 4: Stale: the scores of Teacher."))
    }

    @Test func aTruthThatChangesBetweenStopAndResumeIsTold() throws {
      let folder = try Scratch(), run = folder / "run", data = try folder.copy(Fixture.data(), "data")
      func train(_ more: String...) throws -> Outcome {
        try Program.start(
          ["train", try Fixture.recipe(), "--data", data, "--run", run, "--threads", "1", "--quiet"] + more
        ).outcome()
      }
      #expect(try train().code == 0)
      let id = try split(run, "train")[0], path = try change(data, id)
      for more in [["--resume"], ["--resume", "--set", "teacher.epochs=3"]] {
        let outcome = try Program.start(
          ["train", try Fixture.recipe(), "--data", data, "--run", run, "--threads", "1", "--quiet"] + more
        ).outcome()
        expectFault(
          outcome, 65,
          [
            "Teacher (\(run)/teacher/checkpoints/epoch-0002) was trained with other data: \(id): \(path) has changed;"
          ])
      }
      let accepted = try train("--resume", "--set", "teacher.epochs=3", "--accept-changed-data")
      #expect(accepted.code == 0, "\(accepted.errors)")
      #expect(exists("\(run)/teacher/checkpoints/epoch-0003"))
      #expect(try Program.run("report", run).code == 0)
      #expect(try text("\(run)/report.html").contains("Trained with data that have changed since"))
      #expect(try train("--resume", "--set", "teacher.epochs=3").code == 0)
    }

    // MARK: Resume

    /// The run's recipe is the recipe; more epochs are gone on to, and what was built on the network is made again.
    @Test func aRunGoesOnWithItsOwnRecipeToMoreEpochs() throws {
      let folder = try Scratch(), run = folder / "run"
      func study(_ more: String...) throws -> Outcome {
        try Program.start(
          ["study", "--run", run, "--resume", "--threads", "1", "--stages", "teacher,student,kdnet"] + more
        ).outcome()
      }
      expectFault(try study(), 66, [run, "to resume", "give a recipe"])
      let first = try Program.start(
        Fixture.study(run, "--stages", "teacher,student,kdnet", "--set", "uncertainty.samples=0")
      ).outcome()
      #expect(first.code == 0, "\(first.errors)")
      let again = try study()
      #expect(again.code == 0 && again.errors.contains("Teacher: done before, 2 epochs"), "\(again.errors)")
      expectFault(
        try study("--set", "teacher.rate=1e-4", "--quiet"), 78, ["teacher.rate is 0.0001, there 0.001"])
      expectFault(try study("--set", "teacher.epochs=1", "--quiet"), 78, ["epochs may grow, not shrink"])
      let unasked = try Program.start(
        Fixture.study(run, "--set", "uncertainty.samples=0", "--set", "teacher.epochs=4")
      ).outcome()
      expectFault(unasked, 78, ["teacher.epochs is 4, there 2", "--resume"])

      let alone = try Program.run(
        "train", "--run", run, "--resume", "--threads", "1", "--set", "teacher.epochs=4")
      #expect(alone.code == 0, "\(alone.errors)")
      #expect(alone.errors.contains("stale: "), "\(alone.errors)")
      #expect(alone.errors.contains("KD-Net+ (built on another Teacher)"), "\(alone.errors)")
      #expect(try text("\(run)/teacher/history.csv").split(separator: "\n").count == 5)
      let table = try text("\(run)/evaluation/Teacher/cases.csv")
      let report = try Program.run("report", run)
      #expect(report.code == 0, "\(report.errors)")
      for text in try [report.output, text("\(run)/report.html"), text("\(run)/evaluation/table1.md")] {
        #expect(text.contains("Stale: "), "\(text)")
      }
      let grown = try study()
      #expect(grown.code == 0 && grown.errors.contains("KD-Net+ is stale: "), "\(grown.errors)")
      #expect(try text("\(run)/evaluation/Teacher/cases.csv") != table)
      // All as if it had been so from the start.
      let straight = folder / "straight"
      let whole = try Program.start(
        Fixture.study(
          straight, "--stages", "teacher,student,kdnet", "--set", "uncertainty.samples=0", "--set",
          "teacher.epochs=4")
      ).outcome()
      #expect(whole.code == 0, "\(whole.errors)")
      for part in ["teacher/checkpoints/epoch-0004", "kdnet/checkpoints/best", "evaluation"] {
        try expectSame("\(run)/\(part)", "\(straight)/\(part)")
      }
      #expect(try !text("\(run)/report.html").contains("Stale: "))
    }

    /// --resume alone goes on with what the study was asked for, and --stages changes that.
    @Test(arguments: [nil, 2]) func aRunKeepsTheStagesThatItWasAskedFor(ranks: Int?) throws {
      let folder = try Scratch(), run = folder / "run"
      func study(_ more: String...) throws -> Outcome {
        try Program.start(
          ["study", "--run", run, "--resume", "--threads", "1"] + more, ranks: ranks
        ).outcome()
      }
      func trained() -> [String] { Fixture.stages.filter { exists("\(run)/\($0)/checkpoints") } }
      func table() throws -> String {
        String(try text("\(run)/evaluation/table1.md").split(separator: "\n")[0].filter { $0 != " " })
      }
      let first = try Program.start(
        Fixture.study(run, "--stages", "teacher", "--set", "uncertainty.samples=0")
      ).outcome()
      #expect(first.code == 0, "\(first.errors)")
      // As if it had been stopped before.
      try FileManager.default.removeItem(atPath: "\(run)/evaluation")
      let resumed = try study()
      #expect(resumed.code == 0, "\(resumed.errors)")
      #expect(
        resumed.errors.contains("the run was asked for teacher and goes on with that; --stages changes it"),
        "\(resumed.errors)")
      #expect(trained() == ["teacher"])
      #expect(try table() == "||Teacher|")
      let more = try study("--stages", "kdnet")
      #expect(more.code == 0 && trained() == ["teacher", "kdnet"], "\(more.errors)")
      // A stage that is trained on its own is wanted too.
      let alone = try train(
        run, "--stage", "student", "--set", "hadnet.gate=0.5", "--set", "uncertainty.samples=0")
      #expect(try alone.outcome().code == 0)
      let last = try study()
      #expect(
        last.code == 0 && last.errors.contains("asked for teacher, student, kdnet and goes on"),
        "\(last.errors)")
      #expect(trained() == ["teacher", "student", "kdnet"])
      #expect(try table() == "||Teacher|Student|KD-Net+|")
    }

    @Test func eachSeedKeepsTheStagesThatWereAskedFor() throws {
      let folder = try Scratch(), run = folder / "run"
      let quick = ["--set", "uncertainty.samples=0", "--set", "teacher.epochs=1"]
      let first = try Program.start(Fixture.study(run, "--seeds", "2", "--stages", "teacher") + quick)
        .outcome()
      #expect(first.code == 0, "\(first.errors)")
      try FileManager.default.removeItem(atPath: "\(run)/seed-4")
      for folder in [run, "\(run)/seed-4"] {
        let isAll = folder == run
        let outcome = try Program.start(
          ["study", "--run", folder, "--resume", "--threads", "1"] + (isAll ? ["--seeds", "2"] : [])
        ).outcome()
        #expect(
          outcome.code == 0 && outcome.errors.contains("asked for teacher and goes on"), "\(outcome.errors)")
        for seed in [3, 4] {
          #expect(exists("\(run)/seed-\(seed)/teacher/checkpoints/epoch-0001"))
          #expect(!exists("\(run)/seed-\(seed)/student"))
        }
      }
    }

    /// Jobs of one stage each ask for no study: the one behind them does all.
    @Test func aStudyBehindJobsOfStagesDoesAll() throws {
      let folder = try Scratch(), run = folder / "run"
      for stage in ["teacher", "student"] {
        let one = try train(run, "--stage", stage, "--set", "hadnet.gate=0.5").outcome()
        #expect(one.code == 0, "\(one.errors)")
      }
      let study = try Program.start(Fixture.study(run, "--resume")).outcome()
      #expect(study.code == 0, "\(study.errors)")
      try Fixture.expectResults(run)
    }

    @Test func aRunOfOneRankIsNotWidened() throws {
      let folder = try Scratch(), run = folder / "run"
      func train(_ more: String..., ranks: Int? = nil) throws -> Outcome {
        try self.train(run, "--quiet", "--set", "batch=null", "--set", "teacher.epochs=1", ranks: ranks)
          .outcome()
      }
      #expect(try train().code == 0)
      let refused = try train(ranks: 2)
      expectFault(
        refused, 78, ["2 ranks share a batch of 1 case, with which this run began: start at most 1 rank, or"])
      #expect(!refused.errors.contains("set batch"))
    }

    @Test(arguments: ["../../x", "a/b", "..", ".hidden", ""]) func aNameMakesNoPath(name: String) throws {
      let folder = try Scratch(),
        recipe = try folder.put(
          Fixture.recipeText.replacing("name: small", with: "name: \"\(name)\""), "recipe.yaml")
      try folder.folder("a/b")
      let outcome = try Job(
        ["env", "-C", folder / "a/b"]
          + Program.command(["train", recipe, "--data", try Fixture.data(), "--threads", "1", "--quiet"])
      ).outcome()
      expectFault(outcome, 78, ["name"])
      #expect(
        try FileManager.default.subpathsOfDirectory(atPath: folder.path).sorted() == [
          "a", "a/b", "recipe.yaml",
        ])
    }

    // MARK: Links and kills

    @Test func linksAndHistoryThatAKillHasTakenAreMadeAgain() throws {
      let folder = try Scratch(), run = try folder.copy(Fixture.run(), "run")
      for stage in Fixture.stages {
        unlink("\(run)/\(stage)/checkpoints/best")
        unlink("\(run)/\(stage)/checkpoints/latest")
        let history = try text("\(run)/\(stage)/history.csv").split(separator: "\n").dropLast()
        try Data(history.joined(separator: "\n").utf8).write(
          to: URL(fileURLWithPath: "\(run)/\(stage)/history.csv"))
        try folder.folder("run/\(stage)/checkpoints/.epoch-0003-writing")
      }
      let report = try Program.run("report", run)
      #expect(report.code == 0 && exists("\(run)/teacher/checkpoints/best"), "\(report.errors)")
      #expect(try bytes("\(run)/uhved/history.csv") == bytes("\(Fixture.run())/uhved/history.csv"))
      unlink("\(run)/student/checkpoints/best")
      let outcome = try Program.start(Fixture.study(run), ranks: 2).outcome()
      #expect(outcome.code == 0, "\(outcome.errors)")
      try Fixture.expectResults(run)
      #expect(!exists("\(run)/teacher/checkpoints/.epoch-0003-writing"))
    }

    @Test func aCopyWithoutLinksGoesOn() throws {
      let folder = try Scratch(), run = folder / "run"
      try tool("cp", "-rL", Fixture.run(), run)
      let out = folder / "out"
      let predicted = try Program.run(
        "predict", "--model", "\(run)/hadnet/checkpoints/best", "--data", Fixture.data(), "--out", out,
        "--quiet")
      #expect(predicted.code == 0, "\(predicted.errors)")
      let outcome = try Program.start(Fixture.study(run)).outcome()
      #expect(outcome.code == 0 && outcome.messages.isEmpty, "\(outcome.errors)")
      try Fixture.expectResults(run)
      for name in ["latest", "best"] {
        #expect(
          (try? FileManager.default.destinationOfSymbolicLink(atPath: "\(run)/hadnet/checkpoints/\(name)"))
            != nil)
      }
    }

    @Test func whereNoLinkCanBeMadeATextFileDoes() throws {
      let folder = try Scratch(), run = folder / "run", library = folder / "nolinks.so"
      try folder.put(
        "#include <errno.h>\nint symlink(const char *a, const char *b) { errno = EPERM; return -1; }\n",
        "nolinks.c")
      try tool("cc", "-shared", "-fPIC", "-o", library, folder / "nolinks.c")
      func study() throws -> Outcome {
        try Job(
          Program.command(try Fixture.study(run, "--stages", "teacher,student,hadnet", "--resume")),
          environment: ["LD_PRELOAD": library]
        ).outcome()
      }
      for _ in 1...2 {
        let outcome = try study()
        #expect(outcome.code == 0, "\(outcome.errors)")
        #expect(try text("\(run)/teacher/checkpoints/latest") == "epoch-0002\n")
      }
      let out = folder / "out"
      let predicted = try Program.run(
        "predict", "--model", "\(run)/hadnet/checkpoints/best", "--data", Fixture.data(), "--out", out,
        "--quiet")
      #expect(predicted.code == 0, "\(predicted.errors)")
      // What slurm/run.sh takes for progress.
      let script = try text("\(Program.root)/slurm/run.sh")
      let start = try #require(script.range(of: "checkpoints() {")),
        end = try #require(
          script.range(of: "\n}\n", range: start.lowerBound..<script.endIndex))
      let function = script[start.lowerBound..<end.upperBound]
      #expect(
        try tool("bash", "-c", "folder=\(run)\n\(function)checkpoints 2> /dev/null || true")
          == "epoch-0002\nepoch-0002\nepoch-0002\n")
      #expect(
        try tool("bash", "-c", "folder=\(Fixture.run())/teacher\n\(function)checkpoints 2> /dev/null || true")
          == "epoch-0002\n")
    }

    // MARK: Damage

    /// Whatever becomes of a file of the run: the same results, or a message.
    @Test func aDamagedFileOfTheRunIsMadeAnewOrTold() throws {
      let folder = try Scratch(), run = try folder.copy(Fixture.run(), "run")
      for name in ["survey.json", "landmarks-24.json"] {
        let path = "\(run)/\(name)", good = try bytes(path)
        for at in [good.count / 3, good.count / 2] {
          var bad = good
          bad[at] ^= 1
          try bad.write(to: URL(fileURLWithPath: path))
          let outcome = try Program.start(Fixture.study(run)).outcome()
          #expect(outcome.code == 0, "\(name): \(outcome.errors)")
          #expect(try bytes(path) == good, "\(name)")
        }
      }
      try Fixture.expectResults(run)
    }
  }
}
