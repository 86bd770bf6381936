import Foundation
import Testing

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
    }
  }
}
