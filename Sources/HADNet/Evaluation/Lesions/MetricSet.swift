import Compute
import Files
import Imaging

/// A year's way to score segmentations. Several may be asked for at once.
package enum MetricSet: String, CaseIterable, Codable, Sendable {
  /// Voxels and the surfaces' distances of whole regions.
  case brats2020
  /// Lesion by lesion: `LesionScores`.
  case brats2023
  /// Pairs of parts: `InstanceScores`.
  case brats2026
}

/// What the metric sets leave open.
package struct MetricSetSettings: Equatable, Sendable {
  /// Of `brats2020`.
  package var distance: SurfaceDistance
  /// Of `brats2023`; nil where the task has no preset that says them.
  package var lesions: LesionSettings?

  package init(distance: SurfaceDistance = .init(), lesions: LesionSettings? = nil) {
    self.distance = distance
    self.lesions = lesions
  }
}

/// What the metric sets say of one region of one case.
package struct RegionScores: Equatable, Sendable {
  /// Voxels of the volume, but for those that the truth leaves out.
  package let overlap: Overlap
  /// mm³.
  package let truthVolume, predictionVolume: Double
  /// As `SurfaceDistance` has it, mm; nil without `brats2020`.
  package let hd95: Double?
  /// nil without `brats2023`.
  package let lesions: LesionScores?
  /// nil without `brats2026`.
  package let instances: InstanceScores?

  /// What an evaluation's JSON has of a set, in its order: fractions, counts, mm and mm³. NaN is null there, and an infinite
  /// distance `InstanceScores.penalty` (see `jsonText`). Empty for a set that was not asked for.
  package func values(_ set: MetricSet) -> [ScoreTable.Value] {
    switch set {
    case .brats2020: hd95.map(plain) ?? []
    case .brats2023: lesions.map(lesionwise) ?? []
    case .brats2026: instances.map(paired) ?? []
    }
  }

  private func plain(_ hd95: Double) -> [ScoreTable.Value] {
    [
      ("tp", Double(overlap.tp)), ("fp", Double(overlap.fp)), ("fn", Double(overlap.fn)),
      ("tn", Double(overlap.tn)), ("dice", overlap.dice), ("sensitivity", overlap.sensitivity),
      ("specificity", overlap.specificity), ("hd95", hd95),
    ]
  }

  private func lesionwise(_ own: LesionScores) -> [ScoreTable.Value] {
    [
      ("num_tp", Double(own.tp)), ("num_fp", Double(own.fp)), ("num_fn", Double(own.fn)),
      ("lesion_dice", own.lesionDice), ("lesion_hd95", own.lesionHD95), ("legacy_dice", own.overlap.dice),
      ("legacy_hd95", own.hd95), ("sensitivity", own.overlap.sensitivity),
      ("specificity", own.overlap.specificity), ("volume", own.volume),
    ]
  }

  private func paired(_ own: InstanceScores) -> [ScoreTable.Value] {
    [
      ("n_ref", Double(own.lesions.count)), ("n_pred", Double(own.predictions)), ("tp", Double(own.tp)),
      ("fp", Double(own.fp)), ("fn", Double(own.fn)), ("precision", own.precision), ("recall", own.recall),
      ("f1", own.f1), ("lesion_dsc", own.lesionDSC.mean), ("lesion_dsc_sd", own.lesionDSC.sd),
      ("lesion_nsd", own.lesionNSD.mean), ("lesion_nsd_sd", own.lesionNSD.sd),
      ("lesion_hd95", own.lesionHD95.mean), ("lesion_hd95_sd", own.lesionHD95.sd),
      ("global_dsc", own.whole.dsc), ("global_nsd", own.whole.nsd), ("global_hd95", own.whole.hd95),
      ("global_hd95_voxels", own.wholeHD95Voxels),
    ]
  }

  /// A value as JSON: null for NaN, and `InstanceScores.penalty` for an infinite distance.
  package static func jsonText(_ value: Double) -> String {
    jsonNumber(value == .infinity ? InstanceScores.penalty : value)
  }
}

extension MetricSet {
  /// That nothing says what a lesion of the task is.
  package static let lesionsAreOpen = Fault(
    .recipe,
    "brats2023 needs to be told what a lesion of this task is: --lesions DILATION,VOLUME in voxels and mm³ "
      + "(gliomas have 3,50, metastases 1,2)")

  /// The scores of one case, in the order of `regions`. Volumes of one size; `spacing`: distances of neighbours along z, y, x,
  /// mm.
  ///
  /// Throws `.recipe` where `brats2023` is asked for and nothing says what a lesion is.
  package static func scores(
    truth: LabelVolume, prediction: LabelVolume, _ regions: [Region], spacing: [Double],
    _ sets: Set<MetricSet>, _ settings: MetricSetSettings = .init()
  ) throws(Fault) -> [RegionScores] {
    var lesions: LesionSettings?
    if sets.contains(.brats2023) {
      guard let own = settings.lesions else {
        throw lesionsAreOpen
      }
      lesions = own
    }
    return regions.map { region in
      let pair = MaskPair(truth: truth, prediction: prediction, region, spacing: spacing)
      return RegionScores(
        overlap: pair.overlap, truthVolume: pair.truth.volume, predictionVolume: pair.prediction.volume,
        hd95: sets.contains(.brats2020) ? pair.hd95(settings.distance) : nil,
        lesions: lesions.map { LesionScores(pair, $0) },
        instances: sets.contains(.brats2026) ? InstanceScores(pair) : nil)
    }
  }
}

extension MaskPair {
  fileprivate func hd95(_ distance: SurfaceDistance) -> Double {
    let region = Region("", [1])
    return distance.hd95(
      truth: LabelVolume(truth.size, truth.voxels), prediction: LabelVolume(truth.size, prediction.voxels),
      regions: [region], spacing: truth.spacing)[region] ?? .nan
  }
}

extension SegmentationTask {
  /// What metric sets score: the regions, then each class that is none of them by itself.
  package var scored: [Region] {
    let single = classes.indices.map { Region(classes[$0].name, [UInt8($0 + 1)]) }
    return regions
      + single.filter { own in !regions.contains { $0.classes == own.classes || $0.name == own.name } }
  }
}
