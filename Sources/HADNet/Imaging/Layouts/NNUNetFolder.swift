import Files
import Foundation
import Terminal

/// A data set as nnU-Net keeps it: `dataset.json` beside `imagesTr` and `labelsTr`, of version 2 or 1.
///
/// Source: nnU-Net's documentation/dataset_format.md; version 1 as the Medical Segmentation Decathlon has it.
package struct NNUNetFolder {
  package static let file = "dataset.json"

  /// Without a slash at its end.
  package let root: String
  /// The channels' names as they stand there, in order.
  package let channels: [String]
  /// What the folder says of the task.
  package let told: ToldTask
  /// `.nii.gz` or another ending of images and truths.
  package let ending: String
  /// Cases that dataset.json names itself: in version 2 by paths, in version 1 by their image's name.
  private let listed: [Listed]?
  private let numTraining: Int?

  private struct Listed {
    let id: String
    /// A path a channel; nil: `imagesTr/ID_0000` and so on.
    let images: [String]?
    let truth: String?
  }

  /// Reads dataset.json of a folder; nil where it has none.
  ///
  /// Throws `.invalid` where the file says nothing that can be used, naming the key.
  package init?(_ folder: String) throws(Fault) {
    let root = folder.count > 1 && folder.hasSuffix("/") ? String(folder.dropLast()) : folder
    let path = "\(root)/\(NNUNetFolder.file)"
    guard AtomicFile.isFile(path) else { return nil }
    guard let data = FileManager.default.contents(atPath: path),
      let json = try? JSONSerialization.jsonObject(with: data) as? [String: Any]
    else { throw Fault(.invalid, "\(path): not JSON in UTF-8") }
    func wrong(_ key: String, _ words: String) -> Fault { Fault(.invalid, "\(path): \(key) \(words)") }
    // The two versions call it differently, and so do data sets that were carried over.
    guard let names = (json["channel_names"] ?? json["modality"]) as? [String: String], !names.isEmpty else {
      throw wrong("channel_names", "must give each channel's number a name, such as {\"0\": \"T1\"}")
    }
    if json["channel_names"] == nil, NNUNetFolder.holdsWholeImages(json, root) {
      throw Fault(
        .invalid,
        "\(path): images of four dimensions, as the Decathlon has them, hold all channels in one file;\n"
          + "nnUNetv2_convert_MSD_dataset -i \(root) makes a data set that can be read")
    }
    var channels: [String] = []
    for number in 0..<names.count {
      guard let name = names["\(number)"] else { throw wrong("channel_names", "has no channel \(number)") }
      channels.append(name)
    }
    var sequences: [Modality] = []
    for name in channels {
      let modality = Modality.named(name) ?? Modality(rawValue: NNUNetFolder.plain(name, allowing: "-_"))
      if modality.rawValue.isEmpty || sequences.contains(modality) {
        throw wrong(
          "channel_names", "has two channels of one sequence, or one without a name: \(excerpt(name))")
      }
      sequences.append(modality)
    }
    self.root = root
    self.channels = channels
    let labels = json["labels"] as? [String: Any] ?? [:]
    let order = NNUNetFolder.keys(of: "labels", Set(labels.keys), in: String(decoding: data, as: UTF8.self))
    told = try NNUNetFolder.told(labels, order, sequences, wrong)
    ending = json["file_ending"] as? String ?? ".nii.gz"
    guard NIfTIImage.stem("x" + ending) != nil else {
      throw wrong(
        "file_ending", "is \(excerpt(ending)); NIfTI files, .nii.gz or .nii, can be read: convert them")
    }
    numTraining = json["numTraining"] as? Int
    listed = NNUNetFolder.listed(json, ending)
  }

  /// Whether version 1's training images stand there without a channel's number: one file for all channels.
  private static func holdsWholeImages(_ json: [String: Any], _ root: String) -> Bool {
    guard let first = (json["training"] as? [[String: Any]])?.first?["image"] as? String else { return false }
    return AtomicFile.isFile("\(root)/\(first)")
  }

  /// The keys of an object of names and numbers in the order of the text, which dictionaries lose; of several objects
  /// of that name the one that has these keys.
  private static func keys(of name: String, _ keys: Set<String>, in text: String) -> [String] {
    let string = /"(?:[^"\\]|\\.)*"/
    // The name is one of ours.
    let object = try! Regex(
      "\"\(name)\"\\s*:\\s*\\{((?:[^}\"]|\"(?:[^\"\\\\]|\\\\.)*\")*)\\}", as: (Substring, Substring).self)
    let orders = text.matches(of: object).map { match in
      match.output.1.matches(of: string).compactMap {
        try? JSONDecoder().decode(String.self, from: Data($0.output.utf8))
      }
    }
    return orders.first { Set($0).isSuperset(of: keys) }?.filter(keys.contains) ?? keys.sorted()
  }

  /// Classes, further values and regions of the labels.
  private static func told(
    _ labels: [String: Any], _ order: [String], _ sequences: [Modality], _ wrong: (String, String) -> Fault
  ) throws(Fault) -> ToldTask {
    var plain: [(name: String, values: [Int], isList: Bool)] = []
    for key in order {
      switch labels[key] {
      case let value as Int: plain.append((key, [value], false))
      case let values as [Int]: plain.append((key, values, true))
      // Version 1 has it the other way round.
      case let name as String: if let value = Int(key) { plain.append((name, [value], false)) }
      default: break
      }
    }
    var ignored: Int?, background = false
    var regions: [(name: String, values: [Int])] = []
    for (name, values, isList) in plain {
      if values == [0], !isList {
        background = true
      } else if name == "ignore", !isList {
        ignored = values[0]
      } else {
        regions.append((className(name), values.filter { $0 != 0 }))
      }
    }
    guard background, !regions.isEmpty else {
      throw wrong(
        "labels", "must give background the value 0, and at least one other name a value or a list of them")
    }
    let values = Set(regions.flatMap(\.values)).sorted()
    guard values == Array(1..<(values.count + 1)), values.count <= SegmentationTask.labelCount.upperBound,
      ignored.map({ $0 == values.count + 1 }) ?? true
    else {
      throw wrong(
        "labels",
        "must have the values 1, 2, 3 … to at most \(SegmentationTask.labelCount.upperBound) without a gap, ignore the next"
      )
    }
    var names: [Int: String] = [:]
    for (name, own) in regions where own.count == 1 { names[own[0]] = name }
    func name(_ value: Int) -> String { names[value] ?? "label \(value)" }
    return ToldTask(
      sequences: sequences, classes: values.map { .init(name($0), UInt8($0)) },
      readAs: ignored.map { [UInt8($0): .ignored] } ?? [:],
      regions: regions.map { NamedClasses($0.name, $0.values.sorted().map(name)) })
  }

  /// A label's name with what a class's may not have left out: `non-enhancing (core)` → `non-enhancing core`.
  private static func className(_ name: String) -> String {
    plain(name, allowing: "-_ ").trimmingCharacters(in: CharacterSet(charactersIn: " "))
  }

  private static func plain(_ name: String, allowing others: String) -> String {
    String(name.prefix(64)).filter { $0.isLetter || $0.isNumber || others.contains($0) }
  }

  private static func listed(_ json: [String: Any], _ ending: String) -> [Listed]? {
    if let cases = json["dataset"] as? [String: [String: Any]] {
      return cases.keys.sorted().map { id in
        Listed(id: id, images: cases[id]?["images"] as? [String] ?? [], truth: cases[id]?["label"] as? String)
      }
    }
    guard json["channel_names"] == nil, let cases = json["training"] as? [[String: Any]] else { return nil }
    return cases.compactMap { one in
      (one["image"] as? String).flatMap { NIfTIImage.stem(AtomicFile.name($0)) }.map {
        Listed(id: $0, images: nil, truth: one["label"] as? String)
      }
    }
  }

  /// The data set that a folder of truths, labelsTr or labelsTs, belongs to; nil for other folders.
  init?(ofTruths folder: String) throws(Fault) {
    let folder = folder.count > 1 && folder.hasSuffix("/") ? String(folder.dropLast()) : folder
    guard ["labelsTr", "labelsTs"].contains(AtomicFile.name(folder)) else { return nil }
    try self.init(AtomicFile.parent(folder))
  }

  // MARK: Cases

  /// The cases of a folder of truths alone.
  static func truths(_ folder: String, _ task: SegmentationTask) -> Dataset {
    let names = ((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []).filter {
      !$0.hasPrefix(".")
    }
    let cases = names.sorted().compactMap { name in
      NIfTIImage.stem(name).map {
        CaseFiles(id: $0, files: [:], segmentation: "\(folder)/\(name)", values: task.values(caseName: ""))
      }
    }
    return Dataset(
      root: folder, task: task, layout: .nnunet, cases: cases, incomplete: [], problems: [], notes: [])
  }

  /// Finds the cases for a task, whose sequences are matched with the channels by their names.
  ///
  /// Training and evaluation take imagesTr and labelsTr, prediction (`isForUse`) imagesTs where there is one.
  package func dataset(
    _ task: SegmentationTask, needs: Set<Modality>, needsTruth: Bool, isForUse: Bool
  ) throws -> Dataset {
    let numbers = NNUNetFolder.numbers(told.sequences, task)
    let lacking = task.sequences.filter { needs.contains($0) && numbers[$0] == nil }
    if let first = lacking.first {
      throw Fault(
        .missing,
        "\(root)/\(NNUNetFolder.file): no channel is \(first.rawValue); there are \(channels.joined(separator: ", "))"
      )
    }
    let tests = "\(root)/imagesTs", usesTests = isForUse && !NNUNetFolder.ids(tests).isEmpty
    if usesTests {
      return NNUNetFolder.dataset(root, tests, task, numbers, needs, ending: ending)
    }
    let all = listed ?? NNUNetFolder.ids("\(root)/imagesTr").map { Listed(id: $0, images: nil, truth: nil) }
    guard !all.isEmpty else {
      throw Fault(
        .missing,
        "\(root): no case of \(NNUNetFolder.file): imagesTr/ID_0000\(ending), labelsTr/ID\(ending) are looked for"
      )
    }
    var cases: [CaseFiles] = [], incomplete: [CaseFiles] = [], problems: [Fault] = []
    for one in all {
      var files: [Modality: String] = [:], wrong: [Fault] = []
      func path(_ channel: Int) -> String {
        guard let images = one.images else {
          return NNUNetFolder.image("\(root)/imagesTr", one.id, channel, ending)
        }
        return channel < images.count ? absolute(images[channel]) : ""
      }
      for modality in task.sequences {
        guard let channel = numbers[modality] else { continue }
        if AtomicFile.isFile(path(channel)) {
          files[modality] = path(channel)
        } else if needs.contains(modality) {
          wrong.append(Fault(.missing, "\(one.id): \(modality.rawValue) is missing: no \(path(channel))"))
        }
      }
      let truth = one.truth.map(absolute) ?? "\(root)/labelsTr/\(one.id)\(ending)",
        isThere = AtomicFile.isFile(truth)
      if needsTruth, !isThere {
        wrong.append(Fault(.missing, "\(one.id): the truth is missing: no \(truth)"))
      }
      let item = CaseFiles(
        id: one.id, files: files, segmentation: isThere ? truth : nil, values: task.values(caseName: ""))
      problems += wrong
      if wrong.isEmpty { cases.append(item) } else { incomplete.append(item) }
    }
    var notes: [String] = []
    if let numTraining, numTraining != all.count {
      notes.append(
        "numTraining of \(NNUNetFolder.file) is \(numTraining), and \(all.count.named("case")) are there")
    }
    return Dataset(
      root: root, task: task, layout: .nnunet, cases: cases, incomplete: incomplete, problems: problems,
      notes: notes)
  }

  /// Channels of sequences: by their names, whatever words are used for them.
  private static func numbers(_ channels: [Modality], _ task: SegmentationTask) -> [Modality: Int] {
    var numbers: [Modality: Int] = [:]
    for (number, channel) in channels.enumerated() {
      if let modality = task.sequence(called: channel.rawValue) { numbers[modality] = number }
    }
    return numbers
  }

  /// A path of dataset.json: `$NAME` is the environment's, and what is relative is so to the folder.
  private func absolute(_ path: String) -> String {
    var path = path
    for match in path.matches(of: /\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?/).reversed() {
      if let value = ProcessInfo.processInfo.environment[String(match.output.1)] {
        path.replaceSubrange(match.range, with: value)
      }
    }
    return path.hasPrefix("/") ? path : "\(root)/\(path)"
  }

  private static func image(_ folder: String, _ id: String, _ channel: Int, _ ending: String) -> String {
    "\(folder)/\(id)_\(String(format: "%04d", channel))\(ending)"
  }

  /// The cases of a folder of images `ID_0000`, sorted; empty where others are among them.
  static func ids(_ folder: String) -> [String] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    let stems = names.filter { !$0.hasPrefix(".") }.compactMap(NIfTIImage.stem)
    guard !stems.isEmpty, stems.allSatisfy({ $0.wholeMatch(of: /.+_[0-9]{4}/) != nil }) else { return [] }
    return Set(stems.map { String($0.dropLast(5)) }).sorted()
  }

  /// The patients of a folder of images alone, such as imagesTs: their channels are those of the data set beside it, or of the
  /// task where there is none. nil where the folder is none.
  package static func images(
    _ folder: String, _ task: SegmentationTask, needs: Set<Modality>
  ) throws -> Dataset? {
    let folder = folder.count > 1 && folder.hasSuffix("/") ? String(folder.dropLast()) : folder
    guard !ids(folder).isEmpty else { return nil }
    let beside = try NNUNetFolder(AtomicFile.parent(folder))
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    let ending = names.contains { $0.lowercased().hasSuffix(".nii.gz") } ? ".nii.gz" : ".nii"
    var found = dataset(
      folder, folder, task, numbers(beside?.told.sequences ?? task.sequences, task), needs, ending: ending)
    if beside == nil {
      let order = task.sequences.enumerated().map { String(format: "_%04d ", $0) + $1.rawValue }
      found.notes.append(
        "no \(file) beside \(folder): the channels are taken to be \(order.joined(separator: ", "))")
    }
    return found
  }

  private static func dataset(
    _ root: String, _ folder: String, _ task: SegmentationTask, _ numbers: [Modality: Int],
    _ needs: Set<Modality>,
    ending: String
  ) -> Dataset {
    var cases: [CaseFiles] = [], incomplete: [CaseFiles] = [], problems: [Fault] = []
    for id in ids(folder) {
      var files: [Modality: String] = [:], wrong: [Fault] = []
      for modality in task.sequences {
        guard let channel = numbers[modality] else { continue }
        let path = image(folder, id, channel, ending)
        if AtomicFile.isFile(path) {
          files[modality] = path
        } else if needs.contains(modality) {
          wrong.append(Fault(.missing, "\(id): \(modality.rawValue) is missing: no \(path)"))
        }
      }
      let item = CaseFiles(id: id, files: files, values: task.values(caseName: ""))
      problems += wrong
      if wrong.isEmpty { cases.append(item) } else { incomplete.append(item) }
    }
    return Dataset(
      root: root, task: task, layout: .nnunet, cases: cases, incomplete: incomplete, problems: problems,
      notes: [])
  }
}
