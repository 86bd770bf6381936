import Compute
import Files
import Terminal
import Yams

// One list of keys a section (its `visit`) serves reading, writing and comparing, so that a key can't be written and not
// read. A visitor is told each key in the order of the file.

/// A part of the recipe: its values, each with its key and its bounds.
package protocol RecipeSection {
  /// Tells the visitor each value, in the order of the file. Throws `.recipe`, as the visitor does.
  mutating func visit(_ v: inout some RecipeVisitor) throws(Fault)
}

/// Who reads or writes a section.
package protocol RecipeVisitor {
  /// Reads or writes one value of the section at hand. Throws `.recipe` where what stands there is not of the form.
  mutating func value<T>(_ key: String, _ value: inout T, _ form: RecipeValue<T>) throws(Fault)
  /// Goes through a section within the section at hand. Throws `.recipe`, as `value` does.
  mutating func section(_ key: String, _ section: inout some RecipeSection) throws(Fault)
}

// MARK: - The values

/// A mistake within a value: its line, and words that follow the value's key.
package struct RecipeMistake: Error {
  package let line: Int?
  package let words: String

  package init(_ node: Node, _ words: String) {
    line = node.mark?.line
    self.words = words
  }
}

/// How one kind of value is read, written, and described to a person who got it wrong.
package struct RecipeValue<T> {
  /// Follows "must be".
  package let allowed: String
  package let read: (Node) -> T?
  package let text: (T) -> String
  /// What is wrong within a node that was not read, and where, as far as it can be said more exactly.
  package let mistake: (Node) -> RecipeMistake?

  package init(
    allowed: String, read: @escaping (Node) -> T?, text: @escaping (T) -> String,
    mistake: @escaping (Node) -> RecipeMistake? = { _ in nil }
  ) {
    self.allowed = allowed
    self.read = read
    self.text = text
    self.mistake = mistake
  }
}

extension RecipeValue {
  /// The same as `form`, or null, which stands for `meaning`.
  package static func orNull<W>(_ form: RecipeValue<W>, _ meaning: String) -> Self where T == W? {
    Self(
      allowed: "\(form.allowed), or null (\(meaning))",
      read: { $0.isNull ? .some(nil) : form.read($0).map { .some($0) } },
      text: { $0.map(form.text) ?? "null" }, mistake: form.mistake)
  }
}

extension RecipeValue where T == Int {
  /// A whole number within bounds that are themselves allowed.
  package static func whole(_ range: ClosedRange<Int>) -> Self {
    Self(
      allowed: "a whole number from \(range.lowerBound) to \(range.upperBound)",
      read: { node in node.plain.flatMap { Int($0) }.flatMap { range.contains($0) ? $0 : nil } },
      text: { "\($0)" })
  }

  /// An even number within bounds that are themselves allowed.
  package static func even(_ range: ClosedRange<Int>) -> Self {
    let whole = whole(range)
    return Self(
      allowed: "an even number from \(range.lowerBound) to \(range.upperBound)",
      read: { whole.read($0).flatMap { $0 % 2 == 0 ? $0 : nil } }, text: whole.text)
  }
}

extension RecipeValue where T == UInt64 {
  package static var seed: Self {
    Self(
      allowed: "a whole number from 0 to \(UInt64.max)", read: { $0.plain.flatMap { UInt64($0) } },
      text: { "\($0)" })
  }
}

extension RecipeValue where T: BinaryFloatingPoint & LosslessStringConvertible {
  /// A finite number, `low` ≤ value ≤ `high`.
  package static func number(from low: T, to high: T) -> Self {
    number("from \(plain(low)) to \(plain(high))") { $0 >= low && $0 <= high }
  }
  /// A finite number, `low` ≤ value < `high`.
  package static func number(from low: T, below high: T) -> Self {
    number("from \(plain(low)) to below \(plain(high))") { $0 >= low && $0 < high }
  }
  /// A finite number, `low` < value ≤ `high`.
  package static func number(above low: T, to high: T) -> Self {
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
  package static var flag: Self {
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
  /// One of the type's cases, by its raw value.
  package static func choice() -> Self {
    let names = T.allCases.map(\.rawValue)
    return Self(
      allowed: names.dropLast().joined(separator: ", ") + " or " + (names.last ?? ""),
      read: { node in node.scalar.flatMap { T(rawValue: $0.string) } },
      text: { $0.rawValue })
  }
}

extension RecipeValue where T == String {
  /// Any text but an empty one; `what` says what it is of.
  package static func text(_ what: String) -> Self {
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
  package static var size: Self {
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
  package static var weights: Self {
    Self(
      allowed: "a number from 0 for the background and each class, not all 0, or data",
      read: { node in
        if node.plain == "data" { return .data }
        guard case .sequence(let list) = node, (2...17).contains(list.count) else { return nil }
        let weights = list.compactMap { $0.number(Float.self) }
        guard weights.count == list.count, weights.allSatisfy({ $0 >= 0 }),
          weights.contains(where: { $0 > 0 })
        else {
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

/// A text as YAML: as it stands where no reader could take it for anything else, else in double quotes.
package func quoted(_ text: String) -> String {
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
  package var plain: String? {
    guard case .scalar(let scalar) = self, scalar.style == .plain || scalar.style == .any else { return nil }
    return scalar.string
  }

  package var isNull: Bool {
    guard let plain else { return false }
    return plain.isEmpty || plain == "~" || plain.lowercased() == "null"
  }

  /// A finite decimal number; Swift alone would also take "inf", "nan" and hexadecimal.
  package func number<T: BinaryFloatingPoint & LosslessStringConvertible>(_ type: T.Type) -> T? {
    guard let plain, plain.utf8.allSatisfy({ "0123456789+-.eE".utf8.contains($0) }), let value = T(plain),
      value.isFinite
    else { return nil }
    return value
  }

  /// What stands there, for an error.
  package var words: String {
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
