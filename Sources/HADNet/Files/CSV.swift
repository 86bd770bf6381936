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
