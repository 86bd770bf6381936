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
        counts.append(
          unit.convolutions.reduce(0) { $0 + $1.transforms($1.inputs, size, upsampled: false) })
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
    var size = size
    return blocks.enumerated().flatMap { i, block in
      defer { size = size.halved }
      let layer = block.convolutions[0], features = hierarchical && i > 0 ? k << i : 0
      return [
        layer.transforms(features, size, upsampled: true),
        layer.transforms(layer.inputs - features, size, upsampled: false),
      ]
    }
  }
}
