import Evaluation
import Foundation
import Testing

@Suite struct StatisticsTests {
  @Test func summaryOfAHandWorkedList() {
    let summary = Summary([4, 1, 3, 2])
    #expect(summary.mean == 2.5 && summary.median == 2.5 && summary.q25 == 1.75 && summary.q75 == 3.25)
    #expect(summary.sd == (5.0 / 3).squareRoot())
  }

  @Test func fewValuesHaveNoDeviation() {
    #expect(Summary([2]).mean == 2 && Summary([2]).median == 2 && Summary([2]).sd.isNaN)
    #expect(Summary([]).mean.isNaN && Summary([]).median.isNaN)
    #expect(Summary([2]).interval.lower.isNaN && Summary([]).interval.upper.isNaN)
  }

  @Test func aMissingValueIsInEveryNumber() {
    let summary = Summary([1, 2, .nan, 3, 4])
    for number in [
      summary.mean, summary.sd, summary.median, summary.q25, summary.q75, summary.interval.lower,
    ] {
      #expect(number.isNaN)
    }
  }

  @Test func equalValuesHaveNoDeviation() {
    #expect(Summary([0.1, 0.1, 0.1]).sd == 0)
    #expect(PairedTTest([0.3, 0.3, 0.3], [0.2, 0.2, 0.2]).p == 0)
  }

  @Test func goldenTTestsHoldTo1e9() throws {
    let tests = try Golden.load().tTests
    #expect(tests.count == 15)
    func close(_ a: Double, _ b: Double) -> Bool {
      a == b || a.isNaN && b.isNaN || abs(a - b) <= 1e-9 * abs(b)
    }
    for (name, expected) in tests {
      let test = PairedTTest(expected.a, expected.b)
      #expect(test.n == expected.n && test.degreesOfFreedom == expected.df, "\(name)")
      #expect(abs(test.meanDifference - expected.meanDifference) <= 1e-15, "\(name)")
      #expect(abs(test.sdDifference - expected.sdDifference) <= 1e-15, "\(name)")
      #expect(close(test.t, expected.t.value), "\(name): t \(test.t), expected \(expected.t.value)")
      #expect(close(test.p, expected.p.value), "\(name): p \(test.p), expected \(expected.p.value)")
    }
  }

  @Test(arguments: [0.001, 0.1, 0.5, 1, 2, 30, 1e5])
  func twoPairsFollowTheArcTangent(t: Double) {
    // Mean 1 and sd √2/t.
    let test = PairedTTest([1 + 1 / t, 1 - 1 / t], [0, 0])
    let p = 1 - 2 / Double.pi * atan(test.t)
    #expect(abs(test.p - p) <= 1e-12)
  }

  @Test func onePairHasNoTest() {
    #expect(PairedTTest([1], [0]).p.isNaN && PairedTTest([], []).t.isNaN)
  }
}
