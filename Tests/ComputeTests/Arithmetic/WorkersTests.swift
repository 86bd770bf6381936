import Synchronization
import Testing

@testable import Compute

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

  @Test(arguments: [1, 3]) func eachItemHasSumsOfItsOwn(count: Int) {
    let sums = Workers(count).sums(5, width: 2) { item, sums in
      for n in 0...item { sums[0] += Double(n) }
      sums[1] -= 1
    }
    #expect(sums == [0, -1, 1, -1, 3, -1, 6, -1, 10, -1])
    #expect(Workers(count).sums(0) { _, _ in }.isEmpty)
  }

  @Test(arguments: [1, 3]) func eachPieceOfAnArrayIsWrittenByItself(count: Int) {
    var squares = [Int](repeating: 0, count: 1000)
    Workers(count).forEach(Pieces(1000, least: 7, limit: 64), of: &squares) { range, part in
      for i in part.indices { part[i] += (range.lowerBound + i) * (range.lowerBound + i) }
    }
    #expect(squares == (0..<1000).map { $0 * $0 })
  }

  /// The least normal number times a half is no normal number: 0 where such are flushed, as result and as operand.
  @Test(arguments: [1, 2, 3]) func denormalsAreZeroOnEveryWorker(count: Int) {
    let least = Float.leastNormalMagnitude, half = Mutex(Float(0.5)), scale = half.withLock { $0 }
    let denormal = Float(bitPattern: 0x0040_0000)
    let wrong = Atomic(0)
    Workers(count).forEach(64) { item, _ in
      // So long that every thread gets some.
      var sum: Float = 0
      for _ in 0..<100_000 { sum += least * scale + denormal * (scale + Float(item)) }
      if sum != 0 { wrong.wrappingAdd(1, ordering: .relaxed) }
    }
    #expect(wrong.load(ordering: .relaxed) == 0)
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
