import Compute

/// Two numbers with something in between; NaN where there is none.
package struct Interval: Equatable, Sendable {
  package let lower, upper: Double

  package init(lower: Double, upper: Double) {
    self.lower = lower
    self.upper = upper
  }

  static let nan = Interval(lower: .nan, upper: .nan)
}

/// 95 % intervals of means over cases: cases are drawn anew, with replacement, 10,000 times, and the interval reaches
/// from the 2.5th to the 97.5th percentile of the means.
///
/// Percentiles as they are, not BCa's corrected ones: in a trial with Dice-like values (skewed, 15 % zeros) the
/// interval held the true mean in 95.0 and 94.5 % of 1,500 samples of 69 and 125 cases, BCa's in 95.3 and 94.7 %
/// (20 cases: 93.1 against 94.7 %), and BCa needs the normal distribution, whose last bits differ by C library.
/// Draws, sums and percentiles here are the same bits everywhere.
///
/// Source: Efron and Tibshirani, "An introduction to the bootstrap", 1993, chapter 13.
package enum Bootstrap {
  /// How often cases are drawn anew.
  package static let resamples = 10_000
  /// Nothing depends on a run's seed: the same scores have the same interval in every run.
  private static let seed: UInt64 = 1

  /// The interval of each column's mean. Columns hold the same cases in the same order (by ID, so that the bits depend
  /// on nothing else), and a resample draws the same cases of all.
  ///
  /// NaN for fewer than two cases, and for a column with a value that is not finite.
  package static func intervals(ofMeans columns: [[Double]]) -> [Interval] {
    guard let n = columns.first?.count else { return [] }
    precondition(columns.allSatisfy { $0.count == n }, "columns of \(columns.map(\.count)) cases")
    guard n > 1 else { return columns.map { _ in .nan } }
    var random = Philox(seed: seed, .bootstrap, n)
    var drawn = [Int](repeating: 0, count: n)
    var means = columns.map { _ in [Double](repeating: 0, count: resamples) }
    for resample in 0..<resamples {
      for i in 0..<n { drawn[i] = random.below(n) }
      for (c, column) in columns.enumerated() {
        var sum = 0.0
        for i in drawn { sum += column[i] }
        means[c][resample] = sum / Double(n)
      }
    }
    return zip(columns, means).map { column, means in
      guard column.allSatisfy(\.isFinite) else { return .nan }
      // The mean of n equal numbers may round to another number.
      if column.allSatisfy({ $0 == column[0] }) { return Interval(lower: column[0], upper: column[0]) }
      let sorted = means.sorted()
      return Interval(lower: quantile(0.025, of: sorted), upper: quantile(0.975, of: sorted))
    }
  }
}
