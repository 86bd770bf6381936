import Compute
import Imaging

/// Channels of a case that a network sees.
package enum InputSequences: Sendable {
  case all, withoutContrast

  package func modalities(_ task: SegmentationTask) -> [Modality] {
    self == .all ? task.sequences : task.present
  }
  package var channels: [Int] { self == .all ? [0, 1, 2, 3] : [0, 2, 3] }

  /// Copies the channels that are seen from [z, y, x, 4] into a network's image.
  package func copy(_ images: Volume, into image: Volume) {
    precondition(
      images.size == image.size && image.channels == channels.count && images.channels == 4,
      "\(images.shape) into \(image.shape)")
    let channels = channels, n = channels.count, from = images.values
    var to = image.mutableValues
    for voxel in 0..<images.shape.voxels {
      for (i, channel) in channels.enumerated() {
        to[voxel * n + i] = from[voxel * 4 + channel]
      }
    }
  }
}
