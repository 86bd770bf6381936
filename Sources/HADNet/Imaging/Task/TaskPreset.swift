/// The tasks that have a name: BraTS's sets by year and disease.
///
/// Source: the challenges' pages and scoring programs; values of 2024 and later are those of validate2024.py and
/// brats-evaluation.
package enum TaskPreset: String, CaseIterable, Codable, Sendable {
  /// Gliomas of 2017 to 2023: ET is 4 in files up to 2021, 3 from 2023 on, told by the cases' names.
  case brats
  /// Gliomas after treatment, 2024 on: 4 is the resection cavity.
  case brats2024
  /// Children's, 2024 on.
  case pediatric = "brats-ped"
  /// Sub-Saharan Africa's, as 2023.
  case africa = "brats-ssa"
  /// Metastases, with the cavity from 2025 on.
  case metastases = "brats-met"

  /// The preset's task.
  package var task: SegmentationTask { TaskPreset.tasks[self]! }

  private static let tasks = Dictionary(uniqueKeysWithValues: allCases.map { ($0, made($0)) })

  private static func made(_ preset: TaskPreset) -> SegmentationTask {
    func task(
      _ classes: [(String, UInt8)], _ regions: [(name: String, classes: [String])], _ score: [String]? = nil,
      detect: String = "ET"
    ) -> SegmentationTask {
      // The presets are right as they stand here: a test makes all of them.
      try! SegmentationTask(
        preset: preset, sequences: [.flair, .t1ce, .t1, .t2], missing: [.t1ce],
        classes: classes.map { .init($0.0, $0.1) }, regions: regions, score: score, detect: detect)
    }
    let nested = [("WT", ["NET", "ED", "ET"]), ("TC", ["NET", "ET"]), ("ET", ["ET"])]
    let treated = [
      ("WT", ["NETC", "SNFH", "ET"]), ("TC", ["NETC", "ET"]), ("ET", ["ET"]), ("RC", ["RC"]),
    ]
    switch preset {
    case .brats: return task([("NET", 1), ("ED", 2), ("ET", 4)], nested)
    case .africa: return task([("NET", 1), ("ED", 2), ("ET", 3)], nested)
    case .brats2024, .metastases:
      return task([("NETC", 1), ("SNFH", 2), ("ET", 3), ("RC", 4)], treated, ["WT", "TC", "ET"])
    case .pediatric:
      return task(
        [("ET", 1), ("NETC", 2), ("CC", 3), ("ED", 4)],
        [("WT", ["ET", "NETC", "CC", "ED"]), ("TC", ["ET", "NETC", "CC"]), ("ET", ["ET"])])
    }
  }
}
