import Files
import Imaging
import Terminal
import Yams

extension RecipeValue where T == TaskRequest {
  /// A preset's name, or a mapping of sequences, missing, classes, regions and what else a task has; `preset` in it is where
  /// it starts. Without preset, sequences and classes it adds to what the data set tells.
  package static var task: Self {
    let names = TaskPreset.allCases.map(\.rawValue)
    return Self(
      allowed:
        "one of \(names.joined(separator: ", ")), or a mapping of sequences, missing, classes and regions",
      read: { try? TaskReader.read($0) },
      text: { request in
        switch request {
        case .whole(let task): task.preset?.task == task ? task.preset?.rawValue ?? "" : taskText(task)
        case .additions(let more): additionsText(more)
        }
      },
      mistake: { node in
        guard node.mapping != nil || TaskPreset(rawValue: node.scalar?.string ?? "") != nil else {
          return nil
        }
        do throws(RecipeMistake) {
          _ = try TaskReader.read(node)
          return nil
        } catch { return error }
      })
  }
}

private func list(_ names: [String]) -> String { "[" + names.map(quoted).joined(separator: ", ") + "]" }

private func readingsText(_ readings: [UInt8: SegmentationTask.Reading]) -> String {
  let texts = readings.sorted { $0.key < $1.key }.map { value, reading in
    switch reading {
    case .background: "\(value): background"
    case .ignored: "\(value): ignore"
    case .label(let name): "\(value): \(quoted(name))"
    }
  }
  return "{" + texts.joined(separator: ", ") + "}"
}

private func regionsText(_ regions: [NamedClasses]) -> String {
  "{" + regions.map { "\(quoted($0.name)): \(list($0.classes))" }.joined(separator: ", ") + "}"
}

private func additionsText(_ more: TaskAdditions) -> String {
  let parts = [
    more.missing.map { "missing: " + list($0.map(\.rawValue)) },
    more.readAs.isEmpty ? nil : "read_as: " + readingsText(more.readAs),
    more.regions.map { "regions: " + regionsText($0) }, more.score.map { "score: " + list($0) },
    more.detect.map { "detect: " + quoted($0) },
  ]
  return "{" + parts.compactMap(\.self).joined(separator: ", ") + "}"
}

/// A task as a mapping in one line: what differs from its preset, or all of it.
private func taskText(_ task: SegmentationTask) -> String {
  let base = task.preset?.task
  var parts: [String] = task.preset.map { ["preset: \($0.rawValue)"] } ?? []
  func add(_ key: String, _ text: String, isNew: Bool) { if isNew { parts.append("\(key): \(text)") } }
  add("sequences", list(task.sequences.map(\.rawValue)), isNew: task.sequences != base?.sequences)
  add("missing", list(task.missing.map(\.rawValue)), isNew: task.missing != base?.missing)
  let classes = task.classes.map { "\(quoted($0.name)): \($0.value)" }.joined(separator: ", ")
  add("classes", "{\(classes)}", isNew: task.classes != base?.classes)
  add("read_as", readingsText(task.readAs), isNew: !task.readAs.isEmpty)
  add(
    "regions", regionsText(task.regions.map { NamedClasses($0.name, $0.classes.map(task.className)) }),
    isNew: task.regions != base?.regions)
  add("score", list(task.score.map(\.name)), isNew: task.score != (base?.score ?? task.regions))
  add("detect", quoted(task.detect.name), isNew: task.detect != (base?.detect ?? task.regions.last))
  return "{" + parts.joined(separator: ", ") + "}"
}

/// Reads a task from a recipe's node.
private enum TaskReader {
  private static let keys = [
    "preset", "sequences", "missing", "classes", "read_as", "regions", "score", "detect",
  ]

  static func read(_ node: Node) throws(RecipeMistake) -> TaskRequest {
    if let name = node.scalar?.string {
      guard let preset = TaskPreset(rawValue: name) else { throw RecipeMistake(node, "is no preset") }
      return .whole(preset.task)
    }
    guard case .mapping(let mapping) = node else { throw RecipeMistake(node, "is no mapping") }
    for pair in mapping where !keys.contains(pair.key.scalar?.string ?? "") {
      throw RecipeMistake(
        pair.key,
        "\(excerpt(pair.key.scalar?.string ?? "?")) is not a known key; known are \(keys.joined(separator: ", "))"
      )
    }
    if ["preset", "sequences", "classes"].allSatisfy({ mapping[$0] == nil }) {
      return .additions(try additions(mapping))
    }
    return .whole(try whole(node, mapping))
  }

  private static func additions(_ mapping: Node.Mapping) throws(RecipeMistake) -> TaskAdditions {
    var more = TaskAdditions()
    more.missing = try names("missing", mapping)?.map { Modality(rawValue: $0) }
    more.regions = try lists("regions", mapping)?.map { NamedClasses($0.key, $0.names) }
    more.score = try names("score", mapping)
    more.detect = try detect(mapping)
    do throws(Fault) { more.readAs = try readings(mapping) } catch {
      throw RecipeMistake(mapping["read_as"] ?? .mapping(mapping), error.description)
    }
    return more
  }

