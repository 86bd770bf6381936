/// Adam, and with `decay` AdamW: one loop over four vectors of the same layout.
///
/// Source: Kingma and Ba 2015, Loshchilov and Hutter 2019, in PyTorch's form:
/// p −= rate · decay · p; p −= rate / (1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + ε).
public final class Adam {
  public struct Settings: Equatable, Sendable {
    public var beta1, beta2, epsilon, decay: Double

    public init(beta1: Double, beta2: Double, epsilon: Double = 1e-8, decay: Double = 0) {
      self.beta1 = beta1
      self.beta2 = beta2
      self.epsilon = epsilon
      self.decay = decay
    }
  }

  public let settings: Settings
  /// Running means of the gradient and of its square.
  public let first, second: ParameterVector
  /// Updates made so far.
  public var updates = 0

  public init(_ layout: ParameterLayout, _ settings: Settings) {
    self.settings = settings
    first = ParameterVector(zeros: layout)
    second = ParameterVector(zeros: layout)
  }

  /// One update of `p` with `gradient` times `scale`.
  public func update(
    _ p: ParameterVector, gradient: UnsafeMutableBufferPointer<Float>, scale: Float, rate: Double,
    _ workers: Workers
  ) {
    precondition(gradient.count == p.count && p.count == first.count, "\(gradient.count) for \(p.count)")
    updates += 1
    let correction1 = 1 - power(settings.beta1, updates), correction2 = 1 - power(settings.beta2, updates)
    let stepSize = Float(rate / correction1), root = Float(correction2.squareRoot())
    let beta1 = Float(settings.beta1), beta2 = Float(settings.beta2), epsilon = Float(settings.epsilon)
    let rest1 = Float(1 - settings.beta1), rest2 = Float(1 - settings.beta2)
    let keep = Float(1 - rate * settings.decay)
    let m = first.buffer.base, v = second.buffer.base, w = p.buffer.base
    let pieces = Pieces(p.count, least: 1 << 14, limit: 1024)
    workers.forEach(pieces.count) { piece, _ in
      for i in pieces[piece] {
        let g = gradient[i] * scale
        m[i] = beta1 * m[i] + rest1 * g
        v[i] = beta2 * v[i] + rest2 * (g * g)
        w[i] = keep * w[i] - stepSize * (m[i] / (v[i].squareRoot() / root + epsilon))
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
