/// Random numbers as a pure function of what they are for: nothing depends on who draws first, on the number of
/// ranks or threads, and a resumed run draws what the uninterrupted one would have drawn.
///
/// Philox 4x32-10. Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
package struct Philox: Sendable {
  /// What numbers are drawn for; each purpose has a stream of its own.
  package enum Purpose: UInt32, Sendable {
    case initialWeights = 1
    case split, permutation, augmentation, dropout, teacherDropout, phantom, test
    /// Where windows of training cases lie and the order in which they come, which sequences a step sees, and
    /// the noise of samples of latent maps.
    case windows, sequences, noise
    /// Dropout of a sample for uncertainty.
    case monteCarlo
    /// Which cases a resample of the bootstrap has.
    case bootstrap = 16
  }

  private let key: (UInt32, UInt32)
  private let stream: (UInt32, UInt32)
  private var counter: UInt32 = 0
  /// Words of the last block that are still to be given, the last ones of `pending`.
  private var pending = SIMD4<UInt32>.zero, left = 0

  /// The stream of numbers for `purpose` at (`a`, `b`), e.g. (epoch, case) or (step, slot); `part` tells apart
  /// draws of the same kind at the same place, e.g. the layers of a network.
  package init(seed: UInt64, _ purpose: Purpose, _ a: Int = 0, _ b: Int = 0, part: Int = 0) {
    let low = UInt32(truncatingIfNeeded: seed), high = UInt32(truncatingIfNeeded: seed >> 32)
    let first = Philox.block(
      (
        purpose.rawValue, UInt32(truncatingIfNeeded: part), UInt32(truncatingIfNeeded: a),
        UInt32(truncatingIfNeeded: b)
      ), key: (low, high))
    key = (first.0, first.1)
    stream = (first.2, first.3)
  }

  /// Ten rounds over one counter.
  static func block(
    _ counter: (UInt32, UInt32, UInt32, UInt32), key: (UInt32, UInt32)
  ) -> (UInt32, UInt32, UInt32, UInt32) {
    var c = counter, k = key
    for round in 0..<10 {
      if round > 0 { k = (k.0 &+ 0x9E37_79B9, k.1 &+ 0xBB67_AE85) }
      let p0 = UInt64(c.0) * 0xD251_1F53, p1 = UInt64(c.2) * 0xCD9E_8D57
      c = (
        UInt32(p1 >> 32) ^ c.1 ^ k.0, UInt32(truncatingIfNeeded: p1),
        UInt32(p0 >> 32) ^ c.3 ^ k.1, UInt32(truncatingIfNeeded: p0)
      )
    }
    return c
  }

  /// The four words at `index` of this stream, without changing it: random access for fields of noise.
  package func words(at index: Int) -> (UInt32, UInt32, UInt32, UInt32) {
    let i = UInt64(bitPattern: Int64(index))
    return Philox.block(
      (UInt32(truncatingIfNeeded: i), UInt32(truncatingIfNeeded: i >> 32), stream.0, stream.1 ^ 0x8000_0000),
      key: key)
  }

  /// The next 32 random bits.
  package mutating func next() -> UInt32 {
    if left == 0 {
      let b = Philox.block((counter, 0, stream.0, stream.1), key: key)
      counter += 1
      pending = SIMD4(b.0, b.1, b.2, b.3)
      left = 4
    }
    left -= 1
    return pending[3 - left]
  }

  /// Uniform in [0, 1), 24 bits.
  package mutating func uniform() -> Float { Float(next() >> 8) * 0x1p-24 }

  /// Uniform in [`low`, `high`).
  package mutating func uniform(_ low: Float, _ high: Float) -> Float { low + (high - low) * uniform() }

  /// Uniform in 0..<`bound`, without bias.
  package mutating func below(_ bound: Int) -> Int {
    precondition(bound > 0, "a random number below \(bound)")
    let bound = UInt32(bound), limit = UInt32.max - UInt32.max % bound
    while true {
      let word = next()
      if word < limit { return Int(word % bound) }
    }
  }

  /// Standard normal, by Marsaglia's polar method with this project's own logarithm, so that the bits are the
  /// same on every CPU.
  package mutating func normal() -> Float {
    while true {
      let u = 2 * Double(next()) * 0x1p-32 - 1, v = 2 * Double(next()) * 0x1p-32 - 1
      let s = u * u + v * v
      if s > 0 && s < 1 { return Float(u * (-2 * Portable.log(s) / s).squareRoot()) }
    }
  }

  /// 0..<`count` in random order (Fisher–Yates).
  package mutating func permutation(_ count: Int) -> [Int] {
    var order = Array(0..<count)
    for i in stride(from: count - 1, to: 0, by: -1) { order.swapAt(i, below(i + 1)) }
    return order
  }
}
