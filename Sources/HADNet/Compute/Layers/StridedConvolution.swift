// Pointers, since transforms read and write vectors at 64 points at once. Each `unsafe` here stays within the
// points of a group of tiles, a block of filters, or a tile's voxels inside the volume; what a loop needs is asked
// for before it.

/// 4³ convolutions of stride 2 and padding 1 by Winograd's F(3, 2) along each axis, over the eight parities: 512
/// products for 27 outputs instead of 1,728.
///
/// Tiles are taken in groups whose transforms fit in a fixed amount of memory. A work item is a block of 64 output
/// channels, or of 8 input channels with their 8 parities; it transforms its own weights bit by bit, just before they
/// are used, so that the 8-fold larger transform of a large layer never lies in memory as a whole.
enum StridedConvolution: ConvolutionKernel {
  static let name = "F(3,2)³"
  static let sumsLayers = false

  static func fits(_ shape: ConvolutionShape) -> Bool { shape.isWideStrided }

  private static let points = 64
  /// Input channels of a block, and its rows: channels times parities.
  private static let channels = lanes, rows = 64
  /// Output channels of a block.
  private static let panel = 64
  /// Floats from one point to the next, a little more than a block's, so that points don't share cache sets.
  private static let filterPoint = 64 * 64 + 16

  /// Tiles needed for `size` outputs of a layer.
  static func tiles(_ size: Size) -> Size { Size((size.z + 2) / 3, (size.y + 2) / 3, (size.x + 2) / 3) }

  /// For each parity along an axis (0: odd voxels, 1: even ones) its two taps: as forward reads the input, and as the
  /// data gradient reads dy.
  private static let forwardTaps = [(0, 2), (1, 3)], backwardTaps = [(2, 0), (3, 1)]

  /// Tiles that may be taken together, so many that their transforms have at most 2²⁴ floats.
  private static func most(channels: Int) -> Int {
    max(32, min(128, (1 << 24) / (points * rows / lanes * max(channels, 1))))
  }

  private static func groups(_ tiles: Int, channels: Int) -> Pieces {
    let most = most(channels: channels)
    return Pieces(tiles, least: 1, limit: (tiles + most - 1) / most)
  }

  /// Tiles of all samples are counted one after the other.
  private static func place(_ tile: Int, _ tiles: Size) -> (sample: Int, z: Int, y: Int, x: Int) {
    let within = tile % tiles.voxels
    return (tile / tiles.voxels, within / (tiles.y * tiles.x), within / tiles.x % tiles.y, within % tiles.x)
  }

  /// Readers of 64 channels each, [sample][part].
  private static func readers(_ samples: [[LayerInput]], _ channels: Int) -> [[TileReader]] {
    samples.map { sources in
      // Dropped channels are read as zeros: blocks are of neighbouring channels.
      let sources = sources.map(\.keepingAll)
      return stride(from: 0, to: channels, by: 64).map { TileReader(sources, $0..<min($0 + 64, channels)) }
    }
  }

  /// The most of any group of tiles: volumes are transformed, weights bit by bit.
  static func transforms(_ layer: Convolution, inputs: Int) -> Int {
    let chunks = (layer.inputs + 63) / 64 * 64 / channels, panels = (layer.outputs + panel - 1) / panel
    return points
      * max(
        (most(channels: layer.inputs) * rows + 16) * (chunks + panels),
        (most(channels: layer.outputs / 8) * panel + 16) * panels)
  }

  // MARK: Transforms of volumes

