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
    let truths = Surface.surfaces(of: truth, regions), predictions = Surface.surfaces(of: prediction, regions)
    var result: [Region: Double] = [:]
    for (i, region) in regions.enumerated() {
      switch (truths[i].points.isEmpty, predictions[i].points.isEmpty) {
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

  private func percentile(_ a: Surface, _ b: Surface, _ spacing: [Double]) -> Double {
    let there = b.distances(to: a, spacing), back = a.distances(to: b, spacing)
    switch direction {
    case .pooled: return quantile(0.95, of: (there + back).sorted())
    case .larger: return max(quantile(0.95, of: there.sorted()), quantile(0.95, of: back.sorted()))
    }
  }
}

/// The border voxels of a region, in memory order.
private struct Surface {
  /// x, y, z.
  typealias Point = SIMD3<Int32>

  private(set) var points: [Point] = []
  /// The corners of the box that holds all.
  private(set) var low = Point(repeating: .max), high = Point(repeating: .min)

  private mutating func add(_ point: Point) {
    points.append(point)
    low = pointwiseMin(low, point)
    high = pointwiseMax(high, point)
  }

  /// The borders of all regions, in the regions' order.
  static func surfaces(of labels: LabelVolume, _ parts: [Region]) -> [Surface] {
    var surfaces = parts.map { _ in Surface() }
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
                  surfaces[r].add(Point(Int32(x), Int32(y), Int32(z)))
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

  /// The distance of each point to the nearest of `other`, which is not empty, mm. `spacing` along z, y, x.
  func distances(to other: Surface, _ spacing: [Double]) -> [Double] {
    let field = DistanceField(
      of: other, low: pointwiseMin(low, other.low), high: pointwiseMax(high, other.high), spacing)
    return points.map { field.squaredDistance(from: $0).squareRoot() }
  }
}

/// The exact squared distances to the nearest point of a surface, in three separable passes: along x and y for all
/// voxels of a box in the planes where the surface has points, along z only for the voxels that ask.
private struct DistanceField {
  private let low: Surface.Point
  private let width, height, planes: Int
  private let spacingZ: Double
  /// [plane, y, x]: the squared distance within the plane; infinite in a plane without points. The first plane is
  /// the surface's first.
  private let field: [Double]
  private let first: Int

  /// `low` and `high`: corners of a box that holds the surface and all points that will ask.
  init(of surface: Surface, low: Surface.Point, high: Surface.Point, _ spacing: [Double]) {
    self.low = low
    let width = Int(high.x - low.x) + 1, height = Int(high.y - low.y) + 1
    self.width = width
    self.height = height
    first = Int(surface.low.z)
    planes = Int(surface.high.z - surface.low.z) + 1
    spacingZ = spacing[0]
    var field = [Double](repeating: .infinity, count: planes * height * width)
    var rows: [Int] = []
    var squares = [Double](repeating: 0, count: height * width)
    var envelope = Envelope(spacing: spacing[1], capacity: height)
    let points = surface.points
    var next = 0
    while next < points.count {
      let z = points[next].z
      rows.removeAll(keepingCapacity: true)
      // x: in every row that has points, the squared distance to the nearest of them.
      while next < points.count, points[next].z == z {
        let y = points[next].y
        var end = next + 1
        while end < points.count, points[end].z == z, points[end].y == y { end += 1 }
        let row = rows.count * width
        for x in 0..<width {
          let here = low.x + Int32(x)
          while next + 1 < end, abs(points[next + 1].x - here) <= abs(points[next].x - here) { next += 1 }
          let distance = Double(points[next].x - here) * spacing[2]
          squares[row + x] = distance * distance
        }
        rows.append(Int(y - low.y))
        next = end
      }
      // y: each row is a parabola, and the lowest at a voxel is its squared distance.
      let plane = (Int(z) - first) * height * width
      for x in 0..<width {
        envelope.removeAll()
        for (i, row) in rows.enumerated() { envelope.add(row, squares[i * width + x]) }
        var lowest = 0
        for y in 0..<height {
          lowest = envelope.lowest(at: y, from: lowest)
          field[plane + y * width + x] = envelope.value(at: y, of: lowest)
        }
      }
    }
    self.field = field
  }

  /// z: the planes are looked at from the nearest on, as long as one can hold something nearer.
  func squaredDistance(from point: Surface.Point) -> Double {
    let column = Int(point.y - low.y) * width + Int(point.x - low.x), z = Int(point.z) - first
    var best = Double.infinity, step = 0
    while true {
      let reach = Double(step) * spacingZ, below = z - step, above = z + step
      if reach * reach >= best || below < 0 && above >= planes { return best }
      if below >= 0 && below < planes {
        best = min(best, reach * reach + field[below * height * width + column])
      }
      if above >= 0 && above < planes {
        best = min(best, reach * reach + field[above * height * width + column])
      }
      step += 1
    }
  }
}

/// The lower envelope of parabolas (spacing · (y − center))² + height, added in order of their centres.
///
/// Source: Felzenszwalb and Huttenlocher, Distance Transforms of Sampled Functions (2012).
private struct Envelope {
  private let spacing: Double
  /// Those that are lowest somewhere, from left to right; each is from its start on.
  private var parabolas: [(center: Int, height: Double, start: Double)] = []

  init(spacing: Double, capacity: Int) {
    self.spacing = spacing
    parabolas.reserveCapacity(capacity)
  }

  mutating func removeAll() { parabolas.removeAll(keepingCapacity: true) }

  mutating func add(_ center: Int, _ height: Double) {
    var start = -Double.infinity
    // The first one stays: nothing finite is before its start.
    while let last = parabolas.last {
      let rise =
        (height - last.height) / (spacing * spacing) + Double(center * center - last.center * last.center)
      start = rise / Double(2 * (center - last.center))
      if start > last.start { break }
      parabolas.removeLast()
    }
    parabolas.append((center, height, start))
  }

  /// The one that is lowest at y, which is not before the `index`-th.
  func lowest(at y: Int, from index: Int) -> Int {
    var index = index
    while index + 1 < parabolas.count, parabolas[index + 1].start < Double(y) { index += 1 }
    return index
  }

  func value(at y: Int, of index: Int) -> Double {
    let distance = Double(y - parabolas[index].center) * spacing
    return distance * distance + parabolas[index].height
  }
}
