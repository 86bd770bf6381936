import Compute
import Files
import Foundation
import Imaging

/// Scores of segmentations on disk against a truth on disk, made by any method.
package struct Evaluator: Sendable {
  /// One case: its ID, truth and prediction.
  package struct Pair: Equatable, Sendable {
    package let id, truth, prediction: String
    /// The labels of the truth, and those of the prediction.
    package let values, predictionValues: LabelValues
    /// Each region's map of uncertainties; none where they are not scored.
    package let maps: [Region: String]
    /// A volume that is above 0 in the brain, such as T1; it is there where maps are.
    package let brain: String?

    /// Paths of a case's files. `predictionValues`: nil where they are the truth's. Of `maps` each region has one, or none.
    package init(
      id: String, truth: String, prediction: String, values: LabelValues,
      predictionValues: LabelValues? = nil, maps: [Region: String] = [:], brain: String? = nil
    ) {
      precondition(maps.isEmpty || brain != nil, "\(id): \(maps)")
      self.id = id
      self.truth = truth
      self.prediction = prediction
      self.values = values
      self.predictionValues = predictionValues ?? values
      self.maps = maps
      self.brain = brain
    }
  }

  /// Its regions are scored.
  package let task: SegmentationTask
  package var distance: SurfaceDistance
  package var thresholds: UncertaintyThresholds
  /// Metric sets that are asked for beside the scores that are always there; nil for none.
  package var asked: AskedSets?
  /// Of `brats2023`; nil where nobody says them.
  package var lesions: LesionSettings?

  /// The defaults are nnU-Net's distances and the challenge's thresholds.
  package init(
    _ task: SegmentationTask, distance: SurfaceDistance = .init(), thresholds: UncertaintyThresholds = .init()
  ) {
    self.task = task
    self.distance = distance
    self.thresholds = thresholds
  }

  /// Of evaluations that are made with it, with or without maps.
  package func settings(hasMaps: Bool) -> MetricSettings {
    MetricSettings(distance: distance, points: hasMaps ? thresholds.points : nil)
  }

  /// Every metric of a pair; the uncertainty score where it has maps.
  ///
  /// Files may be stored in any order of axes; what is compared lies in the same place. Throws `.invalid`, naming file
  /// and value, where sizes or affines differ then, a label is unknown, or an uncertainty
  /// is not a number in 0…100.
  package func scores(_ pair: Pair) throws -> CaseScores { try evaluate(pair).scores }

  /// The same with the curves behind the uncertainty scores, of each region that has a map.
  package func evaluate(_ pair: Pair) throws -> (scores: CaseScores, curves: [Region: UncertaintyCurves]) {
    let (truth, header) = try Segmentation.read(
      pair.truth, values: pair.values,
      // What is 4 in a set of 2023's names is more likely to be a resection cavity, which its own words say.
      option: pair.values == .upTo2021 ? "--truth-labels" : nil)
    let (prediction, own) = try Segmentation.read(
      pair.prediction, values: pair.predictionValues, option: "--prediction-labels")
    try Evaluator.check(own, against: header)
    // A field of distances around the regions, and the brain; maps are read on their own.
    try AvailableMemory.check(10 * header.voxels, "\(pair.id): to score \(header.extents) voxels")
    var scores = CaseScores(Overlaps(truth: truth, prediction: prediction, regions: task.regions))
    let (known, judged) = Evaluator.withoutIgnored(truth, prediction)
    for (region, hd95) in distance.hd95(
      truth: known, prediction: judged, regions: task.regions, spacing: header.bratsSpacing)
    {
      scores[region, .hd95] = hd95
    }
    try addSets(to: &scores, pair.id, truth: truth, prediction: prediction, header.bratsSpacing)
    guard let path = pair.brain, !pair.maps.isEmpty else { return (scores, [:]) }
    let brain = try Evaluator.brain(path, of: header)
    var curves: [Region: UncertaintyCurves] = [:]
    for region in task.regions {
      guard let path = pair.maps[region] else { continue }
      let map = try Evaluator.map(path, of: header)
      let own = UncertaintyCurves(
        region, truth: known, prediction: judged, brain: brain, map: map, thresholds)
      scores.uncertainty[region] = UncertaintyScore(own)
      curves[region] = own
    }
    return (scores, curves)
  }

  /// The metric sets that are asked for. Throws `.recipe` where nothing says what a lesion is.
  private func addSets(
    to scores: inout CaseScores, _ id: String, truth: LabelVolume, prediction: LabelVolume,
    _ spacing: [Double]
  ) throws(Fault) {
    guard let asked else { return }
    let preset = task.preset.map(LesionSettings.init)
    let isMeningioma = id.lowercased().hasPrefix("brats-men-")
    let all = try MetricSet.scores(
      truth: truth, prediction: prediction, asked.scored, spacing: spacing, Set(asked.sets),
      MetricSetSettings(distance: distance, lesions: lesions ?? (isMeningioma ? .meningiomas : preset)))
    var own = CaseSets()
    for (region, found) in zip(asked.scored, all) {
      for set in asked.sets { own[set, region] = SetScores(found, set) }
      if region == asked.detect {
        own.volumes = RegionVolumes(truth: found.truthVolume, prediction: found.predictionVolume)
      }
    }
    scores.sets = own
  }

  /// Both with background where the truth says nothing.
  private static func withoutIgnored(
    _ truth: LabelVolume, _ prediction: LabelVolume
  ) -> (truth: LabelVolume, prediction: LabelVolume) {
    guard truth.classes.contains(LabelVolume.ignored) || prediction.classes.contains(LabelVolume.ignored)
    else {
      return (truth, prediction)
    }
    var known = truth, judged = prediction
    for i in known.classes.indices {
      if known.classes[i] == LabelVolume.ignored {
        known.classes[i] = 0
        judged.classes[i] = 0
      } else if judged.classes[i] == LabelVolume.ignored {
        judged.classes[i] = 0
      }
    }
    return (known, judged)
  }

  /// Refuses a file that lies elsewhere than the truth.
  private static func check(_ header: NIfTIHeader, against truth: NIfTIHeader) throws(Fault) {
    try header.grid.check(header.path, against: truth.grid, "the truth")
  }

  /// 1 in the brain.
  private static func brain(_ path: String, of truth: NIfTIHeader) throws -> [UInt8] {
    let image = try NIfTIImage.read(path)
    try check(image.header, against: truth)
    guard image.voxels.contains(where: { $0 > 0 }) else {
      throw Fault(.invalid, "\(path): no voxel is above 0, so there is no brain to score uncertainties in")
    }
    return image.voxels.map { $0 > 0 ? 1 : 0 }
  }

  private static func map(_ path: String, of truth: NIfTIHeader) throws -> [Double] {
    let (header, values) = try NIfTIImage.doubles(path)
    try check(header, against: truth)
    var outside = 0
    for value in values { outside &+= value >= 0 && value <= 100 ? 0 : 1 }
    guard outside == 0 else {
      throw Fault(
        .invalid,
        "\(path): uncertainties from \(shown(values.min() ?? .nan)) to \(shown(values.max() ?? .nan)); "
          + "they must lie in 0…100")
    }
    // Entropies or probabilities as fractions would pass for certainty. All 0 is certainty, and a map that says what it
    // goes up to, as `predict` writes them, may hold little of it.
    if let most = values.max(), most > 0, most <= 1, !(header.displayMaximum > 1) {
      throw Fault(
        .invalid,
        "\(path): no uncertainty is above \(shown(most)), which looks like fractions; they must go from 0 (certain) to "
          + "100: multiply them by 100")
    }
    return values
  }

  private static func shown(_ value: Double) -> String { Int(exactly: value).map(String.init) ?? "\(value)" }
}