  /// Transforms the 8³ input voxels of each tile for the reader's channels: [chunk, point, tile, parity, 8 channels].
  private static func transformInput(
    _ readers: [[TileReader]], _ group: Range<Int>, _ tiles: Size, chunkStep: Int, pointStep: Int,
    into v: UnsafeMutablePointer<Float>, _ workers: Workers
  ) {
    let scratch = unsafe workers.scratch(512 * 64 + lanes)
    let parts = readers[0].count
    workers.forEach(group.count * parts) { item, worker in
      let tile = item / parts, (sample, tz, ty, tx) = place(group.lowerBound + tile, tiles)
      let reader = readers[sample][item % parts], pitch = reader.pitch, line = 8 * pitch
      let stage = unsafe scratch[worker]
      for z in 0..<8 {
        for y in 0..<8 {
          let row = unsafe stage + (z * 8 + y) * line
          unsafe reader.write(z: 6 * tz + z - 1, y: 6 * ty + y - 1, x: 6 * tx - 1, width: 8, into: row)
          if reader.count < pitch {
            for x in 0..<8 {
              unsafe (row + x * pitch + reader.count).update(repeating: 0, count: pitch - reader.count)
            }
          }
        }
      }
      // Neighbouring voxels have different parities: a parity's four are two voxels apart.
      for parity in 0..<2 {
        unsafe StridedTransform.input(stage + parity * 8 * line, 16 * line, count: 8 * line)
      }
      for z in 0..<8 {
        for parity in 0..<2 {
          unsafe StridedTransform.input(stage + (z * 8 + parity) * line, 2 * line, count: line)
        }
      }
      for c in stride(from: 0, to: pitch, by: lanes) {
        let out = unsafe v + (item % parts * (64 / lanes) + c / lanes) * chunkStep + tile * rows
        for z in 0..<8 {
          for y in 0..<8 {
            let row = unsafe stage + (z * 8 + y) * line + c
            let point = (z / 2 * 4 + y / 2) * 4, parity = z % 2 * 4 + y % 2 * 2
            for px in 0..<2 {
              let x0 = unsafe load(row + px * pitch), x1 = unsafe load(row + (2 + px) * pitch)
              let x2 = unsafe load(row + (4 + px) * pitch), x3 = unsafe load(row + (6 + px) * pitch)
              let to = unsafe out + point * pointStep + (parity + px) * lanes
              unsafe store(x0 - x2, to)
              unsafe store(x1 + x2, to + pointStep)
              unsafe store(x2 - x1, to + 2 * pointStep)
              unsafe store(x3 - x1, to + 3 * pointStep)
            }
          }
        }
      }
    }
  }

  /// Transforms windows of dy for each tile, [panel, point, tile, 64 channels]: its 3³ voxels by A (for the weight
  /// gradient), or 4³ from one voxel before it by Bᵀ (for the data gradient).
  private static func transformGradient(
    _ readers: [[TileReader]], _ group: Range<Int>, _ tiles: Size, asInput: Bool, panelStep: Int,
    pointStep: Int,
    into d: UnsafeMutablePointer<Float>, _ workers: Workers
  ) {
    let scratch = unsafe workers.scratch(64 * panel + lanes)
    let parts = readers[0].count
    workers.forEach(group.count * parts) { item, worker in
      let tile = item / parts, (sample, tz, ty, tx) = place(group.lowerBound + tile, tiles)
      let reader = readers[sample][item % parts], pitch = reader.pitch, line = 4 * pitch
      let stage = unsafe scratch[worker], side = asInput ? 4 : 3, border = asInput ? 1 : 0
      for z in 0..<side {
        for y in 0..<side {
          unsafe reader.write(
            z: 3 * tz + z - border, y: 3 * ty + y - border, x: 3 * tx - border, width: side,
            into: stage + (z * 4 + y) * line)
        }
      }
      if asInput {
        unsafe StridedTransform.input(stage, 4 * line, count: 4 * line)
        for z in 0..<4 { unsafe StridedTransform.input(stage + z * 4 * line, line, count: line) }
        for row in 0..<16 { unsafe StridedTransform.input(stage + row * line, pitch, count: pitch) }
      } else {
        for y in 0..<3 { unsafe StridedTransform.gradient(stage + y * line, 4 * line, count: 3 * pitch) }
        for z in 0..<4 { unsafe StridedTransform.gradient(stage + z * 4 * line, line, count: 3 * pitch) }
        for row in 0..<16 { unsafe StridedTransform.gradient(stage + row * line, pitch, count: pitch) }
      }
      let out = unsafe d + item % parts * panelStep + tile * panel
      for point in 0..<points {
        let from = unsafe stage + point * pitch, to = unsafe out + point * pointStep
        for c in stride(from: 0, to: pitch, by: lanes) { unsafe store(load(from + c), to + c) }
      }
    }
  }

