// How kernels read and write memory. Whoever calls these has eight floats there, or `count` of them, or for
// filters, eight of `taps` floats each, `step` apart.

import CMachine

/// What kernels compute with: eight floats, one AVX2 or two NEON registers.
@usableFromInline package typealias Lanes = SIMD8<Float>
@inlinable package var lanes: Int { 8 }

/// Eight values from `p` on, which need not be aligned.
@inlinable @inline(__always)
package func load(_ p: UnsafePointer<Float>) -> Lanes {
  unsafe UnsafeRawPointer(p).loadUnaligned(as: Lanes.self)
}

/// Writes eight values from `p` on, which need not be aligned.
@inlinable @inline(__always)
package func store(_ v: Lanes, _ p: UnsafeMutablePointer<Float>) {
  unsafe UnsafeMutableRawPointer(p).storeBytes(of: v, as: Lanes.self)
}

/// The first `count` of eight values, and 0 behind them.
@inlinable @inline(__always)
package func load(_ p: UnsafePointer<Float>, _ count: Int) -> Lanes {
  guard count < lanes else { return unsafe load(p) }
  var v = Lanes()
  for lane in 0..<count { v[lane] = unsafe p[lane] }
  return v
}

/// Writes the first `count` of eight values.
@inlinable @inline(__always)
package func store(_ v: Lanes, _ p: UnsafeMutablePointer<Float>, _ count: Int) {
  guard count < lanes else { return unsafe store(v, p) }
  for lane in 0..<count { unsafe p[lane] = v[lane] }
}

/// √x of each value, rounded correctly, so the same bits on every CPU.
@inlinable @inline(__always)
package func squareRoot(_ x: Lanes) -> Lanes { cmachine_square_root(x) }

/// x within ±`bound`; what is not a number stays none.
@inlinable @inline(__always)
package func clamped(_ x: Lanes, _ bound: Float) -> Lanes {
  let high = Lanes(repeating: bound), low = -high, y = x.replacing(with: high, where: x .> high)
  return y.replacing(with: low, where: y .< low)
}

/// A short copy without the cost of a call.
@inlinable @inline(__always)
package func copyValues(_ from: UnsafePointer<Float>, into to: UnsafeMutablePointer<Float>, _ count: Int) {
  var i = 0
  let source = unsafe UnsafeRawPointer(from), target = UnsafeMutableRawPointer(to)
  while i + 8 <= count {
    let v = unsafe source.loadUnaligned(fromByteOffset: 4 * i, as: SIMD8<Float>.self)
    unsafe target.storeBytes(of: v, toByteOffset: 4 * i, as: SIMD8<Float>.self)
    i += 8
  }
  if i + 4 <= count {
    let v = unsafe source.loadUnaligned(fromByteOffset: 4 * i, as: SIMD4<Float>.self)
    unsafe target.storeBytes(of: v, toByteOffset: 4 * i, as: SIMD4<Float>.self)
    i += 4
  }
  while i < count {
    unsafe to[i] = from[i]
    i += 1
  }
}

/// Turns eight vectors, rows of an 8 × 8 matrix, into its columns.
@inline(__always)
private func transpose(_ r: (Lanes, Lanes, Lanes, Lanes, Lanes, Lanes, Lanes, Lanes))
  -> (Lanes, Lanes, Lanes, Lanes, Lanes, Lanes, Lanes, Lanes)
{
  // Each shuffle is one instruction on AVX2: pairs of floats, pairs of pairs, halves.
  @inline(__always) func low(_ a: Lanes, _ b: Lanes) -> Lanes {
    Lanes(a[0], b[0], a[1], b[1], a[4], b[4], a[5], b[5])
  }
  @inline(__always) func high(_ a: Lanes, _ b: Lanes) -> Lanes {
    Lanes(a[2], b[2], a[3], b[3], a[6], b[6], a[7], b[7])
  }
  @inline(__always) func lowPairs(_ a: Lanes, _ b: Lanes) -> Lanes {
    Lanes(a[0], a[1], b[0], b[1], a[4], a[5], b[4], b[5])
  }
  @inline(__always) func highPairs(_ a: Lanes, _ b: Lanes) -> Lanes {
    Lanes(a[2], a[3], b[2], b[3], a[6], a[7], b[6], b[7])
  }
  let a0 = low(r.0, r.1), a1 = high(r.0, r.1), a2 = low(r.2, r.3), a3 = high(r.2, r.3)
  let a4 = low(r.4, r.5), a5 = high(r.4, r.5), a6 = low(r.6, r.7), a7 = high(r.6, r.7)
  let b0 = lowPairs(a0, a2), b1 = highPairs(a0, a2), b2 = lowPairs(a1, a3), b3 = highPairs(a1, a3)
  let b4 = lowPairs(a4, a6), b5 = highPairs(a4, a6), b6 = lowPairs(a5, a7), b7 = highPairs(a5, a7)
  return (
    Lanes(lowHalf: b0.lowHalf, highHalf: b4.lowHalf), Lanes(lowHalf: b1.lowHalf, highHalf: b5.lowHalf),
    Lanes(lowHalf: b2.lowHalf, highHalf: b6.lowHalf), Lanes(lowHalf: b3.lowHalf, highHalf: b7.lowHalf),
    Lanes(lowHalf: b0.highHalf, highHalf: b4.highHalf), Lanes(lowHalf: b1.highHalf, highHalf: b5.highHalf),
    Lanes(lowHalf: b2.highHalf, highHalf: b6.highHalf), Lanes(lowHalf: b3.highHalf, highHalf: b7.highHalf)
  )
}

