/// Whether a region is told in the patients that have it, and not in those that do not.
package struct PatientDetection: Equatable, Sendable {
  /// Patients with the region in both, only predicted, only true, in neither.
  package let tp, fp, fn, tn: Int

  /// TP / (TP + FN) and TN / (TN + FP); NaN where no patient is on that side.
  package var sensitivity: Double { Double(tp) / Double(tp + fn) }
  package var specificity: Double { Double(tn) / Double(tn + fp) }
  /// The mean of both; NaN where one is.
  package var balancedAccuracy: Double { (sensitivity + specificity) / 2 }

  /// A patient's volumes each, mm³; the region is present where its volume is larger than `threshold`.
  package init(_ volumes: [(truth: Double, prediction: Double)], threshold: Double = 0) {
    func patients(_ truth: Bool, _ prediction: Bool) -> Int {
      volumes.count { ($0.truth > threshold) == truth && ($0.prediction > threshold) == prediction }
    }
    tp = patients(true, true)
    fp = patients(false, true)
    fn = patients(true, false)
    tn = patients(false, false)
  }
}