  // MARK: Transforms of weights

  /// Transforms the filters of some outputs and up to 8 inputs as forward needs them, lanes are outputs:
  /// [point, parity · 8 + in, out].
  // Each way has its own copy with its strides known, and none is inlined further: then the loop keeps its registers.
  @inline(never)
  private static func transformFilters(
    forward layer: Convolution, _ w: UnsafePointer<Float>, _ outputs: Range<Int>, _ inputs: Range<Int>,
    into u: UnsafeMutablePointer<Float>, taps: UnsafeMutablePointer<Float>
  ) { unsafe transformFilters(layer, w, outputs, inputs, byOutput: true, into: u, taps: taps) }

  /// The same as the data gradient needs them, lanes are inputs: [point, out, parity · 8 + in].
  @inline(never)
  private static func transformFilters(
    backward layer: Convolution, _ w: UnsafePointer<Float>, _ outputs: Range<Int>, _ inputs: Range<Int>,
    into u: UnsafeMutablePointer<Float>, taps: UnsafeMutablePointer<Float>
  ) { unsafe transformFilters(layer, w, outputs, inputs, byOutput: false, into: u, taps: taps) }

  @inline(__always)
  private static func transformFilters(
    _ layer: Convolution, _ w: UnsafePointer<Float>, _ outputs: Range<Int>, _ inputs: Range<Int>,
    byOutput: Bool,
    into u: UnsafeMutablePointer<Float>, taps: UnsafeMutablePointer<Float>
  ) {
    let axis = byOutput ? forwardTaps : backwardTaps
    let many = byOutput ? inputs.count : outputs.count, wide = byOutput ? outputs.count : inputs.count
    let outStep = layer.inputs * 64
    // Filters of neighbouring inputs lie side by side, so inputs are what runs innermost.
    let columns = (wide + lanes - 1) / lanes
    for item in 0..<many * columns {
      let row = byOutput ? item % many : item / columns
      let column = (byOutput ? item / many : item % columns) * lanes
      do {
        let some = min(lanes, wide - column)
        let o = outputs.lowerBound + (byOutput ? column : row),
          c = inputs.lowerBound + (byOutput ? row : column)
        unsafe FilterLanes.read(
          w + o * outStep + c * 64, byOutput ? outStep : 64, filters: some, taps: 64, into: taps)
        for parity in 0..<8 {
          let kz = axis[parity >> 2], ky = axis[parity >> 1 & 1], kx = axis[parity & 1]
          let offset: Int = byOutput ? (parity * lanes + row) * panel + column : row * rows + parity * lanes
          let at = unsafe u + offset
          @inline(__always) func tap(_ z: Int, _ y: Int, _ x: Int) -> Lanes {
            let index: Int = (z * 4 + y) * 4 + x
            return unsafe load(taps + index * lanes)
          }
          @inline(__always) func plane(_ z: Int, _ y: Int) -> (Lanes, Lanes, Lanes, Lanes) {
            StridedTransform.filter(tap(z, y, kx.0), tap(z, y, kx.1))
          }
          let a = plane(kz.0, ky.0), b = plane(kz.0, ky.1), c = plane(kz.1, ky.0), d = plane(kz.1, ky.1)
          @inline(__always) func spread(_ a: Lanes, _ b: Lanes, _ c: Lanes, _ d: Lanes, _ x: Int) {
            let near = StridedTransform.filter(a, b), far = StridedTransform.filter(c, d)
            @inline(__always) func line(_ near: Lanes, _ far: Lanes, _ y: Int) {
              let v = StridedTransform.filter(near, far), to = unsafe at + (y * 4 + x) * filterPoint
              unsafe store(v.0, to)
              unsafe store(v.1, to + 16 * filterPoint)
              unsafe store(v.2, to + 32 * filterPoint)
              unsafe store(v.3, to + 48 * filterPoint)
            }
            line(near.0, far.0, 0)
            line(near.1, far.1, 1)
            line(near.2, far.2, 2)
            line(near.3, far.3, 3)
          }
          spread(a.0, b.0, c.0, d.0, 0)
          spread(a.1, b.1, c.1, d.1, 1)
          spread(a.2, b.2, c.2, d.2, 2)
          spread(a.3, b.3, c.3, d.3, 3)
        }
      }
    }
  }

