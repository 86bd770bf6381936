// Each `unsafe` here takes the bits of eight numbers as eight others of the same size.

/// Exponential and logarithm of eight floats, from + − × ÷ and bits alone: the same bits on every CPU.
@usableFromInline package enum Transcendental {
  /// 1.5 · 2²³: floats around it are whole numbers.
  @inlinable static var whole: Float { 12_582_912 }
  @inlinable static var wholeBits: SIMD8<Int32> { SIMD8(repeating: 0x4B40_0000) }

  /// eˣ, relative error below 3e-7 for |x| ≤ 87; beyond, that of ±87; of what is not a number none.
  @inlinable @inline(__always)
  package static func exp(_ x: Lanes) -> Lanes {
    let x = clamped(x, 87)
    // Added to a number that is large enough, k stands in the last bits.
    let shifted = (x * Lanes(repeating: 1.442_695_04)) + Lanes(repeating: whole)
    let k = shifted - Lanes(repeating: whole)
    // ln 2 in two parts: the first has so few digits that its product with k is exact.
    let r = (x - k * Lanes(repeating: 0.693_359_375)) - k * Lanes(repeating: -2.121_944_4e-4)
    var sum = Lanes(repeating: 1)
    for i in stride(from: 7, through: 1, by: -1) {
      sum = Lanes(repeating: 1).addingProduct(sum, r * Lanes(repeating: 1 / Float(i)))
    }
    let exponent = unsafe unsafeBitCast(shifted, to: SIMD8<Int32>.self) &- wholeBits &+ 127
    return unsafe sum * unsafeBitCast(exponent &<< 23, to: Lanes.self)
  }

  /// ln x of normal positive numbers, absolute error below 2e-7 near 1, relative elsewhere.
  @inlinable @inline(__always)
  package static func log(_ x: Lanes) -> Lanes {
    // The mantissa in √½…√2, so that the logarithm of 1 is 0.
    let bits = unsafe unsafeBitCast(x, to: SIMD8<Int32>.self) &- SIMD8(repeating: 0x3F35_04F3)
    let exponent = bits &>> 23
    let mantissa = unsafe unsafeBitCast(
      (bits & SIMD8(repeating: 0x007F_FFFF)) &+ SIMD8(repeating: 0x3F35_04F3), to: Lanes.self)
    // ln m = 2 · artanh(t).
    let t = (mantissa - 1) / (mantissa + 1), t2 = t * t
    var sum = Lanes(repeating: 1 / 9)
    for k in stride(from: 7, through: 1, by: -2) {
      sum = Lanes(repeating: 1 / Float(k)).addingProduct(sum, t2)
    }
    let e = unsafe unsafeBitCast(exponent &+ wholeBits, to: Lanes.self) - Lanes(repeating: whole)
    return (e * Lanes(repeating: 0.693_359_375)).addingProduct(Lanes(repeating: 2) * t, sum)
      + e * Lanes(repeating: -2.121_944_4e-4)
  }
}
