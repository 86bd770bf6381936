/// The challenge's three nested parts of a tumour, over class indices (0 background, 1 NET, 2 ED, 3 ET).
package enum Region: String, CaseIterable, Codable, Comparable, Sendable {
  /// Whole tumour: NET, ED and ET.
  case wt = "WT"
  /// Tumour core: NET and ET.
  case tc = "TC"
  /// Enhancing tumour.
  case et = "ET"

  /// Its class indices.
  package var classes: [UInt8] {
    switch self {
    case .wt: [1, 2, 3]
    case .tc: [1, 3]
    case .et: [3]
    }
  }

  /// What the challenge calls it in the names of uncertainty maps.
  package var mapName: String {
    switch self {
    case .wt: "whole"
    case .tc: "core"
    case .et: "enhance"
    }
  }

  /// Whether voxels of this class index belong to it.
  package func contains(_ index: UInt8) -> Bool { classes.contains(index) }

  /// In the order of the paper's tables: WT, TC, ET.
  package static func < (a: Region, b: Region) -> Bool { a.classes.count > b.classes.count }
}
