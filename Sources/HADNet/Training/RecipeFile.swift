import Foundation
import Terminal
import Yams

// One list of keys (the `visit` functions below) serves reading, writing and comparing, so that a key can't be
// written and not read. A visitor is told each key in the order of the file.

extension Recipe {
  /// Reads a recipe; keys that are absent take the paper's values. `overrides` are `key=value` with dots in the key
  /// (`hadnet.rate=1e-3`) and win over the file.
  ///
  /// Throws the first mistake found, with the line, the key's path and what is allowed there.
  public static func load(_ path: String, overrides: [String] = []) throws(Fault) -> Recipe {
    try Recipe(yaml: text(path), file: path, overrides: overrides)
  }

  /// A recipe's text, which may come from a pipe: of what is longer than a recipe can be, the beginning.
  public static func text(_ path: String) throws(Fault) -> String {
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
  public init(yaml: String, file: String = "recipe.yaml", overrides: [String] = []) throws(Fault) {
    var tree = try RecipeTree(yaml, file: file)
    for text in overrides { try tree.override(text) }
    var reader = RecipeReader(tree: tree, path: [], node: tree.root)
    try visit(&reader)
    try reader.refuseUnknownKeys()
  }

  /// The whole recipe as YAML, every key in a fixed order; reading it gives an equal recipe.
  public var yaml: String { RecipeWriter(self).text }

  /// A hash of a recipe's text and what is changed of it.
  public static func contentHash(of text: String, overrides: [String]) -> String {
    String(ContentHash.of(Array((text + overrides.joined(separator: "\n")).utf8)).prefix(8))
  }

  /// A hash of all that is in the recipe but the data set's folder, which may differ between two machines, and the
  /// stages' epochs, which may grow.
  public var fingerprint: String {
    var anywhere = with(epochsOf: Recipe())
    anywhere.data.path = nil
    return ContentHash.of(Array(anywhere.yaml.utf8))
  }

  private func with(epochsOf other: Recipe) -> Recipe {
    var recipe = self
    recipe.epochs = other.epochs
    return recipe
  }

  func hasNoFewerEpochs(than other: Recipe) -> Bool { zip(epochs, other.epochs).allSatisfy { $0 >= $1 } }

  /// Of the stages that are trained epoch by epoch.
  private var epochs: [Int] {
    get { [teacher.epochs, student.epochs, hadnet.epochs, kdnet.epochs] }
    set {
      (teacher.epochs, student.epochs, hadnet.epochs, kdnet.epochs) = (
        newValue[0], newValue[1], newValue[2], newValue[3]
      )
    }
  }

  /// The first key that differs, with both values (`hadnet.rate is 0.0002, there 0.001`), or nil where the
  /// recipes are equal but for the data set's folder, and, if so asked, for the stages' epochs.
  public func difference(from other: Recipe, exceptEpochs: Bool = false) -> String? {
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
  fileprivate mutating func visit(_ v: inout some RecipeVisitor) throws(Fault) {
    try v.value("name", &name, .text("a name"))
    try v.value("seed", &seed, .seed)
    try v.section("data", &data)
    try v.value("batch", &batch, .orNull(.whole(1...100_000), "one case a rank"))
    try v.value("scaling", &scaling, .choice())
    try v.value("reduction", &reduction, .choice())
    try v.section("network", &network)
    try v.section("teacher", &teacher)
    try v.section("student", &student)
    try v.section("hadnet", &hadnet)
    try v.section("kdnet", &kdnet)
    try v.section("uhemis", &uhemis)
    try v.section("uhved", &uhved)
    try v.section("uncertainty", &uncertainty)
    try v.section("checkpoints", &checkpoints)
  }
}

extension DataSettings: RecipeSection {
  fileprivate mutating func visit(_ v: inout some RecipeVisitor) throws(Fault) {
    try v.value("path", &path, .orNull(.text("a folder"), "given by --data"))
    try v.value("split", &split, .split)
    try v.value("split_seed", &splitSeed, .orNull(.seed, "the recipe's seed"))
    try v.value("allow_leak", &allowLeak, .flag)
    try v.value("mask", &mask, .choice())
    try v.value("negative", &negative, .choice())
    try v.value("size", &size, .orNull(.size, "found from the data"))
    try v.value("class_weights", &classWeights, .weights)
  }
}

extension NetworkSettings: RecipeSection {
  fileprivate mutating func visit(_ v: inout some RecipeVisitor) throws(Fault) {
    try v.value("k", &k, .whole(1...256))
    try v.value("dropout", &dropout, .number(from: 0, below: 1))
  }
}

extension Pretraining: RecipeSection {
  fileprivate mutating func visit(_ v: inout some RecipeVisitor) throws(Fault) {
    try v.value("epochs", &epochs, .whole(1...1_000_000))
    try v.value("rate", &rate, .number(above: 0, to: 1))
    try v.value("beta1", &beta1, .number(from: 0, below: 1))
    try v.value("beta2", &beta2, .number(from: 0, below: 1))
    try v.value("epsilon", &epsilon, .number(above: 0, to: 1))
    try v.value("decay", &decay, .number(from: 0, to: 1))
    try v.section("plateau", &plateau)
    try v.value("class_weight_decay", &classWeightDecay, .number(above: 0, to: 1))
    try v.value("class_weight_floor", &classWeightFloor, .number(from: 0, to: 1e6))
    try v.section("augmentation", &augmentation)
    try v.value("validation_interval", &validationInterval, .whole(1...1_000_000))
  }
}

extension PlateauSettings: RecipeSection {
  fileprivate mutating func visit(_ v: inout some RecipeVisitor) throws(Fault) {
    try v.value("patience", &patience, .whole(1...1_000_000))
    try v.value("factor", &factor, .number(above: 0, to: 1))
  }
}

extension AugmentationSettings: RecipeSection {
  fileprivate mutating func visit(_ v: inout some RecipeVisitor) throws(Fault) {
    try v.value("enabled", &enabled, .flag)
    try v.value("flip", &flip, .number(from: 0, to: 1))
    try v.value("affine", &affine, .number(from: 0, to: 1))
    try v.value("rotation", &rotation, .number(from: 0, to: 180))
    try v.value("shear", &shear, .number(from: 0, below: 1))
    try v.value("scale", &scale, .number(from: 0, below: 1))
  }
}

extension Distillation: RecipeSection {
  fileprivate mutating func visit(_ v: inout some RecipeVisitor) throws(Fault) {
    try v.value("epochs", &epochs, .whole(1...1_000_000))
    try v.value("rate", &rate, .number(above: 0, to: 1))
    try v.value("beta1", &beta1, .number(from: 0, below: 1))
    try v.value("beta2", &beta2, .number(from: 0, below: 1))
    try v.value("epsilon", &epsilon, .number(above: 0, to: 1))
    try v.value("lambda", &lambda, .number(from: 0, to: 1000))
    try v.value("gate", &gate, .number(from: 0, to: 1))
    try v.value("teacher_dropout", &teacherDropout, .flag)
    try v.value("class_weights", &classWeights, .orNull(.weights, "those of data"))
    try v.value("validation_interval", &validationInterval, .whole(1...1_000_000))
  }
}

extension KnowledgeDistillation: RecipeSection {
  fileprivate mutating func visit(_ v: inout some RecipeVisitor) throws(Fault) {
    try v.value("epochs", &epochs, .whole(1...1_000_000))
    try v.value("rate", &rate, .number(above: 0, to: 1))
    try v.value("beta1", &beta1, .number(from: 0, below: 1))
    try v.value("beta2", &beta2, .number(from: 0, below: 1))
    try v.value("epsilon", &epsilon, .number(above: 0, to: 1))
    try v.section("plateau", &plateau)
    try v.value("temperature", &temperature, .number(above: 0, to: 1000))
    try v.value("lambda", &lambda, .number(from: 0, to: 1))
    try v.value("alpha", &alpha, .number(from: 0, to: 100_000))
    try v.value("flip", &flip, .number(from: 0, to: 1))
    try v.value("validation_interval", &validationInterval, .whole(1...1_000_000))
  }
}

extension WindowTraining: RecipeSection {
  fileprivate mutating func visit(_ v: inout some RecipeVisitor) throws(Fault) {
    try v.value("width", &width, .even(2...256))
    try v.value("windows", &windows, .whole(1...1_000_000_000))
    try v.value("windows_per_case", &windowsPerCase, .whole(1...100_000))
    try v.value("queue", &queue, .whole(1...100_000))
    try v.value("patch", &patch, .whole(16...4096))
    try v.value("window", &window, .whole(32...4096))
    try v.value("rate", &rate, .number(above: 0, to: 1))
    try v.value("rate_factor", &rateFactor, .number(above: 0, to: 1))
    try v.value("rate_interval", &rateInterval, .whole(1...1_000_000_000))
    try v.value("beta1", &beta1, .number(from: 0, below: 1))
    try v.value("beta2", &beta2, .number(from: 0, below: 1))
    try v.value("epsilon", &epsilon, .number(above: 0, to: 1))
    try v.value("decay", &decay, .number(from: 0, to: 1))
    try v.value("flip", &flip, .number(from: 0, to: 1))
    try v.value("scale", &scale, .number(from: 0, below: 1))
    try v.value("least_side", &leastSide, .whole(1...4096))
    try v.value("landmarks", &landmarks, .choice())
  }
}

extension HeteromodalTraining: RecipeSection {
  fileprivate mutating func visit(_ v: inout some RecipeVisitor) throws(Fault) {
    try training.visit(&v)
    try v.value("divergence", &divergence, .number(from: 0, to: 1000))
    try v.value("reconstruction", &reconstruction, .number(from: 0, to: 1000))
    try v.value("means", &means, .flag)
  }
}

extension UncertaintySettings: RecipeSection {
  fileprivate mutating func visit(_ v: inout some RecipeVisitor) throws(Fault) {
    try v.value("samples", &samples, .whole(0...1_000_000))
    try v.value("measure", &measure, .choice())
    try v.value("scale", &scale, .choice())
    try v.value("segment_mean", &segmentsMean, .flag)
  }
}

extension CheckpointSettings: RecipeSection {
  fileprivate mutating func visit(_ v: inout some RecipeVisitor) throws(Fault) {
    try v.value("keep", &keep, .whole(1...1_000_000))
  }
}

private protocol RecipeSection {
  mutating func visit(_ v: inout some RecipeVisitor) throws(Fault)
}

private protocol RecipeVisitor {
  mutating func value<T>(_ key: String, _ value: inout T, _ form: RecipeValue<T>) throws(Fault)
  mutating func section(_ key: String, _ section: inout some RecipeSection) throws(Fault)
}

// MARK: - The values

/// How one kind of value is read, written, and described to a person who got it wrong.
private struct RecipeValue<T> {
  /// Follows "must be".
  let allowed: String
  let read: (Node) -> T?
  let text: (T) -> String
}

extension RecipeValue {
  /// The same as `form`, or null, which stands for `meaning`.
  static func orNull<W>(_ form: RecipeValue<W>, _ meaning: String) -> Self where T == W? {
    Self(
      allowed: "\(form.allowed), or null (\(meaning))",
      read: { $0.isNull ? .some(nil) : form.read($0).map { .some($0) } },
      text: { $0.map(form.text) ?? "null" })
  }
}

extension RecipeValue where T == Int {
  static func whole(_ range: ClosedRange<Int>) -> Self {
    Self(
      allowed: "a whole number from \(range.lowerBound) to \(range.upperBound)",
      read: { node in node.plain.flatMap { Int($0) }.flatMap { range.contains($0) ? $0 : nil } },
      text: { "\($0)" })
  }
}

extension RecipeValue where T == Int {
  static func even(_ range: ClosedRange<Int>) -> Self {
    Self(
      allowed: "an even number from \(range.lowerBound) to \(range.upperBound)",
      read: { node in
        node.plain.flatMap { Int($0) }.flatMap { range.contains($0) && $0 % 2 == 0 ? $0 : nil }
      }, text: { "\($0)" })
  }
}

extension RecipeValue where T == UInt64 {
  static var seed: Self {
    Self(
      allowed: "a whole number from 0 to \(UInt64.max)", read: { $0.plain.flatMap { UInt64($0) } },
      text: { "\($0)" })
  }
}

extension RecipeValue where T: BinaryFloatingPoint & LosslessStringConvertible {
  static func number(from low: T, to high: T) -> Self {
    number("from \(plain(low)) to \(plain(high))") { $0 >= low && $0 <= high }
  }
  static func number(from low: T, below high: T) -> Self {
    number("from \(plain(low)) to below \(plain(high))") { $0 >= low && $0 < high }
  }
  static func number(above low: T, to high: T) -> Self {
    number("above \(plain(low)) and at most \(plain(high))") { $0 > low && $0 <= high }
  }

  private static func number(_ words: String, _ holds: @escaping (T) -> Bool) -> Self {
    Self(
      allowed: "a number \(words)",
      read: { node in node.number(T.self).flatMap { holds($0) ? $0 : nil } },
      text: numberText)
  }

  private static func plain(_ bound: T) -> String { "\(Int(bound))" }
}

/// The shortest digits that read back as the same number. A point stands in front of every exponent, without which
/// YAML 1.1 readers take `1e-08` for a text.
private func numberText<T: BinaryFloatingPoint & LosslessStringConvertible>(_ value: T) -> String {
  let text = "\(value)"
  guard let e = text.firstIndex(of: "e"), !text.contains(".") else { return text }
  return text[..<e] + ".0" + text[e...]
}

extension RecipeValue where T == Bool {
  static var flag: Self {
    Self(
      allowed: "true or false",
      read: { node in
        switch node.plain {
        case "true": true
        case "false": false
        default: nil
        }
      },
      text: { "\($0)" })
  }
}

extension RecipeValue where T: CaseIterable & RawRepresentable, T.RawValue == String {
  static func choice() -> Self {
    let names = T.allCases.map(\.rawValue)
    return Self(
      allowed: names.dropLast().joined(separator: ", ") + " or " + (names.last ?? ""),
      read: { node in node.scalar.flatMap { T(rawValue: $0.string) } },
      text: { $0.rawValue })
  }
}

extension RecipeValue where T == String {
  static func text(_ what: String) -> Self {
    Self(
      allowed: what,
      read: { node in
        guard let scalar = node.scalar, !node.isNull, !scalar.string.isEmpty else { return nil }
        return scalar.string
      },
      text: quoted)
  }
}

extension RecipeValue where T == Size {
  static var size: Self {
    Self(
      allowed: "three sides [z, y, x], each a multiple of 16 and at least 32",
      read: { node in
        guard case .sequence(let list) = node, list.count == 3 else { return nil }
        let sides = list.compactMap { $0.plain.flatMap { Int($0) } }
        guard sides.count == 3, sides.allSatisfy({ $0 >= 32 && $0 % 16 == 0 && $0 <= 4096 }) else {
          return nil
        }
        return Size(sides[0], sides[1], sides[2])
      },
      text: { "[\($0.z), \($0.y), \($0.x)]" })
  }
}

extension RecipeValue where T == ClassWeights {
  static var weights: Self {
    Self(
      allowed: "four numbers from 0 (background, NET, ED, ET), not all 0, or data",
      read: { node in
        if node.plain == "data" { return .data }
        guard case .sequence(let list) = node, list.count == 4 else { return nil }
        let weights = list.compactMap { $0.number(Float.self) }
        guard weights.count == 4, weights.allSatisfy({ $0 >= 0 }), weights.contains(where: { $0 > 0 }) else {
          return nil
        }
        return .fixed(weights)
      },
      text: { weights in
        switch weights {
        case .data: "data"
        case .fixed(let values): "[" + values.map(numberText).joined(separator: ", ") + "]"
        }
      })
  }
}

extension RecipeValue where T == SplitSettings {
  static let counts = ["train", "validation", "test"]
  static let ratio = "ratio"

  static var split: Self {
    Self(
      allowed: "counts {train: 7, validation: 2, test: 2} with at least 1 to train, proportions "
        + "{ratio: [200, 66, 69]}, or the name of a file",
      read: { node in
        if let scalar = node.scalar {
          return node.isNull || scalar.string.isEmpty || node.number(Double.self) != nil
            ? nil : .file(scalar.string)
        }
        guard case .mapping(let mapping) = node else { return nil }
        func whole(_ node: Node) -> Int? {
          node.plain.flatMap { Int($0) }.flatMap { (0...1_000_000).contains($0) ? $0 : nil }
        }
        if case .sequence(let list)? = mapping[ratio], mapping.count == 1 {
          let parts = list.compactMap(whole)
          guard list.count == 3, parts.count == 3, parts[0] > 0 else { return nil }
          return .ratio(train: parts[0], validation: parts[1], test: parts[2])
        }
        guard mapping.allSatisfy({ counts.contains($0.key.scalar?.string ?? "") }) else { return nil }
        // A set that is not named is empty.
        let sizes = counts.compactMap { name in mapping[name].map(whole) ?? 0 }
        guard sizes.count == 3, sizes[0] > 0 else { return nil }
        return .counts(train: sizes[0], validation: sizes[1], test: sizes[2])
      },
      text: { split in
        switch split {
        case .ratio(let train, let validation, let test): "{ratio: [\(train), \(validation), \(test)]}"
        case .counts(let train, let validation, let test):
          "{train: \(train), validation: \(validation), test: \(test)}"
        case .file(let name): quoted(name)
        }
      })
  }
}

/// A text as YAML: as it stands where no reader could take it for anything else, else in double quotes.
private func quoted(_ text: String) -> String {
  let words: Set = ["null", "true", "false", "yes", "no", "on", "off", "y", "n", "data"]
  let harmless = text.utf8.allSatisfy { byte in
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "-"), UInt8(ascii: "."),
      UInt8(ascii: "/"):
      true
    default: false
    }
  }
  let first = text.utf8.first.map { !"0123456789.-".utf8.contains($0) } ?? false
  if harmless, first, !words.contains(text.lowercased()) { return text }
  var result = "\""
  for scalar in text.unicodeScalars {
    switch scalar {
    case "\"": result += "\\\""
    case "\\": result += "\\\\"
    case "\n": result += "\\n"
    case "\t": result += "\\t"
    case "\r": result += "\\r"
    case _ where scalar.value < 0x20 || scalar.value == 0x7F:
      let digits = String(scalar.value, radix: 16)
      result += "\\x" + (digits.count < 2 ? "0" : "") + digits
    default: result.unicodeScalars.append(scalar)
    }
  }
  return result + "\""
}

