import Evaluation
import Foundation
import Imaging
import Testing

/// A way to spoil a data set, what it ends with and what the message names.
struct Damage: Sendable, CustomTestStringConvertible {
  let testDescription: String
  let code: Int32
  let words: [String]
  let spoil: @Sendable (_ data: String) throws -> Void

  init(
    _ description: String, _ code: Int32, _ words: [String],
    _ spoil: @escaping @Sendable (String) throws -> Void
  ) {
    testDescription = description
    self.code = code
    self.words = words
    self.spoil = spoil
  }

  /// A file of the second case that is written anew from its voxels.
  private static func rewrite(
    _ data: String, _ sequence: String, shift: Double = 0, _ change: (inout [Float]) -> Void
  ) throws {
    let path = Fixture.file(data, 2, sequence), image = try NIfTIImage.read(path)
    // Phantoms are stored as BraTS stores its own, so the voxels are in the file's order.
    var voxels = image.voxels, matrix = image.header.affine
    change(&voxels)
    matrix[3] += shift
    try NIfTIImage.write(voxels, dimensions: image.header.dimensions, affine: matrix, to: path)
  }

  static let file = "\(Fixture.id(2))_"

  static let all: [Damage] = [
    Damage("missing sequence", 66, [Fixture.id(2), "t2 is missing"]) { data in
      try FileManager.default.removeItem(atPath: Fixture.file(data, 2, "t2"))
    },
    Damage("missing truth", 66, [Fixture.id(2), "truth is missing"]) { data in
      try FileManager.default.removeItem(atPath: Fixture.file(data, 2, "seg"))
    },
    Damage("empty file", 66, ["\(file)t1.nii.gz", "empty"]) { data in
      try Data().write(to: URL(fileURLWithPath: Fixture.file(data, 2, "t1")))
    },
    Damage("truncated", 65, ["\(file)flair.nii.gz", "truncated"]) { data in
      try cut(Fixture.file(data, 2, "flair"))
    },
    Damage("wrong magic", 65, ["\(file)t1.nii.gz", "magic"]) { data in
      try edit(Fixture.file(data, 2, "t1")) { $0.replaceSubrange(344..<348, with: Array("oops".utf8)) }
    },
    Damage("no NIfTI file", 65, ["\(file)t1.nii.gz", "not a NIfTI file"]) { data in
      try Data("no image".utf8).write(to: URL(fileURLWithPath: Fixture.file(data, 2, "t1")))
    },
    Damage("absurd dimensions", 65, ["\(file)t2.nii.gz", "30000×30000×30000"]) { data in
      try edit(Fixture.file(data, 2, "t2")) { bytes in
        for at in [42, 44, 46] { bytes.replaceSubrange(at..<(at + 2), with: [0x30, 0x75]) }
      }
    },
    Damage("more voxels than the file can hold", 65, ["\(file)t2.nii.gz", "30000×30000×2"]) { data in
      try edit(Fixture.file(data, 2, "t2")) { bytes in
        for at in [42, 44] { bytes.replaceSubrange(at..<(at + 2), with: [0x30, 0x75]) }
        bytes.replaceSubrange(46..<48, with: [2, 0])
      }
    },
    Damage("another size", 65, [Fixture.id(2), "t1ce is 16×32×64", "flair is 32×32×32"]) { data in
      let path = Fixture.file(data, 2, "t1ce"), image = try NIfTIImage.read(path)
      try NIfTIImage.write(
        image.voxels, dimensions: [16, 32, 64], affine: image.header.affine, to: path)
    },
    Damage("another affine", 65, [Fixture.id(2), "t2", "affines differ"]) { data in
      try rewrite(data, "t2", shift: 5) { _ in }
    },
    Damage("label 3 in 2019", 65, ["\(file)seg.nii.gz", "label 3", "0, 1, 2 and 4"]) { data in
      try rewrite(data, "seg") { $0[100] = 3 }
    },
    Damage("NaN", 65, ["\(file)t1ce.nii.gz", "NaN", "(4, 3, 0)", "numpy.nan_to_num"]) { data in
      try rewrite(data, "t1ce") { $0[100] = .nan }
    },
    Damage("negative voxel", 65, ["\(file)t1.nii.gz", "negative"]) { data in
      try rewrite(data, "t1") { $0[100] = -5 }
    },
    Damage("all zero", 65, ["\(file)t1ce.nii.gz", "all voxels are 0"]) { data in
      try rewrite(data, "t1ce") { voxels in for i in voxels.indices { voxels[i] = 0 } }
    },
    Damage("one value in the brain", 65, ["\(file)t1ce.nii.gz", "same value"]) { data in
      try rewrite(data, "t1ce") { voxels in for i in voxels.indices where voxels[i] != 0 { voxels[i] = 7 } }
    },
    Damage("nothing common to all", 65, ["\(Fixture.id(2)): no brain", "flair, t1, t2"]) { data in
      try rewrite(data, "t1") { voxels in for i in voxels.indices { voxels[i] = voxels[i] == 0 ? 7 : 0 } }
    },
    Damage("another disease", 65, ["BraTS-PED-00001-000", "not read with the other cases"]) { data in
      let folder = "\(data)/BraTS-PED-00001-000"
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
      for (name, suffix) in [("flair", "t2f"), ("t1ce", "t1c"), ("t1", "t1n"), ("t2", "t2w"), ("seg", "seg")]
      {
        try FileManager.default.copyItem(
          atPath: Fixture.file(data, 1, name), toPath: "\(folder)/BraTS-PED-00001-000-\(suffix).nii.gz")
      }
    },
    Damage("the same image twice", 65, ["flair of \(Fixture.id(1))", "flair of \(Fixture.id(2))"]) { data in
      let copy = Fixture.file(data, 2, "flair")
      try FileManager.default.removeItem(atPath: copy)
      try FileManager.default.copyItem(atPath: Fixture.file(data, 1, "flair"), toPath: copy)
    },
  ]
}

