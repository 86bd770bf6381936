// Whoever calls these has `count` floats, in whole vectors, at each of the places.

/// The one-dimensional transforms of Winograd's F(4, 3): four outputs of a three-tap filter from six products.
///
/// Points 0, ±3/4, ±3/2, ∞: the cost of the usual 0, ±1, ±2 with a third of their rounding error. All constants
/// but the filter's divisors are exact in binary.
///
/// Source: Lavin and Gray 2016; matrices by the Cook–Toom construction for these points.
enum TileTransform {
  /// Outputs and inputs of a tile along an axis.
  static let outputs = 4, inputs = 6
  static let a: Float = 0.75, b: Float = 1.5
  static let a2: Float = 0.5625, b2: Float = 2.25
  static let a3: Float = 0.421875, b3: Float = 3.375
  private static let a2b2: Float = 1.265625, a2PlusB2: Float = 2.8125
  /// Divisors of the filter's transform at 0, ±a, ±b.
  private static let n0: Float = 1 / 1.265625, na: Float = 1 / -1.8984375, nb: Float = 1 / 7.59375

  /// Bᵀ: six inputs at `from` + i · `fromStep` to six at `to` + i · `toStep`, for `count` values side by side (whole
  /// vectors).
  @inline(__always)
  static func input(
    _ from: UnsafePointer<Float>, _ fromStep: Int, _ to: UnsafeMutablePointer<Float>, _ toStep: Int,
    count: Int
  ) {
    let mA2 = Lanes(repeating: -a2), mB2 = Lanes(repeating: -b2), both = Lanes(repeating: -a2PlusB2)
    let product = Lanes(repeating: a2b2), va = Lanes(repeating: a), vb = Lanes(repeating: b)
    let s1 = fromStep, s2 = 2 * s1, s3 = 3 * s1, s4 = 4 * s1, s5 = 5 * s1
    let t1 = toStep, t2 = 2 * t1, t3 = 3 * t1, t4 = 4 * t1, t5 = 5 * t1
    var i = 0
    while i < count {
      let x = unsafe from + i
      let x0 = unsafe load(x), x1 = unsafe load(x + s1), x2 = unsafe load(x + s2)
      let x3 = unsafe load(x + s3), x4 = unsafe load(x + s4),
        x5 = unsafe load(x + s5)
      let evenA = x4.addingProduct(x2, mB2), oddA = x3.addingProduct(x1, mB2)
      let evenB = x4.addingProduct(x2, mA2), oddB = x3.addingProduct(x1, mA2)
      let out = unsafe to + i
      unsafe store(x4.addingProduct(x2, both).addingProduct(x0, product), out)
      unsafe store(evenA.addingProduct(oddA, va), out + t1)
      unsafe store(evenA.addingProduct(oddA, -va), out + t2)
      unsafe store(evenB.addingProduct(oddB, vb), out + t3)
      unsafe store(evenB.addingProduct(oddB, -vb), out + t4)
      unsafe store(x5.addingProduct(x3, both).addingProduct(x1, product), out + t5)
      i &+= lanes
    }
  }

  /// A: four gradients to six, as `input`.
  @inline(__always)
  static func gradient(
    _ from: UnsafePointer<Float>, _ fromStep: Int, _ to: UnsafeMutablePointer<Float>, _ toStep: Int,
    count: Int
  ) {
    let va = Lanes(repeating: a), vb = Lanes(repeating: b)
    let va2 = Lanes(repeating: a2), vb2 = Lanes(repeating: b2)
    let s1 = fromStep, s2 = 2 * s1, s3 = 3 * s1
    let t1 = toStep, t2 = 2 * t1, t3 = 3 * t1, t4 = 4 * t1, t5 = 5 * t1
    var i = 0
    while i < count {
      let x = unsafe from + i
      let g0 = unsafe load(x), g1 = unsafe load(x + s1), g2 = unsafe load(x + s2)
      let g3 = unsafe load(x + s3)
      let evenA = g0.addingProduct(g2, va2), oddA = g1.addingProduct(g3, va2)
      let evenB = g0.addingProduct(g2, vb2), oddB = g1.addingProduct(g3, vb2)
      let out = unsafe to + i
      unsafe store(g0, out)
      unsafe store(evenA.addingProduct(oddA, va), out + t1)
      unsafe store(evenA.addingProduct(oddA, -va), out + t2)
      unsafe store(evenB.addingProduct(oddB, vb), out + t3)
      unsafe store(evenB.addingProduct(oddB, -vb), out + t4)
      unsafe store(g3, out + t5)
      i &+= lanes
    }
  }

  /// Aᵀ: six products to four outputs.
  @inline(__always)
  static func output(
    _ m0: Lanes, _ m1: Lanes, _ m2: Lanes, _ m3: Lanes, _ m4: Lanes, _ m5: Lanes
  ) -> (Lanes, Lanes, Lanes, Lanes) {
    let sumA = m1 + m2, sumB = m3 + m4, differenceA = m1 - m2, differenceB = m3 - m4
    let y1 = (differenceA * a).addingProduct(differenceB, Lanes(repeating: b))
    let y2 = (sumA * a2).addingProduct(sumB, Lanes(repeating: b2))
    let y3 = m5.addingProduct(differenceA, Lanes(repeating: a3)).addingProduct(
      differenceB, Lanes(repeating: b3))
    return (m0 + sumA + sumB, y1, y2, y3)
  }

  /// G: three taps to six.
  @inline(__always)
  static func filter(
    _ from: UnsafePointer<Float>, _ fromStep: Int, _ to: UnsafeMutablePointer<Float>, _ toStep: Int
  ) {
    let g0 = unsafe load(from), g1 = unsafe load(from + fromStep), g2 = unsafe load(from + 2 * fromStep)
    let evenA = g0.addingProduct(g2, Lanes(repeating: a2)) * na, oddA = g1 * (a * na)
    let evenB = g0.addingProduct(g2, Lanes(repeating: b2)) * nb, oddB = g1 * (b * nb)
    unsafe store(g0 * n0, to)
    unsafe store(evenA + oddA, to + toStep)
    unsafe store(evenA - oddA, to + 2 * toStep)
    unsafe store(evenB + oddB, to + 3 * toStep)
    unsafe store(evenB - oddB, to + 4 * toStep)
    unsafe store(g2, to + 5 * toStep)
  }

  /// Gᵀ: six gradients of products to those of three taps.
  @inline(__always)
  static func filterGradient(
    _ from: UnsafePointer<Float>, _ fromStep: Int, _ to: UnsafeMutablePointer<Float>, _ toStep: Int
  ) {
    let u0 = unsafe load(from), u1 = unsafe load(from + fromStep), u2 = unsafe load(from + 2 * fromStep)
    let u3 = unsafe load(from + 3 * fromStep), u4 = unsafe load(from + 4 * fromStep),
      u5 = unsafe load(from + 5 * fromStep)
    let sumA = (u1 + u2) * na, sumB = (u3 + u4) * nb
    let differenceA = (u1 - u2) * (a * na), differenceB = (u3 - u4) * (b * nb)
    unsafe store((u0 * n0) + sumA + sumB, to)
    unsafe store(differenceA + differenceB, to + toStep)
    unsafe store(
      u5.addingProduct(sumA, Lanes(repeating: a2)).addingProduct(sumB, Lanes(repeating: b2)), to + 2 * toStep)
  }
}