extension Node {
  /// The text of an unquoted scalar.
  fileprivate var plain: String? {
    guard case .scalar(let scalar) = self, scalar.style == .plain || scalar.style == .any else { return nil }
    return scalar.string
  }

  fileprivate var isNull: Bool {
    guard let plain else { return false }
    return plain.isEmpty || plain == "~" || plain.lowercased() == "null"
  }

  /// A finite decimal number; Swift alone would also take "inf", "nan" and hexadecimal.
  fileprivate func number<T: BinaryFloatingPoint & LosslessStringConvertible>(_ type: T.Type) -> T? {
    guard let plain, plain.utf8.allSatisfy({ "0123456789+-.eE".utf8.contains($0) }), let value = T(plain),
      value.isFinite
    else { return nil }
    return value
  }

  /// What stands there, for an error.
  fileprivate var words: String {
    switch self {
    case .scalar(let scalar):
      isNull
        ? "empty"
        : number(Double.self) != nil || self.plain == "true" || self.plain == "false"
          ? excerpt(scalar.string) : "\"\(excerpt(scalar.string))\""
    case .sequence(let list): "[" + list.map(\.words).joined(separator: ", ") + "]"
    case .mapping(let mapping):
      "{"
        + mapping.map { "\($0.key.scalar?.string ?? "?"): \($0.value.words)" }.joined(separator: ", ") + "}"
    case .alias: "an alias"
    }
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
    let counts = RecipeValue<SplitSettings>.counts, ratio = RecipeValue<SplitSettings>.ratio
    let isOfSplit =
      path.count == 3 && path.starts(with: ["data", "split"]) && (counts + [ratio]).contains(path[2])
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
      for other in path[2] == ratio ? counts : [ratio] {
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

  /// `demo.yaml:12`, or the override that put the value there.
  func place(_ path: [String], _ node: Node) -> String {
    if let text = overrides.first(where: { $0.key.starts(with: path) })?.value {
      return "--set \(excerpt(text))"
    }
    return node.mark.map { "\(file):\($0.line)" } ?? file
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
