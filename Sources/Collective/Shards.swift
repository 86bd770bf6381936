/// How a long vector lies over ranks while it is reduced and updated: cut into buckets, which are exchanged one after
/// the other (as in PyTorch's DistributedDataParallel), and each bucket into one shard a rank, which alone updates it (as in
/// ZeRO, Rajbhandari et al. 2020).
package struct Shards: Equatable, Sendable {
  /// Numbers in the vector, and over how many ranks they lie.
  package let count, ranks: Int
  /// From the vector's end to its start: backward passes finish the last layers first.
  package let buckets: [Range<Int>]

  /// Numbers of 4 bytes in a bucket: long enough for the bandwidth, short enough to start early.
  package static let bucketLength = 6_553_600

  /// A vector of `count` numbers in as few, evenly long buckets of at most `bucketLength` numbers as will do.
  package init(_ count: Int, over ranks: Int, bucketLength: Int = Shards.bucketLength) {
    precondition(count >= 0 && ranks > 0 && bucketLength > 0, "\(count) numbers over \(ranks) ranks")
    self.count = count
    self.ranks = ranks
    // One rank exchanges nothing.
    let pieces = ranks == 1 ? 1 : max(1, (count + bucketLength - 1) / bucketLength)
    let cut = BlockDistribution(count, over: pieces)
    buckets = (0..<pieces).reversed().map { cut[$0] }
  }

  /// The part of a bucket that `rank` owns, as a range of the whole vector; empty where numbers are fewer than ranks.
  package func shard(of bucket: Range<Int>, rank: Int) -> Range<Int> {
    let block = BlockDistribution(bucket.count, over: ranks)[rank]
    return bucket.lowerBound + block.lowerBound..<bucket.lowerBound + block.upperBound
  }

  /// All that `rank` owns, from the vector's start to its end.
  package func owned(by rank: Int) -> [Range<Int>] {
    buckets.reversed().map { shard(of: $0, rank: rank) }.filter { !$0.isEmpty }
  }
}

extension Communicator {
  /// The parts of `range` that this rank sends or receives where they go to rank `root` or come from it, with their owners,
  /// in the order that all ranks have.
  private func parts(of range: Range<Int>, in shards: Shards, root: Int) -> [(part: Range<Int>, owner: Int)] {
    shards.buckets.filter { $0.overlaps(range) }.flatMap { bucket in
      (0..<size).map { (shards.shard(of: bucket, rank: $0).clamped(to: range), $0) }
    }.filter { part, owner in !part.isEmpty && (rank == root || rank == owner) }
  }

  /// Brings `range` of a vector that lies over the ranks to rank `root`.
  ///
  /// - `own`: this rank's numbers of a range that it owns as a whole, in memory that stays until this returns.
  /// - `target`: on the root, where the numbers go: `[range.count]`, memory that stays until this returns. Nil on others.
  package func gather(
    _ range: Range<Int>, of shards: Shards, own: (Range<Int>) -> UnsafeBufferPointer<Float>,
    into target: UnsafeMutableBufferPointer<Float>?, root: Int = 0
  ) throws(MPIError) {
    // The caller keeps both until this returns.
    let target = unsafe target.map { unsafe VectorView($0) }
    func view(_ part: Range<Int>) -> VectorView<Float> { unsafe VectorView(reading: own(part)) }
    try perform { () throws(MPIError) in
      var messages = Messages(self)
      for (part, owner) in parts(of: range, in: shards, root: root) {
        guard rank == root else {
          try messages.send(view(part), to: root)
          continue
        }
        guard let target else { preconditionFailure("no target on the root") }
        let section = target[part.lowerBound - range.lowerBound..<part.upperBound - range.lowerBound]
        if owner == root {
          section.copy(view(part))
        } else {
          try messages.receive(into: section, from: owner)
        }
      }
      try messages.complete()
    }
  }

  /// Brings `range` of a vector that rank `root` has to the ranks that own its parts: `gather`'s way back.
  ///
  /// - `source`: on the root, the numbers: `[range.count]`, memory that stays until this returns. Nil on others.
  /// - `own`: where this rank's numbers of a range that it owns as a whole go, in memory that stays until this returns.
  package func scatter(
    _ range: Range<Int>, of shards: Shards, from source: UnsafeBufferPointer<Float>?,
    into own: (Range<Int>) -> UnsafeMutableBufferPointer<Float>, root: Int = 0
  ) throws(MPIError) {
    // The caller keeps both until this returns.
    let source = unsafe source.map { unsafe VectorView(reading: $0) }
    func view(_ part: Range<Int>) -> VectorView<Float> { unsafe VectorView(own(part)) }
    try perform { () throws(MPIError) in
      var messages = Messages(self)
      for (part, owner) in parts(of: range, in: shards, root: root) {
        guard rank == root else {
          try messages.receive(into: view(part), from: root)
          continue
        }
        guard let source else { preconditionFailure("no source on the root") }
        let section = source[part.lowerBound - range.lowerBound..<part.upperBound - range.lowerBound]
        if owner == root {
          view(part).copy(section)
        } else {
          try messages.send(section, to: owner)
        }
      }
      try messages.complete()
    }
  }
}
