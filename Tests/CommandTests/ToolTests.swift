import Foundation
import Testing

extension Commands {
  /// Commands beside training: phantom, inspect, report, doctor, bench, help.
  @Suite struct ToolTests {
    @Test func aFolderMayHaveANameOfOneLetter() throws {
      let folder = try Scratch()
      let outcome = try Job([
        "sh", "-c", "cd \"$0\" && exec \"$1\" phantom p --cases 1 --shape 16x16x16 --quiet", folder.path,
        Program.path,
      ]).outcome()
      #expect(outcome.code == 0 && exists(folder / "p"), "\(outcome.errors)")
    }

    @Test func aPhantomThatNoMemoryHoldsIsRefused() throws {
      let folder = try Scratch()
      let outcome = try Job([
        "sh", "-c", "ulimit -v 900000; exec \"$0\" phantom \"$1\" --cases 1 --shape 1024x1024x1024",
        Program.path,
        folder / "data",
      ]).outcome()
      expectFault(outcome, 64, ["1024×1024×1024", "memory", "--shape"])
      #expect(!exists(folder / "data"))
    }

    /// An option that a command takes and does nothing with would be a promise.
    @Test(arguments: [
      ["report", "run", "--cache", "c"], ["report", "run", "--threads", "1"],
      ["compare", "a", "b", "--threads", "1"],
      ["inspect", "data", "--threads", "1"], ["phantom", "data", "--cases", "1", "--cache", "c"],
      ["evaluate", "--truth", "a", "--predictions", "b", "--cache", "c"], ["doctor", "--quiet"],
      ["bench", "allreduce", "--threads", "1"], ["bench", "step", "--quiet"],
    ])
    func optionsStandOnlyWhereTheyDoSomething(arguments: [String]) throws {
      let option = try #require(arguments.last { $0.hasPrefix("--") })
      let outcome = try Program.start(arguments).outcome()
      #expect(
        outcome.code == 64 && outcome.errors.contains("Unknown option '\(option)'"), "\(outcome.errors)")
    }

    @Test(arguments: ["brats2019", "brats2021", "brats2023"])
    func inspectKnowsThePhantomsLayouts(layout: String) throws {
      let folder = try Scratch(), data = folder / "data"
      let made = try Program.run(
        "phantom", data, "--cases", "5", "--shape", "32x32x32", "--layout", layout, "--quiet")
      #expect(made.code == 0 && made.errors == "", "\(made.errors)")
      let plain = try Program.run("inspect", data)
      #expect(plain.code == 0, "\(plain.errors)")
      #expect(plain.output.contains("5 cases, layout \(layout)"), "\(plain.output)")
      #expect(plain.output.contains("no problems"), "\(plain.output)")
      let found = try json(try Program.run("inspect", data, "--json").output)
      #expect(found["layout"] as? String == layout)
      #expect(found["cases"] as? Int == 5)
      #expect(found["with_truth"] as? Int == 5)
      #expect(found["common_size"] as? [Int] == [32, 32, 32])
      #expect(found["dimensions"] as? [String: Int] == ["32×32×32": 5])
      #expect((found["class_weights"] as? [Double])?.count == 4)
      #expect((found["split"] as? [String: Int])?.values.reduce(0, +) == 5)
      #expect((found["problems"] as? [String])?.isEmpty == true)
    }

    /// Files have x first, as every viewer; options and the recipe have z first, as the paper.
    @Test func sizesAreToldAsXYZ() throws {
      let folder = try Scratch(), data = folder / "data"
      let made = try Program.run("phantom", data, "--cases", "3", "--shape", "32x48x64")
      #expect(made.errors.contains("3 cases of 64×48×32 voxels (x, y, z) in "), "\(made.errors)")
      let plain = try Program.run("inspect", data)
      #expect(plain.output.contains("voxels         64×48×32 (x, y, z) in 3 cases"), "\(plain.output)")
      let found = try json(try Program.run("inspect", data, "--json").output)
      #expect(found["dimensions"] as? [String: Int] == ["64×48×32": 3])
      let largest = try #require(found["largest_brain"] as? [Int])
      let common = try #require(found["common_size"] as? [Int])
      #expect(largest[0] != largest[2], "a test of nothing: \(largest)")
      let told = [largest, common].map { $0.map(String.init).joined(separator: "×") }
      #expect(
        plain.output.contains("largest brain  \(told[0]) (x, y, z); common size \(told[1])"),
        "\(plain.output)")

