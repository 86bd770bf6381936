// Both volumes have one shape.

/// The least-squares adversarial loss over a grid of patch scores: mean((score − target)²).
/// Source: HAD-Net, equations 1 and 2.
package enum LeastSquares {
  /// The loss; writes ∂(factor · loss)/∂score into `gradient`.
  package static func loss(_ scores: Volume, target: Float, factor: Float, gradient: Volume) -> Double {
    precondition(scores.shape == gradient.shape, "least squares of \(scores.shape) into \(gradient.shape)")
    let n = scores.shape.count
    var sum = 0.0
    for i in 0..<n {
      let difference = unsafe scores.base[i] - target
      sum += Double(difference) * Double(difference)
      unsafe gradient.base[i] = factor * 2 * difference / Float(n)
    }
    return sum / Double(n)
  }
}
