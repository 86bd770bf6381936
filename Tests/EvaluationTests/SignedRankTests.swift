import Evaluation
import Testing

@Suite struct SignedRankTests {
  @Test func goldenTestsHoldTo1e9() throws {
    let tests = try StatisticsGolden.load().signedRank
    #expect(tests.count == 52)
    for (name, expected) in tests {
      let test = SignedRankTest(differences: expected.differences)
      #expect(test.n == expected.differences.count { $0 != 0 }, "\(name)")
      #expect(
        test.statistic == expected.statistic, "\(name): \(test.statistic), expected \(expected.statistic)")
      #expect(abs(test.p - expected.p) <= 1e-9 * expected.p, "\(name): p \(test.p), expected \(expected.p)")
    }
  }

  /// 50 pairs, all above 0: only one of 2⁵⁰ ways to give the signs is as far out on this side.
  @Test func pIsExactUpTo50PairsThatDifferBySizesOfTheirOwn() {
    let differences = (1...50).map(Double.init)
    let test = SignedRankTest(differences: differences)
    #expect(test.isExact && test.statistic == 0 && test.p == 0x1p-49)
    #expect(!SignedRankTest(differences: differences + [51]).isExact)
    #expect(!SignedRankTest(differences: differences.dropLast() + [0]).isExact)
    #expect(!SignedRankTest(differences: differences.dropLast() + [-49]).isExact)
  }

  /// Ranks 1½, 1½, 3: of eight ways two (−1½ and −1½ and −3 on either side) are as far out.
  @Test func equalSizesOfFewPairsAreCounted() {
    let test = SignedRankTest(differences: [0.5, 0.5, 0.75])
    #expect(test.isExact && test.n == 3 && test.p == 0.25)
    let mixed = SignedRankTest(differences: [-0.5, 0.5, 0.75, 0])
    #expect(mixed.isExact && mixed.n == 3 && mixed.statistic == 1.5 && mixed.p == 0.75)
  }

  @Test func signsOfAllDifferencesDoNotMatter() throws {
    for (name, golden) in try StatisticsGolden.load().signedRank {
      let turned = SignedRankTest(differences: golden.differences.map { -$0 })
      #expect(turned == SignedRankTest(differences: golden.differences), "\(name)")
    }
  }

  @Test(arguments: [[], [0.0], [0, 0, 0], [Double](repeating: 0, count: 60), [1, .nan, 2]])
  func withoutADifferenceThereIsNoTest(differences: [Double]) {
    let test = SignedRankTest(differences: differences)
    #expect(test.p.isNaN && test.statistic.isNaN)
  }
}
