import Files
import Foundation
import Terminal

/// A file that says how cases are divided, into sets once or into folds.
///
/// - JSON: `{"train": […], "validation": […], "test": […]}` ("val" will do, and "test" may be absent).
/// - nnU-Net's splits_final.json: a list of such splits, one a fold. It has no test cases: those that choose the model are
///   scored as well.
/// - CSV with the columns `id` and `set`, others are passed over. A set is train, validation, test, or a fold's number
///   from 0; of fold f those of f test, those of f + 1 validate (of 0 after the last).
package struct SplitFile: Sendable {
  private enum Content: Sendable {
    case sets(Lists)
    case splits([Lists])
    case folds([[String]])
  }

  private struct Lists: Codable, Sendable {
    let train: [String]
    let validation, val, test: [String]?
  }

  package let path: String
  private let content: Content
  /// Where a table's cases stand.
  private let lines: [String: Int]

  /// Throws `.missing` where the file is not there, `.invalid` where it has another form or, a table, has a case twice or
  /// a fold without any, `.recipe` where a table has fewer than three folds.
  package init(_ path: String) throws {
    self.path = path
    let bytes = try InputFile.bytes(path)
    guard path.lowercased().hasSuffix(".csv") else {
      lines = [:]
      content = try SplitFile.json(Data(bytes), path)
      return
    }
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw Fault(.invalid, "\(path): not a text file in UTF-8")
    }
    (content, lines) = try SplitFile.table(withoutByteOrderMark(text), path)
  }

  /// The sets that a list of cases names beside its paths.
  package init(list path: String, _ sets: [String: String]) throws(Fault) {
    self.path = path
    (content, lines) = try SplitFile.content(
      sets.sorted { $0.key < $1.key }.map { (nil, $0.key, $0.value) }, path)
  }

  /// How many folds; nil for a file of one split.
  package var folds: Int? {
    switch content {
    case .sets: nil
    case .splits(let splits): splits.count
    case .folds(let parts): parts.count
    }
  }

  /// The split, or that of one fold; nil: of the first, where there are folds.
  ///
  /// `ids`: the cases of the data set.
  ///
  /// Throws `.recipe` for a fold that the file has not, `.missing` for a case that the data set has not, `.invalid`
  /// where a case is in two sets or there is none to train on.
  package func split(fold: Int? = nil, ids: some Collection<String>) throws -> Split {
    if let fold {
      guard let folds else {
        throw Fault(.recipe, "data.split.fold is \(fold), and \(path) has no folds: leave it out")
      }
      guard (0..<folds).contains(fold) else {
        throw Fault(
          .recipe, "data.split.fold is \(fold), and \(path) has \(folds.named("fold")), counted from 0")
      }
    }
    let split: Split
    do {
      switch content {
      case .sets(let lists): split = try SplitFile.split(lists)
      case .splits(let splits): split = try SplitFile.split(splits[fold ?? 0])
      case .folds(let parts): split = try Split(folds: parts, fold ?? 0)
      }
    } catch let fault as Fault {
      throw Fault(fault.kind, "\(path): \(fault.description)")
    }
    guard !split.train.isEmpty else { throw Fault(.invalid, "\(path): no case to train on") }
    let known = Set(ids)
    let unknown = (split.train + split.validation + split.test).filter { !known.contains($0) }
    if let first = lines.isEmpty ? unknown.first : unknown.min(by: { (lines[$0] ?? 0) < (lines[$1] ?? 0) }) {
      let others = unknown.count > 1 ? " (and \(unknown.count - 1) more)" : ""
      throw Fault(
        .missing,
        "\(path)\(lines[first].map { ":\($0)" } ?? ""): \(first)\(others) is not in the data set; correct it there, or "
          + "give the --data that has it")
    }
    return split
  }

  /// The same of cases that are known. A file's folds are looked through for patients in two sets when one of them is taken: before
  /// the first is trained, not days later.
  ///
  /// `allowLeak`: whether it may part a patient.
  package func split(fold: Int? = nil, of cases: [CaseFiles], allowLeak: Bool) throws -> Split {
    let ids = cases.map(\.id), split = try split(fold: fold, ids: ids)
    guard !allowLeak else { return split }
    for other in fold == nil ? [] : Array(0..<(folds ?? 0)) {
      try self.split(fold: other, ids: ids).refuseLeaks(of: cases, file: path)
    }
    try split.refuseLeaks(of: cases, file: path)
    return split
  }

  private static func split(_ lists: Lists) throws -> Split {
    try Split(train: lists.train, validation: lists.validation ?? lists.val ?? [], test: lists.test ?? [])
  }

  // MARK: Forms

  private static func json(_ data: Data, _ path: String) throws(Fault) -> Content {
    let decoder = JSONDecoder()
    if let lists = try? decoder.decode(Lists.self, from: data) { return .sets(lists) }
    if let folds = try? decoder.decode([Lists].self, from: data), !folds.isEmpty { return .splits(folds) }
    throw Fault(
      .invalid, "\(path): not a split: expected JSON {\"train\": […], \"validation\": […], \"test\": […]}")
  }

  private static func table(_ text: String, _ path: String) throws(Fault) -> (Content, [String: Int]) {
    let rows = try CSV.rows(text, file: path)
    guard let header = rows.first, let id = header.fields.firstIndex(of: "id"),
      let set = header.fields.firstIndex(of: "set")
    else { throw Fault(.invalid, "\(path): not a split: its first line has no columns id and set") }
    var places: [Place] = []
    for (line, fields) in rows.dropFirst() {
      guard fields.count == header.fields.count, !fields[id].isEmpty else {
        throw Fault(
          .invalid, "\(path):\(line): expected \(header.fields.count.named("field")), as in the first line")
      }
      places.append((line, fields[id], fields[set]))
    }
    return try content(places, path)
  }

  /// Which set a case is in, and in which line that stands; nil where there are no lines.
  private typealias Place = (line: Int?, id: String, set: String)

  /// Sets or folds of cases.
  private static func content(_ places: [Place], _ path: String) throws(Fault) -> (Content, [String: Int]) {
    var lines: [String: Int] = [:], sets: [String: [String]] = [:], parts: [Int: [String]] = [:]
    for (line, name, value) in places {
      let place = line.map { "\(path):\($0)" } ?? "\(path), case \(name)"
      if let other = lines[name] {
        throw Fault(.invalid, "\(place): \(excerpt(name)) stands in line \(other) already")
      }
      lines[name] = line
      if let known = names[value.lowercased()] {
        sets[known, default: []].append(name)
      } else if let fold = Int(value), (0..<Split.mostFolds).contains(fold) {
        parts[fold, default: []].append(name)
      } else {
        throw Fault(
          .invalid,
          "\(place): set is \(excerpt(value)); train, validation, test or a fold's number from 0 are possible"
        )
      }
      if !sets.isEmpty, !parts.isEmpty {
        throw Fault(
          .invalid, "\(place): set is \(excerpt(value)): give all cases folds, or none")
      }
    }
    guard let last = parts.keys.max() else {
      return (
        .sets(
          Lists(train: sets["train"] ?? [], validation: sets["validation"], val: nil, test: sets["test"])),
        lines
      )
    }
    if let empty = (0..<last).first(where: { parts[$0] == nil }) {
      throw Fault(.invalid, "\(path): no case is in fold \(empty), and folds count from 0 to \(last)")
    }
    guard last + 1 >= Split.leastFolds else {
      throw Fault(
        .recipe,
        "\(path): \((last + 1).named("fold")); \(Split.leastFolds) are the least: one tests, one validates, others train"
      )
    }
    return (.folds((0...last).map { parts[$0] ?? [] }), lines)
  }

  private static let names = [
    "train": "train", "training": "train", "validation": "validation", "val": "validation", "test": "test",
  ]
}
