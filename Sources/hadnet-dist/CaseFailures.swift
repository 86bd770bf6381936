import Collective
import Files
import Terminal

/// Cases that could not be done, while the others were: listed at the end, the worst of them ends the command.
struct CaseFailures {
  private(set) var all: [(id: String, fault: Fault)] = []

  var ids: Set<String> { Set(all.map(\.id)) }

  mutating func add(_ id: String, _ fault: Fault) { all.append((id, fault)) }

  mutating func add(_ others: CaseFailures) { all += others.all }

  /// Runs `body` and notes its fault; nil then. What is no fault of the world is thrown on.
  mutating func of<Result>(_ id: String, _ body: () throws -> Result) throws -> Result? {
    do {
      return try body()
    } catch let fault as Fault {
      add(id, fault)
      return nil
    }
  }

  /// Those of all ranks, in the order of the cases' names, on every rank.
  func gathered(_ communicator: Communicator) throws -> CaseFailures {
    let mine = all.map { "\($0.id)\u{1f}\($0.fault.kind.rawValue)\u{1f}\($0.fault.description)" }
    var result = CaseFailures()
    for text in try communicator.allGather(mine.joined(separator: "\u{1e}")).flatMap({
      $0.split(separator: "\u{1e}")
    }) {
      let parts = text.split(separator: "\u{1f}", maxSplits: 2, omittingEmptySubsequences: false)
      guard parts.count == 3, let code = Int32(parts[1]) else { continue }
      result.add(String(parts[0]), Fault(Fault.Kind(rawValue: code) ?? .other, String(parts[2])))
    }
    result.all.sort { ($0.id, $0.fault.description) < ($1.id, $1.fault.description) }
    return result
  }

  /// A line a case, each with its name.
  var lines: [String] {
    all.map { id, fault in
      let lines = fault.description.split(whereSeparator: \.isNewline)
      let text = lines.map { $0.hasSuffix(";") ? $0.dropLast() : $0 }.joined(separator: "; ")
      return text.contains(id) ? text : "\(id): \(text)"
    }
  }

  /// Lists them on standard error, at most so many; behind several stands `sum`.
  func tell(_ sum: String, atMost most: Int = .max) {
    let lines = lines
    for (line, one) in zip(lines, all).prefix(most) {
      StandardError.say(
        line, event: "fault", [("code", "\(one.fault.kind.rawValue)"), ("case", jsonString(one.id))])
    }
    if lines.count > most { StandardError.say("and \(lines.count - most) more") }
    if lines.count > 1 { StandardError.say(sum) }
  }

  /// The exit code: 74, else 65, else 66, else that of the first; 0 where there is none.
  var code: Int32 {
    let kinds = all.map(\.fault.kind)
    return ([Fault.Kind.storage, .invalid, .missing].first(where: kinds.contains) ?? kinds.first)?.rawValue
      ?? 0
  }
}
