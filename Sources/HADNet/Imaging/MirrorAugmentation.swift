import Compute

/// Random flips of training cases about each of the three axes, for KD-Net+.
///
/// Source: Hu et al., MICCAI 2020.
package struct MirrorAugmentation {
  /// Probability that an axis is mirrored, for each alone.
  let flip: Float

  /// `flip`: a probability, 0…1.
  package init(flip: Float) {
    self.flip = flip
  }

  /// A mirrored copy, or the same where no axis is. Images [z, y, x, C]; labels [z, y, x].
  package func apply(
    images: Volume, labels: LabelVolume, random: inout Philox
  ) -> (images: Volume, labels: LabelVolume) {
    let flips = (0..<3).map { _ in random.uniform() < flip }
    guard flips.contains(true) else { return (images, labels) }
    let size = images.size, channels = images.channels, result = Volume(zeros: images.shape)
    var classes = labels.classes
    for z in 0..<size.z {
      for y in 0..<size.y {
        let row = (z * size.y + y) * size.x
        let from = ((flips[0] ? size.z - 1 - z : z) * size.y + (flips[1] ? size.y - 1 - y : y)) * size.x
        for x in 0..<size.x {
          let voxel = from + (flips[2] ? size.x - 1 - x : x)
          classes[row + x] = labels.classes[voxel]
          // Both voxels lie in volumes of one shape.
          unsafe copyValues(
            images.base + voxel * channels, into: result.base + (row + x) * channels, channels)
        }
      }
    }
    return (result, LabelVolume(size, classes))
  }
}