  // MARK: Forward

  static func forward(
    _ samples: [(inputs: [ConvolutionInput], y: Volume)], _ p: Parameters, bias: UnsafePointer<Float>?,
    moments: Bool, _ workers: Workers
  ) -> [Moments?] {
    let layer = samples[0].inputs[0].layer, first = samples[0].inputs[0].first
    let inputs = samples[0].inputs.reduce(0) { $0 + $1.source.channels }, outputs = layer.outputs
    let size = samples[0].y.size
    let w = unsafe UnsafePointer(p[layer.weight].baseAddress!)  // a layer has weights
    let tiles = tiles(size), chunks = (inputs + channels - 1) / channels
    let readers = readers(samples.map { $0.inputs.map(\.source) }, inputs)
    let groups = groups(samples.count * tiles.voxels, channels: inputs)
    let panels = (outputs + panel - 1) / panel
    for index in 0..<groups.count {
      let group = groups[index], pointStep = group.count * rows + 16, chunkStep = points * pointStep
      let v = unsafe workers.sharedScratch(readers[0].count * 8 * chunkStep)
      unsafe transformInput(
        readers, group, tiles, chunkStep: chunkStep, pointStep: pointStep, into: v, workers)
      let parts = Pieces(group.count, least: 1, limit: (group.count + 127) / 128)
      let most = (group.count + parts.count - 1) / parts.count
      let mStep = most * panel + 16
      let scratch = unsafe workers.scratch(points * (filterPoint + mStep) + 64 * lanes + 64 * lanes)
      workers.forEach(panels * parts.count) { item, worker in
        let part = parts[item % parts.count], first64 = item / parts.count * panel
        let outs = first64..<min(first64 + panel, outputs)
        let n = (outs.count + lanes - 1) / lanes * lanes
        let u = unsafe scratch[worker], m = unsafe u + points * filterPoint, taps = unsafe m + points * mStep
        for chunk in 0..<chunks {
          let ins = first + chunk * channels..<first + min((chunk + 1) * channels, inputs)
          if ins.count < channels { unsafe u.update(repeating: 0, count: points * filterPoint) }
          unsafe transformFilters(forward: layer, w, outs, ins, into: u, taps: taps)
          for point in 0..<points {
            unsafe Gemm.product(
              m: part.count, n: n, k: rows,
              v + chunk * chunkStep + point * pointStep + part.lowerBound * rows, rows,
              u + point * filterPoint, panel, beta: chunk == 0 ? 0 : 1, m + point * mStep, panel)
          }
        }
        for t in 0..<part.count {
          let (sample, tz, ty, tx) = place(group.lowerBound + part.lowerBound + t, tiles)
          let y = samples[sample].y
          let nz = min(3, size.z - 3 * tz), ny = min(3, size.y - 3 * ty), nx = min(3, size.x - 3 * tx)
          for c in stride(from: 0, to: n, by: lanes) {
            unsafe inverse(m + t * panel + c, mStep, taps)
            let some = min(lanes, outs.count - c), out = first64 + c
            for z in 0..<nz {
              for y1 in 0..<ny {
                let voxel: Int = ((3 * tz + z) * y.size.y + 3 * ty + y1) * y.size.x + 3 * tx
                let row = unsafe y.base + voxel * outputs + out
                for x in 0..<nx {
                  let value = unsafe load(taps + ((z * 3 + y1) * 3 + x) * lanes),
                    to = unsafe row + x * outputs
                  if some == lanes {
                    unsafe store((bias.map { unsafe load($0 + out) } ?? load(to)) + value, to)
                  } else {
                    for lane in 0..<some { unsafe to[lane] = (bias?[out + lane] ?? to[lane]) + value[lane] }
                  }
                }
              }
            }
          }
        }
      }
    }
    return samples.map { _ in nil }
  }

