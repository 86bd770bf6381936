// Each `unsafe` here stays within a voxel of as many classes as the logits have channels.

import Glibc

/// Weighted softmax cross-entropy of one case: Σ w(y)·(−ln softmax(logits)[y]) / Σ w(y), as PyTorch's `mean` with
/// `weight` and `ignore_index`: over all voxels but those whose class is `LabelVolume.ignored`, whose gradient is 0.
///
/// Source: HAD-Net, section 2 and published code.
package enum CrossEntropy {
  /// The loss of `logits` [z, y, x, classes] for the true classes; writes ∂loss/∂logits times `factor` into `gradient`. 0 where
  /// every voxel is left out.
  package static func loss(
    _ logits: Volume, _ truth: LabelVolume, weights: [Float], gradient: Volume?, _ workers: Workers
  ) -> Double {
    let classes = logits.channels
    precondition(
      logits.size == truth.size && weights.count == classes,
      "cross-entropy of \(logits.shape) and \(truth.size)")
    var counts = [Int](repeating: 0, count: classes), known = 0
    for label in truth.classes where label != LabelVolume.ignored {
      counts[Int(label)] += 1
      known += 1
    }
    if known == 0 {
      gradient?.fill(0)
      return 0
    }
    var total = 0.0
    for c in 0..<classes { total += Double(weights[c]) * Double(counts[c]) }
    let scale = Float(1 / total), pieces = Pieces(logits.shape.voxels, least: 4096, limit: 256)
    let partial = workers.sums(pieces.count) { piece, sums in
      sums[0] =
        classes == 4
        ? four(logits, truth, weights, gradient, scale, pieces[piece])
        : any(logits, truth, weights, gradient, scale, pieces[piece])
    }
    return partial.reduce(0, +) / total
  }

  /// The sum over some voxels of four classes, a vector a voxel.
  private static func four(
    _ logits: Volume, _ truth: LabelVolume, _ weights: [Float], _ gradient: Volume?, _ scale: Float,
    _ voxels: Range<Int>
  ) -> Double {
    let factors = SIMD4<Float>(weights[0], weights[1], weights[2], weights[3])
    let x = unsafe UnsafeRawPointer(logits.base)
    let g = unsafe gradient.map { unsafe UnsafeMutableRawPointer($0.base) }
    var sum = 0.0
    for voxel in voxels {
      let label = Int(truth.classes[voxel])
      if label == Int(LabelVolume.ignored) {
        if let g = unsafe g {
          unsafe g.storeBytes(of: .zero, toByteOffset: 16 * voxel, as: SIMD4<Float>.self)
        }
        continue
      }
      let v = unsafe x.load(fromByteOffset: 16 * voxel, as: SIMD4<Float>.self)
      let shifted = v - v.max()
      let e = SIMD4<Float>(expf(shifted[0]), expf(shifted[1]), expf(shifted[2]), expf(shifted[3]))
      let all = e.sum(), w = factors[label]
      sum += Double(w) * Double(logf(all) - shifted[label])
      if let g = unsafe g {
        var d = e * (1 / all)
        d[label] -= 1
        unsafe g.storeBytes(of: d * (w * scale), toByteOffset: 16 * voxel, as: SIMD4<Float>.self)
      }
    }
    return sum
  }

  /// The same of any number of classes.
  private static func any(
    _ logits: Volume, _ truth: LabelVolume, _ weights: [Float], _ gradient: Volume?, _ scale: Float,
    _ voxels: Range<Int>
  ) -> Double {
    let classes = logits.channels, values = logits.values
    var e = [Float](repeating: 0, count: classes), sum = 0.0
    for voxel in voxels {
      let at = voxel * classes, label = Int(truth.classes[voxel])
      if label == Int(LabelVolume.ignored) {
        if let gradient {
          var gradients = gradient.mutableValues(at..<at + classes)
          for c in 0..<classes { gradients[c] = 0 }
        }
        continue
      }
      var most = values[at]
      for c in 1..<classes { most = max(most, values[at + c]) }
      var all: Float = 0
      for c in 0..<classes {
        e[c] = expf(values[at + c] - most)
        all += e[c]
      }
      let w = weights[label]
      sum += Double(w) * Double(logf(all) - (values[at + label] - most))
      guard let gradient else { continue }
      var gradients = gradient.mutableValues(at..<at + classes)
      for c in 0..<classes { gradients[c] = (e[c] / all - (c == label ? 1 : 0)) * (w * scale) }
    }
    return sum
  }
}
