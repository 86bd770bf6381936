import Compute
import Evaluation
import Foundation
import Imaging
import Testing

extension Commands {
  @Suite struct PredictTests {
    private func predict(
      _ stage: String, _ data: String, _ out: String, _ more: String..., ranks: Int? = nil, threads: Int = 1
    ) throws -> Outcome {
      try Job(
        Program.command(
          [
            "predict", "--model", "\(Fixture.run())/\(stage)/checkpoints/best", "--data", data, "--out", out,
            "--quiet", "--threads", "\(threads)",
          ] + more, ranks: ranks)
      ).outcome()
    }

    /// Patients without truth and T1ce.
    private func patients(_ from: String, _ folder: Scratch) throws -> String {
      let data = try folder.copy(from, "patients")
      for file in try FileManager.default.subpathsOfDirectory(atPath: data)
      where ["_t1ce.", "-t1c.", "_seg.", "-seg."].contains(where: file.contains) {
        try FileManager.default.removeItem(atPath: "\(data)/\(file)")
      }
      return data
    }

    /// The cases that the study has predicted.
    private func tested() throws -> [String] {
      try FileManager.default.contentsOfDirectory(
        atPath: "\(Fixture.run())/evaluation/HAD-Net/predictions"
      ).filter { !$0.contains("_unc_") }.sorted()
    }

    // MARK: Uncertainty

    /// The maps of a folder.
    private func maps(_ folder: String) throws -> [String] {
      try FileManager.default.contentsOfDirectory(atPath: folder).filter { $0.contains("_unc_") }.sorted()
    }

    /// 12 samples are two blocks, and 13 cases leave one for a last round in which ranks share its samples.
    @Test(arguments: [(1, 2), (2, 1), (3, 1), (3, 2)])
    func uncertaintyHasTheSameBitsOnAnyNumberOfRanksAndThreads(ranks: Int, threads: Int) throws {
      let folder = try Scratch(), data = try patients(Fixture.data(), folder)
      #expect(try predict("hadnet", data, folder / "one", "--uncertainty", "12", "--seed", "3").code == 0)
      let outcome = try predict(
        "hadnet", data, folder / "more", "--uncertainty", "12", "--seed", "3", ranks: ranks, threads: threads)
      #expect(outcome.code == 0, "\(outcome.errors)")
      #expect(try maps(folder / "one").count == 39)
      try expectSame(folder / "one", folder / "more")
      // The study's maps are of the same samples.
      let study = "\(try Fixture.run())/evaluation/HAD-Net/predictions"
      let names = try maps(study)
      #expect(names.count == 9)
      for name in names { #expect(try bytes("\(study)/\(name)") == bytes(folder / "one/\(name)"), "\(name)") }
    }

    @Test(arguments: [
      ("1", ["--seed", "5"]), ("3", ["--measure", "multiclass"]), ("3", ["--measure", "expected"]),
      ("3", ["--measure", "mutual", "--segment-mean"]), ("3", ["--scale", "case"]),
      ("3", ["--scale", "dataset"]),
    ])
    func uncertaintyIsWithin0And100(samples: String, options: [String]) throws {
      let folder = try Scratch(), data = try patients(Fixture.data2023(), folder), out = folder / "out"
      let outcome = try Job(
        Program.command(
          [
            "predict", "--model", "\(Fixture.run())/student/checkpoints/best", "--data", data, "--out", out,
            "--quiet", "--uncertainty", samples,
          ] + options)
      ).outcome()
      #expect(outcome.code == 0, "\(outcome.errors)")
      let names = try maps(out)
      #expect(names.count == 9 && !exists("\(out)/unscaled"))
      var low = Float.infinity, high = -Float.infinity
      for name in names {
        let map = try NIfTIImage.read("\(out)/\(name)").voxels
        #expect(map.allSatisfy { (0...100).contains($0) }, "\(name)")
        low = min(low, map.min() ?? 0)
        high = max(high, map.max() ?? 0)
      }
      #expect(low == 0 && high > 0)
      if options.first == "--scale" { #expect(high == 100) }
      // Measures of all classes are one map for all regions.
      let isOne = options.first == "--measure"
      for start in stride(from: 0, to: 9, by: 3) {
        #expect(
          try (bytes("\(out)/\(names[start])") == bytes("\(out)/\(names[start + 1])")) == isOne)
      }
    }

    @Test func samplesOfOtherSeedsDiffer() throws {
      let folder = try Scratch(), data = try patients(Fixture.data2023(), folder)
      for seed in ["1", "2"] {
        #expect(try predict("student", data, folder / seed, "--uncertainty", "1", "--seed", seed).code == 0)
      }
      for name in try maps(folder / "1") {
        #expect(try bytes(folder / "1/\(name)") != bytes(folder / "2/\(name)"), "\(name)")
      }
    }

    @Test func uncertaintyThatCannotBeIsRefused() throws {
      let folder = try Scratch(), data = try Fixture.data2023()
      expectFault(
        try predict("uhved", data, folder / "out", "--uncertainty", "2"), 64,
        ["U-HVED has no dropout to draw samples with; leave its uncertainty out"])
      #expect(try predict("student", data, folder / "out", "--uncertainty", "-1").code == 64)
      for option in [["--segment-mean"], ["--measure", "mutual"], ["--scale", "case"], ["--seed", "2"]] {
        let outcome = try Program.start(
          ["predict", "--model", "model", "--data", data, "--out", folder / "out"] + option
        ).outcome()
        #expect(
          outcome.code == 64 && outcome.errors.contains("\(option[0]) needs --uncertainty"),
          "\(outcome.errors)")
      }
      #expect(try predict("student", data, folder / "out", "--measure", "entropy").code == 64)
    }

