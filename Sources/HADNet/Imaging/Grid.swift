import Compute
import Files
import Foundation

/// Where a file's voxels lie in space once they are in BraTS's order: the same for all files of a case, however each is
/// stored.
package struct Grid: Equatable, Sendable {
  package let size: Size
  /// From voxel indices (x, y, z, 1) to mm to the right, to the front, up: 4×4, row-major, all but diagonal.
  package let affine: [Double]
  /// Whether the header says how the axes lie; else they were taken to run right, front, up.
  package let hasOrientation: Bool

  init(dimensions: [Int], affine own: [Double], _ orientation: Orientation, hasOrientation: Bool) {
    size = orientation.size(dimensions)
    var affine = [Double](repeating: 0, count: 16)
    affine[15] = 1
    for row in 0..<3 {
      var shift = own[row * 4 + 3]
      for axis in 0..<3 {
        let from = orientation.axes[axis], step = own[row * 4 + from]
        if orientation.flipped[axis] { shift += step * Double(dimensions[from] - 1) }
        affine[row * 4 + axis] = orientation.flipped[axis] ? -step : step
      }
      affine[row * 4 + 3] = shift
    }
    self.affine = affine
    self.hasOrientation = hasOrientation
  }

  /// `240×240×155`: x, y, z.
  package var extents: String { "\(size.x)×\(size.y)×\(size.z)" }

  /// The most by which two affines of one place may differ in any number, voxels: a hundredth, and the rounding of
  /// floats some hundred mm from the origin.
  private static let tolerance = 0.01 + 1e-4
  /// The farthest that a voxel may lie from its partner, voxels: up to there no other is nearer. Small differences of
  /// spacing add up along a volume.
  private static let reach = 0.5

  /// Refuses a file (`name`) of this grid where it doesn't lie in the same place as `other`, voxel for voxel.
  package func check(_ name: String, against other: Grid, _ otherName: String) throws(Fault) {
    guard size == other.size else {
      throw Fault(.invalid, "\(name) is \(extents) voxels, \(otherName) is \(other.extents)")
    }
    let lengths = (0..<3).map { abs(other.affine[$0 * 5]) }
    let difference = zip(affine, other.affine).map { $0 - $1 }
    let isNear = (0..<12).allSatisfy { abs(difference[$0]) <= Grid.tolerance * lengths[$0 / 4] }
    var isWithinReach = true, farthest = 0.0
    for corner in 0..<8 {
      var square = 0.0
      for row in 0..<3 {
        var shift = difference[row * 4 + 3]
        for (axis, last) in [size.x - 1, size.y - 1, size.z - 1].enumerated() where corner >> axis & 1 == 1 {
          shift += difference[row * 4 + axis] * Double(last)
        }
        if abs(shift) > Grid.reach * lengths[row] { isWithinReach = false }
        square += shift * shift
      }
      farthest = max(farthest, square.squareRoot())
    }
    if isNear && isWithinReach { return }
    let without = [(hasOrientation, name), (other.hasOrientation, otherName)].first { !$0.0 }?.1
    throw Fault(
      .invalid,
      "\(name) lies elsewhere than \(otherName): their affines differ, the same voxel is up to "
        + String(format: "%.4g mm apart", farthest)
        + (without.map { "; the header of \($0) has no orientation (both form codes are 0)" }
          ?? "; resample one onto the other's grid"))
  }
}

/// What a NIfTI header says of its two transforms, the qform and the sform: NIfTI's codes, 0 for none.
package struct FormCodes: Codable, Equatable, Sendable {
  package var qform, sform: Int

  package init(qform: Int, sform: Int) {
    self.qform = qform
    self.sform = sform
  }

  /// Both are there: scanner coordinates.
  package static let scanner = FormCodes(qform: 1, sform: 1)

  /// Whether either says how the axes lie.
  package var hasOrientation: Bool { qform > 0 || sform > 0 }
}
