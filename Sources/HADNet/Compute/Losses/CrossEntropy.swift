// Each `unsafe` here stays within a voxel of four classes.

import Glibc

/// Weighted softmax cross-entropy of one case: Σ w(y)·(−ln softmax(logits)[y]) / Σ w(y) over all voxels, as
/// PyTorch's `mean` with `weight`.
///
/// Source: HAD-Net, section 2 and published code.
package enum CrossEntropy {
  /// The loss of `logits` [z, y, x, 4] for the true classes; writes ∂loss/∂logits times `factor` into `gradient`.
  package static func loss(
    _ logits: Volume, _ truth: LabelVolume, weights: [Float], gradient: Volume?, _ workers: Workers
  ) -> Double {
    precondition(
      logits.size == truth.size && logits.channels == LabelVolume.classCount
        && weights.count == LabelVolume.classCount,
      "cross-entropy of \(logits.shape) and \(truth.size)")
    var counts = [Int](repeating: 0, count: LabelVolume.classCount)
    for label in truth.classes { counts[Int(label)] += 1 }
    var total = 0.0
    for c in 0..<LabelVolume.classCount { total += Double(weights[c]) * Double(counts[c]) }
    let factors = SIMD4<Float>(weights[0], weights[1], weights[2], weights[3])
    let scale = Float(1 / total)
    let pieces = Pieces(logits.shape.voxels, least: 4096, limit: 256)
    let partial = workers.sums(pieces.count) { piece, sums in
      let x = unsafe UnsafeRawPointer(logits.base)
      let g = unsafe gradient.map { unsafe UnsafeMutableRawPointer($0.base) }
      var sum = 0.0
      for voxel in pieces[piece] {
        let v = unsafe x.load(fromByteOffset: 16 * voxel, as: SIMD4<Float>.self)
        let shifted = v - v.max()
        let e = SIMD4<Float>(expf(shifted[0]), expf(shifted[1]), expf(shifted[2]), expf(shifted[3]))
        let all = e.sum(), label = Int(truth.classes[voxel]), w = factors[label]
        sum += Double(w) * Double(logf(all) - shifted[label])
        if let g = unsafe g {
          var d = e * (1 / all)
          d[label] -= 1
          unsafe g.storeBytes(of: d * (w * scale), toByteOffset: 16 * voxel, as: SIMD4<Float>.self)
        }
      }
      sums[0] = sum
    }
    return partial.reduce(0, +) / total
  }
}
