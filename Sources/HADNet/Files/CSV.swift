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
  /// A line of a table.
  package typealias Row = (number: Int, fields: [String])

  /// The lines of a text, each with the number of the line where it begins: fields parted by commas, in double quotes where they hold
  /// commas, line breaks or quotes, which stand twice there; spaces around a field that is in none are left out, and so are empty
  /// lines. Source: RFC 4180.
  ///
  /// Throws `.invalid` for quotes that do not end. `file`: its name in the message.
  package static func rows(_ text: String, file: String) throws(Fault) -> [Row] {
    var rows: [Row] = []
    var fields: [String] = [], field = "", isQuoted = false, line = 1, first = 1
    var hasQuotes = false, opened = 1
    func end() {
      fields.append(
        hasQuotes ? field : String(field.drop { $0 == " " }.reversed().drop { $0 == " " }.reversed()))
      (field, hasQuotes) = ("", false)
    }
    func endLine() {
      end()
      if fields != [""] { rows.append((first, fields)) }
      fields = []
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
      } else if letter == "\"", field.allSatisfy({ $0 == " " }), !hasQuotes {
        (field, isQuoted, hasQuotes, opened) = ("", true, true, line)
      } else if letter == " ", hasQuotes {
        continue
      } else if letter == "," {
        end()
      } else if letter.isNewline {
        endLine()
        line += 1
        first = line
      } else {
        field.append(letter)
      }
    }
    guard !isQuoted else {
      throw Fault(.invalid, "\(file):\(opened): a field in quotes that do not end")
    }
    endLine()
    return rows
  }
}
