// Pointers, since lanes run along rows. Each `unsafe` here stays within a row of a volume, of the ring of planes or
// of the packed weights, all of whole vectors, and of the scratch memory that is asked for beside it.

/// 3³ convolutions of few channels, where a matrix product would have hardly any columns: rows are turned from
/// channels-last to one row a channel, and lanes run along x. Same results as the gathered path but for rounding.
enum NarrowConvolution: SourceKernel {
  static let name = "narrow"

  /// A row kernel computes 16 voxels of 4 channels at a time.
  private static let block = 16, columns = 4
  /// Rows of a work item along y, and planes along z; even, so that the pairs of a halved output stay together.
  private static let itemRows = 8, itemPlanes = 12

  /// Whether channels read and written are few, and rows long enough.
  static func fits(_ shape: ConvolutionShape) -> Bool {
    // Measured: from 8 outputs and 4 inputs on transforms win even over the kernel made for few channels.
    let isNarrow = shape.outputs < 8 || shape.inputs < 4 || shape.tiles < 16
    return isNarrow && shape.kernel == 3 && shape.stride == 1 && shape.padding == 1 && shape.inputs <= 32
      && shape.outputs <= 16 && shape.width >= 12
  }

  // MARK: Forward and data gradient

  static func forward(
    _ layer: Convolution, _ source: LayerInput, first: Int, _ p: Parameters, into y: Volume,
    bias: UnsafePointer<Float>?, _ workers: Workers
  ) {
    let w = unsafe p[layer.weight]
    unsafe convolve(
      source, outputs: layer.outputs, bias: bias, into: y, halved: false, adding: bias == nil, workers
    ) { o, c, tap in unsafe w[(o * layer.inputs + first + c) * 27 + tap] }
  }

  static func dataGradient(
    _ layer: Convolution, _ dy: Volume, _ p: Parameters, first: Int, _ mask: [Float]?, upsampled: Bool,
    into dx: Volume, adding: Bool, _ workers: Workers
  ) {
    let w = unsafe p[layer.weight]
    unsafe convolve(
      LayerInput(dy), outputs: dx.channels, bias: nil, into: dx, halved: upsampled, adding: adding, workers
    ) { o, c, tap in
      unsafe w[(c * layer.inputs + first + o) * 27 + 26 - tap] * (mask?[o] ?? 1)
    }
  }

  /// y (+)= source ∗ weight(out, in, tap). `halved`: y has half the size and gets the sum of each 2³ voxels.
  private static func convolve(
    _ source: LayerInput, outputs: Int, bias: UnsafePointer<Float>?, into y: Volume, halved: Bool,
    adding: Bool, _ workers: Workers, weight: (_ o: Int, _ c: Int, _ tap: Int) -> Float
  ) {
    let size = source.size, inputs = source.channels
    let blocks = (outputs + columns - 1) / columns, padded = blocks * columns
    let packed = unsafe workers.sharedScratch(27 * inputs * padded)
    // [block, kz, ky, in, kx, 4]
    for o in 0..<padded {
      for c in 0..<inputs {
        for tap in 0..<27 {
          let at = ((o / columns * 9 + tap / 3) * inputs + c) * 3 + tap % 3
          unsafe packed[at * columns + o % columns] = o < outputs ? weight(o, c, tap) : 0
        }
      }
    }
    let width = (size.x + block - 1) / block * block
    let planar = Planar(source, rows: itemRows + 2, width: width, workers)
    let resultRows = halved ? itemRows / 2 : 1
    let scratch = unsafe workers.scratch(planar.count + resultRows * padded * width)
    let across = (size.y + itemRows - 1) / itemRows, deep = (size.z + itemPlanes - 1) / itemPlanes
    workers.forEach(across * deep) { item, worker in
      let ys = item % across * itemRows, zs = item / across * itemPlanes
      let yEnd = min(size.y, ys + itemRows), zEnd = min(size.z, zs + itemPlanes)
      let ring = unsafe scratch[worker], results = unsafe ring + planar.count
      unsafe planar.clear(ring)
      unsafe planar.write(plane: zs - 1, from: ys - 1, through: yEnd, into: ring)
      unsafe planar.write(plane: zs, from: ys - 1, through: yEnd, into: ring)
      for z in zs..<zEnd {
        unsafe planar.write(plane: z + 1, from: ys - 1, through: yEnd, into: ring)
        for y1 in ys..<yEnd {
          let result = unsafe halved ? results + (y1 - ys) / 2 * padded * width : results
          unsafe rowKernel(
            planar, ring, z: z, line: y1 - ys, packed, inputs, blocks, into: result, width,
            adding: halved && (z % 2 == 1 || y1 % 2 == 1))
          if !halved {
            let target = unsafe y.base + (z * size.y + y1) * size.x * outputs
            for c in 0..<outputs {
              let row = unsafe result + c * width, b = unsafe bias?[c] ?? 0
              if adding {
                for x in 0..<size.x { unsafe target[x * outputs + c] += row[x] + b }
              } else {
                for x in 0..<size.x { unsafe target[x * outputs + c] = row[x] + b }
              }
            }
          } else if z % 2 == 1 && y1 % 2 == 1 {
            let half = y.size, target = unsafe y.base + (z / 2 * half.y + y1 / 2) * half.x * outputs
            for c in 0..<outputs {
              let row = unsafe result + c * width
              for x in 0..<half.x {
                let sum = unsafe row[2 * x] + row[2 * x + 1]
                unsafe target[x * outputs + c] = (adding ? target[x * outputs + c] : 0) + sum
              }
            }
          }
        }
      }
    }
  }

