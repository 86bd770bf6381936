import Compute
import Files
import Foundation
import Imaging
import Inference
import Learning
import Methods
import Terminal
import Yams

extension Recipe {
  /// Reads a recipe; keys that are absent take the paper's values. `overrides` are `key=value` with dots in the key
  /// (`hadnet.rate=1e-3`) and win over the file.
  ///
  /// Throws the first mistake found, with the line, the key's path and what is allowed there.
  package static func load(_ path: String, overrides: [String] = []) throws(Fault) -> Recipe {
    try Recipe(yaml: text(path), file: path, overrides: overrides)
  }

  /// A recipe's text, which may come from a pipe: of what is longer than a recipe can be, the beginning.
  package static func text(_ path: String) throws(Fault) -> String {
    guard FileManager.default.fileExists(atPath: path) else {
      throw Fault(.missing, "\(path): there is no such recipe")
    }
    let bytes = try InputFile.prefix(path, YAMLBounds.bytes + 1)
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw Fault(.recipe, "\(path) is not a text file in UTF-8")
    }
    return text
  }

  /// Reads a recipe from text; `file` is its name in errors.
  package init(yaml: String, file: String = "recipe.yaml", overrides: [String] = []) throws(Fault) {
    var tree = try RecipeTree(yaml, file: file)
    for text in overrides { try tree.override(text) }
    var reader = RecipeReader(tree: tree, path: [], node: tree.root)
    try visit(&reader)
    try reader.refuseUnknownKeys()
    if let task = task?.whole {
      try checkClassWeights(task) { tree.place($0, line: tree.node($0)?.mark?.line) }
    }
  }

  /// Throws where class weights are given and their number is not that of the task's classes and the background.
  ///
  /// `place`: where a key's value stands, for the message.
  func checkClassWeights(
    _ task: SegmentationTask, place: ([String]) -> String = { _ in "recipe" }
  ) throws(Fault) {
    for (path, weights) in RecipeWriter(self).weights where weights.count != task.classCount {
      throw Fault(
        .recipe,
        "\(place(path)): \(path.joined(separator: ".")) has \(weights.count.named("number")), and this task needs "
          + "\(task.classCount) (\(task.classNames)), or data")
    }
  }

  /// The whole recipe as YAML, every key in a fixed order; reading it gives an equal recipe.
  package var yaml: String { RecipeWriter(self).text }

  /// A hash of a recipe's text and what is changed of it.
  package static func contentHash(of text: String, overrides: [String]) -> String {
    String(ContentHash.of(Array((text + overrides.joined(separator: "\n")).utf8)).prefix(8))
  }

  /// A hash of all that is in the recipe but the data set's folder, which may differ between two machines, and the
  /// stages' epochs, which may grow.
  package var fingerprint: String {
    var anywhere = with(epochsOf: Recipe())
    anywhere.data.path = nil
    return ContentHash.of(Array(anywhere.yaml.utf8))
  }

  private func with(epochsOf other: Recipe) -> Recipe {
    var recipe = self
    for section in Recipe.sections {
      recipe.methods[section.key]?.epochCount = other.methods[section.key]?.epochCount
    }
    return recipe
  }

  func hasNoFewerEpochs(than other: Recipe) -> Bool {
    Recipe.sections.allSatisfy {
      (methods[$0.key]?.epochCount ?? 0) >= (other.methods[$0.key]?.epochCount ?? 0)
    }
  }

  /// The first key that differs, with both values (`hadnet.rate is 0.0002, there 0.001`), or nil where the
  /// recipes are equal but for the data set's folder, and, if so asked, for the stages' epochs.
  package func difference(from other: Recipe, exceptEpochs: Bool = false) -> String? {
    let own = exceptEpochs ? with(epochsOf: other) : self
    for (mine, theirs) in zip(RecipeWriter(own).values, RecipeWriter(other).values)
    where mine.text != theirs.text && mine.path != ["data", "path"] {
      return "\(mine.path.joined(separator: ".")) is \(mine.text), there \(theirs.text)"
    }
    return nil
  }
}

// MARK: - The keys

