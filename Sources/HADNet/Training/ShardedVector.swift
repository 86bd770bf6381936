import Collective

/// The numbers of a layout of which each rank has only its shards: an optimiser's moments.
public final class ShardedVector {
  public let layout: ParameterLayout
  let shards: Shards
  private let rank: Int
  private let buffer: Buffer
  /// This rank's ranges of the vector, and where each begins in `buffer`.
  let parts: [(range: Range<Int>, start: Int)]

  init(zeros layout: ParameterLayout, _ shards: Shards, rank: Int) {
    precondition(shards.count == layout.count, "\(shards.count) numbers for \(layout.count)")
    self.layout = layout
    self.shards = shards
    self.rank = rank
    var parts: [(range: Range<Int>, start: Int)] = [], end = 0
    for range in shards.owned(by: rank) {
      parts.append((range, end))
      end += range.count
    }
    self.parts = parts
    buffer = Buffer(zeros: end)
  }

  /// This rank's numbers, from the vector's start to its end: all of them on one rank.
  public var values: UnsafeMutableBufferPointer<Float> { buffer.values }

  /// This rank's numbers of a range that it owns.
  func own(_ range: Range<Int>) -> UnsafeMutableBufferPointer<Float> {
    guard let part = parts.first(where: { $0.range.contains(range.lowerBound) }),
      range.upperBound <= part.range.upperBound
    else { preconditionFailure("rank \(rank) does not own \(range)") }
    let start = part.start + range.lowerBound - part.range.lowerBound
    return UnsafeMutableBufferPointer(rebasing: buffer.values[start..<start + range.count])
  }

  /// Fills this rank's shards from a file.
  func read(_ prefix: String, from file: Safetensors) throws {
    try file.read(prefix, layout) { range, bytes in
      for part in parts where part.range.overlaps(range) {
        let common = part.range.clamped(to: range), first = 4 * (common.lowerBound - range.lowerBound)
        UnsafeMutableRawBufferPointer(own(common))
          .copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[first..<first + 4 * common.count]))
      }
    }
  }

  /// The whole vector on rank 0, under names with `prefix`; nil on the others. All ranks together.
  func whole(_ prefix: String, over communicator: Communicator) throws -> Safetensors.Content? {
    if communicator.size == 1 { return Safetensors.Content(prefix, layout) { self.own($0) } }
    let target = communicator.rank == 0 ? ParameterVector(zeros: layout) : nil
    for bucket in shards.buckets {
      try communicator.collect(
        bucket, of: shards, own: { UnsafeBufferPointer(self.own($0)) },
        into: target.map { UnsafeMutableBufferPointer(rebasing: $0.values[bucket]) })
    }
    return target.map { Safetensors.Content(prefix, $0) }
  }
}
