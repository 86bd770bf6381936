// Pointers, since voxels are read in whole vectors. Each `unsafe` here stays within a voxel of a volume, or within
// the four rows of a worker's memory. Types that hold a pointer are `@safe`: whoever follows it writes `unsafe`.

/// Max-pooling 2³ with stride 2 of a unit's output, activation applied on the way. An odd side is rounded up: its last
/// window is smaller.
///
/// Source: HAD-Net, appendix A; odd sides as in NiftyNet 0.5, for U-HeMIS and U-HVED.
package enum MaxPool {
  /// Writes y, [⌈z/2⌉, ⌈y/2⌉, ⌈x/2⌉, C], from `source`, read through its norm and leaky ReLU.
  package static func forward(_ source: LayerInput, into y: Volume, _ workers: Workers) {
    precondition(source.size.halvedUp == y.size && source.channels == y.channels, "max-pool into \(y.shape)")
    workers.measure(.pooling) { reduce(source, into: y, workers) }
  }

  private static func reduce(_ source: LayerInput, into y: Volume, _ workers: Workers) {
    let channels = source.channels
    eachRow(source, y, workers) { rows, row in
      let target = unsafe y.base + row * y.size.x * channels
      for x in 0..<y.size.x {
        let corner = unsafe rows.base + 2 * x * rows.pitch, to = unsafe target + x * channels
        var c = 0
        while c < channels {
          let v = unsafe corner + c
          var best = unsafe load(v)
          for other in 1..<8 {
            let w = unsafe load(v + rows.offset(other))
            best = best.replacing(with: w, where: w .> best)
          }
          unsafe put(best, to + c, channels - c)
          c &+= lanes
        }
      }
    }
  }

  /// Adds dy to `dx` at the place of each maximum (the first in memory order, as in PyTorch). The maximum is found
  /// again rather than stored.
  package static func addGradient(_ dy: Volume, _ source: LayerInput, into dx: Volume, _ workers: Workers) {
    precondition(
      source.volume.shape == dx.shape && dx.size.halvedUp == dy.size, "max-pool gradient \(dy.shape)")
    workers.measure(.pooling) { spread(dy, source, into: dx, workers) }
  }

  private static func spread(_ dy: Volume, _ source: LayerInput, into dx: Volume, _ workers: Workers) {
    let channels = source.channels, size = dx.size
    eachRow(source, dy, workers) { rows, row in
      let z = 2 * (row / dy.size.y), y = 2 * (row % dy.size.y)
      let g = unsafe dy.base + row * dy.size.x * channels
      let missing = (z + 1 < size.z ? 0 : 4) | (y + 1 < size.y ? 0 : 2)
      for x in 0..<dy.size.x {
        let outside = missing | (2 * x + 1 < size.x ? 0 : 1)
        let corner = unsafe rows.base + 2 * x * rows.pitch
        let to = unsafe dx.base + ((z * size.y + y) * size.x + 2 * x) * channels
        var c = 0
        while c < channels {
          let v = unsafe corner + c
          var best = unsafe load(v), place = Lanes.zero
          for other in 1..<8 {
            let w = unsafe load(v + rows.offset(other)), wins = w .> best
            best = best.replacing(with: w, where: wins)
            place = place.replacing(with: Lanes(repeating: Float(other)), where: wins)
          }
          let gradient = unsafe load(g + x * channels + c)
          for corner in 0..<8 where corner & outside == 0 {
            let at =
              unsafe to + ((corner >> 2 * size.y + corner >> 1 & 1) * size.x + corner & 1) * channels + c
            let own = Lanes.zero.replacing(with: gradient, where: place .== Lanes(repeating: Float(corner)))
            unsafe put(load(at) + own, at, channels - c)
          }
          c &+= lanes
        }
      }
    }
  }

  /// Stores the first `count` values, all if there are so many.
  @inline(__always)
  private static func put(_ v: Lanes, _ to: UnsafeMutablePointer<Float>, _ count: Int) {
    if count >= lanes {
      unsafe store(v, to)
    } else {
      for c in 0..<count { unsafe to[c] = v[c] }
    }
  }

  /// Four activated rows, two above each other in each of two planes.
  @safe private struct RowBlock {
    let base: UnsafeMutablePointer<Float>
    let pitch, row: Int

    /// The distance of a corner (z, y, x in its bits) from the first.
    @inline(__always)
    func offset(_ corner: Int) -> Int { corner >> 1 * row + (corner & 1) * pitch }
  }

  private static func eachRow(
    _ source: LayerInput, _ pooled: Volume, _ workers: Workers, _ body: (RowBlock, _ row: Int) -> Void
  ) {
    // Beyond an odd side the last voxel stands again: it is never the first of the largest.
    let reader = TileReader([source]), size = source.size, width = size.x
    let length = (width + width % 2) * reader.pitch + lanes
    let scratch = unsafe workers.scratch(4 * length)
    let pieces = Pieces(pooled.size.z * pooled.size.y, least: 4, limit: 256)
    workers.forEach(pieces.count) { piece, worker in
      let block = unsafe RowBlock(base: scratch[worker], pitch: reader.pitch, row: length)
      for row in pieces[piece] {
        let z = 2 * (row / pooled.size.y), y = 2 * (row % pooled.size.y)
        for line in 0..<4 {
          let row = unsafe block.base + line * length
          unsafe reader.write(
            z: min(z + line / 2, size.z - 1), y: min(y + line % 2, size.y - 1), x: 0, width: width, into: row)
          if width % 2 == 1 {
            let end = unsafe row + width * reader.pitch
            unsafe end.update(from: end - reader.pitch, count: reader.pitch)
          }
        }
        body(block, row)
      }
    }
  }
}
