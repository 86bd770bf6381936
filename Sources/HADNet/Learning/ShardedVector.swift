import Collective
import Compute

/// The numbers of a layout of which each rank has only its shards: an optimiser's moments.
// Numbers are pointers where exchanges and files need them: they belong to `buffer` or to a piece that is there until the call
// ends or, in `whole`, as long as its content. So the `unsafe` of this type.
package final class ShardedVector {
  package let layout: ParameterLayout
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
  package var values: UnsafeMutableBufferPointer<Float> { unsafe buffer.values }

  /// This rank's numbers of a range that it owns.
  func own(_ range: Range<Int>) -> UnsafeMutableBufferPointer<Float> {
    guard let part = parts.first(where: { $0.range.contains(range.lowerBound) }),
      range.upperBound <= part.range.upperBound
    else { preconditionFailure("rank \(rank) does not own \(range)") }
    let start = part.start + range.lowerBound - part.range.lowerBound
    return unsafe UnsafeMutableBufferPointer(rebasing: buffer.values[start..<start + range.count])
  }

  /// Fills the shards of all ranks from the tensors PREFIX + name of a file that rank 0 alone has: they leave it a
  /// piece at a time. All ranks together. Throws `.invalid` where a tensor is missing or has another shape.
  package func read(_ prefix: String, from file: Safetensors?, over communicator: Communicator) throws {
    let pieceLength = Safetensors.Writer.pieceLength
    try file?.check(prefix, layout)
    let piece = Buffer(zeros: communicator.rank == 0 ? min(layout.count, pieceLength) : 0)
    for start in stride(from: 0, to: layout.count, by: pieceLength) {
      let range = start..<min(start + pieceLength, layout.count)
      let source = unsafe file.map { _ in
        unsafe UnsafeMutableBufferPointer(rebasing: piece.values[..<range.count])
      }
      if let file, let source = unsafe source { try unsafe file.copy(prefix, layout, range, to: source) }
      try unsafe communicator.scatter(range, of: shards, from: source.map { UnsafeBufferPointer($0) }) {
        unsafe self.own($0)
      }
    }
  }

  /// The whole vector under names with `prefix`, of which rank 0 gets the numbers piece by piece and the others none.
  /// All ranks together.
  package func whole(_ prefix: String, over communicator: Communicator) -> Safetensors.Content {
    if communicator.size == 1 {
      return unsafe Safetensors.Content(prefix, layout) { unsafe UnsafeBufferPointer(self.own($0)) }
    }
    let piece = Buffer(zeros: communicator.rank == 0 ? min(layout.count, Safetensors.Writer.pieceLength) : 0)
    return unsafe Safetensors.Content(prefix, layout) { range in
      let target = unsafe UnsafeMutableBufferPointer(
        rebasing: piece.values[..<(communicator.rank == 0 ? range.count : 0)])
      try unsafe communicator.gather(
        range, of: self.shards, own: { unsafe UnsafeBufferPointer(self.own($0)) },
        into: communicator.rank == 0 ? target : nil)
      return UnsafeBufferPointer(target)
    }
  }
}

extension Communicator {
  /// Copies rank 0's numbers over those of the same vector on all other ranks.
  package func broadcast(_ vector: ParameterVector) throws(MPIError) {
    // As long as the vector, which stays until the ranks are done.
    var values = unsafe vector.values.mutableSpan
    try broadcast(&values)
  }
}
