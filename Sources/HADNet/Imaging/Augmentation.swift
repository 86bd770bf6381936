import Compute

/// Random flips and affine maps of training cases.
///
/// Source: appendix B and the authors' transforms.py (MONAI's RandFlipd and RandAffined).
package struct Augmentation: Codable, Equatable, Sendable {
  /// Probability of a mirrored x.
  package var flip: Float
  /// Probability of an affine map.
  package var affine: Float
  /// Largest rotation about each axis, radians.
  package var rotation: Float
  /// Largest shear of each pair of axes.
  package var shear: Float
  /// Largest change of scale along each axis, as a fraction.
  package var scale: Float

  /// The defaults are the paper's.
  package init(
    flip: Float = 0.5, affine: Float = 0.8, rotation: Float = 4 * .pi / 180, shear: Float = 0.04,
    scale: Float = 0.04
  ) {
    self.flip = flip
    self.affine = affine
    self.rotation = rotation
    self.shear = shear
    self.scale = scale
  }

  /// A randomly mapped copy: images trilinear, labels and mask nearest, 0 from outside; then the images times the
  /// mask. Images [z, y, x, C], any number C of channels; labels and mask [z, y, x].
  ///
  /// What comes out depends on `random` alone, not on the number of threads.
  package func apply(
    images: Volume, labels: LabelVolume, mask: [UInt8], random: inout Philox, _ workers: Workers
  ) -> (images: Volume, labels: LabelVolume) {
    precondition(
      labels.size == images.size && mask.count == images.size.voxels,
      "labels \(labels.size) and a mask of \(mask.count) voxels for images \(images.shape)")
    // All numbers are drawn whatever the first two say, so that one setting doesn't shift the others.
    let isFlipped = random.uniform() < flip, isMapped = random.uniform() < affine
    let rotations = (0..<3).map { _ in Double(random.uniform(-rotation, rotation)) }
    let shears = (0..<3).map { _ in Double(random.uniform(-shear, shear)) }
    let scales = (0..<3).map { _ in 1 + Double(random.uniform(-scale, scale)) }
    var map = AffineMap(images.size)
    if isMapped { map.turn(rotations, shears: shears, scales: scales) }
    if isFlipped { map.flipX() }
    return map.apply(images, labels, mask, workers)
  }
}

