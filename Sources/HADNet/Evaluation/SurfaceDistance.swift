import Compute
import Imaging

/// How far the surfaces of two segmentations lie apart: HD95, the 95th percentile of their distances in mm.
///
/// A region's surface is its border: the voxels of it with one of six neighbours outside the region or outside the
/// volume. Every border voxel of one segmentation has a distance to the nearest border voxel of the other.
///
/// Source: MedPy 0.5's `hd95`, which nnU-Net's BraTS script uses too.
package struct SurfaceDistance: Equatable, Sendable {
  /// What becomes of the distances from prediction to truth and those from truth to prediction.
  package enum Direction: String, CaseIterable, Sendable {
    /// One list has them all (MedPy, nnU-Net).
    case pooled
    /// Each direction has its percentile, and the larger one counts (MONAI).
    case larger
  }

  /// HD95 where one of the two is empty; where both are it is 0.
  package enum Empty: String, CaseIterable, Sendable {
    /// √(240² + 240² + 155²), the diagonal of a BraTS volume (nnU-Net).
    case constant
    /// The diagonal, in voxels, of the volume at hand (CaPTk).
    case diagonal
  }

  package var direction: Direction
  package var empty: Empty

  /// The defaults are nnU-Net's.
  package init(direction: Direction = .pooled, empty: Empty = .constant) {
    self.direction = direction
    self.empty = empty
  }

  /// HD95 of each region in mm. `spacing`: distances of neighbours along z, y, x, mm.
  package func hd95(
    truth: LabelVolume, prediction: LabelVolume, regions: [Region], spacing: [Double]
  ) -> [Region: Double] {
    precondition(truth.size == prediction.size, "truth is \(truth.size), prediction \(prediction.size)")
    let truths = SurfaceDistance.surfaces(of: truth, regions),
      predictions = SurfaceDistance.surfaces(of: prediction, regions)
    var result: [Region: Double] = [:]
    for (i, region) in regions.enumerated() {
      switch (truths[i].isEmpty, predictions[i].isEmpty) {
      case (true, true): result[region] = 0
      case (false, false): result[region] = percentile(truths[i], predictions[i], spacing)
      default: result[region] = penalty(truth.size)
      }
    }
    return result
  }

  private func penalty(_ size: Size) -> Double {
    let sides = empty == .constant ? [155, 240, 240] : size.array
    return Double(sides.reduce(0) { $0 + $1 * $1 }).squareRoot()
  }

  private func percentile(_ a: LatticePoints, _ b: LatticePoints, _ spacing: [Double]) -> Double {
    let there = b.distances(to: a, spacing), back = a.distances(to: b, spacing)
    switch direction {
    case .pooled: return quantile(0.95, of: (there + back).sorted())
    case .larger: return max(quantile(0.95, of: there.sorted()), quantile(0.95, of: back.sorted()))
    }
  }
}

extension SurfaceDistance {
  /// The borders of all regions, in the regions' order.
  private static func surfaces(of labels: LabelVolume, _ parts: [Region]) -> [LatticePoints] {
    var surfaces = parts.map { _ in LatticePoints() }
    // Bit r of a class: whether the r-th region has it.
    var member = [UInt32](repeating: 0, count: 256)
    for (r, region) in parts.enumerated() {
      for index in region.classes { member[Int(index)] |= 1 << r }
    }
    let size = labels.size, width = size.x, plane = size.x * size.y
    // A label volume has as many classes as voxels, and a neighbour is asked for where there is one. A pointer, since most
    // voxels are background, of which nothing else is looked at.
    unsafe labels.classes.withUnsafeBufferPointer { classes in
      func regions(_ voxel: Int) -> UInt32 { unsafe member[Int(classes[voxel])] }
      var voxel = 0
      for z in 0..<size.z {
        for y in 0..<size.y {
          for x in 0..<size.x {
            let here = unsafe classes[voxel] == 0 ? 0 : regions(voxel)
            if here != 0 {
              var inside = x > 0 ? regions(voxel - 1) : 0
              inside &= x < size.x - 1 ? regions(voxel + 1) : 0
              inside &= y > 0 ? regions(voxel - width) : 0
              inside &= y < size.y - 1 ? regions(voxel + width) : 0
              inside &= z > 0 ? regions(voxel - plane) : 0
              inside &= z < size.z - 1 ? regions(voxel + plane) : 0
              let border = here & ~inside
              if border != 0 {
                for r in surfaces.indices where border >> r & 1 == 1 {
                  surfaces[r].append(SIMD3(Int32(x), Int32(y), Int32(z)))
                }
              }
            }
            voxel += 1
          }
        }
      }
    }
    return surfaces
  }
}
