import Terminal

/// Something in the world outside is wrong (a file, a recipe, a disk), said to a person in one or two lines:
/// what, where (file, case, key), and what to do where that isn't plain.
package struct Fault: Error, CustomStringConvertible, Equatable, Sendable {
  /// What kind of trouble it is; the raw value is the process's exit code (sysexits).
  package enum Kind: Int32, Sendable {
    /// Anything that has no kind of its own.
    case other = 1
    /// The command line makes no sense.
    case usage = 64
    /// Data or a checkpoint is damaged, inconsistent or invalid.
    case invalid = 65
    /// A file, a sequence, a case or a folder is missing or empty.
    case missing = 66
    /// A check of the program itself failed.
    case check = 70
    /// The disk is full, a folder is not writable, or another input/output error.
    case storage = 74
    /// Stopped by a signal or a time limit; run again with `--resume`.
    case unfinished = 75
    /// The recipe is at fault, there are more ranks than slots, or the run folder belongs to another recipe.
    case recipe = 78
  }

  package let kind: Kind
  package let description: String

  /// What the description quotes is made printable, and cut to what a person reads.
  package init(_ kind: Kind, _ description: String) {
    self.kind = kind
    // It may quote a name that nobody has looked at yet, of any length.
    self.description = printable(description).split(separator: "\n", omittingEmptySubsequences: false)
      .map { Fault.bounded(String($0)) }.joined(separator: "\n")
  }

  /// A line without words that no sentence has, nor more of them than a person reads. Of a path, which a person may need
  /// as it is, nothing is cut before 300 characters.
  private static func bounded(_ line: String) -> String {
    if line.utf8.count <= 80 { return line }
    let words = line.split(separator: " ", omittingEmptySubsequences: false).map { word in
      guard word.unicodeScalars.count > (word.contains("/") ? 300 : 80) else { return String(word) }
      // What follows the word is the sentence's.
      return excerpt(String(word)) + (word.last.map { ":;,".contains($0) ? String($0) : "" } ?? "")
    }
    return excerpt(words.joined(separator: " "), limit: 2000)
  }
}

extension Int {
  /// `1 case`, `2 cases`: a count as a person says it.
  package func named(_ one: String) -> String { "\(self) \(one)\(self == 1 ? "" : "s")" }
}