    @Test(arguments: [
      ("student", "Student"), ("hadnet", "HAD-Net"), ("adnet", "AD-Net"), ("kdnet", "KD-Net+"),
      ("uhemis", "U-HeMIS"), ("uhved", "U-HVED"),
    ])
    func needsNeitherTruthNorT1ce(stage: String, method: String) throws {
      let folder = try Scratch(), data = try patients(Fixture.data(), folder), out = folder / "out"
      let outcome = try predict(stage, data, out)
      #expect(outcome.code == 0, "\(outcome.errors)")
      #expect(try contents(out).count == 13)
      for name in try tested() {
        let study = "\(try Fixture.run())/evaluation/\(method)/predictions/\(name)"
        #expect(try bytes("\(out)/\(name)") == bytes(study), "\(name)")
      }
      // T1ce of noise, truth included: not one bit differs.
      let noisy = try folder.copy(Fixture.data(), "noisy"), second = folder / "second"
      var random = SystemRandomNumberGenerator()
      for number in 1...13 {
        let path = Fixture.file(noisy, number, "t1ce"), header = try NIfTIHeader.read(path)
        let noise = (0..<header.voxels).map { _ in Float.random(in: 0...2000, using: &random) }
        try NIfTIImage.write(noise, dimensions: header.dimensions, affine: header.affine, to: path)
      }
      #expect(try predict(stage, noisy, second).code == 0)
      try expectSame(out, second)
      // And two ranks, or more than there are cases, write the same.
      for ranks in [2, 3] {
        #expect(try predict(stage, data, folder / "ranks\(ranks)", ranks: ranks).code == 0)
        try expectSame(out, folder / "ranks\(ranks)")
      }
    }

    @Test(arguments: [true, false]) func writesLabelsOnThePatientsOwnGrid(is2019: Bool) throws {
      let folder = try Scratch(), out = folder / "out"
      let data = try is2019 ? Fixture.data() : Fixture.data2023()
      // A grid of another orientation and place than BraTS's, as other scanners store it.
      let own = try patients(data, folder)
      let images = try FileManager.default.subpathsOfDirectory(atPath: own).filter { $0.hasSuffix(".nii.gz") }
      for file in images {
        try edit("\(own)/\(file)") { bytes in
          // sform: x to the right, y to the front, z up, 20 mm away.
          let rows: [Float] = [1, 0, 0, 20, 0, 1, 0, -30, 0, 0, 1, 40]
          for (i, value) in rows.enumerated() {
            bytes.replaceSubrange(
              (280 + 4 * i)..<(284 + 4 * i),
              with: withUnsafeBytes(of: value.bitPattern.littleEndian) { Array($0) })
          }
        }
      }
      let outcome = try predict("hadnet", own, out)
      #expect(outcome.code == 0, "\(outcome.errors)")
      var labels: Set<Float> = []
      for file in images where file.contains("flair") || file.contains("t2f") {
        let id = URL(fileURLWithPath: file).deletingLastPathComponent().lastPathComponent
        let image = try NIfTIHeader.read("\(own)/\(file)")
        let segmentation = try NIfTIImage.read("\(out)/\(id).nii.gz")
        #expect(segmentation.header.dimensions == image.dimensions)
        #expect(segmentation.header.affine == image.affine)
        labels.formUnion(segmentation.voxels)
      }
      #expect(labels.contains(is2019 ? 4 : 3))
      #expect(labels.isSubset(of: is2019 ? [0, 1, 2, 4] : [0, 1, 2, 3]))
    }

    @Test func teacherNeedsT1ce() throws {
      let folder = try Scratch(), data = try patients(Fixture.data(), folder)
      let outcome = try predict("teacher", data, folder / "out", ranks: 2)
      #expect(outcome.code == 66)
      try #require(outcome.messages.count == 14, "\(outcome.errors)")
      for number in 1...13 {
        let line = outcome.messages[number - 1]
        #expect(line.hasPrefix("\(Fixture.id(number)): t1ce is missing"), "\(line)")
      }
      #expect(outcome.messages.last == "13 of 13 patients could not be segmented")
      #expect(!exists(folder / "out"))
    }

    @Test func brainLargerThanTheModelIsNotCut() throws {
      let folder = try Scratch(), data = folder / "data", out = folder / "out"
      try #require(
        try Program.run("phantom", data, "--cases", "3", "--shape", "48x48x48", "--quiet").code == 0)
      let outcome = try Program.run(
        "predict", "--model", "\(Fixture.run())/student/checkpoints/best", "--data", data, "--out", out,
        "--threads", "1", ranks: 2)
      #expect(outcome.code == 0, "\(outcome.errors)")
      for number in 1...3 {
        let warnings = outcome.messages.filter { $0.hasPrefix("warning: \(Fixture.id(number))") }
        #expect(warnings.count == 1, "\(outcome.errors)")
        let segmentation = try NIfTIHeader.read("\(out)/\(Fixture.id(number)).nii.gz")
        #expect(segmentation.dimensions == [48, 48, 48])
      }
    }

    @Test func damagedPatientIsNamed() throws {
      let folder = try Scratch(), data = try Fixture.fewCases(in: folder)
      try cut(Fixture.file(data, 3, "t2"))
      expectFault(
        try predict("student", data, folder / "out"), 65, [Fixture.file(data, 3, "t2"), "truncated"])
      #expect(!exists(folder / "out/\(Fixture.id(3)).nii.gz"))
    }

