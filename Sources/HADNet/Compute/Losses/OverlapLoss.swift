// Each `unsafe` here stays within a voxel of four classes.

/// Cross-entropy and Dice together, of p = softmax(logits / T) against a target q: true classes, or softened logits of
/// another network. Cross-entropy is −Σ q ln p, the mean over voxels; Dice is 1 − the mean over some classes of
/// (2 Σ pq + 1e-5) / (Σ p² + Σ q² + 1e-5), sums over all voxels.
///
/// Source: U-HVED's code (all four classes, T = 1); Hu et al., MICCAI 2020 (the foreground, T = 5 for softened targets).
package struct OverlapLoss {
  /// What the probabilities are compared with.
  package enum Target {
    case classes(LabelVolume)
    /// q = softmax(logits / T).
    case logits(Volume)
  }

  /// The classes whose Dice counts.
  let classes: Range<Int>
  let temperature: Float
  private static let smoothing = 1e-5

  /// `classes`: whose Dice counts. `temperature`: T, which divides the logits of both sides.
  package init(classes: Range<Int>, temperature: Float = 1) {
    self.classes = classes
    self.temperature = temperature
  }

  /// Both losses of `logits` [z, y, x, 4]. Writes the gradient of `weight` times their sum by the logits into `gradient`,
  /// or with `adding` adds it.
  package func losses(
    _ logits: Volume, _ target: Target, weight: Float = 1, gradient: Volume?, adding: Bool = false,
    _ workers: Workers
  ) -> (crossEntropy: Double, dice: Double) {
    let voxels = logits.shape.voxels, pieces = Pieces(voxels, least: 4096, limit: 256)
    precondition(logits.channels == 4, "an overlap of \(logits.shape)")
    // Of a piece: cross-entropy, Σ pq, Σ p² and Σ q² of each class.
    let width = 13
    var partial = [Double](repeating: 0, count: width * pieces.count)
    unsafe partial.withUnsafeMutableBufferPointer { partial in
      nonisolated(unsafe) let partial = unsafe partial
      forEach(logits, target, pieces, workers) { piece, range, voxel in
        var entropy = 0.0
        var pq = SIMD4<Double>.zero, pp = pq, qq = pq
        for i in range {
          let (p, q, logarithms) = voxel(i)
          entropy -= Double((q * logarithms).sum())
          pq += SIMD4<Double>(p * q)
          pp += SIMD4<Double>(p * p)
          qq += SIMD4<Double>(q * q)
        }
        let sums = unsafe partial.baseAddress! + width * piece  // there is a piece
        unsafe sums[0] = entropy
        for c in 0..<4 { unsafe (sums[1 + c], sums[5 + c], sums[9 + c]) = (pq[c], pp[c], qq[c]) }
      }
    }
    var sums = [Double](repeating: 0, count: width)
    for piece in 0..<pieces.count { for i in 0..<width { sums[i] += partial[width * piece + i] } }
    var dice = 0.0, above = SIMD4<Float>.zero, below = above
    let share = 1 / Double(classes.count)
    for c in classes {
      let numerator = 2 * sums[1 + c] + OverlapLoss.smoothing
      let denominator = sums[5 + c] + sums[9 + c] + OverlapLoss.smoothing
      dice += share * numerator / denominator
      // ∂(1 − Dice)/∂p = 2 (p · numerator / denominator² − q / denominator).
      above[c] = Float(2 * share / denominator)
      below[c] = Float(2 * share * numerator / (denominator * denominator))
    }
    if let gradient {
      let perVoxel = 1 / Float(voxels), factor = weight / temperature
      let ofTarget = above, ofOwn = below
      forEach(logits, target, pieces, workers) { _, range, voxel in
        let g = unsafe UnsafeMutableRawPointer(gradient.base)
        for i in range {
          let (p, q, _) = voxel(i), d = p * ofOwn - q * ofTarget
          var value = factor * ((p - q) * perVoxel + p * (d - (d * p).sum()))
          if adding { unsafe value += g.load(fromByteOffset: 16 * i, as: SIMD4<Float>.self) }
          unsafe g.storeBytes(of: value, toByteOffset: 16 * i, as: SIMD4<Float>.self)
        }
      }
    }
    return (sums[0] / Double(voxels), 1 - dice)
  }

  private typealias Voxel = (Int) -> (p: SIMD4<Float>, q: SIMD4<Float>, logarithms: SIMD4<Float>)

  @inline(__always)
  private func forEach(
    _ logits: Volume, _ target: Target, _ pieces: Pieces, _ workers: Workers,
    _ body: (_ piece: Int, Range<Int>, Voxel) -> Void
  ) {
    let scale = 1 / temperature, x = unsafe UnsafeRawPointer(logits.base)
    switch target {
    case .classes(let labels):
      precondition(labels.size == logits.size, "an overlap of \(logits.shape) and \(labels.size)")
      unsafe labels.classes.withUnsafeBufferPointer { classes in
        nonisolated(unsafe) let classes = unsafe classes
        workers.forEach(pieces.count) { piece, _ in
          body(piece, pieces[piece]) { i in
            let (p, logarithms) = unsafe softmax(
              scale * x.load(fromByteOffset: 16 * i, as: SIMD4<Float>.self))
            var q = SIMD4<Float>.zero
            unsafe q[Int(classes[i])] = 1
            return (p, q, logarithms)
          }
        }
      }
    case .logits(let other):
      precondition(other.shape == logits.shape, "an overlap of \(logits.shape) and \(other.shape)")
      let y = unsafe UnsafeRawPointer(other.base)
      workers.forEach(pieces.count) { piece, _ in
        body(piece, pieces[piece]) { i in
          let (p, logarithms) = unsafe softmax(scale * x.load(fromByteOffset: 16 * i, as: SIMD4<Float>.self))
          return unsafe (
            p, softmax(scale * y.load(fromByteOffset: 16 * i, as: SIMD4<Float>.self)).p, logarithms
          )
        }
      }
    }
  }
}

/// softmax(x) and its logarithm.
@inline(__always)
private func softmax(_ x: SIMD4<Float>) -> (p: SIMD4<Float>, logarithms: SIMD4<Float>) {
  let shifted = x - x.max()
  let e = Transcendental.exp(Lanes(lowHalf: shifted, highHalf: shifted)).lowHalf, all = e.sum()
  return (e * (1 / all), shifted - Transcendental.log(Lanes(repeating: all))[0])
}