extension Recipe: RecipeSection {
  package mutating func visit(_ v: inout some RecipeVisitor) throws(Fault) {
    try v.value("name", &name, .text("a name"))
    try v.value("seed", &seed, .seed)
    try v.value("task", &task, .orNull(.task, "told by the data set"))
    try v.section("data", &data)
    try v.value("batch", &batch, .orNull(.whole(1...100_000), "one case a rank"))
    try v.value("scaling", &scaling, .choice())
    try v.value("reduction", &reduction, .choice())
    try v.section("network", &network)
    for section in Recipe.sections { try visit(section, &v) }
    try v.section("uncertainty", &uncertainty)
    try v.section("checkpoints", &checkpoints)
  }

  private mutating func visit(_ section: AnySection, _ v: inout some RecipeVisitor) throws(Fault) {
    func visited<Settings: MethodSettings>(
      _ settings: Settings, _ v: inout some RecipeVisitor
    ) throws(Fault) -> any MethodSettings {
      var settings = settings
      try v.section(section.key, &settings)
      return settings
    }
    let settings = methods[section.key] ?? section.paper
    methods[section.key] = try visited(settings, &v)
  }
}

extension DataSettings: RecipeSection {
  package mutating func visit(_ v: inout some RecipeVisitor) throws(Fault) {
    try v.value("path", &path, .orNull(.text("a folder"), "given by --data"))
    try v.value("split", &split, .split)
    try v.value("split_seed", &splitSeed, .orNull(.seed, "the recipe's seed"))
    try v.value("allow_leak", &allowLeak, .flag)
    try v.value("mask", &mask, .choice())
    try v.value("negative", &negative, .choice())
    try v.value("size", &size, .orNull(.size, "found from the data"))
    try v.value(
      "class_weights", &classWeights, .orNull(.weights, "the paper's for BraTS's classes, data's for others"))
  }
}

extension UncertaintySettings: RecipeSection {
  package mutating func visit(_ v: inout some RecipeVisitor) throws(Fault) {
    try v.value("samples", &samples, .whole(0...1_000_000))
    try v.value("measure", &measure, .choice())
    try v.value("scale", &scale, .choice())
    try v.value("segment_mean", &segmentsMean, .flag)
  }
}

extension CheckpointSettings: RecipeSection {
  package mutating func visit(_ v: inout some RecipeVisitor) throws(Fault) {
    try v.value("keep", &keep, .whole(1...1_000_000))
  }
}

// MARK: - Reading

/// The file as a tree, overrides included, and where each part of it comes from.
private struct RecipeTree {
  let file: String
  private(set) var root: Node
  /// The text of each override, by its key.
  private var overrides: [[String]: String] = [:]

  init(_ yaml: String, file: String) throws(Fault) {
    self.file = file
    let composed: Node?
    // Editors of other systems begin a file with a byte order mark.
    let yaml = withoutByteOrderMark(yaml)
    if let excess = YAMLBounds.excess(yaml) {
      throw Fault(.recipe, "\(file):\(excess.line): \(excess.words)")
    }
    do {
      composed = try Yams.compose(yaml: yaml)
    } catch {
      throw RecipeTree.fault(error, file: file)
    }
    guard let composed else { throw Fault(.missing, "\(file) is empty") }
    guard case .mapping = composed else {
      throw Fault(.recipe, "\(file):\(composed.mark?.line ?? 1): a recipe is lines of the form key: value")
    }
    root = composed
  }

  private static func fault(_ error: any Error, file: String) -> Fault {
    func sentence(_ line: Int?, _ problem: String, _ context: YamlError.Context?) -> Fault {
      let place = line.map { "\(file):\($0)" } ?? file
      return Fault(.recipe, "\(place): not valid YAML: \(context.map { $0.text + ", " } ?? "")\(problem)")
    }
    switch error as? YamlError {
    case .scanner(let context, let problem, let mark, _), .parser(let context, let problem, let mark, _),
      .composer(let context, let problem, let mark, _):
      return sentence(mark.line, problem, context)
    case .reader(let problem, _, _, _): return sentence(nil, problem, nil)
    case .duplicatedKeysInMapping(let keys, let context):
      return Fault(
        .recipe,
        "\(file):\(context.mark.line): \(excerpt(keys.sorted().first ?? "a key")) stands twice in this section"
      )
    default: return sentence(nil, "\(error)", nil)
    }
  }

