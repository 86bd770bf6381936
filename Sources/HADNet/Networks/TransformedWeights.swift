import Compute

// Memory of the transformed weights, counted.

extension UNet {
  /// Floats of the transformed weights of each sum that Winograd computes, for an input of `size`.
  package func transforms(_ size: Size) -> [Int] {
    var counts: [Int] = [], size = size
    for level in 0..<5 {
      var units = [down[level].first, down[level].second]
      if level < 4 { units += [up[level].first, up[level].second] }
      for unit in units {
        let rows = unit.convolutions.filter { layer in
          layer.method(layer.inputs, layer.outputs, width: size.x, tiled: size, upsampled: false) == .winograd
        }.reduce(0) { $0 + $1.inputs }
        counts.append(
          WinogradConvolution.Weights.count(rows: rows, columns: unit.convolutions[0].outputs))
      }
      if level < 4 { size = size.halved }
    }
    return counts
  }
}

extension Discriminator {
  /// Floats that the workers share for each block, for networks' outputs of `size`: decoder features, which are read
  /// upsampled, are computed as 3³ by Winograd, the rest by parities.
  package func transforms(_ size: Size) -> [Int] {
    blocks.enumerated().flatMap { i, block in
      let layer = block.convolutions[0], features = hierarchical && i > 0 ? k << i : 0
      return [
        WinogradConvolution.Weights.count(rows: features, columns: layer.outputs),
        StridedConvolution.sharedScratch(layer),
      ]
    }
  }
}
