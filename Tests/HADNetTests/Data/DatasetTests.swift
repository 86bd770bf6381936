import Foundation
import Testing

@testable import HADNet

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
      #expect(data.cases[0].convention == .brats2019)
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
    #expect(a.layout == .brats2021 && a.cases[0].grade == nil && a.cases[0].convention == .brats2019)
    try put("b/BraTS-GLI-00000-000", "BraTS-GLI-00000-000", ["-t2f", "-t1c", "-t1n", "-t2w", "-seg"])
    let b = try Dataset.find(scratch.file("b"), needsTruth: true)
    #expect(b.layout == .brats2023 && b.cases[0].convention == .brats2023)
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
