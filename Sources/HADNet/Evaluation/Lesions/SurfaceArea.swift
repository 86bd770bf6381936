import Compute

/// How much surface lies around a corner of the voxel grid, by which of the eight voxels around it are set.
///
/// Voxel (dz, dy, dx) of the 2×2×2 is bit 4·dz + 2·dy + dx of an entry's index. The surface is that of marching cubes: a
/// polygon through the middles of the edges it cuts, around each piece of voxels that share faces.
///
/// Source: the table of DeepMind's surface-distance, as closed formulas.
struct SurfaceAreas: Sendable {
  /// [256], mm²; 0 where all or none are set.
  let table: [Double]

  /// `spacing` along z, y, x, mm.
  init(spacing: [Double]) {
    // The areas of a voxel's faces across z, y, x.
    let faces = [spacing[1] * spacing[2], spacing[0] * spacing[2], spacing[0] * spacing[1]]
    table = (0..<256).map { code in
      // Of more than four the others are the pieces.
      let set = UInt8(code), inner = set.nonzeroBitCount > 4 ? ~set : set
      return SurfaceAreas.pieces(of: inner).reduce(0) { $0 + SurfaceAreas.area(of: $1, faces) }
    }
  }

  /// The voxels of a set, in parts that hang together over faces.
  private static func pieces(of set: UInt8) -> [[Int]] {
    var left = set, pieces: [[Int]] = []
    while left != 0 {
      var piece = [left.trailingZeroBitCount], next = 0
      left &= left - 1
      while next < piece.count {
        for axis in 0..<3 {
          let neighbour = piece[next] ^ 1 << axis
          if left >> UInt8(neighbour) & 1 == 1 {
            left &= ~(1 << UInt8(neighbour))
            piece.append(neighbour)
          }
        }
        next += 1
      }
      pieces.append(piece.sorted())
    }
    return pieces
  }

  /// mm². `faces`: of a voxel, across z, y, x.
  private static func area(of piece: [Int], _ faces: [Double]) -> Double {
    func root(_ axes: [Int]) -> Double { axes.reduce(0) { $0 + faces[$1] * faces[$1] }.squareRoot() }
    func others(_ axis: Int) -> [Int] { (0..<3).filter { $0 != axis } }
    let all = root([0, 1, 2])
    // The axis along which all lie at one place.
    let flat = (0..<3).first { axis in piece.allSatisfy { ($0 ^ piece[0]) >> (2 - axis) & 1 == 0 } }
    switch piece.count {
    case 1: return all / 8
    case 2: return root(others(axis(between: piece[0], piece[1]))) / 2
    case 3: return faces[flat ?? 0] / 2 + 3 * all / 8
    default:
      if let flat { return faces[flat] }
      let inner = piece.filter { voxel in neighbours(of: voxel, in: piece) >= 2 }
      if inner.count == 1 { return 3 * all / 4 }
      let middle = axis(between: inner[0], inner[1])
      return all / 2 + others(middle).reduce(0) { $0 + root([middle, $1]) } / 4
    }
  }

  /// Of two voxels that share a face: 0 for z, 1 for y, 2 for x.
  private static func axis(between a: Int, _ b: Int) -> Int { 2 - (a ^ b).trailingZeroBitCount }

  private static func neighbours(of voxel: Int, in piece: [Int]) -> Int {
    piece.count { ($0 ^ voxel).nonzeroBitCount == 1 }
  }
}

/// The surface of a mask as corners of the voxel grid, each with its area.
struct AreaSurface: Sendable {
  private(set) var corners = LatticePoints()
  /// mm² of each corner.
  private(set) var areas: [Double] = []

  /// `areas`: those of the mask's spacing. What is outside of the volume is not set.
  init(_ mask: RegionMask, _ areas: SurfaceAreas) {
    let size = mask.size, width = size.x + 2, plane = width * (size.y + 2)
    // With a voxel around that is not set, so that each corner has its eight.
    var padded = [UInt8](repeating: 0, count: plane * (size.z + 2))
    for z in 0..<size.z {
      for y in 0..<size.y {
        let row = (z + 1) * plane + (y + 1) * width + 1
        for x in 0..<size.x { padded[row + x] = mask.voxels[(z * size.y + y) * size.x + x] }
      }
    }
    for z in 0...size.z {
      for y in 0...size.y {
        let row = z * plane + y * width
        // Those of the eight that lie before the corner along x, and then those behind it.
        var before = 0
        for x in 0...size.x {
          let i = row + x + 1
          let behind =
            Int(padded[i]) | Int(padded[i + width]) << 2 | Int(padded[i + plane]) << 4
            | Int(padded[i + plane + width]) << 6
          let code = before | behind << 1
          if code != 0 && code != 255 {
            corners.append(.init(Int32(x), Int32(y), Int32(z)))
            self.areas.append(areas.table[code])
          }
          before = behind
        }
      }
    }
  }

  /// The 95th percentile of distances by area, the larger one of both directions; mm, as is `spacing` along z, y, x.
  /// Neither surface is empty.
  ///
  /// Source: DeepMind's `compute_robust_hausdorff`.
  func hd95(_ other: AreaSurface, _ spacing: [Double]) -> Double {
    max(
      percentile(of: corners.distances(to: other.corners, spacing)),
      other.percentile(of: other.corners.distances(to: corners, spacing)))
  }

  /// The first distance up to which 95 % of the area lies.
  private func percentile(of distances: [Double]) -> Double {
    let sorted = zip(distances, areas).sorted { $0.0 != $1.0 ? $0.0 < $1.0 : $0.1 < $1.1 }
    let total = sorted.reduce(0) { $0 + $1.1 }
    var sum = 0.0
    for (distance, area) in sorted {
      sum += area
      if sum / total >= 0.95 { return distance }
    }
    return sorted.last?.0 ?? .nan
  }
}
