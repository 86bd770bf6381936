import Compute
import Imaging

/// Which sequences of a task a network sees.
package enum InputSequences: Sendable {
  case all
  /// Those that are there at inference.
  case present

  package func modalities(_ task: SegmentationTask) -> [Modality] {
    self == .all ? task.sequences : task.present
  }

  package func channels(_ task: SegmentationTask) -> InputChannels {
    InputChannels(self == .all ? Array(task.sequences.indices) : task.presentChannels)
  }
}

/// Channels of a case that a network sees, ascending.
package struct InputChannels: Equatable, Sendable {
  let channels: [Int]

  package init(_ channels: [Int]) { self.channels = channels }

  package var count: Int { channels.count }

  /// Copies the channels that are seen from [z, y, x, sequences] into a network's image.
  package func copy(_ images: Volume, into image: Volume) {
    precondition(
      images.size == image.size && image.channels == count && channels.allSatisfy { $0 < images.channels },
      "\(images.shape) into \(image.shape)")
    let n = count, all = images.channels, from = images.values
    var to = image.mutableValues
    for voxel in 0..<images.shape.voxels {
      for (i, channel) in channels.enumerated() { to[voxel * n + i] = from[voxel * all + channel] }
    }
  }
}
