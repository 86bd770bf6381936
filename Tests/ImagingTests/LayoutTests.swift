import Files
import Foundation
import Testing

@testable import Imaging
@testable import TestSupport

@Suite struct LayoutTests {
  let scratch = Scratch()

  private func put(_ path: String, _ text: String = "") throws { try scratch.put(path, Array(text.utf8)) }

  private func words(_ body: () throws -> Void) -> String {
    do {
      try body()
      return ""
    } catch { return "\(error)" }
  }

  // MARK: nnU-Net

  /// Two cases with the channels ADC, T1Gd and FLAIR, and a test case.
  private func nnunet(_ labels: String, ending: String = ".nii.gz", more: String = "") throws {
    try put(
      "set/dataset.json",
      """
      {"channel_names": {"2": "FLAIR", "0": "ADC", "1": "T1Gd"}, "labels": \(labels), "numTraining": 3,
       "file_ending": "\(ending)"\(more)}
      """)
    for id in ["b_1", "a_2"] {
      for channel in 0..<3 { try put("set/imagesTr/\(id)_000\(channel)\(ending)") }
      try put("set/labelsTr/\(id)\(ending)")
    }
    for channel in [0, 2] { try put("set/imagesTs/c_000\(channel)\(ending)") }
  }

  @Test func channelsAndLabelsOfNNUNetAreTheTask() throws {
    try nnunet(#"{"background": 0, "lesion": 2, "gland": 1, "ignore": 3}"#, ending: ".nii")
    let root = scratch.file("set"), choice = try TaskChoice(root, said: nil)
    let question = try #require(choice.question?.description)
    #expect(question.contains("they are ADC, T1Gd (t1ce), FLAIR (flair):"))
    #expect(question.hasSuffix("task: {missing: [t1ce]}"))
    var more = TaskAdditions()
    more.missing = [Modality(rawValue: "t1ce"), .flair]
    let said = try TaskChoice(root, said: .additions(more)), task = said.task
    #expect(said.question == nil)
    #expect(
      task.sequences.map(\.rawValue) == ["ADC", "t1ce", "flair"] && task.present.map(\.rawValue) == ["ADC"])
    #expect(task.classes == [.init("gland", 1), .init("lesion", 2)] && task.readAs == [3: .ignored])
    #expect(task.regions.map(\.name) == ["lesion", "gland"])
    let data = try Dataset.find(root, task, needsTruth: true)
    #expect(data.layout == .nnunet && data.cases.map(\.id) == ["a_2", "b_1"])
    #expect(data.cases[0].files[.t1ce] == "\(root)/imagesTr/a_2_0001.nii")
    #expect(data.cases[0].segmentation == "\(root)/labelsTr/a_2.nii")
    #expect(data.notes == ["numTraining of dataset.json is 3, and 2 cases are there"])
    // For use: the test case, whose absent channel is not needed.
    for folder in [root, "\(root)/imagesTs"] {
      let use = try Dataset.inspect(folder, task, needs: [Modality(rawValue: "ADC")])
      #expect(use.cases.map(\.id) == ["c"] && use.problems.isEmpty, "\(folder)")
      #expect(use.cases[0].files.keys.map(\.rawValue).sorted() == ["ADC", "flair"])
    }
    let truths = try Dataset.inspect("\(root)/labelsTr", task, needs: [], needsTruth: true)
    #expect(truths.cases.map(\.id) == ["a_2", "b_1"])
  }