  /// Puts the value of `key=value` in its place.
  mutating func override(_ text: String) throws(Fault) {
    let shown = excerpt(text)
    guard let equals = text.firstIndex(of: "="), equals > text.startIndex else {
      throw Fault(.usage, "--set \(shown): write it as key=value, e.g. --set hadnet.rate=1e-3")
    }
    let key = text[..<equals].trimmingCharacters(in: .whitespaces)
    let path = key.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
    let known = RecipeWriter(Recipe()).values.map(\.path)
    let inside = known.filter { $0.count > path.count && $0.starts(with: path) }
    if let first = inside.first {
      throw Fault(
        .recipe,
        "--set \(shown): \(key) is a section; set one of its keys, such as \(first.joined(separator: "."))")
    }
    let isOfSplit =
      path.count == 3 && path.starts(with: ["data", "split"]) && SplitSettings.keys.contains(path[2])
    guard known.contains(path) || isOfSplit else {
      throw Fault(.recipe, "--set \(shown): " + unknown(path, among: known))
    }
    if let excess = YAMLBounds.excess(text) { throw Fault(.recipe, "--set \(shown): \(excess.words)") }
    let value: Node?
    do {
      value = try Yams.compose(yaml: String(text[text.index(after: equals)...]))
    } catch {
      throw Fault(.recipe, "--set \(shown): the value is not valid YAML")
    }
    RecipeTree.put(value ?? Node("null"), at: path[...], in: &root)
    if isOfSplit {
      // Counts take the place of proportions that the file has, and the other way round.
      for other in SplitSettings.keys(besides: path[2]) {
        RecipeTree.remove(path.dropLast() + [other], from: &root)
      }
    }
    overrides[path] = text
  }

  private static func put(_ value: Node, at path: ArraySlice<String>, in node: inout Node) {
    guard let key = path.first else {
      node = value
      return
    }
    var mapping: Node.Mapping = [:]
    if case .mapping(let there) = node { mapping = there }
    var child = mapping[key] ?? Node("")
    put(value, at: path.dropFirst(), in: &child)
    mapping[key] = child
    node = .mapping(mapping)
  }

  private static func remove(_ path: ArraySlice<String>, from node: inout Node) {
    guard let key = path.first, case .mapping(var mapping) = node, var child = mapping[key] else { return }
    if path.count > 1 {
      remove(path.dropFirst(), from: &child)
      mapping[key] = child
    } else {
      mapping[key] = nil
    }
    node = .mapping(mapping)
  }

  /// The node at a path; nil where the file has none.
  func node(_ path: [String]) -> Node? {
    var node: Node? = root
    for key in path {
      guard case .mapping(let mapping)? = node else { return nil }
      node = mapping[key]
    }
    return node
  }

  /// `demo.yaml:12`, or the override that put the value there.
  func place(_ path: [String], _ node: Node) -> String { place(path, line: node.mark?.line) }

  func place(_ path: [String], line: Int?) -> String {
    if let text = overrides.first(where: { $0.key.starts(with: path) })?.value {
      return "--set \(excerpt(text))"
    }
    return line.map { "\(file):\($0)" } ?? file
  }
}

/// Sets each value from the tree.
private struct RecipeReader: RecipeVisitor {
  let tree: RecipeTree
  let path: [String]
  /// The section's node; nil where it is absent.
  let node: Node?
  private var keys: [String] = []

  init(tree: RecipeTree, path: [String], node: Node?) {
    self.tree = tree
    self.path = path
    self.node = node
  }

  mutating func value<T>(_ key: String, _ value: inout T, _ form: RecipeValue<T>) throws(Fault) {
    guard let found = child(key) else { return }
    guard let read = form.read(found) else {
      let path = path + [key]
      if let mistake = form.mistake(found) {
        throw Fault(
          .recipe,
          "\(tree.place(path, line: mistake.line)): \(path.joined(separator: ".")).\(mistake.words)")
      }
      throw Fault(
        .recipe,
        "\(tree.place(path, found)): \(path.joined(separator: ".")) must be \(form.allowed), not \(excerpt(found.words))"
      )
    }
    value = read
  }

