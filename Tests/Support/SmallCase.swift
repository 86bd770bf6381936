import Foundation

@testable import Imaging

/// Writes a case of small volumes and gives its files.
struct SmallCase {
  let scratch: Scratch
  var id = "BraTS19_X_1"
  var dimensions = [4, 3, 2]
  var images: [Modality: [Float]] = [:]
  var labels: [UInt8]?
  var affines: [Modality: [Double]] = [:]
  var extents: [Modality: [Int]] = [:]
  var forms = FormCodes.scanner
  static let brats: [Double] = [-1, 0, 0, 0, 0, -1, 0, 2, 0, 0, 1, 0, 0, 0, 0, 1]

  /// The same 24 values in all sequences, times 1, 2, 3, 4, with zeros around a box of 3×2×2 (x, y, z).
  init(_ scratch: Scratch) {
    self.scratch = scratch
    for modality in Modality.allCases {
      var values = [Float](repeating: 0, count: 24)
      for z in 0..<2 {
        for y in 0..<2 {
          for x in 1..<4 {
            values[(z * 3 + y) * 4 + x] = Float(modality.channel + 1) * Float(1 + x + 4 * y + 10 * z)
          }
        }
      }
      images[modality] = values
    }
  }

  func files() throws -> CaseFiles {
    var files: [Modality: String] = [:]
    for (modality, values) in images {
      let path = scratch.file("\(id)_\(modality.rawValue).nii.gz")
      try NIfTIImage.write(
        values, dimensions: extents[modality] ?? dimensions, affine: affines[modality] ?? SmallCase.brats,
        forms: forms, to: path)
      files[modality] = path
    }
    let seg = scratch.file("\(id)_seg.nii.gz")
    if let labels {
      try NIfTIImage.write(labels, dimensions: dimensions, affine: SmallCase.brats, to: seg)
    }
    return CaseFiles(id: id, files: files, segmentation: labels == nil ? nil : seg)
  }
}
