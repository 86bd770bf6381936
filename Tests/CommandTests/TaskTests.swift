import Foundation
import Imaging
import Testing

extension Commands {
  /// Data sets that are not BraTS's.
  @Suite struct TaskTests {
    /// Phantoms as nnU-Net keeps them: three channels in another order, ET as 3.
    private func nnunet(in folder: Scratch) throws -> String {
      let root = folder / "Dataset501_Phantom", data = try Fixture.data()
      for name in ["imagesTr", "labelsTr", "imagesTs"] {
        try FileManager.default.createDirectory(atPath: "\(root)/\(name)", withIntermediateDirectories: true)
      }
      let text = """
        {"channel_names": {"0": "T1", "1": "FLAIR", "2": "T1ce"}, "numTraining": 6, "file_ending": ".nii.gz",
         "labels": {"background": 0, "whole": [1, 2, 3], "core": [1, 3], "ring": 3}}
        """
      try Data(text.utf8).write(to: URL(fileURLWithPath: "\(root)/dataset.json"))
      for number in 1...7 {
        for (channel, name) in ["t1", "flair", "t1ce"].enumerated() where number < 7 || channel < 2 {
          try FileManager.default.copyItem(
            atPath: Fixture.file(data, number, name),
            toPath: "\(root)/\(number < 7 ? "imagesTr" : "imagesTs")/p_\(number)_000\(channel).nii.gz")
        }
        if number < 7 {
          let image = try NIfTIImage.read(Fixture.file(data, number, "seg"))
          try NIfTIImage.write(
            image.voxels.map { UInt8($0 == 4 ? 3 : $0) }, dimensions: image.header.dimensions,
            affine: image.header.affine, to: "\(root)/labelsTr/p_\(number).nii.gz")
        }
      }
      return root
    }

    @Test func anNNUNetFolderIsInspectedTrainedOnAndSegmented() throws {
      let folder = try Scratch(), root = try nnunet(in: folder), run = folder / "run"
      let inspected = try Program.run("inspect", root, "--quiet")
      #expect(inspected.code == 0, "\(inspected.errors)")
      #expect(inspected.output.contains("sequences      t1, flair, t1ce; missing: not said"))
      let recipe = folder / "own.yaml"
      let text = """
        batch: 2
        data: {split: {train: 4, validation: 1, test: 1}}
        network: {k: 2}
        teacher: {epochs: 1}
        student: {epochs: 1}
        uncertainty: {samples: 0}
        """
      try Data(text.utf8).write(to: URL(fileURLWithPath: recipe))
      let study = ["study", recipe, "--data", root, "--run", run, "--threads", "1", "--quiet"]
      let more = ["--stages", "teacher,student"]
      expectFault(
        try Program.start(study + more).outcome(), 78,
        ["does not say which channels will be missing", "task: {missing: [t1ce]}"])
      let said = ["--set", "task={missing: [t1ce]}"]
      let outcome = try Program.start(study + more + said, ranks: 2).outcome()
      #expect(outcome.code == 0, "\(outcome.errors)")
      let table = try String(contentsOfFile: "\(run)/evaluation/table1.csv", encoding: .utf8)
      for region in ["whole", "core", "ring"] { #expect(table.contains(region)) }
      let predicted = try Program.run(
        "predict", "--model", "\(run)/student", "--data", root, "--out", folder / "out", "--threads", "1",
        "--quiet")
      #expect(predicted.code == 0 && exists(folder / "out/p_7.nii.gz"), "\(predicted.errors)")
    }
  }
}