  /// One row of the output, [4 · blocks, width].
  private static func rowKernel(
    _ planar: Planar, _ ring: UnsafeMutablePointer<Float>, z: Int, line: Int, _ packed: UnsafePointer<Float>,
    _ inputs: Int, _ blocks: Int, into result: UnsafeMutablePointer<Float>, _ width: Int, adding: Bool
  ) {
    for b in 0..<blocks {
      let out = unsafe result + b * columns * width
      for x in stride(from: 0, to: width, by: block) {
        var a0 = Lanes.zero, a1 = Lanes.zero, a2 = Lanes.zero, a3 = Lanes.zero
        var c0 = Lanes.zero, c1 = Lanes.zero, c2 = Lanes.zero, c3 = Lanes.zero
        if adding {
          a0 = unsafe load(out + x)
          c0 = unsafe load(out + x + 8)
          a1 = unsafe load(out + width + x)
          c1 = unsafe load(out + width + x + 8)
          a2 = unsafe load(out + 2 * width + x)
          c2 = unsafe load(out + 2 * width + x + 8)
          a3 = unsafe load(out + 3 * width + x)
          c3 = unsafe load(out + 3 * width + x + 8)
        }
        var w = unsafe packed + b * 27 * inputs * columns
        for kz in 0..<3 {
          for ky in 0..<3 {
            var v = unsafe planar.row(ring, plane: z + kz - 1, line: line + ky) + x
            for _ in 0..<inputs {
              for kx in 0..<3 {
                let v0 = unsafe load(v + kx), v1 = unsafe load(v + kx + 8)
                let w0 = unsafe Lanes(repeating: w[0]), w1 = unsafe Lanes(repeating: w[1])
                let w2 = unsafe Lanes(repeating: w[2]), w3 = unsafe Lanes(repeating: w[3])
                a0.addProduct(v0, w0)
                c0.addProduct(v1, w0)
                a1.addProduct(v0, w1)
                c1.addProduct(v1, w1)
                a2.addProduct(v0, w2)
                c2.addProduct(v1, w2)
                a3.addProduct(v0, w3)
                c3.addProduct(v1, w3)
                unsafe w += columns
              }
              unsafe v += planar.stride
            }
          }
        }
        unsafe store(a0, out + x)
        unsafe store(c0, out + x + 8)
        unsafe store(a1, out + width + x)
        unsafe store(c1, out + width + x + 8)
        unsafe store(a2, out + 2 * width + x)
        unsafe store(c2, out + 2 * width + x + 8)
        unsafe store(a3, out + 3 * width + x)
        unsafe store(c3, out + 3 * width + x + 8)
      }
    }
  }

  // MARK: Weight gradient

  static func addWeightGradient(
    _ layer: Convolution, _ dy: Volume, _ source: LayerInput, first: Int, into dp: ParameterVector,
    _ workers: Workers
  ) {
    let size = source.size, inputs = source.channels, outputs = layer.outputs
    let blocks = (outputs + columns - 1) / columns, padded = blocks * columns
    let width = (size.x + 7) / 8 * 8
    let planar = Planar(source, rows: itemRows + 2, width: width, workers)
    let across = (size.y + itemRows - 1) / itemRows, deep = (size.z + itemPlanes - 1) / itemPlanes
    let pieces = Pieces(across * deep, least: 1, limit: 16)
    // [kz, ky, in, block, (kx, 4)] of lanes
    let sumCount = 27 * inputs * padded * 8
    let sums = unsafe workers.sharedScratch(pieces.count * sumCount)
    let scratch = unsafe workers.scratch(planar.count + padded * width)
    workers.forEach(pieces.count) { piece, worker in
      let ring = unsafe scratch[worker], gradient = unsafe ring + planar.count
      let sum = unsafe sums + piece * sumCount
      unsafe sum.update(repeating: 0, count: sumCount)
      unsafe gradient.update(repeating: 0, count: padded * width)
      for item in pieces[piece] {
        let ys = item % across * itemRows, zs = item / across * itemPlanes
        let yEnd = min(size.y, ys + itemRows), zEnd = min(size.z, zs + itemPlanes)
        unsafe planar.clear(ring)
        unsafe planar.write(plane: zs - 1, from: ys - 1, through: yEnd, into: ring)
        unsafe planar.write(plane: zs, from: ys - 1, through: yEnd, into: ring)
        for z in zs..<zEnd {
          unsafe planar.write(plane: z + 1, from: ys - 1, through: yEnd, into: ring)
          for y1 in ys..<yEnd {
            let g = unsafe dy.base + (z * size.y + y1) * size.x * outputs
            for c in 0..<outputs {
              for x in 0..<size.x { unsafe gradient[c * width + x] = g[x * outputs + c] }
            }
            var at = unsafe sum
            for kz in 0..<3 {
              for ky in 0..<3 {
                var v = unsafe planar.row(ring, plane: z + kz - 1, line: y1 - ys + ky)
                for _ in 0..<inputs {
                  for b in 0..<blocks {
                    unsafe tapKernel(v, gradient + b * columns * width, width, adding: at)
                    unsafe at += 12 * 8
                  }
                  unsafe v += planar.stride
                }
              }
            }
          }
        }
      }
    }
    let dw = unsafe dp[layer.weight]
    for tap in 0..<9 {
      for c in 0..<inputs {
        for o in 0..<outputs {
          for kx in 0..<3 {
            let at = (((tap * inputs + c) * blocks + o / columns) * 12 + kx * columns + o % columns) * 8
            var total = Lanes.zero
            for piece in 0..<pieces.count { unsafe total += load(sums + piece * sumCount + at) }
            let low = total.lowHalf + total.highHalf, two = low.lowHalf + low.highHalf
            unsafe dw[(o * layer.inputs + first + c) * 27 + tap * 3 + kx] += two[0] + two[1]
          }
        }
      }
    }
  }

