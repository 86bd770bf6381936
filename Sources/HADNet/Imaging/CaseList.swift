import Files
import Foundation

/// Names of some cases of a data set, such as those of a test set.
package struct CaseList: Codable, Equatable, Sendable {
  /// Where they stand, for messages.
  package let source: String
  /// In order, each once.
  package let ids: [String]
  /// Which of a split's sets they are; nil for others.
  package let set: EvaluatedSet?

  /// IDs in any order. Throws `.missing` where there is none.
  package init(source: String, ids: [String], set: EvaluatedSet? = nil) throws(Fault) {
    self.source = source
    self.set = set
    self.ids = Set(ids).sorted()
    guard !ids.isEmpty else { throw Fault(.missing, "\(source) names no case") }
  }

  /// A text file or pipe with a name a line. Throws `.invalid` where it is not in UTF-8, `.missing` where it is
  /// not there or names no case.
  package static func lines(_ path: String) throws -> CaseList {
    guard let text = String(bytes: try InputFile.bytes(path), encoding: .utf8) else {
      throw Fault(.invalid, "\(path): not a text file in UTF-8")
    }
    let lines = text.split(whereSeparator: \.isNewline)
      .map { $0.trimmingCharacters(in: CharacterSet(charactersIn: " \t\u{feff}")) }
    return try CaseList(source: path, ids: lines.filter { !$0.isEmpty })
  }

  /// One set of a split's file or pipe, given as FILE:SET: `run/split.json:test`.
  ///
  /// Throws `.usage` where no set is named, `.missing` where file or set is not there or the set is empty, `.invalid`
  /// where the file is no split.
  package static func split(_ text: String) throws -> CaseList {
    guard let colon = text.lastIndex(of: ":"), colon > text.startIndex,
      let keys = [
        "train": ["train"], "validation": ["validation", "val"], "val": ["validation", "val"],
        "test": ["test"],
      ][String(text[text.index(after: colon)...])]
    else {
      throw Fault(.usage, "--split \(text.prefix(80)): give FILE:SET, SET being train, validation or test")
    }
    let path = String(text[..<colon]), set = text[text.index(after: colon)...]
    let content = Data(try InputFile.bytes(path))
    guard let json = try? JSONSerialization.jsonObject(with: content) as? [String: Any],
      ["train", "validation", "val", "test"].contains(where: { json[$0] is [String] })
    else {
      throw Fault(
        .invalid, "\(path): not a split: expected JSON {\"train\": […], \"validation\": […], \"test\": […]}")
    }
    guard let ids = keys.lazy.compactMap({ json[$0] as? [String] }).first else {
      throw Fault(.missing, "\(path): no set called \(set) is in this split")
    }
    return try CaseList(
      source: "\(set) of \(path)", ids: ids,
      set: EvaluatedSet(rawValue: set == "val" ? "validation" : "\(set)"))
  }
}
