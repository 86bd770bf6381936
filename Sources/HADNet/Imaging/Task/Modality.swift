/// An MRI sequence, by the name that a task gives it.
package struct Modality: RawRepresentable, Hashable, Codable, CodingKeyRepresentable, Comparable, Sendable {
  package let rawValue: String

  package init(rawValue: String) { self.rawValue = rawValue }

  package static let flair = Modality(rawValue: "flair"), t1ce = Modality(rawValue: "t1ce")
  package static let t1 = Modality(rawValue: "t1"), t2 = Modality(rawValue: "t2")

  package init(from decoder: any Decoder) throws {
    rawValue = try decoder.singleValueContainer().decode(String.self)
  }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(rawValue)
  }

  package static func < (a: Modality, b: Modality) -> Bool { a.rawValue < b.rawValue }

  /// As people write it: FLAIR, T1ce, and any other name as it stands.
  package var title: String {
    switch self {
    case .flair: "FLAIR"
    case .t1ce: "T1ce"
    case .t1: "T1"
    case .t2: "T2"
    default: rawValue
    }
  }

  /// Sequences by the words that data sets use for them, without case, `-` and `_`.
  static let aliases: [(word: String, modality: Modality)] = [
    (["flair", "t2f", "t2flair", "fla", "flr"], flair),
    (["t1ce", "t1c", "t1gd", "t1gad", "t1post", "t1wce"], t1ce),
    (["t1", "t1n", "t1w", "t1pre", "t1p"], t1), (["t2", "t2w"], t2),
  ].flatMap { (words: [String], modality) in words.map { ($0, modality) } }

  /// The sequence that a word means; nil where it is none of those that are known.
  package static func named(_ word: String) -> Modality? {
    let plain = plain(word)
    return aliases.first { $0.word == plain }?.modality
  }

  /// The sequence by the name that BraTS gives it, whatever its own.
  var canonical: Modality { Modality.named(rawValue) ?? self }

  /// A word without case, `-`, `_` and spaces.
  static func plain(_ word: String) -> String {
    word.lowercased().filter { $0 != "-" && $0 != "_" && $0 != " " }
  }

  /// The words for a truth.
  static let truths: Set = ["seg", "segm", "tumorsegmentation", "finalseg", "label", "dseg"]
}
