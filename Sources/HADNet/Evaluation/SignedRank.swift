import Foundation

/// Wilcoxon's two-sided signed-rank test of paired differences.
///
/// Pairs that do not differ are left out, equal sizes share the mean of their ranks. p is exact for up to 50 pairs that
/// all differ, and by different sizes; for up to 13 pairs always, by all ways to give signs to the ranks. Else the
/// normal distribution stands in, its variance corrected for equal sizes, without correction for continuity.
/// `wilcoxon(zero_method="wilcox", correction=False)` of SciPy 1.17 gives the same, except that p is always NaN here
/// where no pair differs (SciPy: 1 for up to 13).
package struct SignedRankTest: Equatable, Sendable {
  /// How many pairs differ.
  package let n: Int
  /// The smaller one of the sums of ranks, of those above and those below 0.
  package let statistic: Double
  package let p: Double
  /// Whether p was counted and not approximated.
  package let isExact: Bool

  /// NaN where no pair differs, or a difference is NaN.
  package init(differences: [Double]) {
    let sorted = differences.filter { $0 != 0 }.sorted { abs($0) < abs($1) }
    n = sorted.count
    guard n > 0, !differences.contains(where: \.isNaN) else {
      (statistic, p, isExact) = (.nan, .nan, false)
      return
    }
    // Twice the ranks, which are whole numbers.
    var ranks: [Int] = [], above = 0, tied = 0.0
    while ranks.count < n {
      let start = ranks.count, size = abs(sorted[start])
      let end = sorted[start...].firstIndex { abs($0) > size } ?? n
      let rank = start + 1 + end, equal = Double(end - start)
      for difference in sorted[start..<end] {
        ranks.append(rank)
        if difference > 0 { above += rank }
      }
      tied += equal * equal * equal - equal
    }
    let smaller = min(above, n * (n + 1) - above), pairs = Double(n)
    statistic = Double(smaller) / 2
    let isPlain = n == differences.count && tied == 0
    isExact = differences.count <= 13 || isPlain && differences.count <= 50
    if isExact {
      // 2 · ways / 2ⁿ; at most 2⁵⁰ ways, so this is the exact number.
      let ways = Double(SignedRankTest.waysToReach(smaller, ranks))
      p = min(1, Double(sign: .plus, exponent: 1 - n, significand: ways))
    } else {
      let variance = (pairs * (pairs + 1) * (2 * pairs + 1) - tied / 2) / 24
      let z = (statistic - pairs * (pairs + 1) / 4) / variance.squareRoot()
      p = erfc(-z / 2.0.squareRoot())
    }
  }

  /// In how many ways some of the ranks add up to at most `sum`.
  private static func waysToReach(_ sum: Int, _ ranks: [Int]) -> UInt64 {
    var ways = [UInt64](repeating: 0, count: sum + 1)
    ways[0] = 1
    for rank in ranks {
      for total in stride(from: sum, through: rank, by: -1) { ways[total] += ways[total - rank] }
    }
    return ways.reduce(0, +)
  }
}