/// Which point of the source each voxel comes from: about the centre of the volume, in voxels.
// Volumes, labels and mask are pointers where voxels are read in an order of their own, eight of them for each that is
// written: their sizes are compared before (`Augmentation.apply`), and each place is compared with the size where it is made.
// So the `unsafe` of this type.
struct AffineMap {
  let size: Size
  /// Rows z, y, x of the source; columns z, y, x of the target.
  private(set) var matrix: [[Double]] = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]

  init(_ size: Size) { self.size = size }

  /// rotation_z · rotation_y · rotation_x · shear · scale, each list in the order z, y, x.
  mutating func turn(_ rotations: [Double], shears: [Double], scales: [Double]) {
    var result: [[Double]] = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    for (axis, angle) in rotations.enumerated() {
      let (sine, cosine) = Portable.sineAndCosine(angle), a = (axis + 1) % 3, b = (axis + 2) % 3
      var turn: [[Double]] = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
      turn[a][a] = cosine
      turn[b][b] = cosine
      turn[a][b] = -sine
      turn[b][a] = sine
      result = AffineMap.product(result, turn)
    }
    result = AffineMap.product(result, [[1, shears[0], shears[1]], [0, 1, shears[2]], [0, 0, 1]])
    result = AffineMap.product(result, [[scales[0], 0, 0], [0, scales[1], 0], [0, 0, scales[2]]])
    matrix = AffineMap.product(matrix, result)
  }

  /// Mirrors the source's x before all else: the flip comes first, as in the original.
  mutating func flipX() { matrix[2] = matrix[2].map { -$0 } }

  static func product(_ a: [[Double]], _ b: [[Double]]) -> [[Double]] {
    a.map { row in (0..<3).map { column in (0..<3).reduce(0) { $0 + row[$1] * b[$1][column] } } }
  }

  func apply(_ images: Volume, _ labels: LabelVolume, _ mask: [UInt8], _ workers: Workers) -> (
    images: Volume, labels: LabelVolume
  ) {
    let result = Volume(zeros: images.shape)
    var classes = [UInt8](repeating: 0, count: size.voxels)
    unsafe classes.withUnsafeMutableBufferPointer { classes in
      unsafe labels.classes.withUnsafeBufferPointer { labels in
        unsafe mask.withUnsafeBufferPointer { mask in
          // Safe: each z writes its own slice of the two results, and the sources are only read.
          nonisolated(unsafe) let classes = classes.baseAddress!, labels = labels.baseAddress!
          nonisolated(unsafe) let mask = mask.baseAddress!
          workers.forEach(size.z) { z, _ in
            unsafe slice(z, images, labels, mask, into: result, classes)
          }
        }
      }
    }
    return (result, LabelVolume(size, classes))
  }

  private func slice(
    _ z: Int, _ images: Volume, _ labels: UnsafePointer<UInt8>, _ mask: UnsafePointer<UInt8>,
    into result: Volume, _ classes: UnsafeMutablePointer<UInt8>
  ) {
    let channels = images.channels
    let centre = [Double(size.z - 1) / 2, Double(size.y - 1) / 2, Double(size.x - 1) / 2]
    let step = (z: Float(matrix[0][2]), y: Float(matrix[1][2]), x: Float(matrix[2][2]))
    for y in 0..<size.y {
      // The source of this row's first voxel.
      let t = [Double(z) - centre[0], Double(y) - centre[1], -centre[2]]
      let start = (0..<3).map { i in
        Float(centre[i] + matrix[i][0] * t[0] + matrix[i][1] * t[1] + matrix[i][2] * t[2])
      }
      let row = (z * size.y + y) * size.x
      for x in 0..<size.x {
        let sz = start[0] + Float(x) * step.z, sy = start[1] + Float(x) * step.y
        let sx = start[2] + Float(x) * step.x
        let nz = Int((sz + 0.5).rounded(.down)), ny = Int((sy + 0.5).rounded(.down))
        let nx = Int((sx + 0.5).rounded(.down))
        guard nz >= 0, nz < size.z, ny >= 0, ny < size.y, nx >= 0, nx < size.x else { continue }
        let nearest = (nz * size.y + ny) * size.x + nx
        unsafe classes[row + x] = labels[nearest]
        // Outside the mask the image is multiplied by 0, so it needn't be interpolated.
        if unsafe mask[nearest] == 0 { continue }
        let out = unsafe result.base + (row + x) * channels
        if channels == 4 {
          let value = unsafe interpolate4(images.base, sz, sy, sx)
          unsafe UnsafeMutableRawPointer(out).storeBytes(of: value, as: SIMD4<Float>.self)
        } else {
          unsafe interpolate(images.base, channels, sz, sy, sx, out)
        }
      }
    }
  }

  /// The corners around a point that lie inside, and their weights.
  @inline(__always)
  private func corners(_ z: Float, _ y: Float, _ x: Float, _ body: (_ voxel: Int, _ weight: Float) -> Void) {
    let fz = z.rounded(.down), fy = y.rounded(.down), fx = x.rounded(.down)
    let az = z - fz, ay = y - fy, ax = x - fx
    let iz = Int(fz), iy = Int(fy), ix = Int(fx)
    for dz in 0..<2 {
      let cz = iz + dz, wz = dz == 0 ? 1 - az : az
      guard wz != 0, cz >= 0, cz < size.z else { continue }
      for dy in 0..<2 {
        let cy = iy + dy, wy = dy == 0 ? 1 - ay : ay
        guard wy != 0, cy >= 0, cy < size.y else { continue }
        let line = (cz * size.y + cy) * size.x + ix
        if ix >= 0 { body(line, wz * wy * (1 - ax)) }
        if ix + 1 < size.x && ax != 0 { body(line + 1, wz * wy * ax) }
      }
    }
  }

  @inline(__always)
  private func interpolate4(_ from: UnsafePointer<Float>, _ z: Float, _ y: Float, _ x: Float) -> SIMD4<Float>
  {
    var sum = SIMD4<Float>.zero
    corners(z, y, x) { voxel, weight in
      unsafe sum += weight * UnsafeRawPointer(from + voxel * 4).loadUnaligned(as: SIMD4<Float>.self)
    }
    return sum
  }

  @inline(__always)
  private func interpolate(
    _ from: UnsafePointer<Float>, _ channels: Int, _ z: Float, _ y: Float, _ x: Float,
    _ out: UnsafeMutablePointer<Float>
  ) {
    corners(z, y, x) { voxel, weight in
      for c in 0..<channels { unsafe out[c] += weight * from[voxel * channels + c] }
    }
  }
}
