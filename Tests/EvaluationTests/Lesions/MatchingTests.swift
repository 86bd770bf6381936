import Testing

@testable import Compute
@testable import Evaluation

@Suite struct MatchingTests {
  /// The largest sum of all ways to choose.
  private func best(_ edges: [[Matching.Edge]], _ row: Int = 0, _ taken: Set<Int> = []) -> Double {
    if row == edges.count { return 0 }
    return edges[row].filter { !taken.contains($0.column) }.reduce(best(edges, row + 1, taken)) {
      max($0, $1.weight + best(edges, row + 1, taken.union([$1.column])))
    }
  }

  @Test(arguments: [(1, 1), (3, 3), (5, 2), (2, 6), (6, 6), (7, 5)])
  func theSumIsTheLargest(rows: Int, columns: Int) {
    for trial in 0..<200 {
      var random = Philox(seed: UInt64(trial), .test, rows * 100 + columns)
      let edges = (0..<rows).map { _ in
        (0..<columns).compactMap { column -> Matching.Edge? in
          // Few weights, so that many sums are equal.
          let weight = trial % 2 == 0 ? Double(random.below(4)) / 4 : Double(random.uniform())
          return weight > 0 && random.below(3) > 0 ? .init(column: column, weight: weight + 1e-6) : nil
        }
      }
      let found = Matching(columns: columns, edges).columns
      let chosen = found.compactMap(\.self)
      #expect(Set(chosen).count == chosen.count, "a column twice")
      var sum = 0.0
      for (row, column) in found.enumerated() {
        guard let column else { continue }
        guard let edge = edges[row].first(where: { $0.column == column }) else {
          Issue.record("row \(row) has no edge to \(column)")
          continue
        }
        sum += edge.weight
      }
      #expect(abs(sum - best(edges)) <= 1e-12, "\(trial): \(sum), not \(best(edges))")
    }
  }

  /// Two pairs of 0.5 beat one of 0.9, and of two equal columns the first is taken.
  @Test func whatIsChosen() {
    #expect(
      Matching(
        columns: 2,
        [[.init(column: 0, weight: 0.9), .init(column: 1, weight: 0.5)], [.init(column: 0, weight: 0.5)]]
      ).columns == [1, 0])
    #expect(
      Matching(columns: 2, [[.init(column: 0, weight: 0.5), .init(column: 1, weight: 0.5)]]).columns == [0])
    #expect(Matching(columns: 0, [[], []]).columns == [nil, nil])
    #expect(Matching(columns: 3, []).columns == [])
  }

  @Test func manyPartsOnOneAreFast() {
    let count = 20_000
    let star = (0..<count).map { [Matching.Edge(column: 0, weight: Double($0 + 1) / Double(count))] }
    #expect(Matching(columns: 1, star).columns.last == 0)
    let row = [(0..<count).map { Matching.Edge(column: $0, weight: Double($0 + 1) / Double(count)) }]
    #expect(Matching(columns: count, row).columns == [count - 1])
  }
}
