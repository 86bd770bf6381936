import Collective
import Testing

@testable import Compute
@testable import Files
@testable import Learning
@testable import TestSupport

@Suite struct TrainingGradientReducerTests {
  private func vector(_ count: Int) -> ParameterVector {
    var layout = ParameterLayout()
    _ = layout.add("w", count)
    return ParameterVector(normal: layout, 1)
  }

  private func reducer(_ p: ParameterVector, slots: Int = 1) -> GradientReducer {
    GradientReducer(p, .init(beta1: 0.9, beta2: 0.999), .single(slots), Workers(2))
  }

  @Test(arguments: [Float.nan, .infinity, -.infinity], [0, 7, 8, 99_999, 100_000])
  func aGradientThatIsNoNumberLeavesEverythingAsItWas(value: Float, place: Int) throws {
    let p = vector(100_001), before = p.array, reducer = reducer(p)
    reducer.begin(filled: 1)
    reducer.gradient.values[place] = value
    reducer.addLast()
    reducer.finished(0..<p.count)
    try reducer.update(rate: 0.1)
    #expect(throws: GradientReducer.NotFinite.self) { try reducer.settle() }
    #expect(reducer.isToBlame)
    #expect(firstDifference(p.array, before) == nil)
    #expect(reducer.optimiser.updates == 0 && reducer.optimiser.first.array.allSatisfy { $0 == 0 })
  }

  @Test func aGradientThatIsNoNumberIsSaidWithItsCases() throws {
    let p = vector(100), reducer = reducer(p), size = Size(1, 1, 1)
    let item = SlotCase(
      slot: 3, id: "BraTS19_X_1", images: Volume(zeros: Shape(size, 4)), truth: LabelVolume(size, [0]))
    reducer.begin(filled: 1)
    reducer.gradient.values[42] = .nan
    reducer.addLast()
    reducer.finished(0..<p.count)
    try reducer.update(rate: 0.1)
    let found = fault { try reducer.settle([CaseName(item)], WaitingTime(.single())) }
    #expect(
      found?.description.hasPrefix(
        "a gradient is not a finite number in a step with slot 3 (BraTS19_X_1); the last checkpoint is good")
        == true, "\(String(describing: found))")
  }

  /// The last slot's gradient comes in parts, in any order.
  @Test func partsOfTheLastSlotAreAddedAsTheyCome() throws {
    let whole = vector(1000), parts = ParameterVector(copying: whole)
    let a = reducer(whole, slots: 3), b = reducer(parts, slots: 3)
    for reducer in [a, b] {
      reducer.begin(filled: 3)
      for slot in 0..<3 {
        if slot == 2 { reducer.addLast() }
        for i in 0..<1000 { reducer.gradient.values[i] = Float((i * 31 + slot * 17) % 101) - 50 }
        if slot < 2 { reducer.add() }
      }
    }
    a.finished(0..<1000)
    for range in [900..<1000, 0..<1, 1..<450, 450..<900] { b.finished(range) }
    for reducer in [a, b] {
      try reducer.update(rate: 0.1)
      try reducer.settle()
    }
    #expect(firstDifference(whole.array, parts.array) == nil)
    let expected = (0..<1000).map { i in
      (0..<3).map { Float((i * 31 + $0 * 17) % 101) - 50 }.reduce(0, +) / 3 * Float(1 - 0.9)
    }
    for i in 0..<1000 { #expect(abs(a.optimiser.first.array[i] - expected[i]) <= 1e-5) }
  }
}
