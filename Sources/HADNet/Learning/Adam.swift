import Collective
import Compute

/// Adam, and with `decay` AdamW: one loop over four vectors. A rank keeps the moments of its shards alone and updates
/// those.
///
/// Source: Kingma and Ba 2015, Loshchilov and Hutter 2019, in PyTorch's form:
/// p −= rate · decay · p; p −= rate / (1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + ε).
package final class Adam {
  /// What an optimiser is set to. `beta1` and `beta2` are 0..<1, `decay` is AdamW's, times the rate.
  package struct Settings: Equatable, Sendable {
    package var beta1, beta2, epsilon, decay: Double
    /// TensorFlow's form: ε stands beside √v before the correction, p −= rate · √(1 − β₂ᵗ) / (1 − β₁ᵗ) · m / (√v + ε). Not
    /// cosmetic where gradients are no larger than ε.
    package var isEpsilonUncorrected: Bool

    package init(
      beta1: Double, beta2: Double, epsilon: Double = 1e-8, decay: Double = 0,
      isEpsilonUncorrected: Bool = false
    ) {
      self.beta1 = beta1
      self.beta2 = beta2
      self.epsilon = epsilon
      self.decay = decay
      self.isEpsilonUncorrected = isEpsilonUncorrected
    }
  }

  package let settings: Settings
  /// Running means of the gradient and of its square.
  package let first, second: ShardedVector
  /// Updates made so far.
  package var updates = 0

  /// Of one rank that owns everything.
  package convenience init(_ layout: ParameterLayout, _ settings: Settings) {
    self.init(layout, settings, Shards(layout.count, over: 1), rank: 0)
  }

  init(_ layout: ParameterLayout, _ settings: Settings, _ shards: Shards, rank: Int) {
    self.settings = settings
    first = ShardedVector(zeros: layout, shards, rank: rank)
    second = ShardedVector(zeros: layout, shards, rank: rank)
  }

  /// One update of this rank's shards of `p` with `gradient` times `scale`.
  package func update(
    _ p: ParameterVector, gradient: UnsafeMutableBufferPointer<Float>, scale: Float, rate: Double,
    _ workers: Workers
  ) {
    precondition(
      gradient.count == p.count && p.count == first.layout.count, "\(gradient.count) for \(p.count)")
    updates += 1
    let correction1 = 1 - power(settings.beta1, updates), correction2 = 1 - power(settings.beta2, updates)
    let isUncorrected = settings.isEpsilonUncorrected
    let stepSize = Float(rate / correction1 * (isUncorrected ? correction2.squareRoot() : 1))
    let root = isUncorrected ? 1 : Float(correction2.squareRoot())
    let beta1 = Float(settings.beta1), beta2 = Float(settings.beta2), epsilon = Float(settings.epsilon)
    let rest1 = Float(1 - settings.beta1), rest2 = Float(1 - settings.beta2)
    let keep = Float(1 - rate * settings.decay)
    // The four have all of `range`, and pieces of it do not overlap. Pointers, since eight numbers are read and written as a
    // vector.
    for (range, _) in first.parts {
      guard let gradient = unsafe UnsafeMutableBufferPointer(rebasing: gradient[range]).baseAddress,
        let w = unsafe UnsafeMutableBufferPointer(rebasing: p.values[range]).baseAddress,
        let m = unsafe first.own(range).baseAddress, let v = unsafe second.own(range).baseAddress
      else { continue }
      let pieces = Pieces(range.count, least: 1 << 14, limit: 1024)
      workers.forEach(pieces.count) { piece, _ in
        let piece = pieces[piece]
        for i in stride(from: piece.lowerBound, to: piece.upperBound, by: lanes) {
          let count = min(lanes, piece.upperBound - i)
          let g = unsafe load(gradient + i, count) * scale
          let first = unsafe beta1 * load(m + i, count) + rest1 * g
          let second = unsafe beta2 * load(v + i, count) + rest2 * (g * g)
          let step = first / (squareRoot(second) / root + epsilon)
          unsafe store(first, m + i, count)
          unsafe store(second, v + i, count)
          unsafe store(keep * load(w + i, count) - stepSize * step, w + i, count)
        }
      }
    }
  }

  /// βᵗ by repeated squaring: the same bits everywhere, which the C library's `pow` does not promise.
  private func power(_ base: Double, _ exponent: Int) -> Double {
    var result = 1.0, factor = base, n = exponent
    while n > 0 {
      if n & 1 == 1 { result *= factor }
      factor *= factor
      n >>= 1
    }
    return result
  }
}
