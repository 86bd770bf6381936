import Compute
import Files
import Foundation
import Terminal

/// What is segmented from what: sequences, those that will be missing, classes, regions and what scores a model.
///
/// Networks predict classes; a region is a union of them. A model file carries its task.
package struct SegmentationTask: Equatable, Sendable {
  /// A class beside the background, with its value in files.
  package struct Label: Hashable, Codable, Sendable {
    package let name: String
    package let value: UInt8

    package init(_ name: String, _ value: UInt8) {
      self.name = name
      self.value = value
    }
  }

  /// What a further value in a truth means.
  package enum Reading: Hashable, Codable, Sendable {
    case background
    /// The voxel is left out of losses, class weights and scores.
    case ignored
    /// By the class's name.
    case label(String)
  }

  /// How many sequences and classes beside the background a task may have.
  package static let sequenceCount = 2...8, labelCount = 1...16

  /// Where the task began, if at a preset. That of BraTS's tells the value of ET by a case's name.
  package let preset: TaskPreset?
  /// In the order of the networks' channels.
  package let sequences: [Modality]
  /// Those that are not there at inference, in channel order.
  package let missing: [Modality]
  /// Class indices 1, 2, 3 …
  package let classes: [Label]
  /// By value, ascending.
  package let readAs: [UInt8: Reading]
  /// In the order of tables.
  package let regions: [Region]
  /// The regions whose mean smoothed Dice chooses checkpoints.
  package let score: [Region]
  /// The region of detection and of volumes.
  package let detect: Region
  /// File patterns of sequences and of the truth (`truth`), where no layout fits; `*` is the case's name.
  package let files: [String: [String]]

  /// Throws `.recipe` for what is no task, in words that fit behind the key's name.
  package init(
    preset: TaskPreset? = nil, sequences: [Modality], missing: [Modality], classes: [Label],
    readAs: [UInt8: Reading] = [:], regions: [(name: String, classes: [String])], score: [String]? = nil,
    detect: String? = nil, files: [String: [String]] = [:]
  ) throws(Fault) {
    func wrong(_ key: String, _ words: String) -> Fault { Fault(.recipe, "\(key) \(words)") }
    guard SegmentationTask.sequenceCount.contains(sequences.count) else {
      throw wrong("sequences", "must be 2 to 8 names, not \(sequences.count)")
    }
    for name in sequences.map(\.rawValue) + classes.map(\.name) where !SegmentationTask.isName(name) {
      throw wrong(
        sequences.contains { $0.rawValue == name } ? "sequences" : "classes",
        "has the name \(excerpt(name)); names are letters, digits, -, _ and, for classes, spaces")
    }
    for modality in sequences where modality.rawValue.contains(" ") {
      throw wrong(
        "sequences", "has the name \(excerpt(modality.rawValue)); names are letters, digits, - and _")
    }
    if let twice = SegmentationTask.repeated(sequences.map(\.rawValue)) {
      throw wrong("sequences", "has \(twice) twice")
    }
    let names = sequences.map(\.rawValue).joined(separator: ", ")
    if let other = missing.first(where: { !sequences.contains($0) }) {
      throw wrong("missing", "has \(excerpt(other.rawValue)), which is none of the sequences (\(names))")
    }
    if let twice = SegmentationTask.repeated(missing.map(\.rawValue)) {
      throw wrong("missing", "has \(twice) twice")
    }
    guard (1..<sequences.count).contains(missing.count) else {
      throw wrong("missing", "must be at least one of the sequences (\(names)), and not all")
    }
    guard SegmentationTask.labelCount.contains(classes.count) else {
      throw wrong("classes", "must be 1 to 16, not \(classes.count)")
    }
    if let twice = SegmentationTask.repeated(classes.map(\.name)) {
      throw wrong("classes", "has \(twice) twice")
    }
    if let label = classes.first(where: { $0.value == 0 }) {
      throw wrong("classes", "gives \(label.name) the value 0, which is always background")
    }
    if let twice = SegmentationTask.repeated(classes.map(\.value)) {
      throw wrong("classes", "gives two classes the value \(twice)")
    }
    for (value, reading) in readAs.sorted(by: { $0.key < $1.key }) {
      if value == 0 || classes.contains(where: { $0.value == value }) {
        throw wrong(
          "read_as", "has \(value), which stands for \(value == 0 ? "background" : "a class") already")
      }
      if case .label(let name) = reading, !classes.contains(where: { $0.name == name }) {
        throw wrong("read_as", "has \(excerpt(name)), which is no class, background or ignore")
      }
    }
    guard !regions.isEmpty else { throw wrong("regions", "must be at least one") }
    if let twice = SegmentationTask.repeated(regions.map(\.name)) {
      throw wrong("regions", "has \(excerpt(twice)) twice")
    }
    var known: [Region] = []
    for (name, members) in regions {
      if !SegmentationTask.isName(name) {
        throw wrong("regions", "has the name \(excerpt(name)); names are letters, digits, -, _ and spaces")
      }
      var indices: [UInt8] = []
      for member in members {
        guard let index = classes.firstIndex(where: { $0.name == member }) else {
          throw wrong("regions", "puts \(excerpt(member)) into \(name), which is no class")
        }
        indices.append(UInt8(index + 1))
      }
      guard !indices.isEmpty, SegmentationTask.repeated(indices) == nil else {
        throw wrong("regions", "must give \(name) at least one class, and none twice")
      }
      let region = Region(name, indices)
      if let same = known.first(where: { $0.classes == region.classes }) {
        throw wrong("regions", "has \(same.name) and \(name) of the same classes")
      }
      if let same = known.first(where: { $0.fileName.lowercased() == region.fileName.lowercased() }) {
        throw wrong("regions", "has \(same.name) and \(name), whose files would have one name")
      }
      known.append(region)
    }
    if let label = classes.indices.first(where: { i in !known.contains { $0.contains(UInt8(i + 1)) } }) {
      throw wrong("regions", "has \(classes[label].name) in none")
    }
    func region(_ name: String, _ key: String) throws(Fault) -> Region {
      guard let region = known.first(where: { $0.name == name }) else {
        throw wrong(
          key,
          "has \(excerpt(name)), which is none of the regions (\(known.map(\.name).joined(separator: ", ")))")
      }
      return region
    }
    var scoring: [Region] = []
    for name in score ?? known.map(\.name) { scoring.append(try region(name, "score")) }
    guard !scoring.isEmpty, SegmentationTask.repeated(scoring) == nil else {
      throw wrong("score", "must be at least one region, and none twice")
    }
    for key in files.keys.sorted() where key != "truth" && !sequences.contains(where: { $0.rawValue == key })
    {
      throw wrong("files", "has \(excerpt(key)), which is neither a sequence nor truth")
    }
    self.preset = preset
    self.sequences = sequences
    self.missing = sequences.filter { missing.contains($0) }
    self.classes = classes
    self.readAs = readAs
    self.regions = known
    self.score = scoring
    self.detect = try region(detect ?? known[known.count - 1].name, "detect")
    self.files = files
  }

  private static func isName(_ text: String) -> Bool {
    !text.isEmpty && text.utf8.count <= 64 && text.first != " " && text.last != " "
      && text.allSatisfy { $0.isLetter || $0.isNumber || $0 == "-" || $0 == "_" || $0 == " " }
  }

  private static func repeated<Value: Hashable>(_ values: [Value]) -> Value? {
    var seen: Set<Value> = []
    return values.first { !seen.insert($0).inserted }
  }

  // MARK: Sequences

  /// What is there at inference, and all that a student sees, in channel order.
  package var present: [Modality] { sequences.filter { !missing.contains($0) } }

  /// The sequence that a word of a data set means: one of that name, else one that the word is an alias of.
  package func sequence(called word: String) -> Modality? {
    let plain = Modality.plain(word)
    if let same = sequences.first(where: { Modality.plain($0.rawValue) == plain }) { return same }
    guard let meant = Modality.named(word) else { return nil }
    return sequences.first { $0 == meant || Modality.named($0.rawValue) == meant }
  }

  /// The channel of a prepared case that holds this sequence; nil where it is none of the task's.
  package func channel(_ modality: Modality) -> Int? { sequences.firstIndex(of: modality) }

  /// The channels of what a student sees.
  package var presentChannels: [Int] { sequences.indices.filter { !missing.contains(sequences[$0]) } }

  // MARK: Classes

  /// How many classes a network tells apart: those of the task and the background.
  package var classCount: Int { classes.count + 1 }

  /// `background, NET, ED, ET`: in the order of the class indices.
  package var classNames: String { (["background"] + classes.map(\.name)).joined(separator: ", ") }

  /// `whole tumor, tumor core`: in the order of tables.
  package var regionNames: String { regions.map(\.name).joined(separator: ", ") }

  /// What the values in a case's files mean. The preset of BraTS reads ET as 3 where the case's name begins with `BraTS-`,
  /// as from 2023 on, else as 4.
  package func values(caseName: String) -> LabelValues {
    var values = classes.map(\.value)
    if isToldByName, caseName.lowercased().hasPrefix("brats-") { values[2] = 3 }
    return LabelValues(task: self, values: values)
  }

  /// Whether the value of ET follows from a case's name.
  var isToldByName: Bool { preset == .brats && classes == TaskPreset.brats.task.classes }
}

