/// Max-pooling 2³ with stride 2 of a unit's output, activation applied on the way.
public enum MaxPool {
  /// Writes y, [z/2, y/2, x/2, C], from `source`, read through its norm and leaky ReLU.
  public static func forward(_ source: Source, into y: Volume, _ workers: Workers) {
    precondition(source.size.halved == y.size && source.channels == y.channels, "max-pool into \(y.shape)")
    workers.measure(.pooling) { reduce(source, into: y, workers) }
  }

  private static func reduce(_ source: Source, into y: Volume, _ workers: Workers) {
    eachRow(source, y, workers) { rows, width, channels, row in
      let target = y.base + row * width * channels
      for x in 0..<width {
        for c in 0..<channels {
          let i = 2 * x * channels + c, j = i + channels
          let a = Swift.max(rows[0][i], rows[0][j]), b = Swift.max(rows[1][i], rows[1][j])
          let d = Swift.max(rows[2][i], rows[2][j]), e = Swift.max(rows[3][i], rows[3][j])
          target[x * channels + c] = Swift.max(Swift.max(a, b), Swift.max(d, e))
        }
      }
    }
  }

  /// Adds dy to `dx` at the place of each maximum (the first in memory order, as in PyTorch). The maximum is found
  /// again rather than stored.
  public static func addGradient(_ dy: Volume, _ source: Source, into dx: Volume, _ workers: Workers) {
    precondition(
      source.volume.shape == dx.shape && dx.size.halved == dy.size, "max-pool gradient \(dy.shape)")
    workers.measure(.pooling) { spread(dy, source, into: dx, workers) }
  }

  private static func spread(_ dy: Volume, _ source: Source, into dx: Volume, _ workers: Workers) {
    let size = dx.size
    eachRow(source, dy, workers) { rows, width, channels, row in
      let z = 2 * (row / dy.size.y), y = 2 * (row % dy.size.y)
      let g = dy.base + row * width * channels
      for x in 0..<width {
        for c in 0..<channels {
          let i = 2 * x * channels + c
          var best = rows[0][i], line = 0, side = 0
          for l in 0..<4 {
            for s in 0..<2 where rows[l][i + s * channels] > best {
              best = rows[l][i + s * channels]
              line = l
              side = s
            }
          }
          let at = ((z + line / 2) * size.y + y + line % 2) * size.x * channels + i + side * channels
          dx.base[at] += g[x * channels + c]
        }
      }
    }
  }

  private static func eachRow(
    _ source: Source, _ pooled: Volume, _ workers: Workers,
    _ body: (_ rows: [UnsafeMutablePointer<Float>], _ width: Int, _ channels: Int, _ row: Int) -> Void
  ) {
    let length = source.size.x * source.channels
    let scratch = workers.scratch(4 * length)
    let stage = RowStage(source, pattern: workers.sharedScratch(RowStage.patternCount(source), place: 1))
    let pieces = Pieces(pooled.size.z * pooled.size.y, least: 4, limit: 256)
    workers.forEach(pieces.count) { piece, worker in
      let rows = (0..<4).map { scratch[worker] + $0 * length }
      for row in pieces[piece] {
        let z = 2 * (row / pooled.size.y), y = 2 * (row % pooled.size.y)
        for line in 0..<4 {
          stage.write(z: z + line / 2, y: y + line % 2, left: 0, right: 0, into: rows[line])
        }
        body(rows, pooled.size.x, source.channels, row)
      }
    }
  }
}
