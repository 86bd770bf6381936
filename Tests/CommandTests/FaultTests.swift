import Foundation
import Testing

@testable import Files
@testable import Methods
@testable import Study

extension Commands {
  /// What ranks do to each other: every fault ends the job in its time, named, and leaves no process behind.
  @Suite(.serialized) struct FaultTests {
    private func run(_ folder: Scratch, ranks: Int = 3) throws -> Job {
      try Program.start(
        Fixture.study(folder / "run") + [
          "--set", "teacher.epochs=300", "--stall-warning", "1", "--stall-limit", "3",
        ], ranks: ranks)
    }

    /// Sends a signal to one of three ranks in training, and gives how the job ended, with no process left.
    private func signal(_ number: Int32, toRank rank: Int) throws -> Outcome {
      let folder = try Scratch(), job = try run(folder)
      waitForTraining(folder, job)
      let ranks = job.ranks
      try #require(ranks.count == 3)
      kill(ranks[rank], number)
      let outcome = try job.outcome()
      #expect(Job.areGone(ranks))
      return outcome
    }

    private func waitForTraining(_ folder: Scratch, _ job: Job) {
      while job.isRunning, !exists(folder / "run/teacher/checkpoints/epoch-0001") { usleep(2000) }
      // Until everyone has told where it is.
      usleep(700_000)
    }

    @Test func aRankThatSleepsIsNamed() throws {
      let start = Date(), outcome = try signal(SIGSTOP, toRank: 2)
      #expect(outcome.code == 1, "\(outcome.code)")
      // The limit, MPI's abort, and a busy machine.
      #expect(Date().timeIntervalSince(start) < 60)
      #expect(outcome.errors.contains("warning: no progress for"), "\(outcome.errors)")
      let last = try #require(outcome.messages.last { $0.contains("--stall-limit 3") })
      #expect(last.contains("rank 2 ("), "\(last)")
      #expect(last.contains("Teacher, epoch "), "\(last)")
    }

    /// Nobody is left to say who is missing: another rank gives up by itself.
    @Test func rankZeroAsleepEndsTheJobToo() throws {
      let outcome = try signal(SIGSTOP, toRank: 0)
      #expect(outcome.code != 0)
      #expect(
        outcome.errors.contains("rank 0 (") && outcome.errors.contains("does not answer"), "\(outcome.errors)"
      )
    }

    @Test func aKilledRankEndsTheJob() throws {
      let outcome = try signal(SIGKILL, toRank: 1)
      #expect(outcome.code == 137)
    }

