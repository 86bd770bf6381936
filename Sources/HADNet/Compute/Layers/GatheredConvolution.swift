// Pointers, since rows of matrices are copied together from everywhere. Each `unsafe` here stays within a volume's
// voxels, a layer's taps, or the scratch memory that is asked for beside it.

/// The direct path: the taps of a tile of voxels are gathered into the rows of a matrix, and one product a z-plane
/// of the kernel does the arithmetic. Any kernel, stride, padding and number of channels.
///
/// Gathered along x a voxel's taps lie side by side in memory, so gathering copies runs of kernel × channels.
enum GatheredConvolution: SourceKernel {
  static let name = "gathered"

  /// All shapes, but for the way back over a stride: there few channels are scattered, and 4³ layers of stride 2 taken by
  /// parities.
  static func fits(_ shape: ConvolutionShape) -> Bool {
    !shape.isDataGradient || shape.stride == 1 || (shape.outputs <= fewChannels && !shape.upsampled)
      || (shape.kernel == 4 && shape.stride == 2 && shape.padding == 1)
  }

  /// Up to so many channels of a data gradient are scattered.
  private static let fewChannels = 8

  /// Which rows of the output one work item computes, and which of the matrix's columns.
  private struct Tiling {
    let rows: Pieces, panel: Int, panels: Int
    let most: Int

    /// `group` rows stay together. Tiles of about 160 voxels; where there are few of them the columns are split
    /// too, so that threads have something to share.
    init(rows total: Int, width: Int, group: Int, columns: Int) {
      rows = Pieces(total / group, least: max(1, 160 / (width * group)), limit: Int.max)
      most = (total / group + rows.count - 1) / rows.count * group
      panel = rows.count >= 8 || columns <= 64 ? columns : 64
      panels = (columns + panel - 1) / panel
    }

    var items: Int { rows.count * panels }
    func columns(_ item: Int, of all: Int) -> Range<Int> {
      let first = item % panels * panel
      return first..<min(all, first + panel)
    }
  }

  // MARK: Forward

  static func forward(
    _ layer: Convolution, _ source: LayerInput, first: Int, _ p: Parameters, into y: Volume,
    bias: UnsafePointer<Float>?, _ workers: Workers
  ) {
    let channels = first..<first + source.channels
    let packed = unsafe packed(layer, channels, p, transposed: false, mask: nil, workers)
    unsafe convolve(
      source, packed, kernel: layer.kernel, stride: layer.stride, padding: layer.padding,
      bias: bias, into: y, halved: false, adding: bias == nil, workers)
  }

  /// For stride 1 the data gradient is a convolution of dy with the mirrored kernel.
  static func dataGradient(
    _ layer: Convolution, _ dy: Volume, _ p: Parameters, first: Int, _ mask: [Float]?, upsampled: Bool,
    into dx: Volume, adding: Bool, _ workers: Workers
  ) {
    let channels = first..<first + dx.channels
    if layer.stride > 1, dx.channels <= fewChannels, !upsampled {
      return scatterDataGradient(layer, dy, p, channels, mask, into: dx, adding: adding, workers)
    }
    if layer.stride > 1 {
      return stridedDataGradient(
        layer, dy, p, channels, mask, upsampled: upsampled, into: dx, adding: adding, workers)
    }
    let packed = unsafe packed(layer, channels, p, transposed: true, mask: mask, workers)
    unsafe convolve(
      LayerInput(dy), packed, kernel: layer.kernel, stride: 1, padding: layer.kernel - 1 - layer.padding,
      bias: nil,
      into: dx, halved: upsampled, adding: adding, workers)
  }