  private static func whole(
    _ node: Node, _ mapping: Node.Mapping
  ) throws(RecipeMistake) -> SegmentationTask {
    var preset: TaskPreset?
    if let node = mapping["preset"] {
      guard let known = node.scalar.flatMap({ TaskPreset(rawValue: $0.string) }) else {
        let names = TaskPreset.allCases.map(\.rawValue).joined(separator: ", ")
        throw RecipeMistake(node, "preset must be one of \(names)")
      }
      preset = known
    }
    let base = preset?.task
    func needed<Value>(_ key: String, _ value: Value?) throws(RecipeMistake) -> Value {
      guard let value else { throw RecipeMistake(node, "\(key) is missing, and no preset gives it") }
      return value
    }
    let sequences = try names("sequences", mapping)?.map { Modality(rawValue: $0) } ?? base?.sequences
    let missing = try names("missing", mapping)?.map { Modality(rawValue: $0) } ?? base?.missing
    let classes = try classes(mapping) ?? base?.classes
    var regions = try lists("regions", mapping)?.map { (name: $0.key, classes: $0.names) }
    if regions == nil, let base, classes == base.classes {
      regions = base.regions.map { ($0.name, $0.classes.map(base.className)) }
    }
    let isOwn = mapping["regions"] != nil
    let score = try names("score", mapping) ?? (isOwn ? nil : base?.score.map(\.name))
    let detect = try detect(mapping) ?? (isOwn ? nil : base?.detect.name)
    let given = (
      sequences: try needed("sequences", sequences), missing: try needed("missing", missing),
      classes: try needed("classes", classes), regions: try needed("regions", regions)
    )
    do throws(Fault) {
      return try SegmentationTask(
        preset: preset, sequences: given.sequences, missing: given.missing, classes: given.classes,
        readAs: readings(mapping), regions: given.regions, score: score, detect: detect)
    } catch {
      // The words begin with the key, whose line is what a person looks for.
      let key = String(error.description.prefix { $0 != " " })
      throw RecipeMistake(mapping[key] ?? node, error.description)
    }
  }

  private static func names(_ key: String, _ mapping: Node.Mapping) throws(RecipeMistake) -> [String]? {
    guard let node = mapping[key] else { return nil }
    guard let names = names(node) else { throw RecipeMistake(node, "\(key) must be a list of names") }
    return names
  }

  private static func names(_ node: Node) -> [String]? {
    guard case .sequence(let list) = node else { return nil }
    let names = list.compactMap { $0.scalar?.string }
    return names.count == list.count ? names : nil
  }

  private static func lists(
    _ key: String, _ mapping: Node.Mapping
  ) throws(RecipeMistake) -> [(key: String, names: [String])]? {
    guard let node = mapping[key] else { return nil }
    guard case .mapping(let members) = node else {
      throw RecipeMistake(node, "\(key) must be a mapping of names to lists")
    }
    var lists: [(key: String, names: [String])] = []
    for pair in members {
      guard let name = pair.key.scalar?.string, let names = names(pair.value) else {
        throw RecipeMistake(pair.key, "\(key) must be a mapping of names to lists")
      }
      lists.append((name, names))
    }
    return lists
  }

  private static func value(_ node: Node) -> UInt8? { node.plain.flatMap { UInt8($0) } }

  private static func classes(_ mapping: Node.Mapping) throws(RecipeMistake) -> [SegmentationTask.Label]? {
    guard let node = mapping["classes"] else { return nil }
    guard case .mapping(let members) = node else {
      throw RecipeMistake(node, "classes must be a mapping of names to values in files")
    }
    var classes: [SegmentationTask.Label] = []
    for pair in members {
      guard let name = pair.key.scalar?.string, let value = value(pair.value) else {
        throw RecipeMistake(pair.value, "classes must be names with values from 1 to 255")
      }
      classes.append(.init(name, value))
    }
    return classes
  }

  private static func readings(
    _ mapping: Node.Mapping
  ) throws(Fault) -> [UInt8: SegmentationTask.Reading] {
    guard let node = mapping["read_as"] else { return [:] }
    let form = Fault(
      .recipe, "read_as must be values with background, ignore or a class, such as {5: background}")
    guard case .mapping(let members) = node else { throw form }
    var readings: [UInt8: SegmentationTask.Reading] = [:]
    for pair in members {
      guard let value = value(pair.key), let name = pair.value.scalar?.string else { throw form }
      readings[value] = name == "background" ? .background : name == "ignore" ? .ignored : .label(name)
    }
    return readings
  }

  private static func detect(_ mapping: Node.Mapping) throws(RecipeMistake) -> String? {
    guard let node = mapping["detect"] else { return nil }
    guard let name = node.scalar?.string else { throw RecipeMistake(node, "detect must be a region's name") }
    return name
  }
}