  /// An object of the same name elsewhere does not give the order.
  @Test func otherLabelsDoNotGiveTheOrder() throws {
    try nnunet(
      #"{"background": 0, "z": [1, 2], "a": 2}"#, more: #", "more": {"labels": {"a": "x"}}"#)
    let path = scratch.file("set/dataset.json"), text = try String(contentsOfFile: path, encoding: .utf8)
    try Data(
      text.replacing("{\"channel_names\"", with: "{\"first\": {\"labels\": {\"a\": 1}}, \"channel_names\"")
        .utf8
    )
    .write(to: URL(fileURLWithPath: path))
    #expect(try TaskChoice(scratch.file("set"), said: nil).task.regions.map(\.name) == ["z", "a"])
  }

  /// Regions keep the file's order, which a dictionary loses; a class is called as the region that is just its value.
  @Test func regionsOfNNUNetKeepTheirOrder() throws {
    let labels = #"{"background": 0, "whole": [1, 2, 3], "core, {all}": [2, 3], "enhancing": 3}"#
    try nnunet(labels, more: #", "regions_class_order": [1, 2, 3]"#)
    let task = try TaskChoice(scratch.file("set"), said: nil).task
    #expect(task.regions.map(\.name) == ["whole", "core all", "enhancing"])
    #expect(task.classes.map(\.name) == ["label 1", "label 2", "enhancing"])
    #expect(task.regions[1].classes == [2, 3])
  }

  @Test func versionOneOfNNUNetIsReadAndTheDecathlonRefused() throws {
    try put(
      "old/dataset.json",
      """
      {"modality": {"0": "T2", "1": "ADC"}, "labels": {"0": "background", "1": "PZ", "2": "TZ"}, "numTraining": 1,
       "tensorImageSize": "4D", "training": [{"image": "./imagesTr/p_00.nii.gz", "label": "./labelsTr/p_00.nii.gz"}]}
      """)
    for name in ["imagesTr/p_00_0000", "imagesTr/p_00_0001", "labelsTr/p_00"] {
      try put("old/\(name).nii.gz")
    }
    var more = TaskAdditions()
    more.missing = [Modality(rawValue: "ADC")]
    let task = try TaskChoice(scratch.file("old"), said: .additions(more)).task
    #expect(task.classes == [.init("PZ", 1), .init("TZ", 2)])
    #expect(try Dataset.find(scratch.file("old"), task, needsTruth: true).cases.map(\.id) == ["p_00"])
    try put("old/imagesTr/p_00.nii.gz")
    #expect(
      words { _ = try TaskChoice(scratch.file("old"), said: nil) }.contains(
        "nnUNetv2_convert_MSD_dataset -i "))
  }

  @Test func pathsOfNNUNetAreFollowed() throws {
    try put(
      "set/dataset.json",
      """
      {"channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0, "a": 1}, "numTraining": 1, "file_ending": ".nii",
       "dataset": {"x": {"images": ["s/1.nii", "\(scratch.file("set"))/s/2.nii"], "label": "s/t.nii"}}}
      """)
    for name in ["1", "2", "t"] { try put("set/s/\(name).nii") }
    var more = TaskAdditions()
    more.missing = [.t2]
    let root = scratch.file("set"), task = try TaskChoice(root, said: .additions(more)).task
    let one = try #require(try Dataset.find(root, task, needsTruth: true).cases.first)
    #expect(
      one.files == [.t1: "\(root)/s/1.nii", .t2: "\(root)/s/2.nii"] && one.segmentation == "\(root)/s/t.nii")
  }

