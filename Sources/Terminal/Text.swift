import Glibc

/// `text` without what would steer a terminal instead of being shown: control characters (but the end of a line and the
/// tabulator) and those that turn the direction of writing are written as `\u{1B}`.
package func printable(_ text: String) -> String {
  if text.utf8.allSatisfy({ $0 >= 0x20 && $0 < 0x7F || $0 == 0x0A || $0 == 0x09 }) { return text }
  var result = String.UnicodeScalarView()
  for scalar in text.unicodeScalars {
    if scalar != "\n", scalar != "\t", isSteering(scalar) {
      result.append(contentsOf: "\\u{\(String(scalar.value, radix: 16, uppercase: true))}".unicodeScalars)
    } else {
      result.append(scalar)
    }
  }
  return String(result)
}

private func isSteering(_ scalar: Unicode.Scalar) -> Bool {
  switch scalar.value {
  case 0..<0x20, 0x7F..<0xA0: true  // C0, delete, C1
  case 0x061C, 0x200E, 0x200F, 0x202A...0x202E, 0x2066...0x2069: true  // direction
  case 0x2028, 0x2029: true  // ends of lines and paragraphs
  default: false
  }
}

/// What a person gave, short enough for a message: its first line, and at most 80 characters of it, with … for the rest.
package func excerpt(_ text: String, limit: Int = 80) -> String {
  // Scalars, since a character may be made of any number of them.
  var result = String.UnicodeScalarView(), count = 0
  for scalar in text.unicodeScalars {
    if count == limit || scalar == "\n" || scalar == "\r" { return String(result) + "…" }
    result.append(scalar)
    count += 1
  }
  return String(result)
}

/// `text` without the byte order mark that some programs begin a file with.
package func withoutByteOrderMark(_ text: String) -> String {
  text.unicodeScalars.first == "\u{FEFF}" ? String(text.unicodeScalars.dropFirst()) : text
}

/// A text as JSON, quotes included; with nothing in it that could steer a terminal.
package func jsonString(_ text: String) -> String {
  var result = "\""
  for scalar in text.unicodeScalars {
    switch scalar {
    case "\"": result += "\\\""
    case "\\": result += "\\\\"
    case "\n": result += "\\n"
    case "\t": result += "\\t"
    case "\r": result += "\\r"
    case _ where isSteering(scalar):
      let digits = String(scalar.value, radix: 16)
      result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
    default: result.unicodeScalars.append(scalar)
    }
  }
  return result + "\""
}

/// `{"time": …, "event": event, …}`: what happened, as JSON in one line; the fields' values are JSON.
package func jsonEvent(_ event: String, _ fields: [(String, String)]) -> String {
  var text = [CChar](repeating: 0, count: 32)
  // All of them write to variables of this function, and into no more of the text than they are told of.
  var now = time(nil), parts = unsafe tm()
  unsafe gmtime_r(&now, &parts)
  let length = unsafe strftime(&text, text.count, "%Y-%m-%dT%H:%M:%SZ", &parts)
  let clock = String(decoding: text.prefix(length).map { UInt8(bitPattern: $0) }, as: UTF8.self)
  let all = [("time", jsonString(clock)), ("event", jsonString(event))] + fields
  return "{" + all.map { "\(jsonString($0.0)): \($0.1)" }.joined(separator: ", ") + "}"
}