extension Commands {
  /// Each fault of the world ends with one message that names it, and its own code.
  @Suite struct InputTests {
    private func train(
      _ data: String, _ folder: Scratch, recipe: String? = nil, ranks: Int? = nil, _ more: String...
    ) throws -> Outcome {
      let arguments = [
        "train", try recipe ?? Fixture.recipe(), "--data", data, "--run", folder / "run", "--quiet",
      ]
      return try Program.start(arguments + ["--threads", "1"] + more, ranks: ranks).outcome()
    }

    // MARK: Data

    @Test(arguments: Damage.all) func damagedData(_ damage: Damage) throws {
      let folder = try Scratch(), data = try Fixture.fewCases(in: folder)
      try damage.spoil(data)
      expectFault(try train(data, folder), damage.code, damage.words)

      let inspected = try Program.run("inspect", data, "--json", "--quiet")
      // What training refuses, inspect does.
      #expect(inspected.code == damage.code)
      let problems = try #require(try json(inspected.output)["problems"] as? [String])
      #expect(problems.count == 1, "\(problems)")
      for word in damage.words { #expect(problems.joined().contains(word), "\(problems)") }
      #expect(inspected.errors == "")
    }

    @Test func damageIsToldOnceUnderMpirun() throws {
      let folder = try Scratch(), data = try Fixture.fewCases(in: folder)
      try cut(Fixture.file(data, 2, "flair"))
      let outcome = try train(data, folder, ranks: 3)
      expectFault(outcome, 65, ["rank 1 of 3", "\(Damage.file)flair.nii.gz", "truncated"])
    }

    @Test func whatAllRanksWouldFindIsToldOnce() throws {
      let folder = try Scratch(), data = try Fixture.fewCases(in: folder)
      expectFault(
        try train(folder / "nothing", folder, ranks: 3), 66, ["rank 0 of 3", folder / "nothing"])
      try FileManager.default.removeItem(atPath: Fixture.file(data, 2, "flair"))
      try FileManager.default.copyItem(
        atPath: Fixture.file(data, 1, "flair"), toPath: Fixture.file(data, 2, "flair"))
      expectFault(try train(data, folder, ranks: 3), 65, ["rank 0 of 3", "the same image"])
    }

    @Test func inspectListsEveryProblem() throws {
      let folder = try Scratch(), data = try Fixture.fewCases(in: folder)
      try FileManager.default.removeItem(atPath: Fixture.file(data, 1, "t2"))
      #expect(try Program.run("inspect", data, "--quiet").code == 66)
      try cut(Fixture.file(data, 1, "t1"))
      try cut(Fixture.file(data, 2, "flair"))
      try cut(Fixture.file(data, 2, "t1ce"))
      for sequence in ["flair", "t2"] {
        try FileManager.default.removeItem(atPath: Fixture.file(data, 4, sequence))
        try FileManager.default.copyItem(
          atPath: Fixture.file(data, 3, sequence), toPath: Fixture.file(data, 4, sequence))
      }
      let outcome = try Program.run("inspect", data, "--quiet")
      #expect(outcome.code == 65)
      #expect(outcome.output.contains("6 problems:"), "\(outcome.output)")
      for words in [
        "\(Fixture.id(1)): t2 is missing", "\(Fixture.id(1))_t1.nii.gz", "\(Fixture.id(2))_flair.nii.gz",
        "\(Fixture.id(2))_t1ce.nii.gz", "flair of \(Fixture.id(3)) and flair of \(Fixture.id(4))",
        "t2 of \(Fixture.id(3)) and t2 of \(Fixture.id(4))",
      ] { #expect(outcome.output.contains(words), "\(words) is not in: \(outcome.output)") }
      let problems = try json(try Program.run("inspect", data, "--json", "--quiet").output)["problems"]
      #expect((problems as? [String])?.count == 6)
    }

    @Test func inspectSaysWhatPredictionCanUse() throws {
      let folder = try Scratch(), data = try Fixture.fewCases(in: folder)
      for i in 1...4 { try FileManager.default.removeItem(atPath: Fixture.file(data, i, "t1ce")) }
      try FileManager.default.removeItem(atPath: Fixture.file(data, 1, "seg"))
      let training = try Program.run("inspect", data, "--quiet")
      #expect(training.code == 66)
      for words in [
        "4 cases", "fit for training 0, prediction 4", "4 cases that can't be trained on", "--for predict",
      ] {
        #expect(training.output.contains(words), "\(words) is not in: \(training.output)")
      }
      let prediction = try Program.run("inspect", data, "--for", "predict", "--json", "--quiet")
      #expect(prediction.code == 0, "\(prediction.output)")
      let found = try json(prediction.output)
      #expect(found["fit"] as? Int == 4 && found["with_t1ce"] as? Int == 0)
      #expect((found["problems"] as? [String])?.isEmpty == true)
      let truth = try Program.run("inspect", data, "--for", "evaluate", "--quiet")
      #expect(truth.code == 66 && truth.output.contains("1 problem:"), "\(truth.output)")
    }

    @Test func whatIsAdvisedOnNegativeVoxelsWorks() throws {
      let folder = try Scratch(), data = try Fixture.fewCases(in: folder)
      let path = Fixture.file(data, 2, "t1"), image = try NIfTIImage.read(path)
      var voxels = image.voxels
      for i in voxels.indices.filter({ voxels[$0] == 0 }).prefix(20) { voxels[i] = -1 }
      try NIfTIImage.write(
        voxels, dimensions: image.header.dimensions, affine: image.header.affine, to: path)
      let more = ["--stage", "student", "--set", "data.split={train: 2, validation: 1}", "--set", "batch=2"]
      func train(_ more: [String]) throws -> Outcome {
        let arguments = [
          "train", try Fixture.recipe(), "--data", data, "--run", folder / "run", "--threads", "1",
        ]
        return try Program.start(arguments + ["--quiet", "--set", "student.epochs=1"] + more).outcome()
      }
      expectFault(
        try train(more), 65, ["20 negative voxels", "negative: zero", "data.negative", "--negative"])
      #expect(try Program.run("inspect", data, "--quiet").code == 65)
      #expect(try Program.run("inspect", data, "--negative", "zero", "--quiet").code == 0)
      let mended = try train(more + ["--set", "data.negative=zero"])
      #expect(mended.code == 0, "\(mended.errors)")
    }

    @Test func inspectAndTrainWarnOfTheSame() throws {
      let folder = try Scratch(), data = try Fixture.fewCases(in: folder)
      for name in ["flair", "t1ce", "t1", "t2", "seg"] {
        let path = Fixture.file(data, 2, name), image = try NIfTIImage.read(path)
        var affine = image.header.affine
        affine[10] = 3
        try NIfTIImage.write(image.voxels, dimensions: image.header.dimensions, affine: affine, to: path)
      }
      let truth = Fixture.file(data, 3, "seg"), image = try NIfTIImage.read(truth)
      try NIfTIImage.write(
        image.voxels.map { _ in UInt8(0) }, dimensions: image.header.dimensions, affine: image.header.affine,
        to: truth)
      let inspected = try Program.run("inspect", data, "--quiet")
      let trained = try train(
        data, folder, ranks: 2, "--stage", "student", "--set", "data.split={train: 2, validation: 1}",
        "--set", "student.epochs=1", "--set", "batch=2")
      #expect(inspected.code == 0 && trained.code == 0, "\(inspected.output)\(trained.errors)")
      let log = try text(folder / "run/log.jsonl")
      for words in [
        "1×1×1 mm (x, y, z) in 3 cases", "1×1×3 mm (x, y, z) in 1 case",
        "1 truth without any tumour: \(Fixture.id(3))",
      ] {
        #expect(inspected.output.contains(words), "\(inspected.output)")
        #expect(log.components(separatedBy: words).count == 2, "\(words) is not once in: \(log)")
      }
    }

    @Test func emptyAndAbsentFolders() throws {
      let folder = try Scratch(), empty = try folder.folder("empty"), absent = folder / "absent"
      for data in [empty, absent] {
        expectFault(try train(data, folder), 66, [data])
        expectFault(try Program.run("inspect", data, "--json"), 66, [data])
      }
      #expect(!exists(folder / "run"))
      let file = try folder.put("no data", "file")
      expectFault(try Program.run("inspect", file), 65, [file])
    }

    // MARK: Recipes

    @Test(arguments: [
      ("unknown key", "teacher:\n  epoch: 3\n", ["broken.yaml:2", "teacher.epoch", "did you mean epochs?"]),
      ("negative rate", "hadnet:\n  rate: -1e-3\n", ["broken.yaml:2", "hadnet.rate", "-1e-3"]),
      ("no YAML", "teacher: [1, 2\nhadnet: }\n", ["broken.yaml:", "not valid YAML"]),
      ("no mapping", "just a text\n", ["broken.yaml:1", "key: value"]),
    ])
    func faultyRecipe(name: String, text: String, words: [String]) throws {
      let folder = try Scratch(), recipe = try folder.put(text, "broken.yaml")
      for ranks in [nil, 2] {
        expectFault(try train(try Fixture.data(), folder, recipe: recipe, ranks: ranks), 78, words)
      }
      #expect(!exists(folder / "run"))
    }

    @Test func absentRecipe() throws {
      let folder = try Scratch(), absent = folder / "absent.yaml"
      expectFault(try train(try Fixture.data(), folder, recipe: absent), 66, [absent])
      expectFault(
        try train(try Fixture.data(), folder, recipe: try folder.put("", "empty.yaml")), 66, ["empty.yaml"])
    }

    /// A recipe, and the split that it names, from another program: read once, by rank 0.
    @Test(arguments: [nil, 2]) func aRecipeMayBeAPipe(ranks: Int?) throws {
      let folder = try Scratch(), run = folder / "run", pipe = folder / "pipe", split = folder / "split"
      for path in [pipe, split] { try tool("mkfifo", path) }
      func train(_ recipe: String, _ before: String, _ after: String = "") throws -> Outcome {
        try Job(
          ["bash", "-c", "\(before) \"$@\" \(after)", "bash"]
            + Program.command(
              [
                "train", recipe, "--data", try Fixture.data(), "--run", run, "--threads", "1", "--quiet",
                "--set",
                "teacher.epochs=1", "--set", "data.split=\(split)", "--resume",
              ], ranks: ranks)
        ).outcome()
      }
      let given = "\(try Fixture.run())/split.json", recipe = try Fixture.recipe()
      let outcome = try train(pipe, "cat '\(recipe)' > '\(pipe)' & cat '\(given)' > '\(split)' &")
      #expect(outcome.code == 0, "\(outcome.errors)")
      #expect(try bytes("\(run)/split.json") == bytes(given))
      #expect(exists("\(run)/teacher/checkpoints/epoch-0001"))
      // The split is the run's own now.
      if ranks == nil {
        let again = try train("/dev/stdin", "cat '\(recipe)' |")
        #expect(again.code == 0, "\(again.errors)")
      }
      let endless = try train("/dev/zero", "")
      expectFault(endless, 78, ["/dev/zero:1", "more than 1 MB"])
    }

    @Test func faultySetting() throws {
      let folder = try Scratch(), data = try Fixture.data()
      expectFault(try train(data, folder, "--set", "hadnet.rat=1"), 78, ["hadnet.rat", "did you mean rate?"])
      expectFault(try train(data, folder, "--set", "hadnet.rate=fast"), 78, ["hadnet.rate", "fast"])
      expectFault(try train(data, folder, "--set", "hadnet"), 64, ["key=value"])
    }

    @Test func moreRanksThanSlots() throws {
      let folder = try Scratch(), data = try Fixture.data()
      expectFault(
        try train(data, folder, ranks: 3, "--set", "batch=2"), 78, ["3 ranks", "batch of 2", "batch: 3"])
      // The start was refused, so the folder belongs to no recipe yet.
      #expect(!exists(folder / "run"))
    }

    @Test func aBatchOfMoreCasesThanTrain() throws {
      let folder = try Scratch(), data = try Fixture.data()
      let tooMany = try train(data, folder, "--set", "batch=8")
      expectFault(tooMany, 78, ["a batch of 8", "7 training cases", "set batch to at most 7"])
      // What it advises works, in the same folder.
      let mended = try train(data, folder, "--set", "batch=7", "--set", "teacher.epochs=1")
      #expect(mended.code == 0, "\(mended.errors)")
    }

    @Test func aBatchThatFollowsTheRanksIsSaid() throws {
      let folder = try Scratch(), data = try Fixture.data()
      let more = ["--set", "batch=null", "--set", "teacher.epochs=1"]
      let arguments = ["train", try Fixture.recipe(), "--data", data, "--run", folder / "run"] + more
      let outcome = try Program.start(arguments, ranks: 2).outcome()
      #expect(outcome.code == 0, "\(outcome.errors)")
      #expect(
        outcome.errors.contains("the recipe sets no batch: it is 2, one case a rank"), "\(outcome.errors)")
      #expect(outcome.errors.contains("4 updates; the paper's batch of 1 makes 7"), "\(outcome.errors)")
    }

    @Test func memoryThatNoMachineHasIsNotAskedFor() throws {
      let folder = try Scratch(), data = try Fixture.data()
      expectFault(
        try train(data, folder, "--set", "data.size=[4096, 4096, 4096]"), 78,
        ["Teacher", "4096×4096×4096 voxels", "GiB", "left"])
      for kind in ["step", "conv", "predict"] {
        let outcome = try Program.run("bench", kind, "--shape", "4096x4096x4096", "--k", "2")
        #expect(
          outcome.code == 64 && outcome.errors.contains("--shape 4096x4096x4096 with k = 2 needs"),
          "\(outcome)")
      }
    }