  /// y (+)= source ∗ packed, packed [kz, ky, kx, in, out]. `halved`: y has half the convolution's output size and
  /// gets the sum of each 2³ voxels (the gradient of upsampling).
  private static func convolve(
    _ source: LayerInput, _ packed: UnsafePointer<Float>, kernel: Int, stride: Int, padding: Int,
    bias: UnsafePointer<Float>?, into y: Volume, halved: Bool, adding: Bool, _ workers: Workers
  ) {
    let inputs = source.channels, outputs = y.channels
    let out = halved ? y.size.doubled : y.size
    let plane = kernel * kernel * inputs
    let tiling = Tiling(rows: out.z * out.y, width: out.x, group: halved ? 4 : 1, columns: outputs)
    let border = padding
    let staged = (out.x - 1) * stride + kernel
    let stageRow = max(staged, source.size.x + 2 * border) * inputs
    let stageCount = ((tiling.most - 1) * stride + kernel) * stageRow
    let gatherCount = tiling.most * out.x * plane
    let resultCount = halved ? tiling.most * out.x * outputs : 0
    let scratch = unsafe workers.scratch(stageCount + gatherCount + resultCount)
    let rows = unsafe RowStage(
      source, pattern: workers.sharedScratch(RowStage.patternCount(source), place: 1))

    workers.forEach(tiling.items) { item, worker in
      let tile = tiling.rows[item / tiling.panels]
      let group = halved ? 4 : 1
      let first = tile.lowerBound * group, count = tile.count * group
      let columns = tiling.columns(item, of: outputs)
      let stage = unsafe scratch[worker], gathered = unsafe stage + stageCount,
        result = unsafe gathered + gatherCount
      let m = count * out.x
      let target = unsafe halved ? result : y.base + first * out.x * outputs + columns.lowerBound
      let stride4 = halved ? columns.count : outputs
      if let bias = unsafe bias {
        for voxel in 0..<m {
          let value = unsafe target + voxel * stride4
          for c in 0..<columns.count {
            unsafe value[c] = (adding ? value[c] : 0) + bias[columns.lowerBound + c]
          }
        }
      }
      for kz in 0..<kernel {
        unsafe gather(
          rows, first, count, out, kz: kz, kernel: kernel, stride: stride, padding: padding, paired: halved,
          stage: stage, stageRow: stageRow, into: gathered)
        unsafe Gemm.product(
          m: m, n: columns.count, k: plane, gathered, plane,
          packed + kz * plane * outputs + columns.lowerBound,
          outputs, beta: kz > 0 || bias != nil || (adding && !halved) ? 1 : 0, target, stride4)
      }
      if halved {
        unsafe sumPairs(result, tile, out, columns, into: y, adding: adding)
      }
    }
  }

  /// The (z, y) of row `row`; paired rows come in fours that share a voxel row of the half-size volume.
  @inline(__always)
  private static func place(_ row: Int, _ size: Size, paired: Bool) -> (z: Int, y: Int) {
    guard paired else { return (row / size.y, row % size.y) }
    let four = row / 4, within = row % 4, half = size.y / 2
    return (2 * (four / half) + within / 2, 2 * (four % half) + within % 2)
  }

  /// Writes the taps (kz, all ky, all kx) of `count` output rows: [rows × width, kernel², in].
  private static func gather(
    _ source: RowStage, _ first: Int, _ count: Int, _ out: Size, kz: Int, kernel: Int, stride: Int,
    padding: Int, paired: Bool, stage: UnsafeMutablePointer<Float>, stageRow: Int,
    into gathered: UnsafeMutablePointer<Float>
  ) {
    let channels = source.channels, run = kernel * channels, plane = kernel * run
    let right = max(0, (out.x - 1) * stride + kernel - padding - source.size.x)
    var row = 0
    while row < count {
      // Output rows that follow each other in y share their input rows.
      let (z, y) = place(first + row, out, paired: paired)
      var together = 1
      while row + together < count {
        let next = place(first + row + together, out, paired: paired)
        if next.z != z || next.y != y + together { break }
        together += 1
      }
      for line in 0..<((together - 1) * stride + kernel) {
        unsafe source.write(
          z: z * stride - padding + kz, y: y * stride - padding + line, left: padding, right: right,
          into: stage + line * stageRow)
      }
      for i in 0..<together {
        let target = unsafe gathered + (row + i) * out.x * plane
        for ky in 0..<kernel {
          let from = unsafe stage + (i * stride + ky) * stageRow
          for x in 0..<out.x {
            unsafe copyValues(from + x * stride * channels, into: target + x * plane + ky * run, run)
          }
        }
      }
      row += together
    }
  }

  /// Sums each 2³ voxels of a tile of paired rows into the half-size volume.
  private static func sumPairs(
    _ result: UnsafePointer<Float>, _ tile: Range<Int>, _ out: Size, _ columns: Range<Int>, into y: Volume,
    adding: Bool
  ) {
    let n = columns.count, half = out.x / 2
    for (i, four) in tile.enumerated() {
      for x in 0..<half {
        let target = unsafe y.base + (four * half + x) * y.channels + columns.lowerBound
        let a = unsafe result + (4 * i * out.x + 2 * x) * n
        let line = out.x * n
        for c in 0..<n {
          let top = unsafe (a[c] + a[n + c]) + (a[line + c] + a[line + n + c])
          let bottom =
            unsafe (a[2 * line + c] + a[2 * line + n + c]) + (a[3 * line + c] + a[3 * line + n + c])
          unsafe target[c] = (adding ? target[c] : 0) + (top + bottom)
        }
      }
    }
  }