  @Test(arguments: [
    (#"{"background": 0, "a": 1, "b": 3}"#, "labels must have the values 1, 2, 3"),
    (#"{"a": 1}"#, "labels must give background the value 0"),
    (#"{"background": 0, "a": 1, "ignore": 1}"#, "labels must have the values 1, 2, 3"),
  ]) func labelsThatCannotBeAreTold(labels: String, said: String) throws {
    try nnunet(labels)
    #expect(words { _ = try TaskChoice(scratch.file("set"), said: nil) }.contains(said))
  }

  /// nnU-Net's copy of BraTS has 1 for oedema and 2 for the core.
  @Test func aPresetDoesNotReadAnNNUNetFolder() throws {
    try nnunet(#"{"background": 0, "edema": 1, "necrosis": 2, "enhancing": 3}"#)
    let said = words { _ = try TaskChoice(scratch.file("set"), said: .whole(TaskPreset.brats2024.task)) }
    #expect(
      said.contains(
        "in place of the preset brats2024 say only what will be missing, such as task: {missing: [t1ce]}"))
  }

  // MARK: BraTS's families

  private static let families: [(names: [String], four: Bool, preset: String?)] = [
    (["BraTS19_A_1"], false, "brats"), (["BraTS-GLI-00001-000", "BraTS-GLI-00002-001"], false, "brats"),
    (["BraTS-GLI-00001-000"], true, "brats2024"),
    (["BraTS-GLI-00001-000", "BraTS-GLI-00002-101"], false, "brats2024"),
    (["BraTS-SSA-00001-000"], false, "brats-ssa"), (["BraTS-MET-00001-000"], false, "brats-met"),
    (["BraTS-MEN-00001-000"], false, "brats"), (["BraTS-GoAT-00001"], false, "brats"),
    (["BraTS-PED-00001-000"], true, "brats-ped"), (["BraTS-PED-00001-000"], false, nil),
    (["BraTS-XYZ-00001-000"], true, nil), (["UCSF-PDGM-0004"], true, "brats"),
  ]

  @Test(arguments: families)
  func namesAndLabelsTellTheTask(names: [String], four: Bool, preset: String?) throws {
    for name in names { for word in ["t1n", "seg"] { try put("\(name)/\(name)-\(word).nii.gz") } }
    var read: [String] = []
    do {
      let choice = try TaskChoice(scratch.path, said: nil) { value, truths in
        read += truths
        return value == 4 && four
      }
      #expect(choice.task.preset?.rawValue == preset && choice.task == choice.task.preset?.task)
    } catch let fault as Fault {
      #expect(
        preset == nil && fault.kind == .recipe && fault.description.contains("--task to a command"),
        "\(fault)")
    }
    #expect(read.isEmpty || read.count == names.count)
  }

  // MARK: Other names

  @Test func otherNamesAreReadAndTheirLabelsAskedFor() throws {
    for word in ["t1c", "t1n", "t2f", "t2w", "seg"] { try put("bare/patient 1/\(word).nii.gz") }
    for word in ["fla", "t1", "t1c", "t2"] { try put("kit/A/A_\(word).nii.gz") }
    for (folder, id) in [("bare", "patient 1"), ("kit", "A")] {
      let root = scratch.file(folder), said = words { _ = try TaskChoice(root, said: nil) }
      #expect(said.contains("nothing says what the labels of these cases are (\(id) for one)"), "\(said)")
      let data = try Dataset.find(root, TaskPreset.brats.task)
      #expect(data.layout == .bare && data.cases.map(\.id) == [id] && data.cases[0].files.count == 4)
    }
  }

  @Test func kagglesFoldersSayWhatTheirFilesAre() throws {
    for word in ["flair", "t1ce", "t1", "t2", "seg"] {
      try put(
        "BraTS2021_00193/BraTS2021_00193_\(word).nii/00000250_brain_\(word == "seg" ? "final_seg" : word).nii"
      )
    }
    let data = try Dataset.find(scratch.path, TaskPreset.brats.task, needsTruth: true)
    #expect(data.layout == .brats2021 && data.cases.map(\.id) == ["BraTS2021_00193"])
  }

  /// A mask of the brain has a value that a class has: it must never be taken for a truth.
  @Test func aMaskOfTheBrainIsNoTruth() throws {
    for word in ["T1", "T1c", "T2", "FLAIR", "brain_segmentation", "brain_parenchyma_segmentation"] {
      try put("ucsf/UCSF-PDGM-0004_nifti/UCSF-PDGM-0004_\(word).nii.gz")
      try put("bare/P/P_\(word).nii.gz")
    }
    for folder in ["ucsf", "bare"] {
      let data = try Dataset.inspect(scratch.file(folder), TaskPreset.brats.task, needsTruth: true)
      #expect(data.cases.isEmpty && data.incomplete.map(\.segmentation) == [nil], "\(folder)")
      #expect(data.problems.map(\.kind) == [.missing])
    }
  }

  @Test func foldersAndFormatsThatAreNotReadAreTold() throws {
    try put("bids/dataset_description.json", "{}")
    try put("bids/sub-1/anat/sub-1_ce-gadolinium_T1w.nii.gz")
    #expect(words { _ = try TaskChoice(scratch.file("bids"), said: nil) }.contains("a BIDS folder"))
    #expect(
      words { _ = try Dataset.find(scratch.file("bids"), TaskPreset.brats.task) }.contains("--data cases.csv")
    )
    for name in ["a.mha", "b.NRRD"] { try put("other/x/\(name)") }
    #expect(
      words { _ = try TaskChoice(scratch.file("other"), said: nil) }.contains(
        "no cases found: 2 images in a format that is not read, \(scratch.file("other/x/a.mha")) for one: convert to NIfTI"
      ))
  }

