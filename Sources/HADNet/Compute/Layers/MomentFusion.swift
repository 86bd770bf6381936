// Each `unsafe` here stays within a voxel of maps that have one shape, or of the fused one, with twice the
// channels.

/// U-HeMIS's fusion of any number of sequences: the mean of their maps, and beside it their biased variance.
///
/// Source: Havaei et al. 2016, as in U-HVED's code.
package enum MomentFusion {
  /// Writes y, [z, y, x, 2C], from maps [z, y, x, C] of the sequences that are there, at least one.
  package static func forward(_ maps: [Volume], into y: Volume, _ workers: Workers) {
    let channels = maps[0].channels
    precondition(y.channels == 2 * channels, "moments of \(maps[0].shape) into \(y.shape)")
    let pieces = Pieces(y.shape.voxels, least: 1024, limit: 256), share = 1 / Float(maps.count)
    workers.measure(.fusion) {
      workers.forEach(pieces.count) { piece, _ in
        for voxel in pieces[piece] {
          let to = unsafe y.base + voxel * 2 * channels, at = voxel * channels
          for c in 0..<channels {
            var sum: Float = 0
            for map in maps { unsafe sum += map.base[at + c] }
            let mean = sum * share
            var squares: Float = 0
            for map in maps {
              let difference = unsafe map.base[at + c] - mean
              squares += difference * difference
            }
            unsafe to[c] = mean
            unsafe to[channels + c] = squares * share
          }
        }
      }
    }
  }

  /// Writes ∂L/∂map of each map from `dy`, ∂L/∂y; `y` is forward's.
  package static func backward(
    _ dy: Volume, _ y: Volume, _ maps: [Volume], into dMaps: [Volume], _ workers: Workers
  ) {
    let channels = maps[0].channels
    let pieces = Pieces(y.shape.voxels, least: 1024, limit: 256), share = 1 / Float(maps.count)
    workers.measure(.fusion) {
      workers.forEach(pieces.count) { piece, _ in
        for voxel in pieces[piece] {
          let at = voxel * channels, mean = unsafe y.base + 2 * at, gradient = unsafe dy.base + 2 * at
          for (map, dMap) in zip(maps, dMaps) {
            for c in 0..<channels {
              let difference = unsafe map.base[at + c] - mean[c]
              unsafe dMap.base[at + c] =
                unsafe share * (gradient[c] + 2 * gradient[channels + c] * difference)
            }
          }
        }
      }
    }
  }
}
