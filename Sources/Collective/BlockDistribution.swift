/// `count` things in contiguous blocks whose lengths differ by one at most: MPI's and HPF's block distribution. The batch's
/// slots are dealt to ranks so, a vector's numbers to buckets, and a bucket's to ranks.
struct BlockDistribution: Equatable, Sendable {
  let count, blocks: Int

  init(_ count: Int, over blocks: Int) {
    precondition(count >= 0 && blocks > 0, "\(count) things in \(blocks) blocks")
    self.count = count
    self.blocks = blocks
  }

  /// Block `index`, 0..<blocks; empty where there are more blocks than things.
  subscript(index: Int) -> Range<Int> {
    precondition(0..<blocks ~= index, "block \(index) of \(blocks)")
    return index * count / blocks..<(index + 1) * count / blocks
  }
}
