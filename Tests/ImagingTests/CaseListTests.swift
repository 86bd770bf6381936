import Foundation
import Testing

@testable import Files
@testable import Imaging
@testable import TestSupport

@Suite struct CaseListTests {
  private let scratch = Scratch()

  private func put(_ text: String) throws -> String { try scratch.put("list", Array(text.utf8)) }

  @Test func linesAreNames() throws {
    let path = try put("\u{feff}b\r\n  a \n\n\tb\n")
    #expect(try CaseList.lines(path).ids == ["a", "b"])
    #expect(fault { _ = try CaseList.lines(try put(" \n")) } == Fault(.missing, "\(path) names no case"))
    #expect(fault { _ = try CaseList.lines(scratch.path) }?.kind == .missing)
    #expect(fault { _ = try CaseList.lines(scratch.file("none")) }?.kind == .missing)
    try scratch.put("list", [0xff, 0xfe, 0])
    #expect(fault { _ = try CaseList.lines(path) }?.kind == .invalid)
  }

  @Test func setsOfASplit() throws {
    let path = try put("{\"train\": [\"b\", \"a\"], \"val\": [\"c\"], \"test\": []}")
    #expect(try CaseList.split("\(path):train").ids == ["a", "b"])
    for name in ["validation", "val"] {
      let list = try CaseList.split("\(path):\(name)"); #expect(list.ids == ["c"] && list.set == .validation)
    }
    #expect(
      fault { _ = try CaseList.split("\(path):test") } == Fault(.missing, "test of \(path) names no case"))
    for text in ["\(path):all", path, ":test", "", String(repeating: "x", count: 10_000)] {
      #expect(fault { _ = try CaseList.split(text) }?.kind == .usage)
    }
    #expect(fault { _ = try CaseList.split("\(try put("{\"train\": [\"a\"]}")):test") }?.kind == .missing)
    for text in ["[{}]", "[1", "{\"test\": 3}", "{}"] {
      #expect(fault { _ = try CaseList.split("\(try put(text)):test") }?.kind == .invalid)
    }
  }
}