  @Test func hospitalsSetsAreRead() throws {
    for word in ["T1", "T1c", "T2", "FLAIR", "tumor_segmentation", "T1_bias", "brain_segmentation"] {
      try put("ucsf/UCSF-PDGM-0004_FU003d_nifti/UCSF-PDGM-0004_FU003d_\(word).nii.gz")
    }
    let ucsf = try Dataset.find(scratch.file("ucsf"), TaskPreset.brats.task, needsTruth: true)
    #expect(ucsf.layout == .ucsf && ucsf.cases.map(\.patient) == ["UCSF-PDGM-0004"])
    #expect(ucsf.notes.count == 1 && ucsf.notes[0].hasPrefix("2 images of no sequence that is known"))
    for id in ["UPENN-GBM-00001_11", "UPENN-GBM-00001_21", "UPENN-GBM-00002_11"] {
      for word in ["T1", "T1GD", "T2", "FLAIR"] {
        try put("upenn/images_structural/\(id)/\(id)_\(word).nii.gz")
      }
    }
    try put("upenn/images_segm/UPENN-GBM-00001_11_segm.nii.gz")
    try put("upenn/automated_segm/UPENN-GBM-00002_11_automated_approx_segm.nii.gz")
    let upenn = try Dataset.inspect(scratch.file("upenn"), TaskPreset.brats.task, needsTruth: true)
    #expect(upenn.layout == .upenn && upenn.cases.map(\.id) == ["UPENN-GBM-00001_11"])
    #expect(upenn.problems.map(\.kind) == [.missing] && upenn.incomplete.map(\.id) == ["UPENN-GBM-00002_11"])
  }

  // MARK: Lists

  @Test func aListGivesPathsPatientsAndSets() throws {
    for name in ["a", "b, c", "s"] { try put("blobs/\(name).nii.gz") }
    try put(
      "list.csv",
      "id,patient,set,T2-FLAIR,t1,t1gd,t2,seg\r\n\"case, 1\",P1,train,blobs/a.nii.gz,\"blobs/b, c.nii.gz\",,blobs/a.nii.gz,blobs/s.nii.gz\r\n"
        + "two,,test,blobs/a.nii.gz,blobs/a.nii.gz,blobs/none.nii.gz,blobs/a.nii.gz,\r\n")
    let path = scratch.file("list.csv"), task = TaskPreset.brats.task
    let data = try Dataset.inspect(path, task, needs: Set(task.present))
    #expect(data.layout == .list && data.cases.map(\.id) == ["case, 1"] && data.cases[0].patient == "P1")
    #expect(
      data.cases[0].files[.t1] == scratch.file("blobs/b, c.nii.gz") && data.cases[0].files[.t1ce] == nil)
    #expect(data.sets == ["case, 1": "train", "two": "test"])
    #expect(
      data.problems.map(\.description) == [
        "\(path):3: two: t1ce is not there: \(scratch.file("blobs/none.nii.gz"))"
      ])
    #expect(words { _ = try TaskChoice(path, said: nil) }.contains("nothing says what the labels"))
    try put(
      "monai.json",
      #"{"training": [{"image": ["blobs/a.nii.gz", "blobs/s.nii.gz"], "label": "blobs/s.nii.gz", "fold": 0}]}"#
    )
    let monai = try Dataset.inspect(scratch.file("monai.json"), task, needs: [.flair])
    #expect(
      monai.cases[0].files == [.flair: scratch.file("blobs/a.nii.gz"), .t1ce: scratch.file("blobs/s.nii.gz")])
    #expect(monai.cases[0].id == "blobs" && monai.sets == ["blobs": "0"])
    // Of one folder: the files' names.
    try put(
      "flat.json",
      #"{"training": [{"image": ["blobs/a.nii.gz"]}, {"image": ["blobs/s_0000.nii.gz"]}]}"#)
    try put("blobs/s_0000.nii.gz")
    let flat = try Dataset.inspect(scratch.file("flat.json"), task, needs: [.flair])
    #expect(flat.cases.map(\.id) == ["a", "s"])
  }

  @Test(arguments: [
    ("flair\nx\n", "list.csv:1: no column id"),
    ("id,colour\nx,y\n", "list.csv:1: the column colour is none of id, patient"),
    ("id,t1\nx,\nx,\n", "list.csv:3: the id x stands in "),
    ("id,t1\nx\n", "list.csv:2: 1 field, and the first line names 2"),
    ("id,t1,t1\nx,,\n", "list.csv:1: the column t1 is there twice"),
    ("id,t1ce,t1gd\nx,,\n", "list.csv:1: the columns t1ce and t1gd are both t1ce"),
    ("id,t1\n\nx,\"a\n", "list.csv:3: a field in quotes that do not end"),
    ("id,t1\n../x,\n", "list.csv:2: the id ../x is no name of a file"),
  ]) func mistakesInAListAreToldWithTheirLine(text: String, said: String) throws {
    try put("list.csv", text)
    #expect(
      words { _ = try Dataset.inspect(scratch.file("list.csv"), TaskPreset.brats.task, needs: []) }.contains(
        said))
  }
}
