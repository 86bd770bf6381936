import Compute
import Imaging

/// The voxels of one region, whatever it is called: [z, y, x], 1 where it is, 0 elsewhere.
package struct RegionMask: Equatable, Sendable {
  package let size: Size
  /// Distances of neighbours along z, y, x, mm.
  package let spacing: [Double]
  package let voxels: [UInt8]

  /// `voxels`: one a voxel of `size`, in memory order; what is not 0 belongs to the region.
  package init(_ size: Size, spacing: [Double], _ voxels: [UInt8]) {
    precondition(voxels.count == size.voxels, "\(voxels.count) voxels of \(size)")
    precondition(spacing.count == 3, "a spacing of \(spacing.count) axes")
    self.size = size
    self.spacing = spacing
    self.voxels = voxels.allSatisfy({ $0 <= 1 }) ? voxels : voxels.map { $0 == 0 ? 0 : 1 }
  }

  /// How many voxels it has.
  package var count: Int { voxels.reduce(0) { $0 + Int($1) } }

  /// mm³ of one voxel.
  var voxelVolume: Double { spacing[0] * spacing[1] * spacing[2] }

  /// mm³.
  package var volume: Double { Double(count) * voxelVolume }

  /// A part of it.
  func cropped(to box: VoxelBox) -> RegionMask {
    var part: [UInt8] = []
    part.reserveCapacity(box.size.voxels)
    for z in box.origin.z..<box.origin.z + box.size.z {
      for y in box.origin.y..<box.origin.y + box.size.y {
        let first = (z * size.y + y) * size.x + box.origin.x
        part.append(contentsOf: voxels[first..<first + box.size.x])
      }
    }
    return RegionMask(box.size, spacing: spacing, part)
  }
}

/// One region in truth and prediction. Voxels that the truth leaves out (`LabelVolume.ignored`) are in neither.
package struct MaskPair: Equatable, Sendable {
  package let truth, prediction: RegionMask
  /// Voxels of the volume that are left out of every count.
  package let ignored: Int

  /// Masks of one size and one spacing.
  package init(truth: RegionMask, prediction: RegionMask, ignored: Int = 0) {
    precondition(
      truth.size == prediction.size && truth.spacing == prediction.spacing,
      "truth is \(truth.size), prediction \(prediction.size)")
    self.truth = truth
    self.prediction = prediction
    self.ignored = ignored
  }

  /// Of two label volumes of one size. `spacing`: distances of neighbours along z, y, x, mm.
  package init(truth: LabelVolume, prediction: LabelVolume, _ region: Region, spacing: [Double]) {
    precondition(truth.size == prediction.size, "truth is \(truth.size), prediction \(prediction.size)")
    var member = [UInt8](repeating: 0, count: 256)
    for index in region.classes where index != LabelVolume.ignored { member[Int(index)] = 1 }
    var ignored = 0
    var predicted = [UInt8](repeating: 0, count: prediction.classes.count)
    for i in predicted.indices {
      if truth.classes[i] == LabelVolume.ignored {
        ignored += 1
      } else {
        predicted[i] = member[Int(prediction.classes[i])]
      }
    }
    self.init(
      truth: RegionMask(truth.size, spacing: spacing, truth.classes.map { member[Int($0)] }),
      prediction: RegionMask(truth.size, spacing: spacing, predicted), ignored: ignored)
  }

  /// How the masks lie on each other.
  package var overlap: Overlap {
    var tp = 0, fp = 0, fn = 0
    for (t, p) in zip(truth.voxels, prediction.voxels) {
      tp += Int(t & p)
      fp += Int(p & ~t)
      fn += Int(t & ~p)
    }
    return Overlap(tp: tp, fp: fp, fn: fn, tn: truth.voxels.count - ignored - tp - fp - fn)
  }
}

extension VoxelBox {
  /// The smallest box that holds both.
  func union(_ other: VoxelBox) -> VoxelBox {
    let low = Size(
      min(origin.z, other.origin.z), min(origin.y, other.origin.y), min(origin.x, other.origin.x))
    return VoxelBox(
      origin: low,
      size: Size(
        max(origin.z + size.z, other.origin.z + other.size.z) - low.z,
        max(origin.y + size.y, other.origin.y + other.size.y) - low.y,
        max(origin.x + size.x, other.origin.x + other.size.x) - low.x))
  }

  /// A box that reaches `margin` voxels further on all sides, but not out of the volume.
  func grown(by margin: Int, in grid: Size) -> VoxelBox {
    let low = Size(max(origin.z - margin, 0), max(origin.y - margin, 0), max(origin.x - margin, 0))
    return VoxelBox(
      origin: low,
      size: Size(
        min(origin.z + size.z + margin, grid.z) - low.z, min(origin.y + size.y + margin, grid.y) - low.y,
        min(origin.x + size.x + margin, grid.x) - low.x))
  }
}