    @Test func runFolderOfAnotherRecipe() throws {
      let run = try Fixture.run()
      for ranks in [nil, 2] {
        let outcome = try Program.start(Fixture.study(run, "--set", "hadnet.rate=1e-4"), ranks: ranks)
          .outcome()
        expectFault(outcome, 78, [run, "hadnet.rate is 0.0001, there 0.001"])
      }
    }

    @Test func sizeThatCutsABrain() throws {
      let folder = try Scratch(), big = folder / "big"
      try #require(
        try Program.run("phantom", big, "--cases", "3", "--shape", "48x48x48", "--quiet").code == 0)
      let outcome = try train(big, folder, ranks: 2, "--set", "data.size=[32, 32, 32]")
      expectFault(outcome, 78, ["data.size 32×32×32", Fixture.id(1), ", in a recipe along z, y, x"])
    }

    // MARK: Splits

    @Test func faultySplit() throws {
      let folder = try Scratch(), data = try Fixture.fewCases(in: folder), ids = (1...4).map(Fixture.id)
      func split(_ text: String, ranks: Int? = nil) throws -> Outcome {
        let file = try folder.put(text, "split.json")
        return try train(data, folder, ranks: ranks, "--set", "data.split=\(file)", "--set", "batch=2")
      }
      let twice = """
        {"train": ["\(ids[0])", "\(ids[1])"], "validation": ["\(ids[2])"], "test": ["\(ids[1])"]}
        """
      for ranks in [nil, 2] {
        expectFault(
          try split(twice, ranks: ranks), 65, ["split.json", ids[1], "in both train and test"])
      }
      let unknown = "{\"train\": [\"\(ids[0])\"], \"validation\": [\"NOBODY\"]}"
      expectFault(try split(unknown), 66, ["split.json", "NOBODY"])
      expectFault(try split("no JSON"), 65, ["split.json"])
      expectFault(
        try train(data, folder, "--set", "data.split=\(folder / "absent.json")"), 66, ["absent.json"])
      // Nothing had begun, so the same folder serves once the split is mended.
      let good = """
        {"train": ["\(ids[0])", "\(ids[1])"], "validation": ["\(ids[2])"], "test": ["\(ids[3])"]}
        """
      let outcome = try split(good, ranks: 2)
      #expect(outcome.code == 0, "\(outcome.errors)")
    }