  // MARK: Data gradient of stride 2

  /// For each parity of a dx voxel along an axis two of the four taps reach it: (offset of the dy voxel, tap).
  private static let parityTaps: [[(offset: Int, tap: Int)]] = [[(-1, 3), (0, 1)], [(0, 2), (1, 0)]]

  /// dx of a 4³ convolution with stride 2 and padding 1, as eight 2³ convolutions of dy, one a parity.
  private static func stridedDataGradient(
    _ layer: Convolution, _ dy: Volume, _ p: Parameters, _ channels: Range<Int>, _ mask: [Float]?,
    upsampled: Bool, into dx: Volume, adding: Bool, _ workers: Workers
  ) {
    precondition(layer.kernel == 4 && layer.stride == 2 && layer.padding == 1, "\(layer.weight.name)")
    let full = upsampled ? dx.size.doubled : dx.size
    let half = Size((full.z + 1) / 2, (full.y + 1) / 2, (full.x + 1) / 2)
    let packed = unsafe packed(layer, channels, p, transposed: true, mask: mask, workers)
    let out = layer.outputs, n = channels.count
    let tiling = Tiling(rows: half.z * half.y, width: half.x, group: 1, columns: n)
    let k = 8 * out
    let gatherCount = tiling.most * half.x * k, resultCount = tiling.most * half.x * n
    let weightCount = k * tiling.panel
    let scratch = unsafe workers.scratch(gatherCount + resultCount + weightCount)
    workers.forEach(tiling.items) { item, worker in
      let tile = tiling.rows[item / tiling.panels], columns = tiling.columns(item, of: n)
      let gathered = unsafe scratch[worker], result = unsafe gathered + gatherCount,
        weights = unsafe result + resultCount
      let m = tile.count * half.x
      for parity in 0..<8 {
        let z = parityTaps[parity >> 2], y = parityTaps[parity >> 1 & 1], x = parityTaps[parity & 1]
        var tap = 0
        for tz in z {
          for ty in y {
            for tx in x {
              // `packed` has mirrored taps.
              let from = ((3 - tz.tap) * 4 + 3 - ty.tap) * 4 + 3 - tx.tap
              for o in 0..<out {
                unsafe copyValues(
                  packed + (from * out + o) * n + columns.lowerBound,
                  into: weights + (tap * out + o) * columns.count, columns.count)
              }
              unsafe gatherDy(
                dy, tile, half, z: tz.offset, y: ty.offset, x: tx.offset, into: gathered + tap * out, k)
              tap += 1
            }
          }
        }
        // Upsampling's gradient is the sum over the parities: let the products add up.
        let sums = upsampled && parity > 0
        unsafe Gemm.product(
          m: m, n: columns.count, k: k, gathered, k, weights, columns.count, beta: sums ? 1 : 0, result,
          columns.count)
        if !upsampled {
          unsafe scatter(result, tile, half, parity, columns, into: dx, adding: adding)
        }
      }
      if upsampled {
        let target = unsafe dx.base + tile.lowerBound * half.x * n + columns.lowerBound
        for voxel in 0..<m {
          let to = unsafe target + voxel * n, from = unsafe result + voxel * columns.count
          for c in 0..<columns.count { unsafe to[c] = (adding ? to[c] : 0) + from[c] }
        }
      }
    }
  }

  private static func gatherDy(
    _ dy: Volume, _ tile: Range<Int>, _ half: Size, z dz: Int, y dy1: Int, x dx: Int,
    into gathered: UnsafeMutablePointer<Float>, _ k: Int
  ) {
    let channels = dy.channels
    for (i, row) in tile.enumerated() {
      let z = row / half.y + dz, y = row % half.y + dy1
      let inside = z >= 0 && z < dy.size.z && y >= 0 && y < dy.size.y
      for x in 0..<half.x {
        let target = unsafe gathered + (i * half.x + x) * k
        let from = x + dx
        if inside && from >= 0 && from < dy.size.x {
          unsafe copyValues(
            dy.base + ((z * dy.size.y + y) * dy.size.x + from) * channels, into: target, channels)
        } else {
          unsafe target.update(repeating: 0, count: channels)
        }
      }
    }
  }

