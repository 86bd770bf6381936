import Foundation

@testable import Compute
@testable import Learning
@testable import Networks
@testable import TestSupport

/// U-HeMIS or U-HVED as the tables say, in Float64: layers by the names of their parameters, volumes as [voxel, channel].
struct PlainFusionNetwork {
  let fusion: FusionNetwork.Fusion
  let size: Size
  let item: SlotCase
  let present: [Bool]
  /// U-HVED's of each level.
  let noise: [[Double]]
  /// Of the kernels' decay.
  let decay: Double

  /// What a forward pass gives.
  struct Result {
    var logits: [Double] = []
    /// Of each term: total, cross-entropy, Dice; U-HVED also reconstruction and divergence.
    var losses: [Double] = []
  }

  private static let names = ["Flair", "T1c", "T1", "T2"]
  /// The numbers of the last kernels, seg's first.
  private static let last = ["_4", "_3", "_1", "", "_2"]

  private var sizes: [Size] {
    let second = size.halvedUp, third = second.halvedUp
    return [size, second, third, third.halvedUp]
  }

  private func leaky(_ x: [Double]) -> [Double] { x.map { $0 > 0 ? $0 : Double(Float(0.02)) * $0 } }

  private func convolved(_ name: String, _ x: [Double], _ p: ParameterVector) -> [Double] {
    let (layer, weights) = PlainConvolution.named(name, size: size, p)
    return layer.forward(x, weights)
  }

  private func pooled(_ x: [Double], _ from: Size) -> [Double] {
    let to = from.halvedUp, channels = x.count / from.voxels
    var y = [Double](repeating: -.infinity, count: to.voxels * channels)
    for voxel in 0..<from.voxels {
      let z = voxel / (from.y * from.x), row = voxel / from.x % from.y, place = voxel % from.x
      let target = ((z / 2) * to.y + row / 2) * to.x + place / 2
      for c in 0..<channels {
        y[target * channels + c] = max(y[target * channels + c], x[voxel * channels + c])
      }
    }
    return y
  }

  private func sideBySide(_ a: [Double], _ b: [Double], _ size: Size) -> [Double] {
    let n = a.count / size.voxels, m = b.count / size.voxels
    var both: [Double] = []
    for voxel in 0..<size.voxels {
      both += a[voxel * n..<(voxel + 1) * n]
      both += b[voxel * m..<(voxel + 1) * m]
    }
    return both
  }

  /// The maps of a sequence by level.
  private func encoded(_ sequence: Int, _ p: ParameterVector) -> [[Double]] {
    let name = PlainFusionNetwork.names[sequence]
    let image = (0..<size.voxels).map { Double(item.images.base[4 * $0 + sequence]) }
    var x = leaky(convolved("VAE/ConvEncoder/conv_0_\(name)_leakyrelu/conv_/w", image, p))
    return (0..<4).map { level in
      if level > 0 { x = pooled(x, sizes[level - 1]) }
      x = PlainBlock("VAE/ConvEncoder/block_\(level + 1)_\(name)", size: sizes[level]).forward(x, p)
      return x
    }
  }

  private func decoded(_ name: String, last: String, _ fused: [[Double]], _ p: ParameterVector) -> [Double] {
    var x = fused[3]
    for i in 0..<3 {
      let level = 2 - i, from = sizes[level + 1]
      let stretch = PlainLinearResize(from: from, to: sizes[level], channels: x.count / from.voxels)
      x = PlainBlock("VAE/ConvDecoderImg/block_\(i + 1)_\(name)", size: sizes[level]).forward(
        sideBySide(stretch.forward(x), fused[level], sizes[level]), p)
    }
    return convolved("VAE/ConvDecoderImg/final_conv_seg\(last)/conv_/w", x, p)
  }

  /// Mean and biased variance over the sequences that are there.
  private func moments(_ maps: [[Double]], _ size: Size) -> [Double] {
    let there = zip(maps, present).filter(\.1).map(\.0), n = Double(there.count)
    let means = there[0].indices.map { i in there.reduce(0) { $0 + $1[i] } / n }
    let variances = means.indices.map { i in
      there.reduce(0) { $0 + ($1[i] - means[i]) * ($1[i] - means[i]) } / n
    }
    return sideBySide(means, variances, size)
  }

  func result(_ p: ParameterVector) -> Result {
    let isHVED = fusion == .gaussians
    let maps = (0..<4).map { isHVED || present[$0] ? encoded($0, p) : [] }
    var fused: [[Double]] = [], divergence = 0.0
    for level in 0..<4 {
      if !isHVED {
        fused.append(moments(maps.map { $0.isEmpty ? [] : $0[level] }, sizes[level]))
        continue
      }
      let channels = noise[level].count / sizes[level].voxels
      let all = noise[level].indices.map { i in
        let at = i / channels * 2 * channels + i % channels
        return PlainGaussians(
          means: maps.map { $0[level][at] }, logVariances: maps.map { $0[level][at + channels] })
      }
      fused.append(zip(all, noise[level]).map { $0.sample(present, noise: $1) })
      let sum = all.reduce(0.0) { sum, number in
        let (inter, prior) = number.divergences(present)
        return sum + inter + prior
      }
      divergence += sum / Double(all.count) / 4
    }
    var result = Result()
    result.logits = decoded("seg", last: isHVED ? "_4" : "", fused, p)
    var losses = overlap(result.logits)
    if isHVED {
      var squares = 0.0
      for (i, name) in PlainFusionNetwork.names.enumerated() {
        let made = decoded(name, last: PlainFusionNetwork.last[i + 1], fused, p)
        for (voxel, value) in made.enumerated() {
          let difference = value - Double(item.images.base[4 * voxel + i])
          squares += difference * difference
        }
      }
      losses += [squares / Double(4 * size.voxels), divergence]
    }
    let kernels = p.layout.parameters.filter { $0.extents.count == 5 }
    let sum = kernels.reduce(0.0) { sum, kernel in
      p[kernel].reduce(sum) { $0 + Double($1) * Double($1) }
    }
    var total = losses[0] + losses[1] + decay * sum / 2 / Double(kernels.count)
    if isHVED { total += 0.1 * (losses[2] + losses[3]) }
    result.losses = [total] + losses
    return result
  }

  /// Cross-entropy and Dice of all four classes.
  private func overlap(_ logits: [Double]) -> [Double] {
    var entropy = 0.0, pq = [0.0, 0, 0, 0], pp = pq, q = pq
    for (voxel, label) in item.truth.classes.enumerated() {
      let e = (0..<4).map { exp(logits[4 * voxel + $0]) }, all = e.reduce(0, +)
      entropy -= log(e[Int(label)] / all)
      for c in 0..<4 { pp[c] += e[c] * e[c] / (all * all) }
      pq[Int(label)] += e[Int(label)] / all
      q[Int(label)] += 1
    }
    var dice = 0.0
    for c in 0..<4 { dice += (2 * pq[c] + 1e-5) / (pp[c] + q[c] + 1e-5) / 4 }
    return [entropy / Double(size.voxels), 1 - dice]
  }
}
