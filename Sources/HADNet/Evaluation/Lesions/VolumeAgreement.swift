/// How predicted volumes follow the true ones over patients. NaN where a value is not defined.
///
/// Source: Bland and Altman, Statistical methods for assessing agreement (1986).
package struct VolumeAgreement: Equatable, Sendable {
  /// The squared correlation of Pearson, and 1 − Σ(p − t)² / Σ(t − t̄)², which asks for equal volumes. NaN where all true
  /// volumes are equal.
  package let r2, r2Identity: Double
  /// Mean and standard deviation (n − 1) of prediction − truth, mL.
  package let bias, sd: Double
  /// bias ± 1.96 · sd, mL.
  package var lower: Double { bias - 1.96 * sd }
  package var upper: Double { bias + 1.96 * sd }

  /// A patient's volumes each, mm³.
  package init(_ volumes: [(truth: Double, prediction: Double)]) {
    let t = volumes.map { $0.truth / 1000 }, p = volumes.map { $0.prediction / 1000 }
    let differences = zip(p, t).map { $0 - $1 }
    bias = mean(differences)
    sd = standardDeviation(differences)
    // Equal numbers may have a mean beside them, and then a tiny variance.
    func isConstant(_ values: [Double]) -> Bool { values.allSatisfy { $0 == values[0] } }
    if isConstant(t) {
      r2 = .nan
      r2Identity = .nan
      return
    }
    let tMean = mean(t), pMean = mean(p)
    var tt = 0.0, pp = 0.0, tp = 0.0, squares = 0.0
    for (t, p) in zip(t, p) {
      tt += (t - tMean) * (t - tMean)
      pp += (p - pMean) * (p - pMean)
      tp += (t - tMean) * (p - pMean)
      squares += (p - t) * (p - t)
    }
    // Rounding may lead a little beyond 1.
    r2 = isConstant(p) ? .nan : min(tp / tt * (tp / pp), 1)
    r2Identity = 1 - squares / tt
  }
}
