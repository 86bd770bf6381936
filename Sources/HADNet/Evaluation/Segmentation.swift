import Compute
import Imaging

/// Logits to labels.
package enum Segmentation {
  /// The class of the largest logit of each voxel; the lowest of equals. Logits [z, y, x, classes].
  package static func labels(_ logits: Volume, _ workers: Workers) -> LabelVolume {
    var classes = [UInt8](repeating: 0, count: logits.shape.voxels)
    let pieces = Pieces(logits.shape.voxels, least: 4096, limit: 256)
    workers.forEach(pieces, of: &classes) { voxels, classes in
      let count = logits.channels
      let logits = logits.values.extracting(voxels.lowerBound * count..<voxels.upperBound * count)
      for voxel in classes.indices {
        let first = voxel * count
        var best = first
        for i in first + 1..<first + count where logits[i] > logits[best] { best = i }
        classes[voxel] = UInt8(best - first)
      }
    }
    return LabelVolume(logits.size, classes)
  }

  /// The classes of a segmentation on disk, in BraTS orientation. Throws `.invalid` for a value that is none of the
  /// task's, naming file and value.
  ///
  /// `option`: the option that says other values of the file, if one does.
  package static func read(_ path: String, values: LabelValues, option: String? = nil) throws -> (
    labels: LabelVolume, header: NIfTIHeader
  ) {
    let image = try NIfTIImage.read(path)
    try AvailableMemory.check(
      image.header.voxels, "\(path): a segmentation of \(image.header.extents) voxels")
    return (LabelVolume(image.size, try RawCase.classes(image, values, option: option)), image.header)
  }
}
