import Files
import Foundation
import Terminal

/// A data set as a list of its cases with a path a sequence: the way out where no layout fits. CSV with a line of column names,
/// or JSON, a list of objects with these keys; MONAI's data lists too.
struct CaseTable {
  /// One case, and where it stands: `cases.csv:12`.
  private struct Row {
    let place: String
    var values: [String: String]
  }

  /// Columns that are no sequences.
  private static let others = ["id", "patient", "set", "seg", "mask"]

  let path: String
  private var rows: [Row] = []
  /// A table's first line, whose columns are those of all.
  private var header: Row?
  /// MONAI's: the images of each case in the order of the task's sequences.
  private var images: [[String]]?

  /// Reads a list; nil where `path` is a folder or nothing.
  ///
  /// Throws `.invalid` for another kind of file and for what is no list, with its line.
  init?(_ path: String) throws {
    guard AtomicFile.isFile(path) else { return nil }
    self.path = path
    let isJSON = path.lowercased().hasSuffix(".json")
    guard isJSON || path.lowercased().hasSuffix(".csv") else {
      throw Fault(.invalid, "\(path): a file; give the data set's folder, or a list of cases, .csv or .json")
    }
    guard let text = String(bytes: try InputFile.bytes(path), encoding: .utf8) else {
      throw Fault(.invalid, "\(path): not a text file in UTF-8")
    }
    if isJSON { try read(json: text) } else { try read(csv: text) }
    guard !rows.isEmpty else { throw Fault(.missing, "\(path) lists no case") }
    var seen: [String: String] = [:]
    for row in rows {
      guard let id = row.values["id"], !id.isEmpty else { throw Fault(.invalid, "\(row.place): no id") }
      guard !id.contains("/"), !id.hasPrefix("."), id.utf8.count <= 200 else {
        throw Fault(.invalid, "\(row.place): the id \(id.prefix(80)) is no name of a file")
      }
      if let other = seen[id] { throw Fault(.invalid, "\(row.place): the id \(id) stands in \(other) too") }
      seen[id] = row.place
    }
  }

  private mutating func read(csv text: String) throws(Fault) {
    var lines = try CSV.rows(withoutByteOrderMark(text), file: path)[...]
    guard let names = lines.popFirst()?.fields else { throw Fault(.missing, "\(path) is empty") }
    guard names.contains("id") else {
      throw Fault(
        .invalid,
        "\(path):1: no column id; a list has columns id, a sequence each, and may have "
          + CaseTable.others.dropFirst().joined(separator: ", "))
    }
    if let twice = names.indices.first(where: { names[..<$0].contains(names[$0]) }).map({ names[$0] }) {
      throw Fault(.invalid, "\(path):1: the column \(excerpt(twice)) is there twice")
    }
    header = Row(place: "\(path):1", values: Dictionary(uniqueKeysWithValues: names.map { ($0, "") }))
    for line in lines {
      let place = "\(path):\(line.number)"
      guard line.fields.count == names.count else {
        throw Fault(
          .invalid, "\(place): \(line.fields.count.named("field")), and the first line names \(names.count)")
      }
      rows.append(Row(place: place, values: Dictionary(uniqueKeysWithValues: zip(names, line.fields))))
    }
  }

  private mutating func read(json text: String) throws(Fault) {
    let whole = try? JSONSerialization.jsonObject(with: Data(text.utf8))
    if let list = whole as? [[String: Any]] {
      rows = list.enumerated().map { number, object in
        Row(place: "\(path), case \(number + 1)", values: object.compactMapValues(CaseTable.text))
      }
      return
    }
    guard let object = whole as? [String: Any], let list = object["training"] as? [[String: Any]] else {
      throw Fault(
        .invalid,
        "\(path): no list of cases: expected JSON [{\"id\": …, \"flair\": …}, …], or MONAI's {\"training\": [{\"image\": […]}]}"
      )
    }
    let images = list.map { $0["image"] as? [String] ?? ($0["image"] as? String).map { [$0] } ?? [] }
    let names = CaseTable.names(images.map { $0.first ?? "" })
    rows = list.enumerated().map { number, object in
      var values = ["id": object["id"].flatMap(CaseTable.text) ?? names[number]]
      values["seg"] = object["label"].flatMap(CaseTable.text)
      values["set"] = object["fold"].flatMap(CaseTable.text)
      return Row(place: "\(path), case \(number + 1)", values: values)
    }
    self.images = images
  }