  private static func scatter(
    _ result: UnsafePointer<Float>, _ tile: Range<Int>, _ half: Size, _ parity: Int, _ columns: Range<Int>,
    into dx: Volume, adding: Bool
  ) {
    for (i, row) in tile.enumerated() {
      let z = 2 * (row / half.y) + parity >> 2, y = 2 * (row % half.y) + parity >> 1 & 1
      guard z < dx.size.z, y < dx.size.y else { continue }
      for x in 0..<half.x {
        let to = 2 * x + parity & 1
        guard to < dx.size.x else { continue }
        let target =
          unsafe dx.base + ((z * dx.size.y + y) * dx.size.x + to) * dx.channels + columns.lowerBound
        let from = unsafe result + (i * half.x + x) * columns.count
        for c in 0..<columns.count { unsafe target[c] = (adding ? target[c] : 0) + from[c] }
      }
    }
  }

  // MARK: Data gradient of few channels

  /// dx of few channels: for each row of dy the gradients of all taps it was multiplied with, added up where the taps
  /// lie. A work item is a slab of dx's planes; rows of dy at its border are multiplied for both neighbours.
  private static func scatterDataGradient(
    _ layer: Convolution, _ dy: Volume, _ p: Parameters, _ channels: Range<Int>, _ mask: [Float]?,
    into dx: Volume, adding: Bool, _ workers: Workers
  ) {
    let kernel = layer.kernel, stride = layer.stride, padding = layer.padding, taps = kernel * kernel * kernel
    let outputs = layer.outputs, n = channels.count, size = dx.size, plane = kernel * kernel * n
    let w = unsafe p[layer.weight], packed = unsafe workers.sharedScratch(outputs * taps * n)
    // [out, tap, channel]
    workers.forEach(outputs) { o, _ in
      for c in 0..<n {
        let from = (o * layer.inputs + channels.lowerBound + c) * taps, factor = mask?[c] ?? 1
        for tap in 0..<taps { unsafe packed[(o * taps + tap) * n + c] = w[from + tap] * factor }
      }
    }
    let slabs = Pieces(size.z, least: 8, limit: 64), width = dy.size.x
    let scratch = unsafe workers.scratch(width * kernel * plane)
    workers.forEach(slabs.count) { item, worker in
      let slab = slabs[item], row = unsafe scratch[worker], line = size.x * n
      if !adding {
        unsafe (dx.base + slab.lowerBound * size.y * line).update(
          repeating: 0, count: slab.count * size.y * line)
      }
      let first = max(0, (slab.lowerBound + padding - kernel + stride) / stride)
      let last = min(dy.size.z - 1, (slab.upperBound - 1 + padding) / stride)
      guard first <= last else { return }
      for z in first...last {
        let kz = (0..<kernel).filter { slab.contains(z * stride - padding + $0) }
        guard let low = kz.first else { continue }
        let columns = kz.count * plane
        for y in 0..<dy.size.y {
          // OpenBLAS has fast kernels for products of at most a million multiplications.
          let part = max(16, min(columns, 1_000_000 / (width * outputs) / 16 * 16))
          for column in Swift.stride(from: 0, to: columns, by: part) {
            unsafe Gemm.product(
              m: width, n: min(part, columns - column), k: outputs,
              dy.base + (z * dy.size.y + y) * width * outputs, outputs, packed + low * plane + column,
              taps * n,
              beta: 0, row + column, columns)
          }
          for i in 0..<kz.count * kernel {
            let dz = z * stride - padding + low + i / kernel, dyLine = y * stride - padding + i % kernel
            guard dyLine >= 0, dyLine < size.y else { continue }
            let target = unsafe dx.base + (dz * size.y + dyLine) * line
            for x in 0..<width {
              let start = x * stride - padding
              let from = unsafe row + x * columns + i * kernel * n
              let kx = max(0, -start)..<max(max(0, -start), min(kernel, size.x - start))
              let to = unsafe target + start * n
              for j in kx.lowerBound * n..<kx.upperBound * n { unsafe to[j] += from[j] }
            }
          }
        }
      }
    }
  }

  // MARK: Weight gradient

