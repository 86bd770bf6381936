/// A text in a CSV file, in quotes where it needs them. One that a spreadsheet would take for a formula, and is no number,
/// begins with an apostrophe, which says there that what follows is a text.
package func csvField(_ text: String) -> String {
  var text = text
  // Scalars: as a character, a carriage return may be one with the end of the line behind it.
  if let first = text.unicodeScalars.first, "=+-@\t\r".unicodeScalars.contains(first), Double(text) == nil {
    text = "'" + text
  }
  guard text.unicodeScalars.contains(where: { ",\"\n\r".unicodeScalars.contains($0) }) else { return text }
  return "\"" + text.replacing("\"", with: "\"\"") + "\""
}

/// Tables of fields in lines.
package enum CSV {
  /// The lines of a text, each with the number of the line where it begins: fields parted by commas, in double quotes where they hold
  /// commas, line breaks or quotes, which stand twice there. Source: RFC 4180.
  package static func rows(_ text: String) -> [(number: Int, fields: [String])] {
    var rows: [(number: Int, fields: [String])] = []
    var fields: [String] = [], field = "", isQuoted = false, line = 1, first = 1
    func end() {
      fields.append(field)
      field = ""
    }
    var rest = text[...]
    while let letter = rest.popFirst() {
      if isQuoted {
        if letter == "\"", rest.first == "\"" {
          rest.removeFirst()
          field.append("\"")
        } else if letter == "\"" {
          isQuoted = false
        } else {
          line += letter.isNewline ? 1 : 0
          field.append(letter)
        }
      } else if letter == "\"", field.isEmpty {
        isQuoted = true
      } else if letter == "," {
        end()
      } else if letter.isNewline {
        end()
        rows.append((first, fields))
        fields = []
        line += 1
        first = line
      } else {
        field.append(letter)
      }
    }
    if !field.isEmpty || !fields.isEmpty {
      end()
      rows.append((first, fields))
    }
    return rows
  }
}
