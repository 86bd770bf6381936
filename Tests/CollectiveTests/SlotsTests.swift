import Testing

@testable import Collective

struct SlotsTests {
  @Test(arguments: 0...20, 1...20)
  func everySlotIsInOneRunAndRunsAreNearlyEqual(count: Int, ranks: Int) {
    let slots = Slots(count, over: ranks)
    let runs = (0..<ranks).map { slots.run(of: $0) }
    #expect(runs.flatMap { Array($0) } == Array(0..<count))
    #expect(runs.allSatisfy { $0.count == count / ranks || $0.count == (count + ranks - 1) / ranks })
  }

  @Test(arguments: [1, 2, 4, 8, 16], [1, 2, 4, 8, 16])
  func runsFollowTheTreeForPowersOfTwo(count: Int, ranks: Int) {
    let slots = Slots(count, over: ranks)
    for rank in 0..<ranks {
      #expect(SumTree(slots: count).nodes(within: slots.run(of: rank)).count <= 1)
    }
  }

  @Test func partialBatchIsAPrefix() {
    let slots = Slots(7, over: 3)
    #expect((0..<3).map { slots.run(of: $0) } == [0..<2, 2..<4, 4..<7])
    #expect((0..<3).map { slots.run(of: $0, filled: 3) } == [0..<2, 2..<3, 3..<3])
  }
}
