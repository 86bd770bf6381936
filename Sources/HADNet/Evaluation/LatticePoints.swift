import Compute

/// Points of a lattice, x, y, z, in memory order, and the box around them: the border of a region, of which distances are
/// taken.
struct LatticePoints: Sendable {
  typealias Point = SIMD3<Int32>

  private(set) var points: [Point] = []
  private(set) var low = Point(repeating: .max), high = Point(repeating: .min)

  mutating func append(_ point: Point) {
    points.append(point)
    low = pointwiseMin(low, point)
    high = pointwiseMax(high, point)
  }

  var isEmpty: Bool { points.isEmpty }

  /// The distance of each point to the nearest of `other`, which is not empty: exact, mm. `spacing` along z, y, x, mm.
  func distances(to other: LatticePoints, _ spacing: [Double]) -> [Double] {
    let nearest = NearestPoint(
      of: other, low: pointwiseMin(low, other.low), high: pointwiseMax(high, other.high), spacing)
    return points.map { nearest.squaredDistance(from: $0).squareRoot() }
  }

  /// The borders of a mask: its voxels with one of six neighbours outside of it, or outside of the volume.
  init(borderOf mask: RegionMask) {
    let size = mask.size, width = size.x, plane = size.x * size.y, voxels = mask.voxels.span
    for z in 0..<size.z {
      for y in 0..<size.y {
        let row = z * plane + y * width
        for x in 0..<width where voxels[row + x] != 0 {
          let i = row + x
          let isInside =
            x > 0 && x < width - 1 && y > 0 && y < size.y - 1 && z > 0 && z < size.z - 1
            && voxels[i - 1] & voxels[i + 1] & voxels[i - width] & voxels[i + width] & voxels[i - plane]
              & voxels[i + plane] != 0
          if !isInside { append(Point(Int32(x), Int32(y), Int32(z))) }
        }
      }
    }
  }

  init() {}
}

/// The exact squared distance to the nearest of some points: of every place of a box within the planes that have points,
/// and from there along z for the places that ask.
///
/// Source: Felzenszwalb and Huttenlocher, Distance Transforms of Sampled Functions (2012).
private struct NearestPoint {
  private let low: LatticePoints.Point
  private let width, height, planes, first: Int
  private let spacing: [Double]
  /// [plane, y, x]: the squared distance within the plane, infinite in one without points. The first plane is the points'
  /// first.
  private var field: [Double]

  /// `low` and `high`: corners of a box that holds the points and all places that will ask.
  init(of other: LatticePoints, low: LatticePoints.Point, high: LatticePoints.Point, _ spacing: [Double]) {
    self.low = low
    self.spacing = spacing
    width = Int(high.x - low.x) + 1
    height = Int(high.y - low.y) + 1
    first = Int(other.low.z)
    planes = Int(other.high.z - other.low.z) + 1
    field = [Double](repeating: .infinity, count: planes * height * width)
    var parabolas = Parabolas(spacing: spacing[1])
    var next = 0
    for plane in 0..<planes {
      let end = other.points[next...].firstIndex { Int($0.z) != first + plane } ?? other.points.count
      if end == next { continue }
      let rows = alongX(other.points[next..<end], plane)
      for x in 0..<width { alongY(x, plane, rows, &parabolas) }
      next = end
    }
  }

  /// Fills the rows of a plane that have points, with the squared distance to the nearest of the row; their numbers.
  private mutating func alongX(_ points: ArraySlice<LatticePoints.Point>, _ plane: Int) -> [Int] {
    var rows: [Int] = [], next = points.startIndex
    while next < points.endIndex {
      let y = points[next].y, row = Int(y - low.y)
      var end = next + 1
      while end < points.endIndex && points[end].y == y { end += 1 }
      for x in 0..<width {
        let here = low.x + Int32(x)
        while next + 1 < end && abs(points[next + 1].x - here) <= abs(points[next].x - here) { next += 1 }
        let distance = Double(points[next].x - here) * spacing[2]
        field[(plane * height + row) * width + x] = distance * distance
      }
      rows.append(row)
      next = end
    }
    return rows
  }

  /// Each of these rows is a parabola over a column of the plane; the lowest at a place is its squared distance.
  private mutating func alongY(_ x: Int, _ plane: Int, _ rows: [Int], _ parabolas: inout Parabolas) {
    let column = plane * height * width + x
    parabolas.removeAll()
    for row in rows { parabolas.add(row, field[column + row * width]) }
    var lowest = 0
    for y in 0..<height {
      lowest = parabolas.lowest(at: y, from: lowest)
      field[column + y * width] = parabolas.value(at: y, of: lowest)
    }
  }

  /// The planes are looked at from the nearest on, as long as one can hold something nearer.
  func squaredDistance(from point: LatticePoints.Point) -> Double {
    let column = Int(point.y - low.y) * width + Int(point.x - low.x), z = Int(point.z) - first
    // A place beyond the planes begins at the nearest one.
    var best = Double.infinity, step = max(0, -z, z - planes + 1)
    while true {
      let reach = Double(step) * spacing[0], below = z - step, above = z + step
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
private struct Parabolas {
  private let spacing: Double
  /// Those that are lowest somewhere, from left to right; each is from its start on.
  private var parabolas: [(center: Int, height: Double, start: Double)] = []

  init(spacing: Double) { self.spacing = spacing }

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
