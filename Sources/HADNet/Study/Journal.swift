import Files
import Foundation
import Synchronization
import Terminal

/// A value in the journal.
package enum JournalValue: Sendable, ExpressibleByStringLiteral, ExpressibleByIntegerLiteral,
  ExpressibleByFloatLiteral, ExpressibleByBooleanLiteral
{
  case text(String)
  case whole(Int)
  /// NaN and infinity are written as null.
  case number(Double)
  case flag(Bool)

  package init(stringLiteral value: String) { self = .text(value) }
  package init(integerLiteral value: Int) { self = .whole(value) }
  package init(floatLiteral value: Double) { self = .number(value) }
  package init(booleanLiteral value: Bool) { self = .flag(value) }

  package var json: String {
    switch self {
    case .text(let text): jsonString(text)
    case .whole(let value): "\(value)"
    case .number(let value): jsonNumber(value)
    case .flag(let value): "\(value)"
    }
  }
}

/// A run's `log.jsonl`: what happened when, a JSON object a line. Nothing reads it back to decide anything.
package final class Journal: Sendable {
  package let path: String
  private let file: Int32
  /// Whether the next line has to begin by ending one that a crash tore.
  private let torn: Mutex<Bool>

  /// Opens the file, or makes it. What is there stays. Throws `.storage`.
  package init(_ path: String) throws(Fault) {
    self.path = path
    let file = System.open(path, O_RDWR | O_CREAT | O_APPEND, mode: 0o666)
    guard file >= 0 else {
      throw Fault(.storage, "\(path) can't be opened: \(System.words(errno))")
    }
    self.file = file
    let end = lseek(file, 0, SEEK_END)
    var last: UInt8 = 0
    // One byte, into `last`.
    torn = Mutex(unsafe end > 0 && pread(file, &last, 1, end - 1) == 1 && last != UInt8(ascii: "\n"))
  }

  deinit { close(file) }

  /// Appends `{"time": …, "event": event, …}` with the fields in the order given. On return it's with the system,
  /// so a crash of the program can't lose it. Throws `.storage`.
  package func write(_ event: String, _ fields: KeyValuePairs<String, JournalValue> = [:]) throws(Fault) {
    try write(event, fields.map { ($0.key, $0.value) })
  }

  /// The same of fields that are put together at run time.
  package func write(_ event: String, _ fields: [(String, JournalValue)]) throws(Fault) {
    let line = jsonEvent(event, fields.map { ($0.0, $0.1.json) }) + "\n"
    let trouble: Int32 = torn.withLock { torn in
      // One call for the whole line: lines of several threads never mix.
      let bytes = Array((torn ? "\n" + line : line).utf8)
      let written = System.write(file, bytes.span)
      if written == bytes.count {
        torn = false
        return 0
      }
      torn = torn || written > 0
      return written < 0 ? errno : ENOSPC
    }
    guard trouble == 0 else {
      throw Fault(.storage, "\(path) can't be written: \(System.words(trouble))")
    }
  }
}

/// What training noted of each epoch of a stage: the content of its `history.csv`.
package struct History: Codable, Equatable, Sendable {
  /// The first is `epoch`.
  package let columns: [String]
  /// A row an epoch; nil where an epoch has no such value, e.g. no validation.
  package private(set) var rows: [[Double?]] = []

  /// No epoch yet; the first column is `epoch`.
  package init(columns: [String]) { self.columns = columns }

  /// Adds an epoch's values, one a column.
  package mutating func append(_ row: [Double?]) {
    precondition(row.count == columns.count, "\(row.count) values for \(columns.count) columns")
    rows.append(row)
  }

  /// The values of a column; nil if there is none of that name.
  package subscript(column: String) -> [Double?]? {
    columns.firstIndex(of: column).map { i in rows.map { $0[i] } }
  }

  /// A header and a line an epoch; whole numbers without a point, absent values empty.
  package var csv: String {
    var text = columns.map(csvField).joined(separator: ",") + "\n"
    for row in rows { text += row.map { $0.map(number) ?? "" }.joined(separator: ",") + "\n" }
    return text
  }

  private func number(_ value: Double) -> String {
    Int(exactly: value).map { "\($0)" } ?? "\(value)"
  }

  /// Writes `history.csv` anew, whole or not at all. Throws `.storage`.
  package func write(to path: String) throws { try AtomicFile.write(Data(csv.utf8), to: path) }

  /// Reads a `history.csv`. Throws `.missing` where it is missing or empty, `.invalid` where a line has not its columns.
  package static func load(_ path: String) throws(Fault) -> History {
    guard let bytes = FileManager.default.contents(atPath: path) else {
      throw Fault(.missing, "\(path) is missing or can't be read")
    }
    let lines = String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isNewline)
    guard let header = lines.first else { throw Fault(.missing, "\(path) is empty") }
    var history = History(columns: header.split(separator: ",").map(String.init))
    for (i, line) in lines.enumerated().dropFirst() {
      let fields = line.split(separator: ",", omittingEmptySubsequences: false)
      let values = fields.map { Double($0) }
      guard fields.count == history.columns.count, zip(fields, values).allSatisfy({ $0.isEmpty || $1 != nil })
      else { throw Fault(.invalid, "\(path):\(i + 1): expected \(history.columns.count) numbers") }
      history.append(values)
    }
    return history
  }
}
