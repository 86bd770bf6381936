/// Ranks that should have the same have not: what, and which rank has which.
package struct Disagreement: Error, CustomStringConvertible, Equatable, Sendable {
  /// Such as "the ranks differ in recipe: ranks 0–1, 3 have a, rank 2 has b".
  package let description: String

  /// Nil if all `values`, in rank order, are equal.
  init?(_ what: String, _ values: [String]) {
    var ranks: [String: [Int]] = [:]
    var order: [String] = []
    for (rank, value) in values.enumerated() {
      if ranks[value] == nil { order.append(value) }
      ranks[value, default: []].append(rank)
    }
    if order.count < 2 { return nil }
    let groups = order.map { value in "\(Self.list(ranks[value] ?? [])) \(value)" }
    description = "the ranks differ in \(what): " + groups.joined(separator: ", ")
  }

  /// "rank 3 has", "ranks 0–2, 5 have"; `ranks`, one or more, in rising order.
  package static func list(_ ranks: [Int]) -> String {
    var runs: [ClosedRange<Int>] = []
    for rank in ranks {
      if let last = runs.last, last.upperBound == rank - 1 {
        runs[runs.count - 1] = last.lowerBound...rank
      } else {
        runs.append(rank...rank)
      }
    }
    let text = runs.map { $0.count == 1 ? "\($0.lowerBound)" : "\($0.lowerBound)–\($0.upperBound)" }
    return ranks.count == 1 ? "rank \(text[0]) has" : "ranks \(text.joined(separator: ", ")) have"
  }
}
