import Compute
import Imaging

/// Logits to labels.
package enum Segmentation {
  /// The class of the largest logit of each voxel; the lowest of equals. Logits [z, y, x, 4].
  package static func labels(_ logits: Volume, _ workers: Workers) -> LabelVolume {
    var classes = [UInt8](repeating: 0, count: logits.shape.voxels)
    let pieces = Pieces(logits.shape.voxels, least: 4096, limit: 256)
    classes.withUnsafeMutableBufferPointer { classes in
      nonisolated(unsafe) let classes = classes
      workers.forEach(pieces.count) { piece, _ in
        for voxel in pieces[piece] {
          let v = logits.base + voxel * LabelVolume.classCount
          var best = 0
          for c in 1..<LabelVolume.classCount where v[c] > v[best] { best = c }
          classes[voxel] = UInt8(best)
        }
      }
    }
    return LabelVolume(logits.size, classes)
  }

  /// The classes of a segmentation on disk, in BraTS orientation. Throws `.invalid` for a value that the convention
  /// does not have, naming file and value.
  ///
  /// `option`: the option that says another convention of the file, if one does.
  package static func read(_ path: String, convention: LabelConvention, option: String? = nil) throws -> (
    labels: LabelVolume, header: NIfTIHeader
  ) {
    let image = try NIfTIImage.read(path)
    try AvailableMemory.check(
      image.header.voxels, "\(path): a segmentation of \(image.header.extents) voxels")
    return (LabelVolume(image.size, try RawCase.classes(image, convention, option: option)), image.header)
  }
}
