/// How lesions of one size are detected, and how well those that are: the table of metastases of 2026.
///
/// Source: brats-evaluation 0.0.10, `mets`.
package struct MetastasisScores: Equatable, Sendable {
  /// Lesions of one size; NaN where the truth has none.
  package struct Detection: Equatable, Sendable {
    package let tp, fp, fn: Double
    package let precision, recall, f1: Double

    init(tp: Int, fp: Int, fn: Int) {
      func ratio(_ part: Int, _ whole: Int) -> Double { whole > 0 ? Double(part) / Double(whole) : 0 }
      let isThere = tp + fn > 0
      self.tp = isThere ? Double(tp) : .nan
      self.fp = isThere ? Double(fp) : .nan
      self.fn = isThere ? Double(fn) : .nan
      precision = isThere ? ratio(tp, tp + fp) : .nan
      recall = isThere ? ratio(tp, tp + fn) : .nan
      f1 = isThere ? ratio(2 * tp, 2 * tp + fp + fn) : .nan
    }
  }

  /// mm³: from here on a lesion is large.
  package static let largeVolume = 20.0
  /// From this Dice on a lesion is detected.
  package static let detectionDice = 0.1
  /// HD95 of what has no counterpart, mm.
  package static let penalty = InstanceScores.penalty

  /// False positives, whose size nobody knows the truth of, are in both.
  package let large, small: Detection
  /// Over large lesions: those with a pair, those without (0, 0 and `penalty`), and all false positives as such. NaN
  /// without a large lesion.
  package let dsc, nsd, hd95: LesionSpread

  package init(_ scores: InstanceScores) {
    func detection(_ lesions: [InstanceScores.Lesion]) -> Detection {
      let tp = lesions.count { ($0.match?.dsc ?? 0) >= MetastasisScores.detectionDice }
      return Detection(tp: tp, fp: scores.fp, fn: lesions.count - tp)
    }
    let large = scores.lesions.filter { $0.volume >= MetastasisScores.largeVolume }
    self.large = detection(large)
    small = detection(scores.lesions.filter { $0.volume < MetastasisScores.largeVolume })
    let fits = large.map(\.match) + [InstanceScores.Agreement?](repeating: nil, count: scores.fp)
    func spread(_ value: KeyPath<InstanceScores.Agreement, Double>, without: Double) -> LesionSpread {
      large.isEmpty ? LesionSpread([]) : LesionSpread(fits.map { $0?[keyPath: value] ?? without })
    }
    dsc = spread(\.dsc, without: 0)
    nsd = spread(\.nsd, without: 0)
    hd95 = spread(\.hd95, without: MetastasisScores.penalty)
  }
}
