/// How the slots of a global batch are dealt to ranks: contiguous runs in rank order whose lengths differ by one at most.
///
/// Where slots and ranks are both powers of two each run is one node of the sum's tree.
package struct Slots: Equatable, Sendable {
  /// Slots of a full batch.
  package let count: Int
  /// Ranks that they are dealt to, 1….
  package let ranks: Int

  /// `count` slots, 0…, dealt to `ranks`.
  package init(_ count: Int, over ranks: Int) {
    precondition(count >= 0 && ranks > 0, "\(count) slots over \(ranks) ranks")
    self.count = count
    self.ranks = ranks
  }

  /// The slots of `rank` in a full batch; none where ranks are more than slots.
  package func run(of rank: Int) -> Range<Int> {
    precondition(0..<ranks ~= rank, "rank \(rank) of \(ranks)")
    return BlockDistribution(count, over: ranks)[rank]
  }

  /// The slots of `rank` in a batch of only the first `filled` slots, such as an epoch's last.
  package func run(of rank: Int, filled: Int) -> Range<Int> {
    precondition(0...count ~= filled, "\(filled) of \(count) slots filled")
    return run(of: rank).clamped(to: 0..<filled)
  }
}