    /// What goes wrong with some is listed in the end, in the cases' order, and the worst is the exit code.
    @Test(arguments: [nil, 2]) func othersAreDoneWhereSomeFail(ranks: Int?) throws {
      let folder = try Scratch(), data = try Fixture.fewCases(in: folder), out = folder / "out"
      #expect(try predict("student", data, folder / "all", "--uncertainty", "2").code == 0)
      try FileManager.default.removeItem(atPath: Fixture.file(data, 1, "t2"))
      try cut(Fixture.file(data, 3, "flair"))
      let outcome = try predict("student", data, out, "--uncertainty", "2", ranks: ranks)
      try #require(outcome.code == 65 && outcome.messages.count == 3, "\(outcome.errors)")
      #expect(outcome.messages[0].hasPrefix("\(Fixture.id(1)): t2 is missing"), "\(outcome.errors)")
      #expect(
        outcome.messages[1].hasPrefix("\(Fixture.file(data, 3, "flair")): truncated"), "\(outcome.errors)")
      #expect(outcome.messages[2] == "2 of 4 patients could not be segmented; the others are in \(out)")
      #expect(try contents(out).count == 8)
      for (name, content) in try contents(out) {
        #expect(try bytes(folder / "all/\(name)") == content, "\(name)")
      }
      // A place that can't be written is the worst.
      try FileManager.default.removeItem(atPath: out)
      try folder.folder("out/\(Fixture.id(4)).nii.gz/in-the-way")
      let blocked = try predict("student", data, out, ranks: ranks)
      #expect(blocked.code == 74 && blocked.messages.count == 4, "\(blocked.errors)")
      #expect(exists("\(out)/\(Fixture.id(2)).nii.gz") && !exists("\(out)/\(Fixture.id(1)).nii.gz"))
    }

    /// What goes wrong with one patient's samples does not keep the others from theirs.
    @Test(
      arguments: [nil, 2], [[], ["--segment-mean"], ["--scale", "dataset"]])
    func othersHaveTheirMapsWhereSomeFail(ranks: Int?, options: [String]) throws {
      let folder = try Scratch(), data = try Fixture.fewCases(in: folder), out = folder / "out"
      let samples = ["--uncertainty", "2"] + options
      func run(_ out: String) throws -> Outcome {
        let model = "\(try Fixture.run())/student/checkpoints/best"
        return try Program.start(
          ["predict", "--model", model, "--data", data, "--out", out, "--quiet", "--threads", "1"] + samples,
          ranks: ranks
        ).outcome()
      }
      #expect(try run(folder / "all").code == 0)
      // A folder stands where the map belongs.
      for number in [2, 3] { try folder.folder("out/\(Fixture.id(number))_unc_core.nii.gz/in-the-way") }
      let outcome = try run(out)
      #expect(outcome.code == 74 && outcome.messages.count == 3, "\(outcome.errors)")
      for (line, number) in zip(outcome.messages, [2, 3]) {
        #expect(line.contains("\(Fixture.id(number))_unc_core.nii.gz"), "\(line)")
        #expect(
          line.hasPrefix("\(Fixture.id(number)) has no maps") == (options.first != "--segment-mean"),
          "\(line)")
      }
      let what =
        options.first == "--segment-mean" ? "could not be segmented" : "have no maps of uncertainties"
      #expect(
        outcome.messages.last == "2 of 4 patients \(what); the others are in \(out)", "\(outcome.errors)")
      #expect(!exists("\(out)/unscaled"))
      for number in [1, 4] {
        let names = ["", "_unc_whole", "_unc_core", "_unc_enhance"].map {
          "\(Fixture.id(number))\($0).nii.gz"
        }
        for name in names { #expect(try bytes("\(out)/\(name)") == bytes(folder / "all/\(name)"), "\(name)") }
      }
      #expect(exists("\(out)/\(Fixture.id(2)).nii.gz") == (options.first != "--segment-mean"))
    }

    /// A file that can't be read any more when its samples' turn has come: on the rank that draws them, or, of the last of
    /// three patients, on both.
    @Test(arguments: [nil, 2], [2, 3]) func aFileThatVanishesBeforeItsSamplesIsListed(
      ranks: Int?, number: Int
    )
      throws
    {
      let folder = try Scratch(), data = try Fixture.fewCases(in: folder), out = folder / "out"
      let last = URL(fileURLWithPath: Fixture.file(data, 4, "t2")).deletingLastPathComponent()
      try FileManager.default.removeItem(at: last)
      let file = Fixture.file(data, number, "t2"), segmentation = "\(out)/\(Fixture.id(number)).nii.gz"
      // No memory for prepared cases, so that they are read again.
      try folder.put(
        """
        #define _GNU_SOURCE
        #include <dlfcn.h>
        #include <errno.h>
        #include <fcntl.h>
        #include <stdarg.h>
        #include <string.h>
        #include <unistd.h>
        long sysconf(int name) {
          if (name == _SC_PHYS_PAGES) return 16;
          return ((long (*)(int))dlsym(RTLD_NEXT, "sysconf"))(name);
        }
        int open(const char *path, int flags, ...) {
          va_list more;
          va_start(more, flags);
          mode_t mode = va_arg(more, mode_t);
          va_end(more);
          if (!strcmp(path, "\(file)") && !access("\(segmentation)", F_OK)) { errno = EIO; return -1; }
          return ((int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open"))(path, flags, mode);
        }

        """, "vanishes.c")
      try tool("cc", "-shared", "-fPIC", "-o", folder / "vanishes.so", folder / "vanishes.c")
      let outcome = try Job(
        Program.command(
          [
            "predict", "--model", "\(Fixture.run())/student", "--data", data, "--out", out, "--quiet",
            "--threads",
            "1", "--uncertainty", "12",
          ], ranks: ranks), environment: ["LD_PRELOAD": folder / "vanishes.so"]
      ).outcome()
      #expect(outcome.code == 74, "\(outcome.errors)")
      #expect(
        outcome.messages.count == 1 && outcome.messages[0].hasPrefix("\(Fixture.id(number)) has no maps of")
          && outcome.messages[0].contains(file), "\(outcome.errors)")
      #expect(try contents(out).count == 3 + 2 * 3)
    }

    /// All sequences of a case in one folder, under another name.
    private func put(_ name: String, _ number: Int, into folder: Scratch, _ place: String) throws {
      let data = try Fixture.data()
      for sequence in ["flair", "t1", "t2"] {
        try folder.copy(Fixture.file(data, number, sequence), "\(place)/\(name)_\(sequence).nii.gz")
      }
    }

    /// A_flair.nii.gz is the FLAIR of A, and what a patient called A_flair would be written to.
    @Test func inputsAreNeverWrittenOver() throws {
      let folder = try Scratch(), data = try folder.folder("data")
      try put("A", 1, into: folder, "data")
      try put("A_flair", 2, into: folder, "data")
      symlink("data", folder / "link")
      let before = try contents(data)
      for out in [data, folder / "link"] {
        expectFault(
          try predict("student", data, out), 65,
          ["\(out)/A_flair.nii.gz would be written over \(data)/A_flair.nii.gz, which is read"])
      }
      #expect(try contents(data) == before)
      // A map of one would be the segmentation of another.
      let twins = try folder.folder("twins")
      try put("B", 1, into: folder, "twins")
      try put("B_unc_core", 2, into: folder, "twins")
      expectFault(
        try predict("student", twins, folder / "out", "--uncertainty", "2"), 65,
        ["B_unc_core.nii.gz would be written for B and for B_unc_core"])
      #expect(try predict("student", twins, folder / "out").code == 0)
    }

    @Test func namesThatAreTooLongAreRefused() throws {
      let folder = try Scratch(), data = try folder.folder("data")
      try put(String(repeating: "x", count: 220), 1, into: folder, "data")
      try put("B", 2, into: folder, "data")
      expectFault(
        try predict("student", data, folder / "out/deep"), 65,
        ["xxx", "227 bytes", "217 are possible", "shorten the patient's name"])
      #expect(!exists(folder / "out"))
    }

    @Test func modelsAreFoundInRunsAndStages() throws {
      let folder = try Scratch(), data = try patients(Fixture.data2023(), folder), run = try Fixture.run()
      func predict(_ models: [String], _ name: String) throws -> Outcome {
        try Program.start(
          ["predict", "--data", data, "--out", folder / name, "--quiet", "--threads", "1"]
            + models.flatMap { ["--model", $0] }
        ).outcome()
      }
      #expect(try predict(["\(run)/hadnet/checkpoints/best"], "best").code == 0)
      let only = try folder.folder("run")
      symlink("\(run)/hadnet", "\(only)/hadnet")
      for (i, model) in ["\(run)/hadnet", "\(run)/hadnet/", "\(run)/hadnet/checkpoints", only].enumerated() {
        let outcome = try predict([model], "\(i)")
        #expect(outcome.code == 0, "\(outcome.errors)")
        try expectSame(folder / "best", folder / "\(i)")
      }
      expectFault(
        try predict([run], "run"), 64,
        ["8 networks", "\(run)/hadnet", "teacher, student, hadnet, control, adnet, kdnet, uhemis, uhved"])
      expectFault(
        try predict([try folder.folder("none")], "none"), 66, [folder / "none", "checkpoints/best"])
      let twice = try predict([run, run], "twice")
      #expect(twice.code == 64 && twice.errors.contains("--model is given 2 times"), "\(twice.errors)")
    }

    /// Without a form code nothing says where left is: it is told once, and what is written says as little.
    /// A background that is not 0 makes the whole volume brain; and with --log json all that is told are objects.
    @Test func aMaskOfTheWholeVolumeIsTold() throws {
      let folder = try Scratch(), data = try Fixture.fewCases(in: folder)
      for sequence in ["flair", "t1", "t2"] {
        let path = Fixture.file(data, 2, sequence), image = try NIfTIImage.read(path)
        try NIfTIImage.write(
          image.voxels.map { $0 == 0 ? 1 : $0 }, dimensions: image.header.dimensions,
          affine: image.header.affine, to: path)
      }
      let outcome = try Program.run(
        "predict", "--model", "\(Fixture.run())/student", "--data", data, "--out", folder / "out",
        "--threads",
        "1", "--log", "json")
      #expect(outcome.code == 0, "\(outcome.errors)")
      let quiet = try predict("student", data, folder / "quiet")
      #expect(
        quiet.messages.count == 1
          && quiet.errors.hasPrefix("warning: the brain fills more than 90 % of the volume in 1 case"),
        "\(quiet.errors)")
      let events = try outcome.errors.split(separator: "\n").map { try json(String($0)) }
      let warnings = events.filter { $0["event"] as? String == "warning" }.compactMap {
        $0["text"] as? String
      }
      #expect(
        warnings.contains {
          $0.hasPrefix(
            "the brain fills more than 90 % of the volume in 1 case, of \(Fixture.id(2)) for one: ")
        }, "\(outcome.errors)")
      #expect(events.contains { $0["event"] as? String == "progress" && $0["total"] as? Int == 4 })
    }

    @Test func missingOrientationIsTold() throws {
      let folder = try Scratch(), data = try Fixture.fewCases(in: folder), out = folder / "out"
      for number in [2, 3] {
        for sequence in ["flair", "t1", "t1ce", "t2"] {
          try edit(Fixture.file(data, number, sequence)) { bytes in
            for at in 252..<256 { bytes[at] = 0 }
          }
        }
      }
      let outcome = try Program.run(
        "predict", "--model", "\(Fixture.run())/student", "--data", data, "--out", out, "--threads", "1",
        ranks: 2)
      #expect(outcome.code == 0, "\(outcome.errors)")
      let warnings = outcome.messages.filter { $0.contains("orientation") }
      #expect(
        warnings.count == 1
          && warnings[0].hasPrefix(
            "warning: 2 patients have no orientation in the header (both form codes are 0), ")
          && warnings[0].contains(Fixture.id(2)), "\(outcome.errors)")
      for number in 1...4 {
        let forms = try NIfTIHeader.read("\(out)/\(Fixture.id(number)).nii.gz").forms
        #expect(forms.hasOrientation == (number == 1 || number == 4))
      }
      // Where there is no terminal, lines tell how far it is.
      #expect(outcome.messages.contains { $0.hasPrefix("predict 1/2, ") }, "\(outcome.errors)")
      // A result that may be wrong is told in quiet mode, too, and nothing else.
      let quiet = try predict("student", data, out, ranks: 2)
      #expect(quiet.code == 0 && quiet.messages == warnings, "\(quiet.errors)")
    }

    /// A thousand million voxels of one byte, in a file without blocks: they are refused before memory is taken.
    @Test func volumesBeyondTheMemoryAreRefused() throws {
      let folder = try Scratch(), data = try folder.folder("data"), path = "\(data)/A_flair.nii"
      var header = [UInt8](repeating: 0, count: 352)
      func put(_ at: Int, _ bytes: [UInt8]) { header.replaceSubrange(at..<(at + bytes.count), with: bytes) }
      put(0, [0x5c, 1])
      put(40, [3, 0, 0xe8, 3, 0xe8, 3, 0xe8, 3])
      for at in stride(from: 48, to: 56, by: 2) { put(at, [1, 0]) }
      put(70, [2, 0, 8])
      put(254, [1])
      for (i, sign) in [0xbf, 0xbf, 0x3f].enumerated() { put(280 + 20 * i + 2, [0x80, UInt8(sign)]) }
      put(344, Array("n+1".utf8))
      try Data(header).write(to: URL(fileURLWithPath: path))
      truncate(path, 1_000_000_352)
      for sequence in ["t1", "t2"] { link(path, "\(data)/A_\(sequence).nii") }
      let outcome = try Job([
        "bash", "-c",
        "ulimit -v 2500000; exec \(Program.path) predict --model \(try Fixture.run())/student --data \(data) "
          + "--out \(folder / "out") --threads 1 --quiet",
      ]).outcome()
      expectFault(outcome, 65, [path, "1000×1000×1000 voxels needs 3815 MiB of memory"])
    }

    /// Advice of the message is an option here.
    @Test func negativeVoxelsCanBeTaken() throws {
      let folder = try Scratch(), data = try Fixture.fewCases(in: folder)
      let path = Fixture.file(data, 2, "t1"), image = try NIfTIImage.read(path)
      var voxels = image.voxels
      voxels[100] = -5
      try NIfTIImage.write(voxels, dimensions: image.header.dimensions, affine: image.header.affine, to: path)
      expectFault(try predict("student", data, folder / "out"), 65, [path, "negative"])
      for value in ["abs", "zero"] {
        #expect(try predict("student", data, folder / value, "--negative", value).code == 0)
        #expect(try contents(folder / value).count == 4)
      }
      #expect(try predict("student", data, folder / "no", "--negative", "some").code == 64)
    }

    @Test func outFolderThatCannotBeMadeIsTold() throws {
      let folder = try Scratch(), data = try Fixture.fewCases(in: folder), file = try folder.put("", "file")
      expectFault(try predict("student", data, file, ranks: 2), 74, [file])
    }
  }

  @Suite struct EvaluateTests {
    /// The truths and predictions of the study's test cases, copied, with maps of uncertainties where a method has them.
    private func sides(_ folder: Scratch, _ method: String = "HAD-Net") throws -> (
      truth: String, predictions: String
    ) {
      let predictions = try folder.copy("\(Fixture.run())/evaluation/\(method)/predictions", "predictions")
      let truth = try folder.folder("truth")
      for id in try ids(predictions) {
        let number = try #require((1...13).first { Fixture.id($0) == id })
        for name in ["seg", "t1"] {
          try folder.copy(Fixture.file(Fixture.data(), number, name), "truth/\(id)_\(name).nii.gz")
        }
      }
      return (truth, predictions)
    }

    private func ids(_ predictions: String) throws -> [String] {
      let names = try FileManager.default.contentsOfDirectory(atPath: predictions)
      return names.filter { !$0.contains("_unc_") }.sorted().map { String($0.dropLast(7)) }
    }

    /// A study's summary of its test cases, as of cases of no known split.
    private func summary(_ method: String) throws -> String {
      try text("\(Fixture.run())/evaluation/\(method)/summary.json").replacing(
        ", \"set\": \"test\"", with: "")
    }

    private func hasMaps(_ predictions: String) throws -> Bool {
      try FileManager.default.contentsOfDirectory(atPath: predictions).contains { $0.contains("_unc_") }
    }

    private func evaluate(_ truth: String, _ predictions: String, _ more: String..., ranks: Int? = nil) throws
      -> Outcome
    {
      try Program.start(
        ["evaluate", "--truth", truth, "--predictions", predictions, "--quiet"] + more, ranks: ranks
      ).outcome()
    }

    @Test(arguments: Fixture.methods) func equalsTheStudysSummary(method: String) throws {
      let folder = try Scratch(), (truth, predictions) = try sides(folder, method)
      let hasMaps = try hasMaps(predictions)
      // One rank has no case.
      for ranks in [nil, 4] {
        let outcome =
          try hasMaps
          ? evaluate(
            truth, predictions, "--json", folder / "scores.json", "--uncertainty", predictions, ranks: ranks)
          : evaluate(truth, predictions, "--json", folder / "scores.json", ranks: ranks)
        #expect(outcome.code == 0, "\(outcome.errors)")
        #expect(outcome.output.hasPrefix("3 cases"), "\(outcome.output)")
        let scores = try text(folder / "scores.json")
        #expect(try scores == summary(method))
        _ = try json(scores)
      }
      let metrics = ["Dice", "Sensitivity", "Specificity", "Hausdorff95"] + (hasMaps ? ["Score"] : [])
      let columns = metrics.flatMap { metric in ["ET", "WT", "TC"].map { "\(metric)_\($0)" } }
      let table = try text("\(Fixture.run())/evaluation/\(method)/cases.csv").split(separator: "\n")
      #expect(table[0] == (["Label"] + columns).joined(separator: ","))
      #expect(table.count == 9)
    }

    /// Predictions are stored as the images are, here to the left, back and up; truths to the right, front and up.
    @Test func truthOfAnotherOrientationIsNoDifference() throws {
      let folder = try Scratch(), (truth, predictions) = try sides(folder)
      for id in try ids(predictions) {
        let path = "\(truth)/\(id)_seg.nii.gz", image = try NIfTIImage.read(path)
        let (x, y, z) = (image.size.x, image.size.y, image.size.z)
        var turned: [UInt8] = []
        for voxel in 0..<(x * y * z) {
          turned.append(
            UInt8(image.voxels[(voxel / (x * y) * y + y - 1 - voxel / x % y) * x + x - 1 - voxel % x]))
        }
        var affine = image.header.affine
        for row in 0..<2 {
          affine[row * 5] = -affine[row * 5]
          affine[row * 4 + 3] -= affine[row * 5] * Double((row == 0 ? x : y) - 1)
        }
        try NIfTIImage.write(turned, dimensions: [x, y, z], affine: affine, to: path)
        #expect(try NIfTIImage.read(path).voxels == image.voxels)
      }
      let outcome = try evaluate(
        truth, predictions, "--uncertainty", predictions, "--json", folder / "scores.json")
      #expect(outcome.code == 0, "\(outcome.errors)")
      #expect(try text(folder / "scores.json") == summary("HAD-Net"))
      // 4 mm off is elsewhere.
      let id = try #require(ids(predictions).first), path = "\(predictions)/\(id).nii.gz"
      let image = try NIfTIImage.read(path)
      var affine = image.header.affine
      affine[11] += 4
      try NIfTIImage.write(image.voxels, dimensions: image.header.dimensions, affine: affine, to: path)
      expectFault(try evaluate(truth, predictions), 65, [path, "lies elsewhere", "4 mm"])
    }

    /// Of all truths, or of those of one set of a split.
    @Test func someCasesOfTheTruthAreEnough() throws {
      let folder = try Scratch(), predictions = "\(try Fixture.run())/evaluation/HAD-Net/predictions"
      let data = try Fixture.data(), run = try Fixture.run()
      let tested = try ids(predictions)
      let list = try folder.put(tested.reversed().joined(separator: "\r\n") + "\n\n", "cases.txt")
      for options in [["--cases", list], ["--split", "\(run)/split.json:test"]] {
        let outcome = try Program.start(
          [
            "evaluate", "--truth", data, "--predictions", predictions, "--uncertainty", predictions, "--json",
            folder / "scores.json",
          ] + options
        ).outcome()
        #expect(outcome.code == 0, "\(outcome.errors)")
        // A split's set is known by its name.
        #expect(
          try text(folder / "scores.json")
            == (options[0] == "--cases" ? summary("HAD-Net") : text("\(run)/evaluation/HAD-Net/summary.json"))
        )
        #expect(outcome.messages.first?.hasPrefix("evaluate 1/3, ") == true, "\(outcome.errors)")
      }
      expectFault(
        try evaluate(data, predictions), 66, ["no segmentation of", "(and 9 more)", "--cases or --split"])
      expectFault(
        try evaluate(data, predictions, "--split", "\(Fixture.run())/split.json:validation"), 66,
        ["no segmentation of", "(and 2 more)"])
      let other = try folder.put(tested[0] + "\nnobody\nnoone\n", "other.txt")
      expectFault(try evaluate(data, predictions, "--cases", other), 66, [other, "nobody (and 1 more)"])
      expectFault(
        try evaluate(data, predictions, "--cases", try folder.put("\n", "none.txt")), 66, ["no case"])
      expectFault(try evaluate(data, predictions, "--split", "\(list):test"), 65, [list, "not a split"])
      expectFault(try evaluate(data, predictions, "--split", list), 64, ["FILE:SET"])
      let both = try evaluate(data, predictions, "--cases", list, "--split", "a:test")
      #expect(both.code == 64, "\(both.errors)")
    }

    /// What a shell or another program has made is no file, and can be read once.
    @Test(arguments: [nil, 2]) func listsMayBePipes(ranks: Int?) throws {
      let folder = try Scratch(), predictions = "\(try Fixture.run())/evaluation/HAD-Net/predictions"
      let list = try folder.put(try ids(predictions).joined(separator: "\n"), "cases.txt")
      let split = "\(try Fixture.run())/split.json", pipe = folder / "pipe"
      try tool("mkfifo", pipe)
      func evaluate(_ options: String...) throws -> Outcome {
        let command = Program.command(
          [
            "evaluate", "--truth", try Fixture.data(), "--predictions", predictions, "--quiet", "--json",
            folder / "scores.json",
          ], ranks: ranks)
        // A shell of its own for each redirection.
        return try Job(
          ["bash", "-c", "list=$1 split=$2 pipe=$3; shift 3; \(options.joined(separator: " "))", "bash"]
            + [list, split, pipe] + command
        ).outcome()
      }
      var ways = [("cat \"$list\" > \"$pipe\" & exec \"$@\" --cases \"$pipe\"", false)]
      ways.append(("cat \"$split\" > \"$pipe\" & exec \"$@\" --split \"$pipe:test\"", true))
      // mpirun hands on none of these.
      if ranks == nil {
        ways += [
          ("exec \"$@\" --cases <(cat \"$list\")", false),
          ("cat \"$list\" | \"$@\" --cases /dev/stdin", false),
          ("exec \"$@\" --cases /dev/stdin < \"$list\"", false),
          ("exec \"$@\" --split <(cat \"$split\"):test", true),
        ]
      }
      for (way, isSplit) in ways {
        let outcome = try evaluate(way)
        #expect(outcome.code == 0, "\(way): \(outcome.errors)")
        #expect(outcome.output.hasPrefix("3 \(isSplit ? "test " : "")cases"), "\(outcome.output)")
      }
      expectFault(try evaluate("exec \"$@\" --cases /dev/zero"), 65, ["/dev/zero", "more than 256 MB"])
      expectFault(try evaluate("exec \"$@\" --cases /dev/fd/77"), 66, ["/dev/fd/77", "no such file"])
      let compared = try Job([
        "bash", "-c",
        "exec '\(Program.path)' compare '\(folder.path)/scores.json' <(cat '\(folder.path)/scores.json')",
      ]).outcome()
      #expect(compared.code == 0, "\(compared.errors)")
    }

    /// All that can't be scored is named at once, and no mean is told of the others.
    @Test(arguments: [nil, 2]) func everyCaseThatCannotBeScoredIsNamed(ranks: Int?) throws {
      let folder = try Scratch(), (truth, predictions) = try sides(folder), ids = try ids(predictions)
      try cut("\(predictions)/\(ids[0]).nii.gz")
      try Data().write(to: URL(fileURLWithPath: "\(predictions)/\(ids[2]).nii.gz"))
      let outcome = try evaluate(truth, predictions, "--json", folder / "scores.json", ranks: ranks)
      try #require(
        outcome.code == 65 && outcome.messages.count == 3 && outcome.output.isEmpty, "\(outcome.errors)")
      #expect(outcome.messages[0].contains(ids[0]) && outcome.messages[1].contains(ids[2]))
      #expect(outcome.messages[2] == "2 of 3 cases could not be scored, so there is no table")
      #expect(!exists(folder / "scores.json"))
    }

    @Test func labelsOfEachSide() throws {
      let folder = try Scratch(), (truth, predictions) = try sides(folder)
      for id in try ids(predictions) {
        let path = "\(predictions)/\(id).nii.gz", image = try NIfTIImage.read(path)
        try NIfTIImage.write(
          image.voxels.map { UInt8($0 == 4 ? 3 : $0) }, dimensions: image.header.dimensions,
          affine: image.header.affine, to: path)
        // As some systems write the ending.
        try FileManager.default.moveItem(atPath: path, toPath: "\(predictions)/\(id).NII.GZ")
      }
      let outcome = try evaluate(
        truth, predictions, "--prediction-labels", "2023", "--json", folder / "scores.json")
      #expect(outcome.code == 0, "\(outcome.errors)")
      #expect(try evaluate(truth, predictions, "--truth-labels", "2019").code == 65)
      let both = try evaluate(truth, predictions, "--labels", "2019", "--truth-labels", "2019")
      #expect(both.code == 64, "\(both.errors)")
    }

    @Test func caseOnOneSideOnlyIsMissing() throws {
      let folder = try Scratch(), (truth, predictions) = try sides(folder)
      let id = try #require(ids(predictions).first)
      let away = folder / "away.nii.gz", prediction = "\(predictions)/\(id).nii.gz"
      try FileManager.default.moveItem(atPath: prediction, toPath: away)
      expectFault(try evaluate(truth, predictions), 66, [id, "no segmentation"])
      try FileManager.default.moveItem(atPath: away, toPath: prediction)
      try FileManager.default.removeItem(atPath: "\(truth)/\(id)_seg.nii.gz")
      expectFault(try evaluate(truth, predictions, ranks: 2), 66, [id, "the truth is missing"])
      expectFault(try evaluate(folder / "absent", predictions), 66, [folder / "absent"])
      expectFault(try evaluate(truth, try folder.folder("empty")), 66, [folder / "empty"])
    }

    @Test func predictionsThatDoNotFitAreNamed() throws {
      let folder = try Scratch(), (truth, predictions) = try sides(folder)
      let id = try #require(ids(predictions).first)
      let path = "\(predictions)/\(id).nii.gz", image = try NIfTIImage.read(path)
      let affine = image.header.affine
      func write(_ change: (inout [Float]) -> Void) throws {
        var voxels = image.voxels
        change(&voxels)
        try NIfTIImage.write(voxels, dimensions: [32, 32, 32], affine: affine, to: path)
      }
      try NIfTIImage.write(image.voxels, dimensions: [16, 32, 64], affine: affine, to: path)
      expectFault(try evaluate(truth, predictions), 65, [id, "16×32×64", "32×32×32"])
      try NIfTIImage.write(
        image.voxels, dimensions: [32, 32, 32], affine: affine.map { $0 == 1 ? 2 : $0 }, to: path)
      expectFault(try evaluate(truth, predictions), 65, [id, "affine"])
      try write { $0[7] = 3 }
      expectFault(try evaluate(truth, predictions), 65, [path, "3", "0, 1, 2 and 4"])
      // Of another convention are all.
      let other = try evaluate(truth, predictions, "--labels", "2023")
      #expect(other.code == 65 && other.messages.count == 4, "\(other.errors)")
      #expect(other.messages.dropLast().allSatisfy { $0.contains("label 4") }, "\(other.errors)")
      try write { $0[7] = 1e30 }
      expectFault(try evaluate(truth, predictions), 65, [path, "1e+30"])
      try write { $0[7] = 0.5 }
      expectFault(try evaluate(truth, predictions), 65, [path, "0.5"])
    }

    @Test func aBrainOfZerosIsRefused() throws {
      let folder = try Scratch(), (truth, predictions) = try sides(folder)
      let id = try #require(ids(predictions).last), path = "\(truth)/\(id)_t1.nii.gz"
      let image = try NIfTIImage.read(path)
      try NIfTIImage.write(
        [Float](repeating: 0, count: image.voxels.count), dimensions: image.header.dimensions,
        affine: image.header.affine, to: path)
      expectFault(
        try evaluate(truth, predictions, "--uncertainty", predictions), 65, [path, "there is no brain"])
      for option in [["--points", "7"], ["--filters", "50"]] {
        let outcome = try evaluate(truth, predictions, option[0], option[1])
        #expect(outcome.code == 64 && outcome.errors.contains("needs --uncertainty"), "\(outcome.errors)")
      }
    }

    /// A link stays one, and what is no file is written to; a full disk is told wherever the text goes.
    @Test func resultsReachTheirPlace() throws {
      let folder = try Scratch(), (truth, predictions) = try sides(folder)
      symlink("real.json", folder / "link.json")
      #expect(try evaluate(truth, predictions, "--json", folder / "link.json").code == 0)
      #expect(try FileManager.default.destinationOfSymbolicLink(atPath: folder / "link.json") == "real.json")
      let scores = try text(folder / "real.json")
      for place in ["-", "/dev/stdout"] {
        let both = try evaluate(truth, predictions, "--json", place)
        #expect(both.code == 0 && both.output.hasPrefix("3 cases") && both.output.hasSuffix(scores))
      }
      expectFault(
        try evaluate(truth, predictions, "--json", "/dev/full"), 74, ["/dev/full", "No space left"])
      expectFault(try evaluate(truth, predictions, "--json", predictions), 74, [predictions, "directory"])
      for command in [
        "compare \(folder / "real.json") \(folder / "link.json")", "report \(try Fixture.run())",
      ] {
        let outcome = try Job(["bash", "-c", "\(Program.path) \(command) > /dev/full"]).outcome()
        expectFault(outcome, 74, ["standard output can't be written: No space left"])
      }
    }

    @Test func evaluationsThatCannotBeComparedAreRefused() throws {
      let folder = try Scratch(), (truth, predictions) = try sides(folder)
      func scores(_ name: String, _ more: String...) throws -> String {
        let outcome = try Program.start(
          ["evaluate", "--truth", truth, "--predictions", predictions, "--json", folder / name] + more
        ).outcome()
        #expect(outcome.code == 0, "\(outcome.errors)")
        return folder / name
      }
      let usual = try scores("a.json"), larger = try scores("b.json", "--hd95-direction", "larger")
      let map = try scores("c.json", "--uncertainty", predictions)
      let coarse = try scores("d.json", "--uncertainty", predictions, "--points", "4")
      expectFault(try Program.run("compare", usual, larger), 65, ["different settings of Hausdorff95"])
      expectFault(try Program.run("compare", map, coarse), 65, ["different settings of Score"])
      #expect(try Program.run("compare", usual, map).code == 0)
      func only(_ metric: String) throws -> String {
        try folder.put(
          "{\"cases\": {\"A\": {\"WT\": {\"\(metric)\": 1}, \"TC\": {\"\(metric)\": 1}, \"ET\": {\"\(metric)\": 1}}}}",
          "\(metric).json")
      }
      expectFault(
        try Program.run("compare", only("dice"), only("hd95")), 65,
        ["no metric is in both: dice has dice, hd95 has hd95"])
      expectFault(try Program.run("compare", usual, folder.path), 66, ["is a folder"])
    }

    @Test func compareTestsTwoEvaluations() throws {
      let folder = try Scratch(), evaluation = "\(try Fixture.run())/evaluation"
      let (a, b) = ("\(evaluation)/HAD-Net/summary.json", "\(evaluation)/Student/summary.json")
      let outcome = try Program.run("compare", a, b)
      #expect(outcome.code == 0, "\(outcome.errors)")
      for words in ["3 test cases", "two-sided paired t-tests", "dice", "WT", "TC", "ET"] {
        #expect(outcome.output.contains(words), "\(outcome.output)")
      }
      #expect(outcome.output.hasPrefix("HAD-Net − Student, 3 test cases"), "\(outcome.output)")
      var object = try json(try text(a))
      var cases = try #require(object["cases"] as? [String: Any])
      let id = try #require(cases.keys.sorted().first)
      cases[id] = nil
      object["cases"] = cases
      let short = folder / "short.json"
      try JSONSerialization.data(withJSONObject: object).write(to: URL(fileURLWithPath: short))
      expectFault(try Program.run("compare", a, short), 66, [id])
      expectFault(try Program.run("compare", short, b), 66, [id])
      expectFault(try Program.run("compare", a, folder / "absent.json"), 66, ["absent.json"])
      expectFault(try Program.run("compare", a, try folder.put("{", "torn.json")), 65, ["torn.json"])
    }

    @Test func compareTestsOneAgainstSeveral() throws {
      let folder = try Scratch(), evaluation = "\(try Fixture.run())/evaluation"
      let paths = ["HAD-Net", "Student", "AD-Net"].map { "\(evaluation)/\($0)/summary.json" }
      let out = folder / "out.json"
      let outcome = try Program.run("compare", paths[0], paths[1], paths[2], "--json", out)
      #expect(outcome.code == 0, "\(outcome.errors)")
      #expect(outcome.output.contains("\nHAD-Net − AD-Net, 3 test cases"), "\(outcome.output)")
      let object = try json(try text(out))
      let summary = try json(try text(paths[0]))["summary"] as? [String: [String: Any]]
      let metrics = try #require(summary?["WT"]).count
      #expect(metrics >= 4 && object["method"] as? String == "HAD-Net")
      #expect(object["family"] as? Int == 2 * 3 * metrics)
      let against = try #require(object["against"] as? [String: [String: [String: [String: Any]]]])
      #expect(against.keys.sorted() == ["AD-Net", "Student"])
      let dice = try #require(against["AD-Net"]?["ET"]?["dice"])
      #expect((dice["ci95"] as? [Double])?.count == 2 && dice["mean"] is Double)
      let twice = try Program.run("compare", paths[0], paths[1], paths[1])
      #expect(twice.code == 64 && twice.errors.contains("is given twice"), "\(twice.errors)")
    }
  }
}
