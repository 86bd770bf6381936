import Foundation
import Testing

@testable import Compute
@testable import Files
@testable import Imaging
@testable import TestSupport

@Suite struct SplitFoldsTests {
  let scratch = Scratch()

  private func cases(_ high: Int, _ low: Int) -> [CaseFiles] {
    (0..<high).map { CaseFiles(id: "H\($0)", grade: .hgg, files: [:]) }
      + (0..<low).map { CaseFiles(id: "L\($0)", grade: .lgg, files: [:]) }
  }

  /// Seven patients of high grade and three of low, one grade after the other: the numbers 0 to 9 over three folds.
  @Test func patientNumberIGoesToFoldIModK() throws {
    let all = cases(7, 3)
    var high = Philox(seed: 5, .split, 0), low = Philox(seed: 5, .split, 1)
    let h = high.permutation(7).map { "H\($0)" }, l = low.permutation(3).map { "L\($0)" }
    let parts = [[h[0], h[3], h[6], l[2]], [h[1], h[4], l[0]], [h[2], h[5], l[1]]]
    for fold in 0..<3 {
      let split = try Split.fold(fold, of: 3, all.reversed(), seed: 5)
      #expect(split.test == parts[fold].sorted())
      #expect(split.validation == parts[(fold + 1) % 3].sorted())
      #expect(split.train == parts[(fold + 2) % 3].sorted())
    }
    #expect(
      fault { _ = try Split.fold(0, of: 11, all, seed: 5) }
        == Fault(
          .recipe, "data.split asks for 11 folds, and there are only 10 patients; a fold has one at least"))
  }

  @Test func aPatientStaysInOneFold() throws {
    let all = (0..<9).flatMap { patient in
      (0...patient % 2).map { CaseFiles(id: "BraTS-GLI-0000\(patient)-00\($0)", files: [:]) }
    }
    let folds = try (0..<4).map { try Split.fold($0, of: 4, all, seed: 2) }
    #expect(folds.flatMap(\.test).sorted() == all.map(\.id).sorted())
    for split in folds {
      #expect(SplitTable(split, of: all).leaks.isEmpty && !split.train.isEmpty)
      #expect(SplitTable(split, of: all).leftOut == 0)
    }
  }

  @Test func aFoldOfNNUNetsFile() throws {
    let text = #"[{"train": ["B", "A"], "val": ["C"]}, {"train": ["C", "B"], "val": ["A"]}]"#
    let path = try scratch.put("splits_final.json", Array(text.utf8)), ids = ["A", "B", "C"]
    let split = try Split.read(path, fold: 1, ids: ids)
    #expect(split.train == ["B", "C"] && split.validation == ["A"] && split.test.isEmpty)
    #expect(
      fault { _ = try Split.read(path, fold: 2, ids: ids) }
        == Fault(.recipe, "data.split.fold is 2, and \(path) has 2 folds, counted from 0"))
    let sets = try scratch.put("sets.json", Array(#"{"train": ["A"], "val": ["B"]}"#.utf8))
    #expect(
      fault { _ = try Split.read(sets, fold: 0, ids: ids) }
        == Fault(.recipe, "data.split.fold is 0, and \(sets) has no folds: leave it out"))
  }

  @Test func aTableOfSetsOrFolds() throws {
    func read(_ text: String, fold: Int? = nil) throws -> Split {
      try Split.read(scratch.put("s.csv", Array(text.utf8)), fold: fold, ids: ["A", "B", "C", "D"])
    }
    let sets = try read("id,age,set\r\n\"A\",3,train\r\nB,4,Training\r\nC,5,val\r\n\r\nD,6,test\r\n")
    #expect(sets.train == ["A", "B"] && sets.validation == ["C"] && sets.test == ["D"])
    let second = try read("set,id\n0,A\n2,B\n1,C\n2,D\n", fold: 1)
    #expect(second.test == ["C"] && second.validation == ["B", "D"] && second.train == ["A"])
    let last = try read("set,id\n0,A\n2,B\n1,C\n2,D\n", fold: 2)
    #expect(last.test == ["B", "D"] && last.validation == ["A"] && last.train == ["C"])
  }

  @Test(arguments: [
    ("id;set\nA;train", Fault.Kind.invalid, ": not a split: its first line has no columns id and set"),
    ("id,set\nA,train\nA,test", .invalid, ":3: A stands in line 2 already"),
    (
      "id,set\nA,trian", .invalid,
      ":2: set is trian; train, validation, test or a fold's number from 0 are possible"
    ),
    ("id,set\nA,train\nB,1", .invalid, ":3: set is 1: give all cases folds, or none"),
    ("id,set\nA,0\nB,2\nC,3", .invalid, ": no case is in fold 1, and folds count from 0 to 3"),
    ("id,set\nA,0\nB,1", .recipe, ": 2 folds; 3 are the least: one tests, one validates, others train"),
    ("id,set\nA", .invalid, ":2: expected 2 fields, as in the first line"),
    ("id,set\nA,test\nB,val", .invalid, ": no case to train on"),
    (
      "id,set\nA,train\nY,val\nX,train", .missing,
      ":3: Y (and 1 more) is not in the data set; correct it there, or give the --data that has it"
    ),
  ])
  func aWrongTableIsRefused(text: String, kind: Fault.Kind, words: String) throws {
    let path = try scratch.put("s.csv", Array(text.utf8))
    let found = fault { _ = try Split.read(path, ids: ["A", "B", "C"]) }
    #expect(found == Fault(kind, path + words))
  }

  @Test func regionsAreCounted() throws {
    let split = try Split(train: ["H0", "H1"], validation: ["L0"], test: [])
    let table = SplitTable(
      split, of: cases(2, 1), regions: [("WT", ["H0", "H1", "L0"]), ("ET", ["H1"])])
    #expect(
      table.lines == [
        "training: 2 cases of 2 patients, HGG 2, LGG 0; with WT 2, ET 1",
        "validation: 1 case of 1 patient, HGG 0, LGG 1; with WT 1, ET 0", "test: 0 cases of 0 patients",
      ])
  }
}
