// Pointers, since rows are read and written in whole vectors. Each `unsafe` here stays within a row of a volume, or
// within a worker's line of that length.

/// Separable linear resizing of a volume. Output index i of an axis reads position i · (in / out), linear between
/// ⌊position⌋ and the voxel above it, or the last: anchored at the corner, not at the centre, so that doubling gives
/// out[2i] = in[i], out[2i + 1] = (in[i] + in[i + 1]) / 2.
///
/// Source: U-HVED's code (NiftyNet's linear upsampling).
package enum LinearResize {
  /// Where each output of an axis reads.
  private struct Axis {
    let lower, upper: [Int]
    /// The upper voxel's share.
    let share: [Float]

    init(from: Int, to: Int) {
      // In whole numbers: the place is exact, whatever the sizes.
      lower = (0..<to).map { $0 * from / to }
      upper = lower.map { min($0 + 1, from - 1) }
      share = (0..<to).map { Float($0 * from % to) / Float(to) }
    }

    /// The outputs that read an input, with its weights in them.
    func readers(of input: Int) -> [(output: Int, weight: Float)] {
      lower.indices.compactMap { i in
        var weight: Float = 0
        if lower[i] == input { weight += 1 - share[i] }
        if upper[i] == input { weight += share[i] }
        return weight == 0 ? nil : (i, weight)
      }
    }
  }

  /// Writes x, [z, y, x, C], at y's size into y.
  package static func forward(_ x: Volume, into y: Volume, _ workers: Workers) {
    precondition(x.channels == y.channels, "\(x.shape) stretched to \(y.shape)")
    let channels = x.channels, from = x.size, to = y.size, stored = from.x * channels
    let zs = Axis(from: from.z, to: to.z), ys = Axis(from: from.y, to: to.y),
      xs = Axis(from: from.x, to: to.x)
    let scratch = unsafe workers.scratch(stored + lanes), pieces = Pieces(to.z * to.y, least: 4, limit: 256)
    workers.measure(.stretch) {
      workers.forEach(pieces.count) { piece, worker in
        let line = unsafe scratch[worker]
        for row in pieces[piece] {
          let z = row / to.y, y0 = row % to.y
          let az = zs.share[z], ay = ys.share[y0]
          let rows = [
            (zs.lower[z], ys.lower[y0], (1 - az) * (1 - ay)), (zs.lower[z], ys.upper[y0], (1 - az) * ay),
            (zs.upper[z], ys.lower[y0], az * (1 - ay)), (zs.upper[z], ys.upper[y0], az * ay),
          ]
          unsafe line.update(repeating: 0, count: stored)
          for (z, y, weight) in rows where weight != 0 {
            unsafe add(x.base + (z * from.y + y) * stored, weight, to: line, stored)
          }
          let target = unsafe y.base + row * to.x * channels
          for x in 0..<to.x {
            let low = unsafe line + xs.lower[x] * channels, high = unsafe line + xs.upper[x] * channels
            unsafe blend(low, high, xs.share[x], into: target + x * channels, channels)
          }
        }
      }
    }
  }

  /// Writes ∂L/∂x from ∂L/∂y, or with `adding` adds it to what `dx` holds.
  package static func backward(_ dy: Volume, into dx: Volume, adding: Bool, _ workers: Workers) {
    precondition(dx.channels == dy.channels, "the gradient of \(dx.shape) stretched to \(dy.shape)")
    let channels = dx.channels, size = dx.size, to = dy.size, long = to.x * channels
    func readers(_ from: Int, _ to: Int) -> [[(output: Int, weight: Float)]] {
      let axis = Axis(from: from, to: to)
      return (0..<from).map(axis.readers)
    }
    let zs = readers(size.z, to.z), ys = readers(size.y, to.y), xs = readers(size.x, to.x)
    let scratch = unsafe workers.scratch(long + lanes), pieces = Pieces(size.z * size.y, least: 2, limit: 256)
    workers.measure(.stretch) {
      workers.forEach(pieces.count) { piece, worker in
        let line = unsafe scratch[worker]
        for row in pieces[piece] {
          unsafe line.update(repeating: 0, count: long)
          for z in zs[row / size.y] {
            for y in ys[row % size.y] {
              unsafe add(dy.base + (z.output * to.y + y.output) * long, z.weight * y.weight, to: line, long)
            }
          }
          let target = unsafe dx.base + row * size.x * channels
          if !adding { unsafe target.update(repeating: 0, count: size.x * channels) }
          for x in 0..<size.x {
            for reader in xs[x] {
              unsafe add(line + reader.output * channels, reader.weight, to: target + x * channels, channels)
            }
          }
        }
      }
    }
  }

  /// y += weight · x.
  @inline(__always)
  private static func add(
    _ x: UnsafePointer<Float>, _ weight: Float, to y: UnsafeMutablePointer<Float>, _ count: Int
  ) {
    let factor = Lanes(repeating: weight)
    var i = 0
    while i &+ lanes <= count {
      unsafe store(load(y + i).addingProduct(factor, load(x + i)), y + i)
      i &+= lanes
    }
    while i < count {
      unsafe y[i] = y[i].addingProduct(weight, x[i])
      i &+= 1
    }
  }

  /// y = low + share · (high − low).
  @inline(__always)
  private static func blend(
    _ low: UnsafePointer<Float>, _ high: UnsafePointer<Float>, _ share: Float,
    into y: UnsafeMutablePointer<Float>, _ count: Int
  ) {
    let factor = Lanes(repeating: share)
    var i = 0
    while i &+ lanes <= count {
      let a = unsafe load(low + i)
      unsafe store(a.addingProduct(factor, load(high + i) - a), y + i)
      i &+= lanes
    }
    while i < count {
      unsafe y[i] = low[i].addingProduct(share, high[i] - low[i])
      i &+= 1
    }
  }
}