    @Test func countsMeanCounts() throws {
      let folder = try Scratch(), data = try Fixture.fewCases(in: folder)
      func train(_ split: String) throws -> Outcome {
        try self.train(
          data, folder, ranks: 2, "--stage", "student", "--set", "data.split=\(split)", "--set",
          "student.epochs=1",
          "--set", "batch=2")
      }
      expectFault(try train("{train: 3, validation: 2}"), 78, ["5 in all", "there are 4"])
      expectFault(try train("{train: 3}"), 78, ["no validation case", "student"])
      let outcome = try train("{train: 2, validation: 1}")
      #expect(outcome.code == 0, "\(outcome.errors)")
      let split = try json(text(folder / "run/split.json")) as? [String: [String]]
      #expect(split?["train"]?.count == 2 && split?["validation"]?.count == 1 && split?["test"] == [])
      let log = try text(folder / "run/log.jsonl")
      #expect(log.contains("\"left_out\": 1") && log.contains("\"training_patients\": 2"), "\(log)")
    }

    /// 7.8, 2.6 and 2.7 of 13 cases would be 14: what training warns of, inspect does.
    @Test func sharesThatAreRoundedOtherwiseAreSaid() throws {
      let folder = try Scratch()
      let words = "the split has 7 training cases in place of 8: shares are rounded to whole cases"
      let outcome = try train(
        Fixture.data(), folder, "--stage", "student", "--set", "data.split={ratio: [200, 66, 69]}", "--set",
        "student.epochs=1")
      #expect(outcome.code == 0, "\(outcome.errors)")
      #expect(try text(folder / "run/log.jsonl").contains(words))
      let inspected = try Program.run("inspect", Fixture.data())
      #expect(inspected.output.contains("\nwarning: \(words)\n"), "\(inspected.output)")
    }

