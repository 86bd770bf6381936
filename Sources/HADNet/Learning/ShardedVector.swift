import Collective
import Compute

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

  /// The whole vector under names with `prefix`, of which rank 0 gets the numbers piece by piece and the others none.
  /// All ranks together.
  func whole(_ prefix: String, over communicator: Communicator) -> Safetensors.Content {
    if communicator.size == 1 { return Safetensors.Content(prefix, layout) { self.own($0) } }
    let piece = Buffer(zeros: communicator.rank == 0 ? min(layout.count, Safetensors.Draft.pieceLength) : 0)
    return Safetensors.Content(prefix, layout) { range in
      let target = UnsafeMutableBufferPointer(
        rebasing: piece.values[..<(communicator.rank == 0 ? range.count : 0)])
      try communicator.gather(
        range, of: self.shards, own: { UnsafeBufferPointer(self.own($0)) },
        into: communicator.rank == 0 ? target : nil)
      return target
    }
  }
}