/// What the values in the label files of a case mean.
package struct LabelValues: Hashable, Codable, Sendable {
  /// A further value that a truth may hold, and the class index that it stands for.
  package struct Further: Hashable, Codable, Sendable {
    let value, index: UInt8
  }

  /// The values of class indices 1, 2, 3 …
  package let values: [UInt8]
  /// By value, ascending.
  let further: [Further]

  init(task: SegmentationTask, values: [UInt8]) {
    self.values = values
    further = task.readAs.sorted { $0.key < $1.key }.map { value, reading in
      switch reading {
      case .background: Further(value: value, index: 0)
      case .ignored: Further(value: value, index: LabelVolume.ignored)
      case .label(let name):
        Further(value: value, index: UInt8((task.classes.firstIndex { $0.name == name } ?? -1) + 1))
      }
    }
  }

  /// The file's value of a class index.
  package func value(of classIndex: UInt8) -> UInt8 { classIndex == 0 ? 0 : values[Int(classIndex) - 1] }

  /// The file's value of each class index.
  var table: [UInt8] { [0] + values }

  /// The class index of each of the values 0…255; nil for those that are not known.
  var classes: [UInt8?] {
    var table = [UInt8?](repeating: nil, count: 256)
    table[0] = 0
    for one in further { table[Int(one.value)] = one.index }
    for (i, value) in values.enumerated() { table[Int(value)] = UInt8(i + 1) }
    return table
  }

  /// `0, 1, 2 and 4`, for messages.
  package var words: String {
    let all = ([0] + values + further.map(\.value)).sorted().map(String.init)
    return all.dropLast().joined(separator: ", ") + " and " + (all.last ?? "")
  }
}

