/// A part of what is segmented: a union of classes, which is scored as one.
package struct Region: Hashable, Codable, Sendable {
  package let name: String
  /// Its class indices, ascending; 0, the background, is in none.
  package let classes: [UInt8]

  package init(_ name: String, _ classes: [UInt8]) {
    self.name = name
    self.classes = classes.sorted()
  }

  /// Whether voxels of this class index belong to it.
  package func contains(_ index: UInt8) -> Bool { classes.contains(index) }

  /// The region of BraTS's challenges that holds all tumour: NET, ED and ET of the preset `brats`.
  package static let wt = Region("WT", [1, 2, 3])
  /// Tumour core: NET and ET.
  package static let tc = Region("TC", [1, 3])
  /// Enhancing tumour.
  package static let et = Region("ET", [3])

  /// What stands for it in the names of uncertainty maps: BraTS's words for its own three, else the name, with `_`
  /// for what a file's name should not have.
  package var mapName: String {
    switch name {
    case "WT": "whole"
    case "TC": "core"
    case "ET": "enhance"
    default: fileName
    }
  }

  /// The name with `_` for all but letters, digits, `-` and `.`.
  package var fileName: String {
    String(name.map { $0.isASCII && ($0.isLetter || $0.isNumber) || $0 == "-" || $0 == "." ? $0 : "_" })
  }
}