  /// Aᵀ along each axis: 64 products `step` apart to 27 outputs, [z, y, x] vectors.
  @inline(__always)
  private static func inverse(_ m: UnsafePointer<Float>, _ step: Int, _ out: UnsafeMutablePointer<Float>) {
    // [ζ, η, x] behind the outputs' place, [ζ, y, x] over it.
    let lines = unsafe out + 64 * lanes
    for zeta in 0..<4 {
      for eta in 0..<4 {
        let from = unsafe m + (zeta * 4 + eta) * 4 * step
        let (a, b, c) = unsafe StridedTransform.output(
          load(from), load(from + step), load(from + 2 * step), load(from + 3 * step))
        unsafe store(a, lines + eta * 3 * lanes)
        unsafe store(b, lines + (eta * 3 + 1) * lanes)
        unsafe store(c, lines + (eta * 3 + 2) * lanes)
      }
      for x in 0..<3 {
        let from = unsafe lines + x * lanes
        let (a, b, c) = unsafe StridedTransform.output(
          load(from), load(from + 3 * lanes), load(from + 6 * lanes), load(from + 9 * lanes))
        let to = unsafe out + (zeta * 9 + x) * lanes
        unsafe store(a, to)
        unsafe store(b, to + 3 * lanes)
        unsafe store(c, to + 6 * lanes)
      }
    }
    for i in 0..<9 {
      let from = unsafe out + i * lanes
      let (a, b, c) = unsafe StridedTransform.output(
        load(from), load(from + 9 * lanes), load(from + 18 * lanes), load(from + 27 * lanes))
      unsafe store(a, from)
      unsafe store(b, from + 9 * lanes)
      unsafe store(c, from + 18 * lanes)
    }
  }

  // MARK: Data gradient

  static func dataGradient(
    _ layer: Convolution, _ samples: [(dy: Volume, dx: Volume)], _ p: Parameters, first: Int,
    _ mask: [Float]?, upsampled: Bool, adding: Bool, _ workers: Workers
  ) {
    guard upsampled else {
      return dataGradient(layer, samples, p, first: first, mask, adding: adding, workers)
    }
    let shape = Shape(samples[0].dx.size.doubled, samples[0].dx.channels)
    let memory = workers.sharedBuffer(samples.count * shape.count, place: 2)
    let full = samples.enumerated().map { (dy: $1.dy, dx: Volume(shape, in: memory, at: $0 * shape.count)) }
    dataGradient(layer, full, p, first: first, mask, adding: false, workers)
    for (sample, full) in zip(samples, full) { halve(full.dx, into: sample.dx, adding: adding, workers) }
  }

  /// The sum of each 2³ voxels.
  private static func halve(_ full: Volume, into dx: Volume, adding: Bool, _ workers: Workers) {
    let row = full.size.x * dx.channels
    workers.forEach(dx.size.z * dx.size.y) { item, _ in
      let from = unsafe full.base + (2 * (item / dx.size.y) * full.size.y + 2 * (item % dx.size.y)) * row
      let to = unsafe dx.base + item * dx.size.x * dx.channels
      for i in 0..<dx.size.x * dx.channels {
        let at = unsafe from + i / dx.channels * 2 * dx.channels + i % dx.channels
        var sum: Float = 0
        for corner in 0..<8 {
          unsafe sum += at[(corner >> 2 * full.size.y + corner >> 1 & 1) * row + (corner & 1) * dx.channels]
        }
        unsafe to[i] = (adding ? to[i] : 0) + sum
      }
    }
  }

