import Foundation
import Testing

@testable import Files
@testable import Imaging
@testable import TestSupport

@Suite struct DataDatasetTests {
  let scratch = Scratch()

  func put(_ folder: String, _ id: String, _ suffixes: [String], _ ending: String = ".nii.gz") throws {
    for suffix in suffixes { try scratch.put("\(folder)/\(id)\(suffix)\(ending)") }
  }

  static let all = ["_flair", "_t1ce", "_t1", "_t2", "_seg"]

  @Test func findsTheLevelsOf2019InsideAWrapper() throws {
    try put("W/LGG/BraTS19_B_1", "BraTS19_B_1", Self.all)
    try put("W/HGG/BraTS19_C_1", "BraTS19_C_1", Self.all, ".nii")
    try put("W/HGG/BraTS19_A_1", "BraTS19_A_1", Self.all)
    try scratch.put("W/HGG/BraTS19_A_1/._BraTS19_A_1_t1.nii.gz")
    for root in [scratch.path, scratch.file("W"), scratch.path + "/"] {
      let data = try Dataset.find(root, needsTruth: true)
      #expect(data.cases.map(\.id) == ["BraTS19_A_1", "BraTS19_B_1", "BraTS19_C_1"])
      #expect(data.cases.map(\.grade) == [.hgg, .lgg, .hgg])
      #expect(data.layout == .brats2019)
      #expect(data.cases[0].values == .upTo2021)
      #expect(data.cases[2].files[.t1ce]?.hasSuffix("W/HGG/BraTS19_C_1/BraTS19_C_1_t1ce.nii") == true)
    }
    let one = try Dataset.find(scratch.file("W/LGG/BraTS19_B_1"))
    #expect(one.cases.map(\.id) == ["BraTS19_B_1"])
    #expect(one.cases[0].grade == .lgg)
  }

  @Test func takesGradesOf2020FromTheTableAndTheOddTruth() throws {
    try put("BraTS20_Training_001", "BraTS20_Training_001", Self.all, ".nii")
    try put("BraTS20_Training_355", "BraTS20_Training_355", Array(Self.all.dropLast()), ".nii")
    try scratch.put("BraTS20_Training_355/W39_1998.09.19_Segm.nii")
    let table = """
      Grade,BraTS_2017_subject_ID,BraTS_2020_subject_ID\r
      HGG,Brats17_CBICA_AAB_1,BraTS20_Training_001\r
      LGG,NA,BraTS20_Training_355\r
      """
    try scratch.put("name_mapping.csv", Array(table.utf8))
    let data = try Dataset.find(scratch.path, needsTruth: true)
    #expect(data.layout == .brats2020)
    #expect(data.cases.map(\.grade) == [.hgg, .lgg])
    #expect(data.cases[1].segmentation?.hasSuffix("Segm.nii") == true)
  }

  @Test func knowsTheNamesOf2021And2023AndFlatFolders() throws {
    try put("a/BraTS2021_00000", "BraTS2021_00000", Self.all)
    let a = try Dataset.find(scratch.file("a"))
    #expect(a.layout == .brats2021 && a.cases[0].grade == nil && a.cases[0].values == .upTo2021)
    try put("b/BraTS-GLI-00000-000", "BraTS-GLI-00000-000", ["-t2f", "-t1c", "-t1n", "-t2w", "-seg"])
    let b = try Dataset.find(scratch.file("b"), needsTruth: true)
    #expect(b.layout == .brats2023 && b.cases[0].values == .from2023)
    #expect(b.cases[0].files[.t1ce]?.hasSuffix("-t1c.nii.gz") == true)
    #expect(b.cases[0].files[.flair]?.hasSuffix("-t2f.nii.gz") == true)
    try put("c", "X", Self.all)
    try put("c", "Y", Self.all)
    #expect(try Dataset.find(scratch.file("c")).cases.map(\.id) == ["X", "Y"])
  }

