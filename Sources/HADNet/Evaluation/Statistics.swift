import Foundation

/// Values of several cases in a few numbers. Without values all are NaN, as with a value that is; with one so are the
/// sd and the interval.
package struct Summary: Equatable, Sendable {
  package let mean: Double
  /// Standard deviation with n − 1.
  package let sd: Double
  package let median: Double
  /// Quartiles, interpolated linearly.
  package let q25, q75: Double
  private let values: [Double]

  /// Of values in any order.
  package init(_ values: [Double]) {
    self.values = values
    mean = Evaluation.mean(values)
    sd = Evaluation.standardDeviation(values)
    let sorted = values.contains(where: \.isNaN) ? [.nan] : values.sorted()
    median = quantile(0.5, of: sorted)
    q25 = quantile(0.25, of: sorted)
    q75 = quantile(0.75, of: sorted)
  }

  /// The 95 % interval of the mean by the bootstrap, worked out anew each time.
  package var interval: Interval { Bootstrap.intervals(ofMeans: [values])[0] }
}

/// The arithmetic mean; NaN of nothing.
func mean(_ values: [Double]) -> Double { values.reduce(0, +) / Double(values.count) }

/// The standard deviation with n − 1; NaN for fewer than two values, exactly 0 for equal ones.
func standardDeviation(_ values: [Double]) -> Double {
  guard values.count > 1 else { return .nan }
  // The mean of n equal numbers may round to another number; the deviation would then be tiny, not 0.
  if values.allSatisfy({ $0 == values[0] }) { return 0 }
  let center = mean(values)
  let squares = values.reduce(0) { $0 + ($1 - center) * ($1 - center) }
  return (squares / Double(values.count - 1)).squareRoot()
}

/// The value at position q·(n − 1) of sorted values, between two of them linearly.
func quantile(_ q: Double, of sorted: [Double]) -> Double {
  guard let last = sorted.last else { return .nan }
  let position = q * Double(sorted.count - 1), below = Int(position)
  guard below + 1 < sorted.count else { return last }
  return sorted[below] + (position - Double(below)) * (sorted[below + 1] - sorted[below])
}

/// The two-sided paired t-test of a against b, whose values belong to the same cases in the same order.
///
/// With fewer than two pairs, or if no pair differs, t and p are NaN; if all differ by the same, t is infinite and
/// p 0. SciPy's `ttest_rel` gives the same.
package struct PairedTTest: Equatable, Sendable {
  /// How many pairs.
  package let n: Int
  /// Mean and standard deviation (n − 1) of a − b.
  package let meanDifference, sdDifference: Double
  /// n − 1.
  package var degreesOfFreedom: Int { n - 1 }
  package let t, p: Double

  /// As many values of `b` as of `a`.
  package init(_ a: [Double], _ b: [Double]) {
    precondition(a.count == b.count, "\(a.count) values against \(b.count)")
    let differences = zip(a, b).map { $0 - $1 }
    n = differences.count
    meanDifference = mean(differences)
    sdDifference = standardDeviation(differences)
    t = meanDifference / (sdDifference / Double(n).squareRoot())
    p = t.isInfinite ? 0 : t.isNaN ? .nan : studentTail(t, Double(n - 1))
  }
}

/// The probability of a |t| at least as large under Student's distribution with `freedom` degrees of freedom:
/// I_x(ν/2, 1/2) at x = ν/(ν + t²), with a relative accuracy that holds down to the smallest p.
func studentTail(_ t: Double, _ freedom: Double) -> Double {
  if t == 0 { return 1 }
  if (t * t).isInfinite { return 0 }
  let a = freedom / 2, b = 0.5
  let x = freedom / (freedom + t * t)
  // Not 1 − x, which would lose all digits of a small t.
  let y = t * t / (freedom + t * t)
  // ln x = −ln(1 + t²/ν), which keeps its digits where x is close to 1.
  let front = exp(
    logGamma(a + b) - logGamma(a) - logGamma(b) - a * log1p(t * t / freedom) + b * log(y))
  return x < (a + 1) / (a + b + 2)
    ? front * betaFraction(x, a, b) / a
    : 1 - front * betaFraction(y, b, a) / b
}

private func logGamma(_ x: Double) -> Double { lgamma(x).0 }

/// The continued fraction of the incomplete beta function, by the modified method of Lentz.
private func betaFraction(_ x: Double, _ a: Double, _ b: Double) -> Double {
  let tiny = 1e-300
  func guarded(_ value: Double) -> Double { abs(value) < tiny ? tiny : value }
  var c = 1.0
  var d = 1 / guarded(1 - (a + b) * x / (a + 1))
  var result = d
  // About √max(a, b) terms are needed; the bound only ends a loop that NaN would keep alive.
  for term in 1...100_000 {
    let m = Double(term)
    let even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
    d = 1 / guarded(1 + even * d)
    c = guarded(1 + even / c)
    result *= d * c
    let odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
    d = 1 / guarded(1 + odd * d)
    c = guarded(1 + odd / c)
    let step = d * c
    result *= step
    if abs(step - 1) < 1e-15 { break }
  }
  return result
}