  private static func dataGradient(
    _ layer: Convolution, _ samples: [(dy: Volume, dx: Volume)], _ p: Parameters, first: Int,
    _ mask: [Float]?, adding: Bool, _ workers: Workers
  ) {
    let inputs = samples[0].dx.channels, size = samples[0].dx.size
    let factors = (mask ?? [Float](repeating: 1, count: inputs)) + [Float](repeating: 0, count: lanes)
    let w = unsafe UnsafePointer(p[layer.weight].baseAddress!), outputs = layer.outputs
    // A tile gives voxels 6t − 1 … 6t + 4 along an axis.
    let tiles = Size(size.z / 6 + 1, size.y / 6 + 1, size.x / 6 + 1)
    let readers = readers(samples.map { [LayerInput($0.dy)] }, outputs)
    let blocks = (inputs + channels - 1) / channels
    let groups = groups(samples.count * tiles.voxels, channels: outputs / 8)
    for index in 0..<groups.count {
      let group = groups[index], pointStep = group.count * panel + 16, panelStep = points * pointStep
      let v = unsafe workers.sharedScratch(readers[0].count * panelStep)
      unsafe transformGradient(
        readers, group, tiles, asInput: true, panelStep: panelStep, pointStep: pointStep, into: v, workers)
      let parts = Pieces(group.count, least: 1, limit: (group.count + 127) / 128)
      let most = (group.count + parts.count - 1) / parts.count, mStep = most * rows + 16
      let scratch = unsafe workers.scratch(points * (filterPoint + mStep) + 128 * lanes)
      workers.forEach(blocks * parts.count) { item, worker in
        let part = parts[item % parts.count], block = item / parts.count
        let ins = first + block * channels..<first + min((block + 1) * channels, inputs)
        let u = unsafe scratch[worker], m = unsafe u + points * filterPoint, taps = unsafe m + points * mStep
        for (i, reader) in readers[0].enumerated() {
          unsafe transformFilters(
            backward: layer, w, i * panel..<i * panel + reader.count, ins, into: u, taps: taps)
          for point in 0..<points {
            unsafe Gemm.product(
              m: part.count, n: rows, k: reader.count,
              v + i * panelStep + point * pointStep + part.lowerBound * panel,
              panel, u + point * filterPoint, rows, beta: i == 0 ? 0 : 1, m + point * mStep, rows)
          }
        }
        let factor = unsafe factors.withUnsafeBufferPointer {
          unsafe load($0.baseAddress! + block * channels)
        }
        for t in 0..<part.count {
          let (sample, tz, ty, tx) = place(group.lowerBound + part.lowerBound + t, tiles)
          let dx = samples[sample].dx
          for parity in 0..<8 {
            unsafe inverse(m + t * rows + parity * lanes, mStep, taps)
            let z0: Int = 6 * tz - 1 + parity >> 2
            let y0: Int = 6 * ty - 1 + (parity >> 1 & 1)
            let x0: Int = 6 * tx - 1 + (parity & 1)
            for i in 0..<27 {
              let z = z0 + 2 * (i / 9), y = y0 + 2 * (i / 3 % 3), x = x0 + 2 * (i % 3)
              guard z >= 0, z < size.z, y >= 0, y < size.y, x >= 0, x < size.x else { continue }
              let to = unsafe dx.base + ((z * size.y + y) * size.x + x) * inputs + block * channels
              let value = unsafe load(taps + i * lanes) * factor
              if ins.count == lanes {
                unsafe store(adding ? load(to) + value : value, to)
              } else {
                for lane in 0..<ins.count { unsafe to[lane] = (adding ? to[lane] : 0) + value[lane] }
              }
            }
          }
        }
      }
    }
  }

  // MARK: Weight gradient