  @Test func aStudentNeedsNoT1ce() throws {
    try put("P1", "P1", ["_flair", "_t1", "_t2"])
    let data = try Dataset.find(scratch.path, needs: Set(Modality.student))
    #expect(data.cases[0].files.count == 3)
    #expect(
      fault { _ = try Dataset.find(scratch.path) }
        == Fault(
          .missing, "P1: t1ce is missing: no P1_t1ce.nii.gz in \(scratch.file("P1"))"))
  }

  @Test func problemsAreCountedAndListed() throws {
    try put("P1", "P1", ["_flair", "_t1", "_t2", "_t1ce"])
    try put("P2", "P2", Self.all)
    try scratch.put("P2/P2_t1.nii")
    try put("P3", "P3", Self.all)
    let data = try Dataset.inspect(scratch.path, needsTruth: true)
    #expect(data.cases.map(\.id) == ["P3"])
    #expect(
      data.problems == [
        Fault(.missing, "P1: the truth is missing: no P1_seg.nii.gz in \(scratch.file("P1"))"),
        Fault(
          .invalid,
          "P2: two files for t1: \(scratch.file("P2/P2_t1.nii")) and \(scratch.file("P2/P2_t1.nii.gz"))"),
      ])
    #expect(
      fault { _ = try Dataset.find(scratch.path, needsTruth: true) }?.description
        == data.problems[0].description + "\n1 more problem; `hadnet-dist inspect \(scratch.path)` lists all")
  }

  @Test func twoCasesOfOneNameAreRefused() throws {
    try put("HGG/A", "A", Self.all)
    try put("LGG/A", "A", Self.all)
    #expect(
      fault { _ = try Dataset.find(scratch.path) }
        == Fault(
          .invalid, "A: two cases of that name, in \(scratch.file("HGG/A")) and \(scratch.file("LGG/A"))"))
  }

  @Test func endingsAndSuffixesMayBeInCapitals() throws {
    try put("A", "A", ["_FLAIR", "_T1CE", "_T1", "_T2", "_SEG"], ".NII.GZ")
    try put("B", "B", Self.all, ".Nii")
    let data = try Dataset.find(scratch.path, needsTruth: true)
    #expect(data.cases.map(\.id) == ["A", "B"])
    #expect(data.cases[0].files[.t1ce]?.hasSuffix("A/A_T1CE.NII.GZ") == true)
    #expect(brats.values(caseName: "brats-gli-00000-000") == .from2023)
  }

  @Test func whatMacOSLeavesIsNeverLookedAt() throws {
    try put("A", "A", Self.all)
    try put("__MACOSX/A", "A", Self.all)
    try put("__MACOSX/A", "._A", Self.all)
    try put(".hidden/B", "B", Self.all)
    try put("A", "._A", Self.all)
    let data = try Dataset.inspect(scratch.path, needsTruth: true)
    #expect(data.cases.map(\.id) == ["A"] && data.problems.isEmpty && data.notes.isEmpty)
  }

  @Test func aRealFolderIsLookedIntoOnce() throws {
    try put("HGG/A", "A", Self.all)
    let make = FileManager.default.createSymbolicLink(atPath:withDestinationPath:)
    try make(scratch.file("self"), ".")
    try make(scratch.file("HGG/up"), "..")
    // Before the folder itself in the alphabet.
    try make(scratch.file("AAA"), "HGG")
    let data = try Dataset.inspect(scratch.path, needsTruth: true)
    #expect(data.cases.map(\.id) == ["A"] && data.problems.isEmpty)
    #expect(data.cases[0].grade == .hgg)
    // A data set that is made of links alone.
    let linked = Scratch()
    try make(linked.file("A"), scratch.file("HGG/A"))
    #expect(try Dataset.find(linked.path).cases.map(\.id) == ["A"])
  }

  @Test func aSegmentationWithoutACaseIsANote() throws {
    try put("A", "A", Self.all)
    try scratch.put("stray_seg.nii.gz")
    let data = try Dataset.inspect(scratch.path, needsTruth: true)
    #expect(data.cases.map(\.id) == ["A"] && data.problems.isEmpty)
    #expect(data.notes == ["1 segmentation without a case: \(scratch.file("stray_seg.nii.gz"))"])
    // In a folder of its own it is a case that lacks its images.
    try put("B", "B", ["_seg"])
    #expect(try Dataset.inspect(scratch.path).problems.count == 4)
    // Where there is nothing else, segmentations are the cases: the truth of an evaluation.
    let truths = Scratch()
    for id in ["X", "Y"] { try truths.put("\(id)_seg.nii.gz") }
    #expect(try Dataset.inspect(truths.path, needs: [], needsTruth: true).cases.map(\.id) == ["X", "Y"])
  }

  @Test func imagesThatNoRuleTakesAreCounted() throws {
    try put("A", "A", Self.all + ["_adc", "_dwi"])
    #expect(
      try Dataset.inspect(scratch.path).notes == [
        "2 images of no sequence that is known: \(scratch.file("A/A_adc.nii.gz")), \(scratch.file("A/A_dwi.nii.gz"))"
      ])
  }

  @Test(arguments: [("PED", "3 cyst"), ("MET", "metastases"), ("XYZ", "not known")])
  func namesOfOtherDiseasesAreNotReadBesideGliomas(name: String, why: String) throws {
    let suffixes = ["-t2f", "-t1c", "-t1n", "-t2w", "-seg"]
    for id in ["BraTS-\(name)-00001-000", "BraTS-\(name)-00002-000", "BraTS-GLI-00001-000"] {
      try put(id, id, suffixes)
    }
    let data = try Dataset.inspect(scratch.path, needsTruth: true)
    #expect(data.cases.map(\.id) == ["BraTS-GLI-00001-000"])
    #expect(data.problems.count == 1 && data.problems[0].kind == .invalid)
    let words = data.problems[0].description
    #expect(
      words.hasPrefix(
        "BraTS-\(name)-00001-000 (and 1 more): BraTS-\(name) is not read with the other cases: "))
    #expect(words.contains(why) && words.split(separator: "\n").count == 2)
    // Segmentations alone are read; whoever scores them says what their labels mean.
    #expect(try Dataset.inspect(scratch.path, needs: [], needsTruth: true).cases.count == 3)
  }

  @Test(arguments: [
    "BraTS-GLI-00001-000", "BraTS-SSA-00001-000", "BraTS-GoAT-00001", "BraTS2021_00001", "P1",
  ])
  func namesOfGliomaAreNot(name: String) {
    #expect(BraTSNames.foreign([name, "BraTS19_X_1"], TaskPreset.brats.task).isEmpty)
  }

  @Test func patientsAreToldFromFoldersToo() throws {
    for visit in ["ses-1", "ses-2"] { try put("sub-7/\(visit)", "scan\(visit.last ?? "0")", Self.all) }
    #expect(try Dataset.find(scratch.path).cases.map(\.patient) == ["sub-7", "sub-7"])
  }

  @Test func absentAndEmptyFoldersAreMissing() throws {
    let none = scratch.file("none")
    #expect(fault { _ = try Dataset.find(none) } == Fault(.missing, "\(none): no such folder"))
    #expect(fault { _ = try Dataset.find(scratch.path) }?.kind == .missing)
    try FileManager.default.createDirectory(
      atPath: scratch.file("HGG/BraTS19_A_1"), withIntermediateDirectories: true)
    #expect(
      fault { _ = try Dataset.find(scratch.path) }
        == Fault(.missing, "BraTS19_A_1: no sequences in \(scratch.file("HGG/BraTS19_A_1"))"))
  }
}
