import Foundation
import Testing

@testable import Files
@testable import Imaging
@testable import TestSupport

@Suite struct DataSplitTests {
  let scratch = Scratch()

  func cases(_ high: Int, _ low: Int, _ none: Int = 0) -> [CaseFiles] {
    (0..<high).map { CaseFiles(id: "H\($0)", grade: .hgg, files: [:]) }
      + (0..<low).map { CaseFiles(id: "L\($0)", grade: .lgg, files: [:]) }
      + (0..<none).map { CaseFiles(id: "N\($0)", files: [:]) }
  }

  @Test func bratsIsSplitAsInThePaper() throws {
    let split = try Split.random(cases(259, 76), seed: 1)
    #expect(split.train.count == 200 && split.validation.count == 66 && split.test.count == 69)
    #expect(split.validation.count { $0.hasPrefix("L") } == 15)
    #expect(split.test.count { $0.hasPrefix("L") } == 16)
    #expect(split.train == split.train.sorted())
  }

  @Test func everyPartGetsACaseAndEveryCaseAPart() throws {
    for n in 3...40 {
      for low in [0, 1, n / 4, n / 2] {
        let all = cases(n - low, low), split = try Split.random(all, seed: UInt64(n))
        #expect(!split.train.isEmpty && !split.validation.isEmpty && !split.test.isEmpty)
        #expect((split.train + split.validation + split.test).sorted() == all.map(\.id).sorted())
      }
    }
    let plain = try Split.random(cases(0, 0, 10), seed: 4)
    #expect(plain.train.count == 6 && plain.validation.count == 2 && plain.test.count == 2)
    #expect(
      fault { _ = try Split.random(cases(2, 0), seed: 1) }
        == Fault(.invalid, "2 cases can't be split into training, validation, test; 3 are the least"))
  }

  @Test func dependsOnTheSeedAndNotOnTheOrderOfCases() throws {
    let all = cases(20, 10)
    #expect(try Split.random(all, seed: 1) == Split.random(all.reversed(), seed: 1))
    #expect(try Split.random(all, seed: 1) != Split.random(all, seed: 2))
  }

  @Test func whatIsWrittenIsReadBackAndTheBytesAreStable() throws {
    let split = try Split.random(cases(8, 4), seed: 1), path = scratch.file("split.json")
    try split.write(path)
    let bytes = FileManager.default.contents(atPath: path)
    #expect(try Split.read(path, ids: cases(8, 4).map(\.id)) == split)
    try split.write(path)
    #expect(FileManager.default.contents(atPath: path) == bytes)
  }

  /// The split of the published study (seed 1), from before patients had several cases.
  @Test func withOneCaseAPatientTheSplitIsWhatItWas() throws {
    let path = URL(fileURLWithPath: #filePath).appending(path: "../../../docs/phantom-study/split.json")
      .standardized.path
    let cases = (0..<440).map { i in
      CaseFiles(
        id: "BraTS19_PHANTOM_\(String(format: "%03d", i + 1))_1", grade: Phantom.isLowGrade(i) ? .lgg : .hgg,
        files: [:])
    }
    let published = try Split.read(path, ids: cases.map(\.id))
    #expect(try Split.random(cases, seed: 1, counts: (320, 60, 60)) == published)
    #expect(try Split.random(cases, seed: 1, ratio: (320, 60, 60)) == published)
  }

  /// Patients with 1 to 4 visits each.
  private func visits(_ patients: Int) -> [CaseFiles] {
    (0..<patients).flatMap { patient in
      (0...(patient * 7 % 4)).map { CaseFiles(id: "BraTS-GLI-\(20000 + patient)-00\($0)", files: [:]) }
    }
  }

  @Test func aPatientsCasesStayTogether() throws {
    for patients in 3...40 {
      let cases = visits(patients), split = try Split.random(cases, seed: UInt64(patients))
      let sets = [split.train, split.validation, split.test].map { Set($0.map { Patient.of(caseName: $0) }) }
      #expect(sets.allSatisfy { !$0.isEmpty } && sets.reduce(0) { $0 + $1.count } == patients)
      #expect((split.train + split.validation + split.test).sorted() == cases.map(\.id).sorted())
      #expect(split.leaks(patients: [:]).isEmpty)
    }
  }

  @Test func countsAreCounts() throws {
    let eight = cases(5, 3)
    let split = try Split.random(eight, seed: 1, counts: (6, 2, 0))
    #expect(split.train.count == 6 && split.validation.count == 2 && split.test.isEmpty)
    let few = try Split.random(eight, seed: 1, counts: (2, 1, 1))
    #expect(few.train.count == 2 && few.validation.count == 1 && few.test.count == 1)
    #expect(SplitTable(few, of: eight).leftOut == 4)
    #expect(SplitTable(few, of: eight).lines.last == "in no set: 4 cases")
    #expect(
      fault { _ = try Split.random(eight, seed: 1, counts: (6, 2, 1)) }
        == Fault(
          .recipe,
          "data.split asks for 6 training, 2 validation and 1 test cases, 9 in all, and there are 8; lower the counts, "
            + "or give proportions: {ratio: [6, 2, 1]}"))
    let one = (0..<3).map { CaseFiles(id: "BraTS-GLI-00001-00\($0)", files: [:]) }
    #expect(
      fault { _ = try Split.random(one, seed: 1, counts: (2, 1, 0)) }?.description
        == "data.split asks for 2 training, 1 validation and 0 test cases, and there is only 1 patient")
    #expect(
      fault { _ = try Split.random(one, seed: 1) }?.description
        == "1 patient can't be split into training, validation, test; 3 are the least")
  }

  @Test func anOvershootIsSaid() throws {
    let cases = (0..<4).flatMap { patient in
      (0..<2).map { CaseFiles(id: "BraTS-GLI-0000\(patient)-00\($0)", files: [:]) }
    }
    var said: [String] = []
    let split = try Split.random(cases, seed: 1, counts: (4, 3, 1)) { said.append($0) }
    #expect(split.train.count == 2 && split.validation.count == 4 && split.test.count == 2)
    #expect(
      said == [
        "the split has 2 training cases in place of 4: a patient's cases stay together",
        "the split has 4 validation cases in place of 3: a patient's cases stay together",
        "the split has 2 test cases in place of 1: a patient's cases stay together",
      ])
  }

  /// Proportions ask for numbers of cases too.
  @Test func anOvershootOfAShareIsSaid() throws {
    let cases = (0..<4).flatMap { patient in
      (0..<2).map { CaseFiles(id: "BraTS-GLI-0000\(patient)-00\($0)", files: [:]) }
    }
    var said: [String] = []
    _ = try Split.random(cases, seed: 1, ratio: (4, 3, 1)) { said.append($0) }
    #expect(
      said == [
        "the split has 2 training cases in place of 4: a patient's cases stay together",
        "the split has 4 validation cases in place of 3: a patient's cases stay together",
        "the split has 2 test cases in place of 1: a patient's cases stay together",
      ])
  }

  @Test func aShareThatIsRoundedOtherwiseIsSaid() throws {
    func said(_ count: Int, _ ratio: (Int, Int, Int)) throws -> [String] {
      var said: [String] = []
      _ = try Split.random(cases(0, 0, count), seed: 1, ratio: ratio) { said.append($0) }
      return said
    }
    #expect(try said(335, (200, 66, 69)) == [])
    // 59.7, 19.7 and 20.6 of 100 cases would be 101.
    #expect(
      try said(100, (200, 66, 69)) == [
        "the split has 59 training cases in place of 60: shares are rounded to whole cases"
      ])
    #expect(
      try said(10, (98, 1, 1)) == [
        "the split has 8 training cases in place of 10: shares are rounded to whole cases",
        "the split has 1 validation case in place of 0: shares are rounded to whole cases",
        "the split has 1 test case in place of 0: shares are rounded to whole cases",
      ])
    #expect(try said(10, (8, 2, 0)) == [])
  }

  @Test func aSplitThatPartsAPatientIsRefused() throws {
    let cases = ["BraTS-GLI-00002-000", "BraTS-GLI-00002-001", "sub-1_ses-a", "sub-1_ses-b", "sub-2_ses-a"]
      .map {
        CaseFiles(id: $0, files: [:])
      }
    let split = try Split(
      train: [cases[0].id, cases[2].id], validation: [cases[4].id], test: [cases[1].id, cases[3].id])
    #expect(
      fault { try split.refuseLeaks(of: cases, file: "s.json") }
        == Fault(
          .invalid,
          "s.json: patient BraTS-GLI-00002 is in two sets: BraTS-GLI-00002-000 in train, BraTS-GLI-00002-001 in test "
            + "(and 1 more patient);\nkeep a patient's cases in one set, or set data.allow_leak: true"))
    #expect(SplitTable(split, of: cases).leaks.count == 2)
    let whole = try Split(train: [cases[0].id, cases[1].id], validation: [cases[4].id], test: [])
    #expect(fault { try whole.refuseLeaks(of: cases, file: "s.json") } == nil)
  }

  @Test(arguments: [
    ("BraTS-GLI-00002-001", "BraTS-GLI-00002"), ("BraTS-SSA-00041-000", "BraTS-SSA-00041"),
    ("BraTS-GoAT-00001", "BraTS-GoAT-00001"), ("BraTS2021_00000", "BraTS2021_00000"),
    ("BraTS19_CBICA_AAB_1", "BraTS19_CBICA_AAB_1"), ("sub-01_ses-pre", "sub-01"), ("sub-x7_run-1", "sub-x7"),
    ("UPENN-GBM-00003_11", "UPENN-GBM-00003"), ("UCSF-PDGM-0004_FU003d", "UCSF-PDGM-0004"),
    ("UCSF-PDGM-0004", "UCSF-PDGM-0004"), ("P-1-000", "P-1-000"),
  ])
  func aPatientIsToldFromTheName(name: String, patient: String) {
    #expect(Patient.of(caseName: name) == patient)
  }

  @Test func gradesAreCounted() throws {
    let cases = cases(3, 2, 1)
    let split = try Split(train: ["H0", "H1", "L0"], validation: ["N0"], test: ["L1"])
    #expect(
      SplitTable(split, of: cases).lines == [
        "training: 3 cases of 3 patients, HGG 2, LGG 1", "validation: 1 case of 1 patient, no grades known",
        "test: 1 case of 1 patient, HGG 0, LGG 1", "in no set: 1 case",
      ])
  }

  @Test func readsNNUNetsFolds() throws {
    let text = #"[{"train": ["B", "A"], "val": ["C"]}, {"train": ["C"], "val": ["A"]}]"#
    let path = try scratch.put("splits_final.json", Array(text.utf8))
    let split = try Split.read(path, ids: ["A", "B", "C"])
    #expect(split.train == ["A", "B"] && split.validation == ["C"] && split.test.isEmpty)
  }

  @Test func wrongSplitsAreRefused() throws {
    func message(_ text: String) throws -> Fault? {
      let path = try scratch.put("s.json", Array(text.utf8))
      let found = fault { _ = try Split.read(path, ids: ["A", "B", "C"]) }
      return found.map {
        Fault($0.kind, $0.description.replacingOccurrences(of: "\(path): ", with: ""))
      }
    }
    #expect(
      try message(#"{"train": ["A"], "val": ["B"], "test": ["A"]}"#)
        == Fault(.invalid, "split: A is in both train and test"))
    #expect(
      try message(#"{"train": ["A", "A"], "val": ["B"]}"#) == Fault(.invalid, "split: A is twice in train"))
    #expect(
      try message(#"{"train": ["A", "Z"], "val": ["Q"]}"#)
        == Fault(
          .missing, "Z (and 1 more) is not in the data set; correct it there, or give the --data that has it")
    )
    #expect(try message(#"{"train": [], "val": ["A"]}"#) == Fault(.invalid, "no case to train on"))
    #expect(
      try message("[1, 2]")
        == Fault(
          .invalid, #"not a split: expected JSON {"train": […], "validation": […], "test": […]}"#))
  }
}