      let bench = ["bench", "predict", "--k", "2", "--repeats", "1", "--samples", "1", "--threads", "1"]
      let shape = ["--shape", "32x48x64"]
      let words = try Program.start(bench + shape).outcome()
      #expect(words.output.hasPrefix("64×48×32 (x, y, z), k = 2"), "\(words.output)")
      // What is typed is quoted as it was typed, and JSON has that order.
      let measured = try json(try Program.start(bench + shape + ["--json"]).outcome().output)
      #expect(measured["shape"] as? [Int] == [32, 48, 64])
      let refused = try Program.start(bench + ["--shape", "32x48x60"]).outcome()
      #expect(
        refused.code == 64 && refused.errors.contains("--shape 32x48x60: each side"), "\(refused.errors)")
    }

    @Test func phantomsOfASeedAreEqual() throws {
      let folder = try Scratch()
      for name in ["a", "b"] {
        #expect(
          try Program.run("phantom", folder / name, "--cases", "2", "--shape", "16x24x20", "--seed", "9").code
            == 0)
      }
      try expectSame(folder / "a", folder / "b")
    }

    // MARK: report

    @Test func reportOfAnUnfinishedRun() throws {
      let folder = try Scratch(), run = folder / "run"
      let trained = try Program.run(
        "train", Fixture.recipe(), "--data", Fixture.data(), "--run", run, "--stage", "teacher", "--quiet")
      #expect(trained.code == 0, "\(trained.errors)")
      let outcome = try Program.run("report", run)
      #expect(outcome.code == 0, "\(outcome.errors)")
      let page = try text("\(run)/report.html")
      #expect(page.contains("Nothing has been evaluated yet") && page.contains("Teacher: loss"))
      #expect(exists("\(run)/figures/curves.png"))
      #expect(!exists("\(run)/evaluation"))
    }

    @Test func reportOfAFinishedRun() throws {
      let folder = try Scratch(), run = try folder.copy(Fixture.run(), "run")
      for name in ["report.html", "figures", "evaluation/table1.md", "evaluation/statistics.csv"] {
        try FileManager.default.removeItem(atPath: "\(run)/\(name)")
      }
      let outcome = try Program.run("report", run)
      #expect(outcome.code == 0, "\(outcome.errors)")
      for name in ["table1.md", "table2.md", "table2.csv", "statistics.md", "statistics.csv"] {
        #expect(
          try text("\(run)/evaluation/\(name)") == text("\(Fixture.run())/evaluation/\(name)"), "\(name)")
      }
      #expect(try text("\(run)/report.html").contains("Dice, percent: HAD-Net minus each other method"))
      for name in [
        "report.html", "figures/curves.png", "figures/figure2.png", "figures/figure3.png",
        "figures/uncertainty.png",
      ] {
        #expect(exists("\(run)/\(name)"))
      }
    }

    @Test func reportOfNoRunIsMissing() throws {
      let folder = try Scratch()
      expectFault(try Program.run("report", folder.path), 66, [folder.path])
      expectFault(try Program.run("report", folder / "absent"), 66, [folder / "absent"])
    }

    // MARK: doctor

    @Test(arguments: [nil, 2]) func doctorFindsNoFault(ranks: Int?) throws {
      let folder = try Scratch()
      let outcome = try Program.run("doctor", "--folder", folder.path, "--threads", "1", ranks: ranks)
      #expect(outcome.code == 0, "\(outcome.output)\(outcome.errors)")
      for words in ["mpi", "blas", "threads", "files"] { #expect(outcome.output.contains(words)) }
      #expect(!outcome.output.contains("FAIL"), "\(outcome.output)")
      #expect(try contents(folder.path).isEmpty)
    }

    /// OpenBLAS reads the variable where it was built for several CPUs, as distributions do.
    @Test func doctorSaysWhoChoseTheKernels() throws {
      let slow = try Job(Program.command(["doctor"]), environment: ["OPENBLAS_CORETYPE": "Prescott"])
        .outcome()
      #expect(slow.code == 0, "\(slow.errors)")
      #expect(slow.output.contains("blas       OPENBLAS_CORETYPE=Prescott is set"), "\(slow.output)")
      if slow.output.contains(" Prescott; concurrent") {
        #expect(
          slow.output.contains("Prescott kernels, without AVX2, as OPENBLAS_CORETYPE says"), "\(slow.output)")
      }
      let plain = try Program.run("doctor")
      #expect(!plain.output.contains("without AVX2, as"), "\(plain.output)")
    }

    // MARK: cores

    private static let step = ["bench", "step", "--shape", "32x32x32", "--k", "2", "--repeats", "1"]

    /// Each way to start the program, what it makes of two threads, and what the warning says of it.
    @Test(arguments: [
      (
        ["taskset", "-c", "0"],
        "rank 0 has 2 threads on 1 core: start with taskset -c and a list of 2 cores"
      ),
      (
        ["\(Program.root)/scripts/mpirun", "-n", "2", "taskset", "-c", "0"],
        "ranks 0–1 have 2 threads on 1 core: start with mpirun --bind-to none, or --map-by slot:PE=2"
      ),
    ])
    func fewerCoresThanThreadsAreSaidOnce(launcher: [String], words: String) throws {
      let command = launcher + Program.command(ToolTests.step + ["--threads", "2"])
      let outcome = try Job(command).outcome()
      #expect(outcome.code == 0)
      #expect(outcome.messages == ["warning: \(words), or with --threads 1"], "\(outcome.errors)")
      let quiet = try Job(
        launcher
          + Program.command([
            "predict", "--model", "\(try Fixture.run())/student", "--data", try Fixture.fewData(), "--out",
            Scratch() / "out", "--threads", "2", "--quiet",
          ])
      ).outcome()
      #expect(
        quiet.code == 0 && quiet.messages.contains("warning: \(words), or with --threads 1"),
        "\(quiet.errors)")
      let doctor = try Job(launcher + Program.command(["doctor", "--threads", "2"])).outcome()
      #expect(doctor.code == 0 && doctor.output.contains("warning \(words)"), "\(doctor.output)")
    }

    @Test func ranksOfAHostThatShareTooFewCoresAreSaid() throws {
      let ranks = ["\(Program.root)/scripts/mpirun", "-n", "2", "taskset", "-c", "0"]
      let outcome = try Job(ranks + Program.command(ToolTests.step + ["--threads", "1"])).outcome()
      #expect(outcome.code == 0 && outcome.messages.count == 1, "\(outcome.errors)")
      #expect(outcome.errors.contains("warning: the 2 ranks of "), "\(outcome.errors)")
      #expect(
        outcome.errors.contains(
          "have 2 threads on 1 core: start at most 1 rank there\n"), "\(outcome.errors)")
    }

    /// What is no number of threads is named, and what is taken instead.
    @Test(arguments: ["OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK"], ["abc", "0", "-1", "99999999999999999999"])
    func aNumberOfThreadsThatIsNoneIsTold(name: String, value: String) throws {
      let command =
        ["taskset", "-c", "0"] + Program.command(["bench", "predict", "--shape", "32x32x32", "--k", "2"])
      let outcome = try Job(command, environment: [name: value]).outcome()
      #expect(outcome.code == 0 && outcome.output.contains("1 thread(s)"), "\(outcome.output)")
      #expect(
        outcome.messages == [
          "warning: \(name)=\(value) is no number of threads from 1 to 4096: it is ignored, and a rank has 1 thread; "
            + "--threads sets them"
        ], "\(outcome.errors)")
      // Who says how many is not asked for it.
      let given = try Job(command + ["--threads", "1"], environment: [name: value]).outcome()
      #expect(given.code == 0 && given.errors == "", "\(given.errors)")
    }

    /// OpenBLAS would wait for its memory for ever, and the program with it.
    @Test(arguments: [150_000, 300_000, 400_000, 1_000_000], [1, 2, 8])
    func aLimitOfTheAddressSpaceIsToldOrEnough(kilobytes: Int, threads: Int) throws {
      let outcome = try Job(
        ["bash", "-c", "ulimit -v \(kilobytes); exec timeout -s KILL 60 \"$@\"", "bash"]
          + Program.command([
            "bench", "predict", "--shape", "32x32x32", "--k", "2", "--threads", "\(threads)",
          ])
      ).outcome()
      if outcome.code != 0 {
        expectFault(outcome, 1, ["no memory for \(threads) thread", "OpenBLAS needs 128 MiB", "ulimit -v"])
      }
      if kilobytes == 1_000_000, threads < 8 { #expect(outcome.code == 0, "\(outcome.errors)") }
    }

    /// Wherever the memory ends, in a library or in the language's runtime, it is told in a message.
    @Test(arguments: Array(stride(from: 300, through: 460, by: 20)))
    func anyLimitOfMemoryEndsWithAMessage(megabytes: Int) throws {
      let folder = try Scratch()
      func run(_ arguments: [String], _ megabytes: Int) throws -> Outcome {
        try Job(
          ["bash", "-c", "ulimit -v \(megabytes << 10); exec timeout -s KILL 120 \"$@\"", "bash"]
            + Program.command(arguments)
        ).outcome()
      }
      let trained = try run(
        [
          "train", try Fixture.recipe(), "--data", try Fixture.data(), "--run", folder / "run", "--stage",
          "teacher", "--threads", "1", "--quiet", "--set", "teacher.epochs=1", "--set", "network.k=8",
        ], megabytes)
      if trained.code != 0 {
        #expect([1, 65, 74, 78].contains(trained.code), "\(trained.code)")
        expectFault(trained, trained.code)
      }
      let report = folder / "report"
      try FileManager.default.copyItem(atPath: try Fixture.run(), toPath: report)
      let reported = try run(["report", report], megabytes / 2)
      if reported.code != 0 {
        #expect([1, 74].contains(reported.code), "\(reported.code)")
        expectFault(reported, reported.code)
      }
    }

    /// A shell within a Slurm step, whose variables MPI would take for its own start.
    @Test(arguments: [
      ["doctor", "--threads", "1"], ["bench", "step", "--shape", "32x32x32", "--k", "2", "--threads", "1"],
    ])
    func commandsOnOneRankNeedNoMPI(arguments: [String]) throws {
      let outcome = try Job(
        Program.command(arguments),
        environment: [
          "SLURM_JOB_ID": "1", "SLURM_NODELIST": "n1", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "1",
          "SLURM_STEP_NODELIST": "n1", "SLURM_PROCID": "0",
        ]
      ).outcome()
      #expect(outcome.code == 0 && outcome.errors == "", "\(outcome.errors)")
    }

    @Test func enoughCoresAreNoMatter() throws {
      let outcome = try Job(["taskset", "-c", "0"] + Program.command(ToolTests.step)).outcome()
      #expect(outcome.code == 0 && outcome.errors == "", "\(outcome.errors)")
    }

    @Test func doctorNamesAFolderThatCannotBeWritten() throws {
      let outcome = try Program.run("doctor", "--folder", "/proc", ranks: 2)
      expectFault(outcome, 70, ["a check failed"])
      #expect(outcome.output.contains("FAIL    files      cannot write /proc"), "\(outcome.output)")
    }

    @Test(arguments: ["step_k2", "adnet_k2", "kdnet_small", "uhemis_small", "uhved_small"])
    func goldenValuesAreRecomputed(name: String) throws {
      let outcome = try Program.run("doctor", "--golden", "\(Program.fixtures)/parity/\(name).safetensors")
      #expect(outcome.code == 0, "\(outcome.output)\(outcome.errors)")
      let lines = outcome.output.split(separator: "\n")
      #expect(lines.count > 5 && lines.allSatisfy { $0.hasPrefix("ok ") && $0.contains("largest error") })
    }

    @Test func spoiltGoldenValuesAreNoticed() throws {
      let folder = try Scratch()
      let golden = try folder.copy("\(Program.fixtures)/parity/step_k2.safetensors", "golden.safetensors")
      // A weight of the file's numbers becomes another one.
      var content = try bytes(golden)
      let header = content.prefix(8).enumerated().reduce(0) { $0 + Int($1.element) << (8 * $1.offset) }
      let entries = try json(String(decoding: content[8..<(8 + header)], as: UTF8.self))
      let entry = try #require(entries["init/student.conv_d1.conv1.conv.weight"] as? [String: Any])
      let start = 8 + header + (try #require(entry["data_offsets"] as? [Int])[0])
      content.replaceSubrange(start..<(start + 4), with: [0, 0, 0x80, 0x3F])
      try content.write(to: URL(fileURLWithPath: golden))
      for ranks in [nil, 2] {
        let outcome = try Program.run("doctor", "--golden", golden, ranks: ranks)
        expectFault(outcome, 70, ["beyond their bounds"])
        #expect(outcome.output.contains("FAIL"))
      }
      try cut(golden)
      expectFault(try Program.run("doctor", "--golden", golden), 65, [golden])
      expectFault(try Program.run("doctor", "--golden", folder / "absent"), 66, [folder / "absent"])
    }

    // MARK: bench

    @Test(arguments: [
      ("adnet", true), ("student", false), ("kdnet", false), ("uhemis", false), ("uhved", false),
    ])
    func benchStepMeasuresEveryStage(stage: String, hasDiscriminator: Bool) throws {
      let outcome = try Program.run(
        "bench", "step", "--stage", stage, "--shape", "32x32x32", "--k", "2", "--threads", "1", "--repeats",
        "1", "--json")
      #expect(outcome.code == 0, "\(outcome.errors)")
      let found = try json(outcome.output)
      #expect(found["stage"] as? String == stage && found["updated"] as? Bool == hasDiscriminator)
      #expect(try #require(found["loss"] as? Double) > 0)
    }

    @Test(arguments: [nil, 2]) func benchStepPrintsItsJSON(ranks: Int?) throws {
      let outcome = try Program.run(
        "bench", "step", "--shape", "32x32x32", "--k", "2", "--threads", "1", "--repeats", "2", "--json",
        ranks: ranks)
      #expect(outcome.code == 0, "\(outcome.errors)")
      let found = try json(outcome.output)
      let keys = [
        "exposed_s", "k", "kernels", "loss", "peak_gib", "phases", "ranks", "runs", "seconds", "sent_mb",
        "shape", "stage", "threads", "updated",
      ]
      #expect(found.keys.sorted() == keys)
      #expect(found["shape"] as? [Int] == [32, 32, 32])
      #expect(
        found["k"] as? Int == 2 && found["threads"] as? Int == 1 && found["ranks"] as? Int == ranks ?? 1)
      #expect(found["updated"] as? Bool == true)
      #expect((found["runs"] as? [Double])?.count == 2)
      for key in ["seconds", "peak_gib", "loss"] { #expect(try #require(found[key] as? Double) > 0) }
      #expect((found["kernels"] as? String)?.isEmpty == false)
      // Of each vector a rank sends half of the gradient, and half of the parameters.
      let sent = try #require(found["sent_mb"] as? Double),
        exposed = try #require(found["exposed_s"] as? Double)
      #expect(ranks == nil ? sent == 0 && exposed == 0 : sent > 1.3 && exposed > 0, "\(sent) \(exposed)")
    }

    @Test func benchPredictPrintsItsJSON() throws {
      let outcome = try Program.run(
        "bench", "predict", "--shape", "32x32x32", "--k", "2", "--threads", "2", "--repeats", "2",
        "--samples", "3",
        "--json")
      #expect(outcome.code == 0, "\(outcome.errors)")
      let found = try json(outcome.output)
      #expect(found["samples"] as? Int == 3 && (found["runs"] as? [Double])?.count == 2)
      for key in ["seconds", "sample_seconds", "peak_gib"] {
        #expect(try #require(found[key] as? Double) > 0)
      }
      let refused = try Program.run("bench", "predict", "--samples", "0")
      #expect(refused.code != 0 && refused.errors.contains("--samples is 0"), "\(refused.errors)")
    }

    @Test func benchConvPrintsItsJSON() throws {
      let outcome = try Program.run(
        "bench", "conv", "--shape", "32x32x32", "--k", "2", "--threads", "2", "--repeats", "1", "--json")
      #expect(outcome.code == 0, "\(outcome.errors)")
      let rows = try #require(
        try JSONSerialization.jsonObject(with: Data(outcome.output.utf8)) as? [[String: Any]])
      #expect(rows.count > 5)
      for row in rows {
        #expect(row["layer"] is String && (row["shape"] as? [Int])?.count == 3)
        #expect(
          (row["method"] as? String)?.isEmpty == false && (row["method_data"] as? String)?.isEmpty == false)
        #expect(try #require(row["peak_gflops"] as? Double) > 0)
        #expect(try #require(row["forward"] as? Double) > 0)
        #expect(try #require(row["weight_gradient"] as? Double) > 0)
      }
    }

    @Test(arguments: [(nil, 3), (3, 3), (4, 4)])
    func benchAllreducePrintsItsJSON(ranks: Int?, methods: Int) throws {
      let outcome = try Program.run(
        "bench", "allreduce", "--largest", "2", "--repeats", "1", "--json", ranks: ranks)
      #expect(outcome.code == 0, "\(outcome.errors)")
      let rows = try #require(
        try JSONSerialization.jsonObject(with: Data(outcome.output.utf8)) as? [[String: Any]])
      #expect(Set(rows.compactMap { $0["bytes"] as? Int }) == [4096, 65536, 1_048_576])
      #expect(Set(rows.compactMap { $0["method"] as? String }).count == methods)
      for row in rows {
        for key in ["seconds", "gb_per_s", "share_of_memcpy"] {
          #expect(try #require(row[key] as? Double) > 0)
        }
      }
    }

    // MARK: help

    @Test(arguments: [
      "phantom", "inspect", "train", "study", "predict", "evaluate", "compare", "report", "bench",
      "bench step",
      "bench conv", "bench predict", "bench allreduce", "doctor", "slurm",
    ])
    func helpHasAnExample(command: String) throws {
      let outcome = try Program.start(command.split(separator: " ").map(String.init) + ["--help"]).outcome()
      #expect(outcome.code == 0)
      #expect(outcome.output.contains("Example: ") && outcome.output.contains("hadnet-dist \(command)"))
      #expect(outcome.errors == "")
    }

    @Test func helpListsEveryCommand() throws {
      let outcome = try Program.run("--help")
      #expect(outcome.code == 0)
      for command in [
        "phantom", "inspect", "train", "study", "predict", "evaluate", "compare", "report", "stages",
        "slurm", "bench", "doctor",
      ] { #expect(outcome.output.contains("\n  \(command) "), "\(outcome.output)") }
    }

    @Test func stagesAreListedWithThoseTheyBeginWith() throws {
      let lines = try Program.run("stages").output.split(separator: "\n").map { $0.split(separator: " ") }
      #expect(Set(lines.map { String($0[0]) }) == Set(Fixture.stages))
      #expect(lines.contains(["hadnet", "teacher", "student"]) && lines.contains(["uhved"]), "\(lines)")
      for (i, line) in lines.enumerated() {
        #expect(Set(lines[..<i].map { $0[0] }).isSuperset(of: line.dropFirst()), "\(line)")
      }
    }

    @Test func versionIsANumber() throws {
      let outcome = try Program.run("--version")
      #expect(outcome.code == 0)
      #expect(outcome.output.split(separator: ".").count == 3, "\(outcome.output)")
    }
  }
}