  /// Work items are (kz, ky, piece of the output rows), each a product of gathered taps and dy over its voxels.
  static func addWeightGradient(
    _ layer: Convolution, _ dy: Volume, _ source: LayerInput, first: Int, into dp: ParameterVector,
    _ workers: Workers
  ) {
    let channels = first..<first + source.channels
    let kernel = layer.kernel, inputs = source.channels, outputs = layer.outputs, out = dy.size
    let run = kernel * inputs, rows = out.z * out.y
    let tileRows = max(1, min(rows, 512 / out.x))
    let weights = kernel * kernel * run * outputs
    // Pieces cost a copy of the weights each: only where those are small against the volume.
    let pieces = Pieces(rows, least: tileRows, limit: weights <= 1 << 18 ? 8 : 1)
    let right = max(0, (out.x - 1) * layer.stride + kernel - layer.padding - source.size.x)
    let stageRow = (layer.padding + source.size.x + right) * inputs
    let scratch = unsafe workers.scratch(stageRow + tileRows * out.x * run)
    let sums = unsafe workers.sharedScratch(pieces.count * weights)
    let stage = unsafe RowStage(
      source, pattern: workers.sharedScratch(RowStage.patternCount(source), place: 1))
    workers.forEach(kernel * kernel * pieces.count) { item, worker in
      let tap = item / pieces.count, piece = item % pieces.count
      let kz = tap / kernel, ky = tap % kernel
      let target = unsafe sums + (piece * kernel * kernel + tap) * run * outputs
      let line = unsafe scratch[worker], gathered = unsafe line + stageRow
      let all = pieces[piece]
      var first = all.lowerBound
      while first < all.upperBound {
        let count = min(tileRows, all.upperBound - first)
        for row in 0..<count {
          let z = (first + row) / out.y, y = (first + row) % out.y
          unsafe stage.write(
            z: z * layer.stride - layer.padding + kz, y: y * layer.stride - layer.padding + ky,
            left: layer.padding, right: right, into: line)
          let matrix = unsafe gathered + row * out.x * run
          for x in 0..<out.x {
            unsafe copyValues(line + x * layer.stride * inputs, into: matrix + x * run, run)
          }
        }
        unsafe Gemm.product(
          m: run, n: outputs, k: count * out.x, gathered, run, transposedA: true,
          dy.base + first * out.x * outputs, outputs, beta: first > all.lowerBound ? 1 : 0, target, outputs)
        first += count
      }
    }
    // [kz, ky, kx, in, out] of each piece → the published [out, in, kz, ky, kx].
    let dw = unsafe dp[layer.weight], taps = kernel * kernel * kernel
    workers.forEach(outputs) { o, _ in
      for c in 0..<inputs {
        let to = (o * layer.inputs + channels.lowerBound + c) * taps
        for tap in 0..<taps {
          var sum: Float = 0
          for piece in 0..<pieces.count {
            unsafe sum += sums[piece * weights + (tap * inputs + c) * outputs + o]
          }
          unsafe dw[to + tap] += sum
        }
      }
    }
  }

  // MARK: Weights

  /// The weights of some input channels as a matrix: [kz, ky, kx, in, out], or, `transposed`, with mirrored taps and
  /// [kz, ky, kx, out, in], each input channel times its mask. Lives in the workers' shared scratch.
  private static func packed(
    _ layer: Convolution, _ channels: Range<Int>, _ p: Parameters, transposed: Bool, mask: [Float]?,
    _ workers: Workers
  ) -> UnsafePointer<Float> {
    let w = unsafe p[layer.weight], taps = layer.kernel * layer.kernel * layer.kernel
    let inputs = channels.count, outputs = layer.outputs
    let packed = unsafe workers.sharedScratch(taps * inputs * outputs)
    workers.forEach(transposed ? outputs : inputs) { slice, _ in
      if transposed {
        let o = slice
        for c in 0..<inputs {
          let from = (o * layer.inputs + channels.lowerBound + c) * taps, factor = mask?[c] ?? 1
          for tap in 0..<taps {
            unsafe packed[((taps - 1 - tap) * outputs + o) * inputs + c] = w[from + tap] * factor
          }
        }
      } else {
        let c = slice
        for o in 0..<outputs {
          let from = (o * layer.inputs + channels.lowerBound + c) * taps
          for tap in 0..<taps { unsafe packed[(tap * inputs + c) * outputs + o] = w[from + tap] }
        }
      }
    }
    return unsafe UnsafePointer(packed)
  }
}