/// Filters as they are stored, the taps of each side by side, and as transforms want them, lanes of eight filters.
enum FilterLanes {
  /// Writes [tap, 8] from eight filters `step` floats apart; `taps` is at least 8. Those from `filters` on are 0.
  @inline(__always)
  static func read(
    _ from: UnsafePointer<Float>, _ step: Int, filters: Int, taps: Int,
    into lanesOut: UnsafeMutablePointer<Float>
  ) {
    guard filters == lanes else {
      for tap in 0..<taps {
        for lane in 0..<lanes {
          unsafe lanesOut[tap * lanes + lane] = lane < filters ? from[lane * step + tap] : 0
        }
      }
      return
    }
    var tap = 0
    while tap < taps {
      // The last eight taps may overlap those before.
      let first = min(tap, taps - lanes), x = unsafe from + first
      let c = unsafe transpose(
        (
          load(x), load(x + step), load(x + 2 * step), load(x + 3 * step), load(x + 4 * step),
          load(x + 5 * step),
          load(x + 6 * step), load(x + 7 * step)
        ))
      let to = unsafe lanesOut + first * lanes
      unsafe store(c.0, to)
      unsafe store(c.1, to + 8)
      unsafe store(c.2, to + 16)
      unsafe store(c.3, to + 24)
      unsafe store(c.4, to + 32)
      unsafe store(c.5, to + 40)
      unsafe store(c.6, to + 48)
      unsafe store(c.7, to + 56)
      tap &+= lanes
    }
  }

  /// Writes the first `filters` of eight filters `step` floats apart from [tap, 8]; `taps` is at least 8.
  @inline(__always)
  static func write(
    _ lanesIn: UnsafePointer<Float>, _ taps: Int, to filter: UnsafeMutablePointer<Float>, _ step: Int,
    filters: Int
  ) {
    guard filters == lanes else {
      for lane in 0..<filters {
        for tap in 0..<taps { unsafe filter[lane * step + tap] = lanesIn[tap * lanes + lane] }
      }
      return
    }
    var tap = 0
    while tap < taps {
      // The last eight taps may overlap those before.
      let first = min(tap, taps - lanes), x = unsafe lanesIn + first * lanes, y = unsafe filter + first
      let c = unsafe transpose(
        (
          load(x), load(x + 8), load(x + 16), load(x + 24), load(x + 32), load(x + 40), load(x + 48),
          load(x + 56)
        ))
      unsafe store(c.0, y)
      unsafe store(c.1, y + step)
      unsafe store(c.2, y + 2 * step)
      unsafe store(c.3, y + 3 * step)
      unsafe store(c.4, y + 4 * step)
      unsafe store(c.5, y + 5 * step)
      unsafe store(c.6, y + 6 * step)
      unsafe store(c.7, y + 7 * step)
      tap &+= lanes
    }
  }

  /// Adds [tap, 8] to the first `filters` of eight filters `step` floats apart; `taps` is at least 8.
  @inline(__always)
  static func add(
    _ lanesIn: UnsafePointer<Float>, _ taps: Int, to filter: UnsafeMutablePointer<Float>, _ step: Int,
    filters: Int
  ) {
    guard filters == lanes else {
      for lane in 0..<filters {
        for tap in 0..<taps { unsafe filter[lane * step + tap] += lanesIn[tap * lanes + lane] }
      }
      return
    }
    var tap = 0
    while tap + lanes <= taps {
      let x = unsafe lanesIn + tap * lanes, y = unsafe filter + tap
      let c = unsafe transpose(
        (
          load(x), load(x + 8), load(x + 16), load(x + 24), load(x + 32), load(x + 40), load(x + 48),
          load(x + 56)
        ))
      unsafe store(load(y) + c.0, y)
      unsafe store(load(y + step) + c.1, y + step)
      unsafe store(load(y + 2 * step) + c.2, y + 2 * step)
      unsafe store(load(y + 3 * step) + c.3, y + 3 * step)
      unsafe store(load(y + 4 * step) + c.4, y + 4 * step)
      unsafe store(load(y + 5 * step) + c.5, y + 5 * step)
      unsafe store(load(y + 6 * step) + c.6, y + 6 * step)
      unsafe store(load(y + 7 * step) + c.7, y + 7 * step)
      tap &+= lanes
    }
    while tap < taps {
      for lane in 0..<lanes { unsafe filter[lane * step + tap] += lanesIn[tap * lanes + lane] }
      tap &+= 1
    }
  }
}
