import Collective
import Compute

/// Measures how ranks sum a vector of floats: the tree, and the MPI library's own ways, whole or in buckets.
package struct AllreduceBenchmark: Sendable {
  /// One length of vector, summed in one way.
  package struct Row: Codable, Sendable {
    package var bytes: Int
    /// Whether the vector goes in buckets of 25 MB.
    package var bucketed: Bool
    /// "tree", "tree by halving" (short shards of 4, 8, … ranks), "MPI_Allreduce" or "MPI_Reduce_scatter + MPI_Allgather".
    package var method: String
    /// Median seconds, of the slowest rank.
    package var seconds: Double
    /// 10⁹ bytes of the vector a second, and its share of a copy in memory in the same run.
    package var gigabytes, share: Double

    private enum CodingKeys: String, CodingKey {
      case bytes, bucketed, method, seconds
      case gigabytes = "gb_per_s"
      case share = "share_of_memcpy"
    }
  }

  package let largest, repeats: Int

  /// Vectors of 4 KiB up to `largest` bytes.
  package init(largest: Int, repeats: Int) {
    self.largest = largest
    self.repeats = repeats
  }

  private var sizes: [Int] {
    [4 << 10, 64 << 10, 1 << 20, 25_000_000, 100_000_000, 420_000_000].filter { $0 <= largest }
  }

  /// On rank 0 all rows; on the others none. All ranks together, one slot a rank. Throws where MPI fails.
  package func run(over communicator: Communicator) throws -> [Row] {
    let size = communicator.size, slots = Slots(size, over: size)
    let tree = TreeReducer<Float>(slots, over: communicator, halvingRanks: .max)
    let halving = TreeReducer<Float>(slots, over: communicator, halvingRanks: 2)
    let longest = (sizes.last ?? 0) / 4
    let source = Buffer(zeros: longest), vector = Buffer(zeros: longest), scratch = Buffer(zeros: longest)
    var numbers = source.mutableSpan(0..<longest)
    for i in numbers.indices { numbers[i] = Float(i % 1000) * 0.001 + Float(communicator.rank) }
    var rows: [Row] = []
    for bytes in sizes {
      let count = bytes / 4
      for bucketed in [false, true] where !bucketed || bytes > 4 * Shards.bucketLength {
        let shards = Shards(count, over: size, bucketLength: bucketed ? Shards.bucketLength : max(count, 1))
        let pieces = size == 1 ? [0..<count] : shards.buckets
        func parts(_ piece: Range<Int>) -> [Range<Int>] {
          (0..<size).map { rank in
            let shard = shards.shard(of: piece, rank: rank)
            return shard.lowerBound - piece.lowerBound..<shard.upperBound - piece.lowerBound
          }
        }
        // The three buffers stay until this returns, and `count` is at most their length; so each `unsafe` below.
        func part(_ piece: Range<Int>) -> UnsafeMutableBufferPointer<Float> {
          unsafe UnsafeMutableBufferPointer(rebasing: vector.values[piece])
        }
        let copy = try median(communicator, prepare: {}) {
          unsafe scratch.base.update(from: source.base, count: count)
        }
        let ways: [(String, (Range<Int>) throws -> Void)] = [
          (
            "tree",
            { piece in
              try unsafe tree.reduce(
                [SumNode(slots: communicator.rank..<communicator.rank + 1, values: part(piece))],
                filled: size, into: part(piece))
            }
          ),
          (
            "tree by halving",
            { piece in
              try unsafe halving.reduce(
                [SumNode(slots: communicator.rank..<communicator.rank + 1, values: part(piece))],
                filled: size, into: part(piece))
            }
          ),
          ("MPI_Allreduce", { try unsafe communicator.allreduce(part($0)) }),
          (
            "MPI_Reduce_scatter + MPI_Allgather",
            { try unsafe communicator.reduceScatterAllGather(part($0), parts: parts($0), scratch.values) }
          ),
        ]
        // Others have no such way.
        let halves = size > 2 && size & (size - 1) == 0
        for (method, way) in ways where method != "tree by halving" || halves && count / size < 1 << 14 {
          let seconds = try median(
            communicator, prepare: { unsafe vector.base.update(from: source.base, count: count) }
          ) {
            for piece in pieces { try way(piece) }
          }
          let rate = Double(bytes) / seconds / 1e9
          rows.append(
            Row(
              bytes: bytes, bucketed: bucketed, method: method, seconds: seconds, gigabytes: rate,
              share: copy / seconds))
        }
      }
    }
    return communicator.rank == 0 ? rows : []
  }

  /// Median over the repetitions of the slowest rank's seconds; one before is not counted.
  private func median(
    _ communicator: Communicator, prepare: () -> Void, _ body: () throws -> Void
  ) throws -> Double {
    var times: [Double] = []
    for i in 0...repeats {
      prepare()
      try communicator.barrier()
      let start = ContinuousClock.now
      try body()
      let slowest = try communicator.max((ContinuousClock.now - start) / .seconds(1))
      if i > 0 { times.append(slowest) }
    }
    times.sort()
    return (times[(times.count - 1) / 2] + times[times.count / 2]) / 2
  }
}
