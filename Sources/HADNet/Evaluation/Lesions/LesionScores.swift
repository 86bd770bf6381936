import Compute
import Imaging

/// What counts as one lesion, and which lesions count, in the scores of 2023.
package struct LesionSettings: Hashable, Sendable {
  /// How many times the truth is dilated before its parts are told, and a lesion before predictions near it are.
  package var dilation: Int
  /// mm³: only larger lesions count.
  package var volume: Double

  /// `dilation` is not negative.
  package init(dilation: Int, volume: Double) {
    precondition(dilation >= 0, "a dilation of \(dilation) voxels")
    self.dilation = dilation
    self.volume = volume
  }

  /// Gliomas, also children's and Sub-Saharan Africa's.
  package static let gliomas = LesionSettings(dilation: 3, volume: 50)
  package static let meningiomas = LesionSettings(dilation: 1, volume: 50)
  package static let metastases = LesionSettings(dilation: 1, volume: 2)

  /// Those of a preset.
  package init(_ preset: TaskPreset) { self = preset == .metastases ? .metastases : .gliomas }
}

/// The scores of 2023 of one region of one case: lesion by lesion, and of the whole region beside it.
///
/// Source: rachitsaluja/BraTS-2023-Metrics.
package struct LesionScores: Equatable, Sendable {
  /// A lesion of the truth.
  package struct Lesion: Equatable, Sendable {
    /// mm³.
    package let volume: Double
    /// Whether a predicted part is near.
    package let isFound: Bool
    /// Against all predicted parts that are near: 0 and `penalty` where none is.
    package let dice, hd95: Double
    /// Whether it is large enough to count. Predictions near one that is not are no false positives either.
    package let counts: Bool
  }

  /// HD95 of what has no counterpart, mm.
  package static let penalty = 374.0

  /// All, also those that do not count, in the order of their first voxels after dilation.
  package let lesions: [Lesion]
  /// Predicted parts that are near no lesion.
  package let fp: Int
  /// Of the whole masks.
  package let overlap: Overlap
  /// Of the whole masks by area, mm: 0 where both are empty, `penalty` where one is.
  package let hd95: Double
  /// Of the truth, mm³.
  package let volume: Double

  /// Found and missed lesions that count.
  package var tp: Int { lesions.count { $0.counts && $0.isFound } }
  package var fn: Int { lesions.count { $0.counts && !$0.isFound } }

  /// The mean over lesions that count, a false positive being one of Dice 0; 1 where there is neither.
  package var lesionDice: Double { mean(\.dice, falsePositive: 0) ?? 1 }

  /// The same of HD95, a false positive having `penalty`; 0 where there is neither.
  package var lesionHD95: Double { mean(\.hd95, falsePositive: LesionScores.penalty) ?? 0 }

  private func mean(_ value: KeyPath<Lesion, Double>, falsePositive: Double) -> Double? {
    let kept = lesions.filter(\.counts), n = kept.count + fp
    if n == 0 { return nil }
    return (kept.reduce(0) { $0 + $1[keyPath: value] } + falsePositive * Double(fp)) / Double(n)
  }

  package init(_ pair: MaskPair, _ settings: LesionSettings) {
    let truthRuns = Runs(pair.truth)
    let truth = Components(truthRuns, within: Components(truthRuns.dilated(settings.dilation)))
    let prediction = Components(pair.prediction)
    let spacing = pair.truth.spacing, areas = SurfaceAreas(spacing: spacing)
    var isNear = [Bool](repeating: false, count: prediction.count)
    lesions = (0..<truth.count).map { index in
      let volume = Double(truth.voxels[index]) * pair.truth.voxelVolume
      let around = truth.boxes[index].grown(by: settings.dilation, in: truthRuns.size)
      let grown = Runs(truth.mask([index], in: around, spacing: spacing)).dilated(settings.dilation)
      let near = prediction.meeting(grown, at: around.origin)
      for other in near { isNear[other] = true }
      var dice = 0.0, hd95 = LesionScores.penalty
      if !near.isEmpty {
        let box = near.reduce(truth.boxes[index]) { $0.union(prediction.boxes[$1]) }
        let lesion = truth.mask([index], in: box, spacing: spacing)
        let found = prediction.mask(near, in: box, spacing: spacing)
        dice = MaskPair(truth: lesion, prediction: found).overlap.dice
        hd95 = AreaSurface(lesion, areas).hd95(AreaSurface(found, areas), spacing)
      }
      return Lesion(
        volume: volume, isFound: !near.isEmpty, dice: dice, hd95: hd95, counts: volume > settings.volume)
    }
    fp = isNear.count { !$0 }
    overlap = pair.overlap
    volume = pair.truth.volume
    switch (truth.count, prediction.count) {
    case (0, 0): hd95 = 0
    case (0, _), (_, 0): hd95 = LesionScores.penalty
    default:
      let box = Components.box(around: [truth, prediction])
      hd95 = AreaSurface(pair.truth.cropped(to: box), areas)
        .hd95(AreaSurface(pair.prediction.cropped(to: box), areas), spacing)
    }
  }
}