  static func addWeightGradient(
    _ samples: [(inputs: [ConvolutionInput], dy: Volume)], into dp: ParameterVector, _ workers: Workers
  ) {
    let layer = samples[0].inputs[0].layer, first = samples[0].inputs[0].first
    let inputs = samples[0].inputs.reduce(0) { $0 + $1.source.channels }, outputs = layer.outputs
    let dw = unsafe dp[layer.weight].baseAddress!  // a layer has weights
    let tiles = tiles(samples[0].dy.size), chunks = (inputs + channels - 1) / channels
    let readers = readers(samples.map { $0.inputs.map(\.source) }, inputs)
    let allGradients = self.readers(samples.map { [LayerInput($0.dy)] }, outputs), gradients = allGradients[0]
    let groups = groups(samples.count * tiles.voxels, channels: inputs)
    for index in 0..<groups.count {
      let group = groups[index], pointStep = group.count * rows + 16, step = points * pointStep
      let v = unsafe workers.sharedScratch((readers[0].count * 8 + gradients.count) * step),
        d = unsafe v + readers[0].count * 8 * step
      unsafe transformInput(readers, group, tiles, chunkStep: step, pointStep: pointStep, into: v, workers)
      unsafe transformGradient(
        allGradients, group, tiles, asInput: false, panelStep: step, pointStep: pointStep, into: d, workers)
      let scratch = unsafe workers.scratch(points * filterPoint + 64 * lanes)
      workers.forEach(chunks * gradients.count) { item, worker in
        let i = item % gradients.count, chunk = item / gradients.count
        let ins = first + chunk * channels..<first + min((chunk + 1) * channels, inputs)
        let u = unsafe scratch[worker], taps = unsafe u + points * filterPoint
        let n = gradients[i].pitch
        for point in 0..<points {
          unsafe Gemm.product(
            m: rows, n: n, k: group.count, v + chunk * step + point * pointStep, rows, transposedA: true,
            d + i * step + point * pointStep, panel, beta: 0, u + point * filterPoint, panel)
        }
        for c in 0..<ins.count {
          for o in stride(from: 0, to: gradients[i].count, by: lanes) {
            for parity in 0..<8 {
              let kz = forwardTaps[parity >> 2], ky = forwardTaps[parity >> 1 & 1],
                kx = forwardTaps[parity & 1]
              unsafe filterGradient(u + (parity * lanes + c) * panel + o, kz, ky, kx, into: taps)
            }
            unsafe FilterLanes.add(
              taps, 64, to: dw + ((i * panel + o) * layer.inputs + ins.lowerBound + c) * 64,
              layer.inputs * 64,
              filters: min(lanes, gradients[i].count - o))
          }
        }
      }
    }
  }

  /// Gᵀ along each axis of 64 points: the gradients of a parity's eight taps.
  @inline(__always)
  private static func filterGradient(
    _ u: UnsafePointer<Float>, _ kz: (Int, Int), _ ky: (Int, Int), _ kx: (Int, Int),
    into taps: UnsafeMutablePointer<Float>
  ) {
    @inline(__always) func along(_ z: Int, _ y: Int) -> (Lanes, Lanes) {
      let from = unsafe u + (z * 4 + y) * 4 * filterPoint
      return unsafe StridedTransform.filterGradient(
        load(from), load(from + filterPoint), load(from + 2 * filterPoint), load(from + 3 * filterPoint))
    }
    @inline(__always) func plane(_ z: Int) -> ((Lanes, Lanes), (Lanes, Lanes)) {
      let a = along(z, 0), b = along(z, 1), c = along(z, 2), d = along(z, 3)
      return (
        StridedTransform.filterGradient(a.0, b.0, c.0, d.0),
        StridedTransform.filterGradient(a.1, b.1, c.1, d.1)
      )
    }
    let a = plane(0), b = plane(1), c = plane(2), d = plane(3)
    @inline(__always) func finish(_ a: Lanes, _ b: Lanes, _ c: Lanes, _ d: Lanes, _ y: Int, _ x: Int) {
      let v = StridedTransform.filterGradient(a, b, c, d)
      unsafe store(v.0, taps + ((kz.0 * 4 + y) * 4 + x) * lanes)
      unsafe store(v.1, taps + ((kz.1 * 4 + y) * 4 + x) * lanes)
    }
    finish(a.0.0, b.0.0, c.0.0, d.0.0, ky.0, kx.0)
    finish(a.0.1, b.0.1, c.0.1, d.0.1, ky.1, kx.0)
    finish(a.1.0, b.1.0, c.1.0, d.1.0, ky.0, kx.1)
    finish(a.1.1, b.1.1, c.1.1, d.1.1, ky.1, kx.1)
  }
}
