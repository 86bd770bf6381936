import Foundation
import Testing

@testable import Compute
@testable import Evaluation
@testable import Imaging

@Suite struct SurfaceAreaTests {
  private static let spacings = [
    [1.0, 1, 1], [1.5, 0.9375, 0.9375], [3, 1, 1], [1, 2, 3], [0.3, 5, 1.7], [2, 2, 0.5],
  ]

  /// The polygons through the middles of the edges that marching cubes cut: one way to cut each into triangles has the
  /// table's area, and where the polygon is flat all have.
  @Test(arguments: spacings) func theTableIsThatOfMarchingCubes(spacing: [Double]) throws {
    let table = SurfaceAreas(spacing: spacing).table
    #expect(table.count == 256 && table[0] == 0 && table[255] == 0)
    for code in 1..<255 {
      let bits = UInt8(code), inner = bits.nonzeroBitCount > 4 ? ~bits : bits
      let areas = pieces(inner).map { piece in triangulations(polygon(piece, spacing)) }
      // All sums of one choice a piece.
      let sums = areas.reduce([0.0]) { sums, own in sums.flatMap { sum in own.map { sum + $0 } } }
      let least = sums.map { abs($0 - table[code]) }.min() ?? .infinity
      #expect(least <= 1e-12 * table[code], "\(code) at \(spacing): \(table[code]), not one of \(sums)")
    }
  }

  @Test func axesAndSidesHaveNoNames() {
    for spacing in SurfaceAreaTests.spacings {
      let table = SurfaceAreas(spacing: spacing).table
      for code in 0..<256 {
        #expect(table[code] == table[255 - code] || code.nonzeroBitCount == 4)
        for axis in 0..<3 {
          let mirrored = (0..<8).reduce(0) { $0 | (code >> $1 & 1) << ($1 ^ 1 << axis) }
          #expect(abs(table[mirrored] - table[code]) <= 1e-15 * table[code] * 8)
        }
        // z, y, x become y, x, z.
        let turned = (0..<8).reduce(0) { $0 | (code >> $1 & 1) << (($1 << 1 | $1 >> 2) & 7) }
        let other = SurfaceAreas(spacing: [spacing[1], spacing[2], spacing[0]]).table
        #expect(abs(other[turned] - table[code]) <= 1e-14 * table[code], "\(code) \(turned)")
      }
    }
  }

  @Test func entriesThatAreKnown() {
    let table = SurfaceAreas(spacing: [1, 1, 1]).table, root = 3.0.squareRoot()
    #expect(abs(table[1] - root / 8) <= 1e-15)
    #expect(abs(table[3] - 0.5.squareRoot()) <= 1e-15)
    #expect(table[0b1111] == 1 && table[0b0101_0101] == 1)
    #expect(abs(table[0b111] - (0.5 + 3 * root / 8)) <= 1e-15)
    #expect(abs(table[0b1_0111] - 3 * root / 4) <= 1e-15)
    // Across z the area is that of a face y · x.
    #expect(SurfaceAreas(spacing: [7, 2, 3]).table[0b1111] == 6)
  }

  @Test(arguments: spacings) func hd95EqualsBruteForce(spacing: [Double]) {
    for (trial, size) in [Size(5, 6, 7), Size(1, 8, 6), Size(6, 1, 1), Size(1, 1, 1), Size(4, 9, 2)]
      .enumerated()
    {
      for share in [0.03, 0.2, 0.6, 1] {
        let truth = randomMask(size, share, spacing: spacing, trial)
        let prediction = randomMask(size, share, spacing: spacing, trial + 9)
        if truth.count == 0 || prediction.count == 0 { continue }
        let pair = MaskPair(truth: truth, prediction: prediction), areas = SurfaceAreas(spacing: spacing)
        let found = AreaSurface(truth, areas).hd95(AreaSurface(prediction, areas), spacing)
        #expect(abs(found - plainAreaHD95(pair)) <= 1e-12 * max(1, found), "\(size) \(share)")
      }
    }
  }

  private func pieces(_ set: UInt8) -> [[Int]] {
    var groups = (0..<8).filter { set >> UInt8($0) & 1 == 1 }.map { [$0] }
    for i in stride(from: groups.count - 1, to: 0, by: -1) {
      // The later ones are joined to the first before them that they touch, and those to it in turn.
      if let j = (0..<i).first(where: { j in
        groups[i].contains { a in groups[j].contains { ($0 ^ a).nonzeroBitCount == 1 } }
      }) {
        groups[j] += groups[i]
        groups.remove(at: i)
      }
    }
    // Two groups may have come to touch by what was joined to one of them.
    var isDone = false
    while !isDone {
      isDone = true
      search: for i in groups.indices {
        for j in groups.indices where j > i {
          if groups[i].contains(where: { a in groups[j].contains { ($0 ^ a).nonzeroBitCount == 1 } }) {
            groups[i] += groups[j]
            groups.remove(at: j)
            isDone = false
            break search
          }
        }
      }
    }
    return groups
  }

  /// Corners, in order: the middles of edges from inside to outside, of which two are neighbours if they lie on one face.
  private func polygon(_ piece: [Int], _ spacing: [Double]) -> [SIMD3<Double>] {
    func place(_ voxel: Int) -> SIMD3<Double> {
      SIMD3(Double(voxel >> 2), Double(voxel >> 1 & 1), Double(voxel & 1))
    }
    var cuts: [(middle: SIMD3<Double>, faces: Set<[Int]>)] = []
    for voxel in piece {
      for axis in 0..<3 {
        let other = voxel ^ 1 << axis
        if piece.contains(other) { continue }
        let faces = (0..<3).filter { $0 != axis }.map { [$0, voxel >> $0 & 1] }
        cuts.append(((place(voxel) + place(other)) / 2 * SIMD3(spacing), Set(faces)))
      }
    }
    var ordered = [cuts.removeFirst()]
    while !cuts.isEmpty {
      guard
        let next = cuts.firstIndex(where: { !$0.faces.isDisjoint(with: ordered[ordered.count - 1].faces) })
      else { break }
      ordered.append(cuts.remove(at: next))
    }
    #expect(cuts.isEmpty && !ordered[0].faces.isDisjoint(with: ordered[ordered.count - 1].faces))
    return ordered.map(\.middle)
  }

  /// The areas of a polygon by all ways to cut it into triangles.
  private func triangulations(_ corners: [SIMD3<Double>]) -> [Double] {
    func area(_ a: SIMD3<Double>, _ b: SIMD3<Double>, _ c: SIMD3<Double>) -> Double {
      let u = b - a, v = c - a
      let cross = SIMD3(u.y * v.z - u.z * v.y, u.z * v.x - u.x * v.z, u.x * v.y - u.y * v.x)
      return (cross * cross).sum().squareRoot() / 2
    }
    func all(_ i: Int, _ j: Int) -> [Double] {
      if j - i < 2 { return [0] }
      return (i + 1..<j).flatMap { k in
        all(i, k).flatMap { left in
          all(k, j).map { left + $0 + area(corners[i], corners[k], corners[j]) }
        }
      }
    }
    return all(0, corners.count - 1)
  }
}