  /// Names of cases after their first images: their folders' where each has its own, else the files', without a channel's number.
  private static func names(_ images: [String]) -> [String] {
    let folders = images.map { AtomicFile.name(AtomicFile.parent("/" + $0)) }
    if Set(folders).count == folders.count, !folders.contains("") { return folders }
    return images.map { image in
      let stem = NIfTIImage.stem(AtomicFile.name(image)) ?? ""
      return stem.wholeMatch(of: /.+_[0-9]{4}/) == nil ? stem : String(stem.dropLast(5))
    }
  }

  private static func text(_ value: Any) -> String? {
    if let text = value as? String { return text }
    return (value as? Int).map { "\($0)" }
  }

  /// The first case's name, for messages.
  var firstID: String { rows[0].values["id"] ?? "" }

  /// The paths of all truths, sorted.
  var truths: [String] { rows.compactMap { $0.values["seg"] }.filter { !$0.isEmpty }.map(absolute).sorted() }

  private func absolute(_ path: String) -> String {
    path.hasPrefix("/") ? path : "\(AtomicFile.parent(self.path))/\(path)"
  }

  /// The columns that are sequences of a task. Throws `.invalid` for one that is none, and for two of one sequence.
  private func columns(
    _ row: Row, _ task: SegmentationTask
  ) throws(Fault) -> [(name: String, modality: Modality)] {
    var columns: [(name: String, modality: Modality)] = []
    for name in row.values.keys.sorted() where !CaseTable.others.contains(name) {
      guard let modality = task.sequence(called: name) else {
        throw Fault(
          .invalid,
          "\(row.place): the column \(excerpt(name)) is none of \(CaseTable.others.joined(separator: ", ")) and no sequence of the "
            + "task (\(task.sequences.map(\.rawValue).joined(separator: ", ")))")
      }
      if let other = columns.first(where: { $0.modality == modality }) {
        throw Fault(
          .invalid,
          "\(row.place): the columns \(other.name) and \(excerpt(name)) are both \(modality.rawValue)")
      }
      columns.append((name, modality))
    }
    return columns
  }

  /// The cases for a task. Throws `.invalid` for a column that is none, and where a path is there twice or leads nowhere.
  func dataset(_ task: SegmentationTask, needs: Set<Modality>, needsTruth: Bool) throws -> Dataset {
    var cases: [CaseFiles] = [], incomplete: [CaseFiles] = [], problems: [Fault] = []
    var sets: [String: String] = [:]
    for (number, row) in rows.enumerated() {
      let id = row.values["id"] ?? ""
      var files: [Modality: String] = [:], wrong: [Fault] = []
      func path(_ name: String, _ text: String?) -> String? {
        guard let text, !text.isEmpty else { return nil }
        let path = absolute(text)
        if AtomicFile.isFile(path) { return path }
        wrong.append(Fault(.missing, "\(row.place): \(id): \(name) is not there: \(path)"))
        return nil
      }
      for (name, modality) in try columns(header ?? row, task) {
        files[modality] = path(modality.rawValue, row.values[name])
      }
      if let images = images?[number] {
        guard images.count <= task.sequences.count else {
          throw Fault(
            .invalid,
            "\(row.place): \(images.count.named("image")), and the task has \(task.sequences.count.named("sequence")), \(task.sequences.map(\.rawValue).joined(separator: ", "))"
          )
        }
        for (modality, image) in zip(task.sequences, images) {
          files[modality] = path(modality.rawValue, image)
        }
      }
      for modality in task.sequences where needs.contains(modality) && files[modality] == nil && wrong.isEmpty
      {
        wrong.append(Fault(.missing, "\(row.place): \(id): \(modality.rawValue) is missing"))
      }
      let truth = path("seg", row.values["seg"]), mask = path("mask", row.values["mask"])
      if needsTruth, truth == nil, wrong.isEmpty {
        wrong.append(Fault(.missing, "\(row.place): \(id): the truth is missing (column seg)"))
      }
      let patient = row.values["patient"] ?? ""
      let item = CaseFiles(
        id: id, patient: patient.isEmpty ? nil : patient, files: files, segmentation: truth, mask: mask,
        values: task.values(caseName: id))
      if let set = row.values["set"], !set.isEmpty { sets[id] = set }
      problems += wrong
      if wrong.isEmpty { cases.append(item) } else { incomplete.append(item) }
    }
    var dataset = Dataset(
      root: self.path, task: task, layout: .list, cases: cases.sorted { $0.id < $1.id },
      incomplete: incomplete, problems: problems,
      notes: [])
    dataset.sets = sets
    return dataset
  }
}
