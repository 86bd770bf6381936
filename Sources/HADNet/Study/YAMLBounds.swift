/// What a YAML text may ask of its reader. The library behind it copies what an alias stands for, and calls itself for
/// each level: a few hundred bytes could take all memory, or the whole stack. No recipe is near these bounds.
enum YAMLBounds {
  /// Bytes of a file.
  static let bytes = 1 << 20
  /// VolumePlan where an anchor or an alias may stand: sixteen aliases copy a value a few hundred times at most.
  static let aliases = 16
  /// Brackets that open a list or a section, and columns of an indentation: levels are never more than these two together.
  static let brackets = 1000, columns = 250

  /// What is too much in a text, and in which line; nil where nothing is. Seen without a parser, so that quotes and
  /// comments count as well.
  static func excess(_ yaml: String) -> (line: Int, words: String)? {
    if yaml.utf8.count > bytes {
      return (1, "the file has more than \(bytes >> 20) MB, and a recipe a few kB")
    }
    var line = 1, aliases = 0, brackets = 0, column = 0, isIndent = true
    var before = UInt8(ascii: "\n")
    var rest = yaml.utf8.makeIterator(), next = rest.next()
    while let byte = next {
      next = rest.next()
      switch byte {
      case UInt8(ascii: "\n"), UInt8(ascii: "\r"):
        line += byte == UInt8(ascii: "\n") || next != UInt8(ascii: "\n") ? 1 : 0
        (column, isIndent) = (-1, true)
      case UInt8(ascii: "["), UInt8(ascii: "{"): brackets += 1
      case UInt8(ascii: "&"), UInt8(ascii: "*"):
        if starts(after: before), let next, !isSpace(next) { aliases += 1 }
      default: break
      }
      // Lists within lists may stand in one line: `- - - `; so may keys and values that are marked as such.
      isIndent = isIndent && (isSpace(byte) || "-?:".utf8.contains(byte))
      column += 1
      if isIndent, column > columns { return (line, "nested too deeply") }
      if brackets > self.brackets { return (line, "more than \(self.brackets) lists and sections") }
      if aliases > self.aliases {
        return (line, "more than \(self.aliases) anchors and aliases (&, *): write the values out")
      }
      before = byte
    }
    return nil
  }

  private static func isSpace(_ byte: UInt8) -> Bool {
    byte == 0x20 || byte == 0x09 || byte == 0x0A || byte == 0x0D
  }

  /// Whether a value may begin behind `byte`.
  private static func starts(after byte: UInt8) -> Bool { isSpace(byte) || "[{,:-?".utf8.contains(byte) }
}