// MARK: - Which files belong together

extension Evaluator {
  /// The pairs of two folders, in order of their IDs. `truth` is a data set in any known layout, or a folder of
  /// ID/ID_seg.nii.gz or flat ID_seg.nii.gz; `predictions` holds ID.nii.gz or ID.nii. `uncertainty`, which may be the
  /// same folder, holds ID_unc_whole.nii.gz, ID_unc_core.nii.gz and ID_unc_enhance.nii.gz (or, like 2023's names,
  /// ID-unc-whole.nii.gz); the brain is then the T1 beside the truth. `values`: nil by the cases' names.
  ///
  /// `only`: the cases that count, where not all do.
  ///
  /// Throws `.missing` for an absent or empty folder, for a case that is on one side only, and for a missing map or T1.
  package static func pairs(
    truth: String, predictions: String, _ task: SegmentationTask, uncertainty: String? = nil,
    values: LabelValues? = nil, predictionValues: LabelValues? = nil, only: CaseList? = nil
  ) throws -> [Pair] {
    let dataset = try truths(truth, task), wanted = only.map { Set($0.ids) }
    let cases = dataset.cases.filter { wanted?.contains($0.id) ?? true }
    if let only {
      for id in only.ids where dataset[id] == nil {
        if let problem = dataset.problems.first(where: { $0.description.hasPrefix("\(id): ") }) {
          throw problem
        }
      }
      let unknown = only.ids.filter { dataset[$0] == nil }
      if let first = unknown.first {
        throw Fault(.missing, "\(only.source): no truth for \(first)\(others(unknown)) in \(truth)")
      }
    }
    let found = try predictionFiles(predictions, task.regions).filter { wanted?.contains($0.key) ?? true }
    let without = cases.map(\.id).filter { found[$0] == nil }
    if let first = without.first {
      throw Fault(
        .missing,
        "\(predictions): no segmentation of \(first)\(others(without)), which has a truth in \(truth)"
          + (only == nil && found.keys.contains { dataset[$0] != nil }
            ? "; --cases or --split evaluates some cases only" : ""))
    }
    for id in found.keys.sorted() where dataset[id] == nil {
      // What is wrong with that case's files says more.
      if let problem = dataset.problems.first(where: { $0.description.hasPrefix("\(id): ") }) {
        throw problem
      }
      throw Fault(.missing, "\(truth): no truth for \(id), which is segmented in \(predictions)")
    }
    let maps = try (uncertainty.map { try mapFiles($0, task.regions) } ?? [:]).filter {
      wanted?.contains($0.key) ?? true
    }
    if let uncertainty, let id = maps.keys.sorted().first(where: { dataset[$0] == nil }) {
      throw Fault(.missing, "\(truth): no truth for \(id), which has uncertainties in \(uncertainty)")
    }
    return try cases.map { item in
      if let uncertainty {
        for region in task.regions where maps[item.id]?[region] == nil {
          throw Fault(
            .missing,
            "\(uncertainty): no \(item.id)_unc_\(region.mapName).nii.gz, the uncertainties of \(item.id)")
        }
        guard item.files[.t1] != nil else {
          throw Fault(
            .missing,
            "\(item.id): T1 is missing in \(truth): it tells the brain, which the uncertainty score needs")
        }
      }
      return Pair(
        id: item.id, truth: item.segmentation ?? "", prediction: found[item.id] ?? "",
        values: values ?? item.values, predictionValues: predictionValues ?? item.values,
        maps: maps[item.id] ?? [:],
        brain: uncertainty == nil ? nil : item.files[.t1])
    }
  }

