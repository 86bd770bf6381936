import Testing

@testable import Collective
@testable import Compute
@testable import Files
@testable import Learning
@testable import TestSupport

@Suite struct ShardedVectorTests {
  private let scratch = Scratch()

  /// More than one piece of a file, and borders of pieces within tensors.
  @Test func whatIsWrittenIsReadInPieces() throws {
    var layout = ParameterLayout()
    _ = layout.add("z", 3)
    _ = layout.add("long", Safetensors.Writer.pieceLength + 5)
    _ = layout.add("a", 7, 2)
    let alone = Communicator(), shards = Shards(layout.count, over: 1)
    let written = ShardedVector(zeros: layout, shards, rank: 0)
    for i in 0..<layout.count { written.values[i] = Float(i) }
    let path = scratch.file("moments")
    try Safetensors.Writer([written.whole("first.", over: alone)]).write(to: path, as: path)
    let file = try Safetensors(path: path), read = ShardedVector(zeros: layout, shards, rank: 0)
    try read.read("first.", from: file, over: alone)
    #expect(read.values.elementsEqual(written.values))

    let found = fault { try read.read("second.", from: file, over: alone) }
    #expect(found == Fault(.invalid, "\(path): second.z is missing"))
  }
}
