import Synchronization
import Testing

@testable import HADNet

@Suite struct ArithmeticWorkersTests {
  @Test(arguments: [1, 2, 3, 5], [0, 1, 2, 7, 1000])
  func everyItemIsDoneOnceByAWorkerThatExists(count: Int, items: Int) {
    let done = Mutex([Int](repeating: 0, count: items)), strangers = Atomic(0)
    Workers(count).forEach(items) { item, worker in
      done.withLock { $0[item] += 1 }
      if !(0..<count).contains(worker) { strangers.wrappingAdd(1, ordering: .relaxed) }
    }
    #expect(done.withLock { $0.allSatisfy { $0 == 1 } })
    #expect(strangers.load(ordering: .relaxed) == 0)
  }

  @Test(arguments: [1, 2, 15, 16, 17, 100, 12_345], [1, 7, 16, 4096])
  func piecesCoverAllAndAreNearlyEqual(total: Int, least: Int) {
    let pieces = Pieces(total, least: least, limit: 64)
    #expect((0..<pieces.count).flatMap { Array(pieces[$0]) } == Array(0..<total))
    let lengths = (0..<pieces.count).map { pieces[$0].count }
    #expect((lengths.max() ?? 0) - (lengths.min() ?? 0) <= 1)
    #expect(pieces.count <= 64 && (pieces.count == 1 || lengths.allSatisfy { $0 >= least }))
  }
}
