import Foundation

/// Scores of segmentations on disk against a truth on disk, made by any method.
public struct Evaluator: Sendable {
  /// One case: its ID, truth and prediction.
  public struct Pair: Equatable, Sendable {
    public let id, truth, prediction: String
    public let convention: LabelConvention
  }

  /// The pairs of two folders, in order of their IDs. `truth` is a data set in any known layout, or a folder of
  /// ID/ID_seg.nii.gz or flat ID_seg.nii.gz; `predictions` holds ID.nii.gz or ID.nii. `convention`: nil by the cases'
  /// names.
  ///
  /// Throws `.missing` for an absent or empty folder and for a case that is on one side only.
  public static func pairs(
    truth: String, predictions: String, convention: LabelConvention?
  ) throws -> [Pair] {
    let truths = try truthFiles(truth), found = try predictionFiles(predictions)
    if let id = truths.keys.sorted().first(where: { found[$0] == nil }) {
      throw Fault(.missing, "\(predictions): no segmentation of \(id), which has a truth in \(truth)")
    }
    if let id = found.keys.sorted().first(where: { truths[$0] == nil }) {
      throw Fault(.missing, "\(truth): no truth for \(id), which is segmented in \(predictions)")
    }
    return truths.keys.sorted().map { id in
      Pair(
        id: id, truth: truths[id] ?? "", prediction: found[id] ?? "",
        convention: convention ?? LabelConvention(caseName: id))
    }
  }

  /// Dice, sensitivity and specificity of a pair. Throws `.invalid` where sizes or affines differ or a label is
  /// unknown.
  public static func scores(_ pair: Pair) throws -> CaseScores {
    let (truth, a) = try Segmentation.read(pair.truth, convention: pair.convention)
    let (prediction, b) = try Segmentation.read(pair.prediction, convention: pair.convention)
    guard a.dimensions == b.dimensions else {
      throw Fault(.invalid, "\(pair.id): the prediction is \(b.extents) voxels, the truth is \(a.extents)")
    }
    guard zip(a.affine, b.affine).allSatisfy({ abs($0 - $1) <= 1e-3 }) else {
      throw Fault(.invalid, "\(pair.id): \(pair.prediction) has another affine than \(pair.truth)")
    }
    return CaseScores(Overlaps(truth: truth, prediction: prediction))
  }

  private static func names(_ folder: String) throws -> [String] {
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: folder, isDirectory: &isFolder), isFolder.boolValue else {
      throw Fault(.missing, "\(folder): no such folder")
    }
    return try FileManager.default.contentsOfDirectory(atPath: folder).filter { !$0.hasPrefix(".") }.sorted()
  }

  private static func stem(_ name: String, _ suffix: String = "") -> String? {
    for ending in [".nii.gz", ".nii"] where name.hasSuffix(suffix + ending) {
      let stem = String(name.dropLast(suffix.count + ending.count))
      return stem.isEmpty ? nil : stem
    }
    return nil
  }

  private static func predictionFiles(_ folder: String) throws -> [String: String] {
    var files: [String: String] = [:]
    for name in try names(folder) {
      guard let id = stem(name),
        !["_whole", "_core", "_enhance"].contains(where: { id.hasSuffix("_unc" + $0) })
      else { continue }
      guard files[id] == nil else {
        throw Fault(.invalid, "\(folder): \(id) is there twice, as .nii and as .nii.gz; remove one")
      }
      files[id] = "\(folder)/\(name)"
    }
    guard !files.isEmpty else {
      throw Fault(.missing, "\(folder): no segmentation (ID.nii.gz) is in this folder")
    }
    return files
  }

  private static func truthFiles(_ folder: String) throws -> [String: String] {
    var files: [String: String] = [:]
    let names = try names(folder)
    for name in names {
      for suffix in ["_seg", "-seg"] {
        if let id = stem(name, suffix) { files[id] = "\(folder)/\(name)" }
        for ending in [".nii.gz", ".nii"] {
          let path = "\(folder)/\(name)/\(name)\(suffix)\(ending)"
          if FileManager.default.fileExists(atPath: path) { files[name] = path }
        }
      }
    }
    if files.isEmpty {
      for item in try Dataset.inspect(folder, needs: [], needsTruth: true).cases {
        files[item.id] = item.segmentation
      }
    }
    guard !files.isEmpty else {
      throw Fault(.missing, "\(folder): no truth (ID_seg.nii.gz) is in this folder")
    }
    return files
  }
}