  mutating func section(_ key: String, _ section: inout some RecipeSection) throws(Fault) {
    let found = child(key), path = path + [key]
    // A section whose lines are all commented out is null, and means the same as none.
    if let found, !found.isNull, found.mapping == nil {
      throw Fault(
        .recipe,
        "\(tree.place(path, found)): \(path.joined(separator: ".")) is a section of keys, not \(excerpt(found.words))"
      )
    }
    var reader = RecipeReader(tree: tree, path: path, node: found)
    try section.visit(&reader)
    try reader.refuseUnknownKeys()
  }

  func refuseUnknownKeys() throws(Fault) {
    guard case .mapping(let mapping) = node else { return }
    for pair in mapping where !keys.contains(pair.key.scalar?.string ?? "") {
      let path = path + [pair.key.scalar?.string ?? "?"]
      let known = RecipeWriter(Recipe()).values.map(\.path)
      throw Fault(.recipe, "\(tree.place(path, pair.key)): " + unknown(path, among: known))
    }
  }

  private mutating func child(_ key: String) -> Node? {
    keys.append(key)
    guard case .mapping(let mapping) = node else { return nil }
    return mapping[key]
  }
}

/// What to say of a key that there is none: the nearest of its section, or the same key in another section, or all.
private func unknown(_ path: [String], among known: [[String]]) -> String {
  let name = excerpt(path.joined(separator: ".")), section = path.dropLast(), key = path.last ?? ""
  var siblings: [String] = []
  for other in known where other.count > section.count && other.starts(with: section) {
    let sibling = other[section.count]
    if !siblings.contains(sibling) { siblings.append(sibling) }
  }
  if known.contains(Array(section)) { return "\(section.joined(separator: ".")) has no keys of its own" }
  // A section that isn't there itself: say so of the section, whose name is the mistake.
  // No key lies as deep as a text can have points.
  if siblings.isEmpty, section.count > 0 {
    return unknown(Array(section.prefix(known.map(\.count).max() ?? 1)), among: known)
  }
  // Of a long one none is near, and the distance would take its time.
  let nearest =
    key.count > 80
    ? nil : siblings.map { (key: $0, edits: edits(from: key, to: $0)) }.min { $0.edits < $1.edits }
  if let nearest, nearest.edits <= max(1, min(key.count, nearest.key.count) / 2) {
    return "\(name) is not a known key; did you mean \(nearest.key)?"
  }
  if let elsewhere = known.first(where: { $0.last == key }) {
    return "\(name) is not a known key; did you mean \(elsewhere.joined(separator: "."))?"
  }
  return "\(name) is not a known key; known are \(siblings.joined(separator: ", "))"
}

/// The Levenshtein distance: letters to insert, delete or replace.
private func edits(from a: String, to b: String) -> Int {
  let b = Array(b)
  var row = Array(0...b.count)
  for (i, letter) in a.enumerated() {
    var diagonal = row[0]
    row[0] = i + 1
    for j in b.indices {
      let replaced = diagonal + (letter == b[j] ? 0 : 1)
      diagonal = row[j + 1]
      row[j + 1] = min(replaced, row[j] + 1, row[j + 1] + 1)
    }
  }
  return row[b.count]
}

// MARK: - Writing

/// Writes each value as a line.
private struct RecipeWriter: RecipeVisitor {
  private(set) var text = ""
  private(set) var values: [(path: [String], text: String)] = []
  /// Those of them that are class weights, where they are numbers.
  private(set) var weights: [(path: [String], numbers: [Float])] = []
  private var path: [String] = []

  init(_ recipe: Recipe) {
    var recipe = recipe
    // A visitor throws only where it reads.
    do { try recipe.visit(&self) } catch { preconditionFailure("\(error)") }
  }

  mutating func value<T>(_ key: String, _ value: inout T, _ form: RecipeValue<T>) {
    let written = form.text(value)
    line("\(key): \(written)")
    values.append((path + [key], written))
    if case .fixed(let numbers)? = value as? ClassWeights { weights.append((path + [key], numbers)) }
  }

  mutating func section(_ key: String, _ section: inout some RecipeSection) throws(Fault) {
    line("\(key):")
    path.append(key)
    try section.visit(&self)
    path.removeLast()
  }

  private mutating func line(_ content: String) {
    text += String(repeating: "  ", count: path.count) + content + "\n"
  }
}