    /// The launcher loses the last barrier: the results are there, and no process stays.
    @Test func aHangAtTheEndIsLeft() throws {
      let folder = try Scratch(), run = folder / "run", library = folder / "hang.so"
      try folder.put("#include <unistd.h>\nint MPI_Finalize(void) { for (;;) pause(); }\n", "hang.c")
      let made = try Job(["cc", "-shared", "-fPIC", "-o", library, folder / "hang.c"]).outcome()
      try #require(made.code == 0, "\(made.errors)")
      let arguments = ["train", try Fixture.recipe(), "--data", try Fixture.data(), "--run", run]
      let outcome = try Job(
        Program.command(arguments + ["--threads", "1", "--stall-limit", "3"], ranks: 2),
        environment: ["LD_PRELOAD": library]
      ).outcome()
      #expect(
        outcome.errors.contains("MPI_Finalize has not returned for 3 s; all is written"),
        "\(outcome.errors)")
      #expect(exists("\(run)/teacher/checkpoints/epoch-0002/state.json") && !exists("\(run)/unfinished"))
      #expect(Job.areGone(folder))
    }

    @Test func anotherRecipeOnOneRankIsRefused() throws {
      let folder = try Scratch(), other = folder / "other.yaml"
      try Data((Fixture.recipeText + "# another\n").utf8).write(to: URL(fileURLWithPath: other))
      func arguments(_ recipe: String) throws -> [String] {
        ["train", recipe, "--data", try Fixture.data(), "--run", folder / "run", "--threads", "1"]
      }
      let first = Program.command(try arguments(Fixture.recipe()), ranks: 1)
      let job = try Job(first + [":", "-n", "2", Program.path] + arguments(other))
      let outcome = try job.outcome()
      expectFault(outcome, 78, ["the ranks differ in the recipe", "rank 0 has", "ranks 1–2 have"])
      #expect(Job.areGone(folder))
      #expect(!exists(folder / "run/unfinished"))
    }

    /// Node-local copies of a data set that are not the same: rank 1 sees a shorter file in its place.
    @Test(.enabled(if: StudyTests.canMount, "a folder can't be mounted here"))
    func anotherDataSetOnOneRankIsRefused() throws {
      let folder = try Scratch(), spoilt = try folder.copy(Fixture.data(), "spoilt")
      try cut(Fixture.file(spoilt, 1, "flair"))
      let script = folder / "rank"
      try Data(
        """
        #!/bin/bash
        if [[ $OMPI_COMM_WORLD_RANK == 1 ]]; then
          exec unshare --mount bash -c 'mount --bind "$0" "$1" && shift && exec "$@"' \
            "\(spoilt)" "\(try Fixture.data())" "$@"
        fi
        exec "$@"
        """.utf8
      ).write(to: URL(fileURLWithPath: script))
      chmod(script, 0o755)
      let command = Program.command(try Fixture.study(folder / "run"), ranks: 2)
      let outcome = try Job(Array(command.prefix(3)) + [script] + command.dropFirst(3)).outcome()
      expectFault(outcome, 65, ["the ranks differ in the data set", "each node must see the same files"])
      #expect(Job.areGone(folder))
    }

    // MARK: What fails under way

    /// Weights that shrink to nothing in the second epoch: each loss is 0/0. The ranks throw while gradients of other
    /// cases are under way, which must not end in a crash now and then, so it is done a few times.
    @Test(arguments: 1...5) func aLossThatIsNotANumberIsNamed(time: Int) throws {
      let folder = try Scratch(), run = folder / "run"
      let job = try Program.start(
        Fixture.study(run) + [
          "--set", "data.class_weights=[1e-3, 1e-3, 1e-3, 1e-3]", "--set", "teacher.class_weight_decay=1e-37",
          "--set", "teacher.class_weight_floor=0",
        ], ranks: 2)
      let outcome = try job.outcome()
      #expect(Job.areGone(folder))
      expectFault(
        outcome, 1,
        ["the last checkpoint is good: look at the case and run again with --resume, or choose another --run"]
      )
      // Each rank's own losses are none; the first that says so ends the job.
      for message in outcome.messages {
        let place = try #require(
          message.firstMatch(
            of: #/^rank [01] of 2 \((.+?)\), Teacher, epoch 2, step 1 of 2: backward(.+): (the loss is .+)$/#),
          "\(message)")
        let cases = try #require(
          place.3.firstMatch(of: #/^the loss is not a number in a step with slot [0-3] \((.+?)\); /#),
          "\(message)")
        #expect(place.2.contains(", \(cases.1)"), "\(message)")
      }
      #expect(exists("\(run)/teacher/checkpoints/epoch-0001/state.json"))
      #expect(!exists("\(run)/teacher/checkpoints/epoch-0002"))
      #expect(exists("\(run)/unfinished"))
    }

    @Test(arguments: ["teacher", "teacher/checkpoints"])
    func aFileWhereCheckpointsBelongIsTold(path: String) throws {
      let folder = try Scratch(), run = folder / "run"
      try folder.folder("run/\(path)")
      try FileManager.default.removeItem(atPath: "\(run)/\(path)")
      try folder.put("not a folder", "run/\(path)")
      let outcome = try Program.start(Fixture.study(run), ranks: 2).outcome()
      // What is in the way of the stage's lock is told before anything is done.
      let isLate = path == "teacher/checkpoints"
      expectFault(
        outcome, 74,
        ["cannot make the folder \(run)/\(path): "] + (isLate ? ["), Teacher, epoch 1: checkpoint: "] : []))
      #expect(outcome.messages.first?.hasPrefix("rank 0 of 2 (") == true)
      #expect(Job.areGone(folder))
      #expect(exists("\(run)/unfinished") == isLate)
      // Out of the way, the run goes on.
      try FileManager.default.removeItem(atPath: "\(run)/\(path)")
      let again = try Program.start(Fixture.study(run, "--resume"), ranks: 2).outcome()
      #expect(again.code == 0, "\(again.errors)")
      try Fixture.expectResults(run)
    }

    /// A checkpoint that no training of the stage has written, and what is said of it.
    struct Forgery: Sendable, CustomStringConvertible {
      let description: String
      var files = ["teacher", "moments"]
      var change: @Sendable (inout TrainingState) -> Void = { _ in }
    }

    /// With a hash that is right: only what the stage is tells them.
    @Test(
      arguments: [
        .init(description: "0 updates of the teacher in 2 steps") { $0.updates["teacher"] = 0 },
        .init(description: "updates of other networks") { $0.updates["student"] = 0 },
        .init(description: "1 steps in 1 epochs") { ($0.step, $0.updates["teacher"]) = (1, 1) },
        .init(description: "other files than a teacher has", files: ["teacher"]),
        .init(description: "other files than a teacher has", files: ["teacher", "moments", "student"]),
      ] as [Forgery])
    func aForgedCheckpointIsNotTakenUp(forgery: Forgery) throws {
      let folder = try Scratch(), run = folder / "run"
      let arguments = [
        "train", try Fixture.recipe(), "--data", try Fixture.data(), "--run", run, "--stage", "teacher",
        "--threads", "1", "--quiet",
      ]
      let begun = try Program.start(arguments + ["--set", "teacher.epochs=1"]).outcome()
      try #require(begun.code == 0, "\(begun.errors)")
      let checkpoint = try Checkpoint("\(run)/teacher/checkpoints/epoch-0001", of: .teacher)
      var state = checkpoint.state
      forgery.change(&state)
      try Checkpoint.Unsealed(
        state, recipe: checkpoint.recipe, origin: checkpoint.origin,
        files: forgery.files.map { name in
          (
            "\(name).safetensors",
            { try AtomicFile.put(try bytes("\(checkpoint.folder)/teacher.safetensors"), to: $0, as: $1) }
          )
        }, to: checkpoint.folder
      ).seal()
      let outcome = try Program.start(arguments + ["--set", "teacher.epochs=2", "--resume"]).outcome()
      expectFault(outcome, 65, ["\(checkpoint.folder): damaged checkpoint: state.json: \(forgery); remove "])
    }

    /// A file system that turns read-only, as after an error of the disk.
    @Test(.enabled(if: StudyTests.canMount, "a folder can't be mounted here"))
    func checkpointsThatBecomeReadOnlyAreTold() throws {
      let folder = try Scratch(), checkpoints = folder / "run/teacher/checkpoints",
        job = try run(folder, ranks: 2)
      waitForTraining(folder, job)
      try tool("mount", "--bind", checkpoints, checkpoints)
      defer { _ = try? tool("umount", "-l", checkpoints) }
      // While a file there is open for writing the kernel refuses.
      for attempt in 1... {
        let remount = try Job(["mount", "-o", "remount,bind,ro", checkpoints]).outcome()
        if remount.code == 0 { break }
        try #require(attempt < 100, "\(remount.errors)")
        usleep(50_000)
      }
      let outcome = try job.outcome()
      #expect(Job.areGone(folder))
      expectFault(outcome, 74, ["Read-only file system"])
      let message = try #require(outcome.messages.first)
      #expect(
        message.firstMatch(of: #/^rank 0 of 2 \(.+?\), Teacher, epoch \d+: checkpoint: /#) != nil
          && message.contains(checkpoints), "\(message)")
      // The last good one is still what `latest` is.
      #expect(exists("\(checkpoints)/latest/state.json"))
    }

    /// Prepared cases that lose or change bytes all the time: the bits are those of a run in peace.
    @Test func aDamagedCacheIsPreparedAnew() throws {
      let folder = try Scratch(), run = folder / "run", cache = try folder.folder("cache")
      let arguments = try Fixture.study(run, "--cache", cache, "--memory", "0").filter { $0 != "--quiet" }
      let job = try Program.start(arguments, ranks: 2)
      // What was spoilt last, by file.
      var spoilt: [String: Data] = [:], mended = Set<String>(), round = 0
      while job.isRunning {
        for name in try FileManager.default.contentsOfDirectory(atPath: cache) where name.hasSuffix(".case") {
          let path = "\(cache)/\(name)"
          guard var content = try? bytes(path), content.count > 100 else { continue }
          if let before = spoilt[name], before == content { continue }
          if spoilt[name] != nil { mended.insert(name) }
          round += 1
          switch round % 3 {
          case 0: content.removeLast(content.count / 2)
          case 1: content[content.count / 2] ^= 1
          default: content[content.count - 1] ^= 0x80
          }
          try content.write(to: URL(fileURLWithPath: path))
          spoilt[name] = content
        }
        usleep(20_000)
      }
      let outcome = try job.outcome()
      #expect(Job.areGone(folder))
      #expect(outcome.code == 0, "\(outcome.errors)")
      try Fixture.expectResults(run)
      #expect(mended.count > 3, "\(mended)")
      let warnings = outcome.messages.filter {
        $0.hasPrefix("warning: \(cache)/")
          && $0.hasSuffix(".case: damaged; the case was prepared anew from the patient's files")
      }
      #expect(!warnings.isEmpty, "\(outcome.errors)")
      #expect(
        outcome.messages.filter { $0.hasPrefix("warning: ") }.count == warnings.count, "\(outcome.errors)")
    }

    @Test func aCaseThatVanishesUnderWayIsNamed() throws {
      let folder = try Scratch(), run = folder / "run", cache = folder / "cache"
      let data = try folder.copy(Fixture.data(), "data")
      let job = try Program.start(
        [
          "study", Fixture.recipe(), "--data", data, "--run", run, "--cache", cache, "--memory", "0",
          "--threads", "1", "--quiet", "--set", "teacher.epochs=300",
        ], ranks: 2)
      waitForTraining(folder, job)
      let split = try json(text("\(run)/split.json"))
      let id = try #require((split["train"] as? [String])?.first),
        number = try #require((1...13).first { Fixture.id($0) == id })
      let file = Fixture.file(data, number, "flair")
      try FileManager.default.removeItem(atPath: file)
      for name in try FileManager.default.contentsOfDirectory(atPath: cache) where name.hasPrefix(id) {
        try FileManager.default.removeItem(atPath: "\(cache)/\(name)")
      }
      let outcome = try job.outcome()
      #expect(Job.areGone(folder))
      expectFault(outcome, 66, ["reading \(id): \(file): no such file or folder"])
      let message = try #require(outcome.messages.first)
      #expect(
        message.firstMatch(of: #/^rank [01] of 2 \(.+?\), Teacher, epoch \d+, step [12] of 2: reading /#)
          != nil,
        "\(message)")
      #expect(exists("\(run)/unfinished"))
    }
  }
}
