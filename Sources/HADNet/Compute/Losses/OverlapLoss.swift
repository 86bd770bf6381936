// Each `unsafe` here stays within a voxel of four classes; any other number of them goes without.

/// Cross-entropy and Dice together, of p = softmax(logits / T) against a target q: true classes, or softened logits of
/// another network. Cross-entropy is −Σ q ln p, the mean over the voxels that the truth does not leave out; Dice is 1 − the mean over some classes of
/// (2 Σ pq + 1e-5) / (Σ p² + Σ q² + 1e-5), sums over the same voxels.
///
/// Source: U-HVED's code (all four classes, T = 1); Hu et al., MICCAI 2020 (the foreground, T = 5 for softened targets).
package struct OverlapLoss {
  /// What the probabilities are compared with.
  package enum Target {
    case classes(LabelVolume)
    /// q = softmax(logits / T), over the voxels that a truth does not leave out.
    case logits(Volume, truth: LabelVolume? = nil)

    /// Whether there are voxels that count for nothing.
    fileprivate var leavesOut: Bool {
      switch self {
      case .classes(let labels): labels.classes.contains(LabelVolume.ignored)
      case .logits(_, let truth): truth?.classes.contains(LabelVolume.ignored) ?? false
      }
    }
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

  /// Both losses of `logits` [z, y, x, classes]. Writes the gradient of `weight` times their sum by the logits into `gradient`,
  /// or with `adding` adds it.
  package func losses(
    _ logits: Volume, _ target: Target, weight: Float = 1, gradient: Volume?, adding: Bool = false,
    _ workers: Workers
  ) -> (crossEntropy: Double, dice: Double) {
    if logits.channels != 4 || target.leavesOut {
      return anyLosses(logits, target, weight: weight, gradient: gradient, adding: adding, workers)
    }
    let voxels = logits.shape.voxels, pieces = Pieces(voxels, least: 4096, limit: 256)
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
    case .logits(let other, _):
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

// MARK: - Any number of classes

extension OverlapLoss {
  /// p and q of a voxel, and the logarithms of p.
  private struct Probabilities {
    var p, q, logarithms: [Float]

    init(_ classes: Int) {
      p = [Float](repeating: 0, count: classes)
      q = p
      logarithms = p
    }

    /// Softmax of one voxel's logits times `scale`, into `p`, and its logarithm.
    static func softmax(
      _ x: Span<Float>, _ at: Int, _ scale: Float, into p: inout [Float], _ logarithms: inout [Float]
    ) {
      var most = -Float.infinity, all: Float = 0
      for c in p.indices { most = max(most, scale * x[at + c]) }
      for c in p.indices {
        logarithms[c] = scale * x[at + c] - most
        p[c] = Transcendental.exp(Lanes(repeating: logarithms[c]))[0]
        all += p[c]
      }
      let log = Transcendental.log(Lanes(repeating: all))[0]
      for c in p.indices {
        p[c] /= all
        logarithms[c] -= log
      }
    }

    /// Those of a voxel; false where the truth leaves it out.
    mutating func take(_ logits: Volume, _ target: Target, _ voxel: Int, _ scale: Float) -> Bool {
      let classes = p.count
      switch target {
      case .classes(let labels):
        let label = labels.classes[voxel]
        if label == LabelVolume.ignored { return false }
        for c in q.indices { q[c] = c == Int(label) ? 1 : 0 }
      case .logits(let other, let truth):
        if truth?.classes[voxel] == LabelVolume.ignored { return false }
        Probabilities.softmax(other.values, voxel * classes, scale, into: &q, &logarithms)
      }
      Probabilities.softmax(logits.values, voxel * classes, scale, into: &p, &logarithms)
      return true
    }
  }

  private func anyLosses(
    _ logits: Volume, _ target: Target, weight: Float, gradient: Volume?, adding: Bool, _ workers: Workers
  ) -> (crossEntropy: Double, dice: Double) {
    let n = logits.channels, pieces = Pieces(logits.shape.voxels, least: 4096, limit: 256),
      scale = 1 / temperature
    precondition(classes.upperBound <= n, "an overlap of \(logits.shape) over \(classes)")
    // Of a piece: voxels, cross-entropy, Σ pq, Σ p² and Σ q² of each class.
    let width = 2 + 3 * n
    let partial = workers.sums(pieces.count, width: width) { piece, sums in
      var one = Probabilities(n)
      for voxel in pieces[piece] where one.take(logits, target, voxel, scale) {
        sums[0] += 1
        for c in 0..<n {
          sums[1] -= Double(one.q[c] * one.logarithms[c])
          sums[2 + c] += Double(one.p[c] * one.q[c])
          sums[2 + n + c] += Double(one.p[c] * one.p[c])
          sums[2 + 2 * n + c] += Double(one.q[c] * one.q[c])
        }
      }
    }
    var sums = [Double](repeating: 0, count: width)
    for piece in 0..<pieces.count { for i in 0..<width { sums[i] += partial[width * piece + i] } }
    var dice = 0.0, ofTarget = [Float](repeating: 0, count: n), ofOwn = ofTarget
    let share = 1 / Double(classes.count), voxels = max(sums[0], 1)
    for c in classes {
      let numerator = 2 * sums[2 + c] + OverlapLoss.smoothing
      let denominator = sums[2 + n + c] + sums[2 + 2 * n + c] + OverlapLoss.smoothing
      dice += share * numerator / denominator
      ofTarget[c] = Float(2 * share / denominator)
      ofOwn[c] = Float(2 * share * numerator / (denominator * denominator))
    }
    if let gradient {
      let perVoxel = Float(1 / voxels), factor = weight / temperature
      workers.forEach(pieces.count) { piece, _ in
        let range = pieces[piece]
        var one = Probabilities(n), d = [Float](repeating: 0, count: n)
        var g = gradient.mutableValues(range.lowerBound * n..<range.upperBound * n)
        for voxel in range {
          let to = (voxel - range.lowerBound) * n
          let counts = one.take(logits, target, voxel, scale)
          var along: Float = 0
          for c in 0..<n {
            d[c] = one.p[c] * ofOwn[c] - one.q[c] * ofTarget[c]
            along += d[c] * one.p[c]
          }
          for c in 0..<n {
            let value = counts ? factor * ((one.p[c] - one.q[c]) * perVoxel + one.p[c] * (d[c] - along)) : 0
            g[to + c] = (adding ? g[to + c] : 0) + value
          }
        }
      }
    }
    return (sums[1] / voxels, 1 - dice)
  }
}
