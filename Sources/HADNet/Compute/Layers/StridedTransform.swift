// Whoever calls these has `count` floats, in whole vectors, at each of the places.

/// The one-dimensional transforms of Winograd's F(3, 2), points 0, ±1, ∞: three outputs of a two-tap filter from four
/// products. A 4³ convolution of stride 2 is eight of 2³, one a parity of the input's voxels, side by side.
enum StridedTransform {
  /// Bᵀ in place: four inputs `step` apart, for `count` values side by side (whole vectors).
  @inline(__always)
  static func input(_ x: UnsafeMutablePointer<Float>, _ step: Int, count: Int) {
    let s2 = 2 * step, s3 = 3 * step
    var i = 0
    while i < count {
      let v = unsafe x + i
      let x0 = unsafe load(v), x1 = unsafe load(v + step), x2 = unsafe load(v + s2), x3 = unsafe load(v + s3)
      unsafe store(x0 - x2, v)
      unsafe store(x1 + x2, v + step)
      unsafe store(x2 - x1, v + s2)
      unsafe store(x3 - x1, v + s3)
      i &+= lanes
    }
  }

  /// A: three gradients to four, for `count` values side by side; the fourth place is written.
  @inline(__always)
  static func gradient(_ x: UnsafeMutablePointer<Float>, _ step: Int, count: Int) {
    let s2 = 2 * step, s3 = 3 * step
    var i = 0
    while i < count {
      let v = unsafe x + i
      let g0 = unsafe load(v), g1 = unsafe load(v + step), g2 = unsafe load(v + s2)
      let even = g0 + g2
      unsafe store(even + g1, v + step)
      unsafe store(even - g1, v + s2)
      unsafe store(g2, v + s3)
      i &+= lanes
    }
  }

  /// Aᵀ: four products to three outputs.
  @inline(__always)
  static func output(_ m0: Lanes, _ m1: Lanes, _ m2: Lanes, _ m3: Lanes) -> (Lanes, Lanes, Lanes) {
    let sum = m1 + m2
    return (m0 + sum, m1 - m2, sum + m3)
  }

  /// G: two taps to four.
  @inline(__always)
  static func filter(_ g0: Lanes, _ g1: Lanes) -> (Lanes, Lanes, Lanes, Lanes) {
    (g0, (g0 + g1) * 0.5, (g0 - g1) * 0.5, g1)
  }

  /// Gᵀ: four gradients of products to those of two taps.
  @inline(__always)
  static func filterGradient(_ u0: Lanes, _ u1: Lanes, _ u2: Lanes, _ u3: Lanes) -> (Lanes, Lanes) {
    (u0 + (u1 + u2) * 0.5, u3 + (u1 - u2) * 0.5)
  }
}