    @Test func aPatientInTwoSetsIsRefused() throws {
      let folder = try Scratch(), data = try folder.copy(Fixture.data2023(), "data")
      // Two visits of one patient.
      let one = "BraTS-GLI-00001-000", two = "BraTS-GLI-00001-001", old = "BraTS-GLI-00002-000"
      try FileManager.default.moveItem(atPath: "\(data)/\(old)", toPath: "\(data)/\(two)")
      for name in try FileManager.default.contentsOfDirectory(atPath: "\(data)/\(two)") {
        try FileManager.default.moveItem(
          atPath: "\(data)/\(two)/\(name)", toPath: "\(data)/\(two)/\(name.replacing(old, with: two))")
      }
      let file = try folder.put(
        "{\"train\": [\"\(one)\"], \"validation\": [\"BraTS-GLI-00003-000\"], \"test\": [\"\(two)\"]}",
        "split.json")
      let more = [
        "--stage", "student", "--set", "data.split=\(file)", "--set", "student.epochs=1", "--set", "batch=1",
      ]
      func train(_ more: [String]) throws -> Outcome {
        let arguments = [
          "train", try Fixture.recipe(), "--data", data, "--run", folder / "run", "--threads", "1",
        ]
        return try Program.start(arguments + more).outcome()
      }
      expectFault(try train(more + ["--quiet"]), 65, ["split.json", one, two, "data.allow_leak"])
      let allowed = try train(more + ["--set", "data.allow_leak=true"])
      #expect(
        allowed.code == 0 && allowed.errors.contains("warning: patient BraTS-GLI-00001"), "\(allowed.errors)")
      #expect(try Program.run("report", folder / "run").code == 0)
      #expect(try text(folder / "run/report.html").contains("patient BraTS-GLI-00001 is in two sets"))
      #expect(try Program.run("inspect", data).output.contains("patients       2"))
    }

    // MARK: Models

    @Test func faultyModel() throws {
      let folder = try Scratch(), data = try Fixture.data(), out = folder / "out"
      func predict(_ model: String, ranks: Int? = nil) throws -> Outcome {
        try Program.run("predict", "--model", model, "--data", data, "--out", out, "--quiet", ranks: ranks)
      }
      let good = "\(try Fixture.run())/student/checkpoints/best/student.safetensors"
      let short = try folder.copy(good, "cut.safetensors")
      try cut(short)
      let altered = try folder.copy(good, "altered.safetensors")
      var content = try bytes(altered)
      content[content.count - 10] ^= 1
      try content.write(to: URL(fileURLWithPath: altered))
      for file in [
        short, altered, try folder.put("no model at all", "text.safetensors"),
        "\(Program.fixtures)/parity/step_k2.safetensors",
      ] { expectFault(try predict(file), 65, [file]) }
      expectFault(try predict(folder / "absent"), 66, [folder / "absent"])
      expectFault(try predict(folder / "absent", ranks: 3), 66, ["rank 0 of 3", folder / "absent"])
      expectFault(try predict(try folder.put("", "empty.safetensors")), 66, ["empty.safetensors"])
      expectFault(try predict(try folder.folder("empty")), 66, [folder / "empty"])
      #expect(!exists(out))
    }

    // MARK: Usage

    @Test(arguments: [
      ["study", "--nonsense"], ["phantom"], ["phantom", "out", "--shape", "32x32"], ["conjure"],
      ["train", "recipe.yaml", "--stage", "nobody"], ["train", "recipe.yaml", "--threads", "0"],
      ["predict", "--model", "m"], ["bench", "step", "--shape", "30x32x32"],
    ])
    func usage(arguments: [String]) throws {
      let outcome = try Program.start(arguments).outcome()
      #expect(outcome.code == 64)
      #expect(outcome.errors.hasPrefix("Error: "), "\(outcome.errors)")
      #expect(outcome.errors.contains("Usage: hadnet-dist"), "\(outcome.errors)")
    }

    @Test func aMistakeThatAllRanksSeeIsSaidOnce() throws {
      let outcome = try Program.start(["study", "--nonsense"], ranks: 3).outcome()
      #expect(outcome.code == 64)
      #expect(
        outcome.errors.components(separatedBy: "Unknown option '--nonsense'").count == 2,
        "\(outcome.errors)")
    }

    @Test func phantomInAFolderWithFiles() throws {
      let data = try Fixture.data()
      expectFault(try Program.run("phantom", data), 64, [data, "not empty"])
      expectFault(try Program.run("phantom", "/proc/hadnet/out", "--cases", "1"), 74, ["/proc/hadnet"])
    }
  }
}
