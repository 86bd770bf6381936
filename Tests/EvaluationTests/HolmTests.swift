import Testing

@testable import Evaluation

@Suite struct HolmTests {
  @Test func goldenFamiliesHoldTo1e9() throws {
    let families = try StatisticsGolden.load().holm
    #expect(families.count == 6)
    for family in families {
      for (found, expected) in zip(holm(family.p), family.adjusted) {
        #expect(abs(found - expected) <= 1e-9 * expected, "\(family.p): \(found), expected \(expected)")
      }
    }
  }

  /// 4 × 0.005; 3 × 0.0078125; 2 × 0.01 is less than that, so it is raised; 1 × 0.5.
  @Test func noneIsBelowTheOneBeforeIt() {
    #expect(holm([0.01, 0.5, 0.005, 0.0078125]) == [0.0234375, 0.5, 0.02, 0.0234375])
  }

  @Test func whatIsNoTestStaysOutside() {
    let adjusted = holm([.nan, 0.25, .nan, 0.0625])
    #expect(adjusted[0].isNaN && adjusted[2].isNaN && adjusted[1] == 0.25 && adjusted[3] == 0.125)
    #expect(holm([]).isEmpty && holm([.nan])[0].isNaN)
  }

  @Test func noneIsAbove1() { #expect(holm([0.75, 0.5, 0.625]) == [1, 1, 1]) }
}