  /// Adds the products of one input row, shifted by 0, 1, 2, with four gradient rows: sum[kx, 4] of lanes.
  @inline(__always)
  private static func tapKernel(
    _ v: UnsafePointer<Float>, _ g: UnsafePointer<Float>, _ width: Int,
    adding sum: UnsafeMutablePointer<Float>
  ) {
    var a0 = unsafe load(sum), a1 = unsafe load(sum + 8), a2 = unsafe load(sum + 16),
      a3 = unsafe load(sum + 24)
    var b0 = unsafe load(sum + 32), b1 = unsafe load(sum + 40), b2 = unsafe load(sum + 48),
      b3 = unsafe load(sum + 56)
    var c0 = unsafe load(sum + 64), c1 = unsafe load(sum + 72), c2 = unsafe load(sum + 80),
      c3 = unsafe load(sum + 88)
    var x = 0
    while x < width {
      let v0 = unsafe load(v + x), v1 = unsafe load(v + x + 1), v2 = unsafe load(v + x + 2)
      let g0 = unsafe load(g + x)
      a0.addProduct(v0, g0)
      b0.addProduct(v1, g0)
      c0.addProduct(v2, g0)
      let g1 = unsafe load(g + width + x)
      a1.addProduct(v0, g1)
      b1.addProduct(v1, g1)
      c1.addProduct(v2, g1)
      let g2 = unsafe load(g + 2 * width + x)
      a2.addProduct(v0, g2)
      b2.addProduct(v1, g2)
      c2.addProduct(v2, g2)
      let g3 = unsafe load(g + 3 * width + x)
      a3.addProduct(v0, g3)
      b3.addProduct(v1, g3)
      c3.addProduct(v2, g3)
      x += 8
    }
    unsafe store(a0, sum)
    unsafe store(a1, sum + 8)
    unsafe store(a2, sum + 16)
    unsafe store(a3, sum + 24)
    unsafe store(b0, sum + 32)
    unsafe store(b1, sum + 40)
    unsafe store(b2, sum + 48)
    unsafe store(b3, sum + 56)
    unsafe store(c0, sum + 64)
    unsafe store(c1, sum + 72)
    unsafe store(c2, sum + 80)
    unsafe store(c3, sum + 88)
  }

  // MARK: Rows

  /// A ring of three z-planes of rows, each [channels, stride], activated, one zero voxel before the first and
  /// zeros behind the last.
  private struct Planar {
    let stage: RowStage
    let rows, stride, channels: Int

    init(_ source: LayerInput, rows: Int, width: Int, _ workers: Workers) {
      stage = unsafe RowStage(source, pattern: workers.sharedScratch(RowStage.patternCount(source), place: 1))
      self.rows = rows
      stride = width + 16
      channels = source.channels
    }

    /// Floats of the ring and of the row that is turned.
    var count: Int { 3 * rows * channels * stride + stage.size.x * channels }

    func clear(_ ring: UnsafeMutablePointer<Float>) { unsafe ring.update(repeating: 0, count: count) }

    @inline(__always)
    func row(_ ring: UnsafeMutablePointer<Float>, plane: Int, line: Int) -> UnsafePointer<Float> {
      unsafe UnsafePointer(ring + ((plane + 3) % 3 * rows + line) * channels * stride)
    }

    /// Rows `from`…`through` of a plane, zero outside the volume.
    func write(plane: Int, from: Int, through: Int, into ring: UnsafeMutablePointer<Float>) {
      let line = unsafe ring + 3 * rows * channels * stride
      for y in from...through {
        let to = unsafe ring + ((plane + 3) % 3 * rows + y - from) * channels * stride
        unsafe stage.write(z: plane, y: y, left: 0, right: 0, into: line)
        for c in 0..<channels {
          let target = unsafe to + c * stride + 1
          for x in 0..<stage.size.x { unsafe target[x] = line[x * channels + c] }
        }
      }
    }
  }
}