  /// ` (and 3 more)`.
  private static func others(_ ids: [String]) -> String {
    ids.count > 1 ? " (and \(ids.count - 1) more)" : ""
  }

  private static func names(_ folder: String) throws -> [String] {
    guard AtomicFile.isFolder(folder) else {
      throw Fault(
        .missing,
        FileManager.default.fileExists(atPath: folder)
          ? "\(folder) is a file; a folder is needed" : "\(folder): no such folder")
    }
    return try FileManager.default.contentsOfDirectory(atPath: folder).filter { !$0.hasPrefix(".") }.sorted()
  }

  private static func stem(_ name: String, _ suffix: String = "") -> String? {
    guard let stem = NIfTIImage.stem(name), stem.count > suffix.count, stem.lowercased().hasSuffix(suffix)
    else {
      return nil
    }
    return String(stem.dropLast(suffix.count))
  }

  /// The case and the region of a map's file.
  private static func mapName(_ name: String, _ regions: [Region]) -> (id: String, region: Region)? {
    for region in regions {
      let word = region.mapName.lowercased()
      for suffix in ["_unc_\(word)", "-unc-\(word)"] {
        if let id = stem(name, suffix) { return (id, region) }
      }
    }
    return nil
  }

  private static func predictionFiles(_ folder: String, _ regions: [Region]) throws -> [String: String] {
    var files: [String: String] = [:]
    for name in try names(folder) {
      guard let id = stem(name), mapName(name, regions) == nil else { continue }
      if let other = files[id] {
        throw Fault(
          .invalid,
          "\(folder): \(id) is there twice, as \(AtomicFile.name(other)) and as \(name); remove one"
        )
      }
      files[id] = "\(folder)/\(name)"
    }
    guard !files.isEmpty else {
      throw Fault(.missing, "\(folder): no segmentation (ID.nii.gz) is in this folder")
    }
    return files
  }

  private static func mapFiles(
    _ folder: String, _ regions: [Region]
  ) throws -> [String: [Region: String]] {
    var files: [String: [Region: String]] = [:]
    for name in try names(folder) {
      guard let (id, region) = mapName(name, regions) else { continue }
      guard files[id]?[region] == nil else {
        throw Fault(.invalid, "\(folder): the map \(region.mapName) of \(id) is there twice; remove one")
      }
      files[id, default: [:]][region] = "\(folder)/\(name)"
    }
    guard !files.isEmpty else {
      throw Fault(.missing, "\(folder): no map of uncertainties (ID_unc_whole.nii.gz) is in this folder")
    }
    return files
  }

  private static func truths(_ folder: String, _ task: SegmentationTask) throws -> Dataset {
    // An absent folder is told as for the other side.
    _ = try names(folder)
    let dataset: Dataset
    do {
      dataset = try Dataset.inspect(folder, task, needs: [], needsTruth: true)
    } catch let fault as Fault where fault.kind == .missing {
      throw Fault(.missing, "\(folder): no truth (ID_seg.nii.gz) is in this folder")
    }
    if dataset.cases.isEmpty, let problem = dataset.problems.first { throw problem }
    return dataset
  }
}