extension SegmentationTask: Codable {
  private enum CodingKeys: String, CodingKey {
    case preset, sequences, missing, classes, regions, score, detect, files
    case readAs = "read_as"
  }

  private struct NamedRegion: Codable {
    let name: String
    let classes: [String]
  }

  private struct Further: Codable {
    let value: UInt8
    let reading: Reading
  }

  /// Throws `Fault` for what decodes and is no task.
  package init(from decoder: any Decoder) throws {
    let values = try decoder.container(keyedBy: CodingKeys.self)
    let further = try values.decode([Further].self, forKey: .readAs)
    let regions = try values.decode([NamedRegion].self, forKey: .regions)
    try self.init(
      preset: try values.decodeIfPresent(TaskPreset.self, forKey: .preset),
      sequences: try values.decode([Modality].self, forKey: .sequences),
      missing: try values.decode([Modality].self, forKey: .missing),
      classes: try values.decode([Label].self, forKey: .classes),
      readAs: Dictionary(further.map { ($0.value, $0.reading) }) { first, _ in first },
      regions: regions.map { ($0.name, $0.classes) },
      score: try values.decode([String].self, forKey: .score),
      detect: try values.decode(String.self, forKey: .detect),
      files: try values.decode([String: [String]].self, forKey: .files))
  }

  /// With sorted keys the same task is always the same text.
  package func encode(to encoder: any Encoder) throws {
    var values = encoder.container(keyedBy: CodingKeys.self)
    try values.encodeIfPresent(preset, forKey: .preset)
    try values.encode(sequences, forKey: .sequences)
    try values.encode(missing, forKey: .missing)
    try values.encode(classes, forKey: .classes)
    try values.encode(
      readAs.sorted { $0.key < $1.key }.map { Further(value: $0.key, reading: $0.value) }, forKey: .readAs)
    try values.encode(
      regions.map { region in NamedRegion(name: region.name, classes: region.classes.map(className)) },
      forKey: .regions)
    try values.encode(score.map(\.name), forKey: .score)
    try values.encode(detect.name, forKey: .detect)
    try values.encode(files, forKey: .files)
  }

  /// The name of a class index; of 0 `background`.
  package func className(_ index: UInt8) -> String {
    index == 0 ? "background" : classes[Int(index) - 1].name
  }

  /// The task as JSON, as a model file has it.
  package var json: String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    guard let data = try? encoder.encode(self) else { preconditionFailure("a task is names and numbers") }
    return String(decoding: data, as: UTF8.self)
  }

  /// Reads what `json` gives; nil for anything else.
  package init?(json: String) {
    guard let task = try? JSONDecoder().decode(SegmentationTask.self, from: Data(json.utf8)) else {
      return nil
    }
    self = task
  }
}
