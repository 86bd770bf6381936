import Foundation
import Testing

@testable import HADNet

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
        == Fault(.invalid, "2 cases can't be split into training, validation and test; 3 are the least"))
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
        == Fault(.missing, "Z (and 1 more) is not in the data set"))
    #expect(try message(#"{"train": ["A"]}"#) == Fault(.invalid, "no case to validate on"))
    #expect(
      try message("[1, 2]")
        == Fault(
          .invalid, #"not a split: expected JSON {"train": […], "validation": […], "test": […]}"#))
  }
}
