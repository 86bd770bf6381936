// Each `unsafe` here writes one of `count` numbers, which the caller has room for, or takes the bits of eight
// numbers as eight others of the same size.

/// Fields of standard normal numbers, the same whoever computes which part.
extension Philox {
  /// Numbers that are made together.
  private static let group = 2 * lanes

  /// Writes `count` standard normal numbers (Box and Muller's method): the i-th is a function of this stream and i.
  package func fillNormal(_ target: UnsafeMutablePointer<Float>, count: Int, _ workers: Workers) {
    let size = Philox.group, groups = (count + size - 1) / size
    let pieces = Pieces(groups, least: 256, limit: 256)
    nonisolated(unsafe) let target = unsafe target
    workers.forEach(pieces.count) { piece, _ in
      for group in pieces[piece] {
        let (a, b) = pairs(group), to = unsafe target + group * size
        if group * size + size <= count {
          unsafe store(a, to)
          unsafe store(b, to + lanes)
        } else {
          for i in 0..<count - group * size { unsafe to[i] = i < lanes ? a[i] : b[i - lanes] }
        }
      }
    }
  }

  @inline(__always)
  private func pairs(_ group: Int) -> (Lanes, Lanes) {
    var radius = SIMD8<UInt32>.zero, angle = radius
    for i in 0..<4 {
      let w = words(at: 4 * group + i)
      (radius[2 * i], angle[2 * i], radius[2 * i + 1], angle[2 * i + 1]) = (w.0, w.1, w.2, w.3)
    }
    // 23 bits in the mantissa of a number in 1…2; never 0 and never 1.
    let u = fraction(radius &>> 9) + Lanes(repeating: 0x1p-24)
    let r = squareRoot(Lanes(repeating: -2) * Transcendental.log(u))
    // An angle in ±π/4 and a quarter of the circle.
    let x = (fraction((angle & 0x3FFF_FFFF) &>> 7) - Lanes(repeating: 0.5)) * Lanes(repeating: .pi / 2)
    let x2 = x * x
    var sine = Lanes(repeating: 1), cosine = sine
    for k in stride(from: 8, through: 2, by: -2) {
      sine = Lanes(repeating: 1) - sine * x2 * Lanes(repeating: 1 / Float(k * (k + 1)))
      cosine = Lanes(repeating: 1) - cosine * x2 * Lanes(repeating: 1 / Float(k * (k - 1)))
    }
    sine *= x
    let quarter = angle &>> 30, isOdd = (quarter & 1) .== 1, isTurned = (quarter & 2) .== 2
    var a = cosine.replacing(with: -sine, where: isOdd)
    var b = sine.replacing(with: cosine, where: isOdd)
    a = a.replacing(with: -a, where: isTurned)
    b = b.replacing(with: -b, where: isTurned)
    return (r * a, r * b)
  }

  @inline(__always)
  private func fraction(_ mantissa: SIMD8<UInt32>) -> Lanes {
    unsafe unsafeBitCast(mantissa | SIMD8(repeating: 0x3F80_0000), to: Lanes.self) - Lanes(repeating: 1)
  }
}
