// Pointers, since transforms read and write vectors at 216 points at once. Each `unsafe` here stays within a region
// of a worker's memory, whose lengths follow from the largest block, within a layer's filters, or within a block's
// voxels in the volume. Types that hold a pointer are `@safe`: whoever follows it writes `unsafe`.

/// 3³ convolutions by Winograd's F(4, 3) along each axis: 216 products for 64 outputs instead of 1,728.
///
/// A work item is a block of tiles. Its input is read once, activated on the way, and transformed along z for all its
/// rows; then, for two of the six z-points at a time, along y and x, multiplied with the weights' transform by
/// OpenBLAS, transformed back along x and y, and added into the output's four planes a tile. So the working set of a
/// block stays small however many channels there are.
///
/// Source: Lavin and Gray, CVPR 2016, in three dimensions; `docs/design/winograd.md` has the formulas.
enum WinogradConvolution: SampleKernel {
  static let name = "F(4,3)³"
  static let sumsLayers = true

  /// Also a stride-2 layer's upsampled input, whose taps fold to 3³.
  static func fits(_ shape: ConvolutionShape) -> Bool {
    let isPlain = shape.kernel == 3 && shape.stride == 1 && shape.padding == 1 && shape.outputs >= 8
    return shape.tiles >= 16 && (isPlain || shape.isWideStrided && shape.upsampled)
  }

  static func transforms(_ layer: Convolution, inputs: Int) -> Int {
    Weights.count(rows: inputs, columns: layer.outputs)
  }

  /// Output channels of one product.
  static let panel = 64
  /// Points of a tile: along an axis, in a plane, in all.
  private static let side = 6, plane = 36, points = 216
  /// The z-points that are computed together: ±a, ±b, then 0 and ∞.
  private static let pairs = [(1, 2), (3, 4), (0, 5)]

  /// A volume cut into tiles and blocks of tiles, from its size alone.
  struct Blocks {
    let tiles: Size
    private let z, y, x: Pieces

    init(_ size: Size, most: Int) {
      func tiles(_ n: Int) -> Int { (n + TileTransform.outputs - 1) / TileTransform.outputs }
      let all = Size(tiles(size.z), tiles(size.y), tiles(size.x))
      func pieces(_ n: Int, _ most: Int) -> Pieces {
        let most = max(1, most)
        return Pieces(n, least: 1, limit: (n + most - 1) / most)
      }
      self.tiles = all
      x = pieces(all.x, min(8, most))
      let acrossX = (all.x + x.count - 1) / x.count
      y = pieces(all.y, most / acrossX)
      let acrossY = (all.y + y.count - 1) / y.count
      z = pieces(all.z, most / (acrossX * acrossY))
      largest = Size((all.z + z.count - 1) / z.count, acrossY, acrossX)
    }

    /// Whether few channels are read and written over many tiles: then blocks may be larger, since what a block needs
    /// still fits in the cache, and products have more rows.
    static func isNarrow(_ size: Size, _ channels: Int) -> Bool {
      channels <= 16 && Blocks(size, most: 1).tiles.voxels >= 4096
    }
    static let mostOfNarrow = 128

    /// The most tiles of a block along each axis.
    let largest: Size
    var count: Int { z.count * y.count * x.count }

    subscript(block: Int) -> Block {
      Block(z: z[block / (x.count * y.count)], y: y[block / x.count % y.count], x: x[block % x.count])
    }
  }

  /// The tiles of a block along each axis.
  struct Block {
    let z, y, x: Range<Int>
    var count: Int { z.count * y.count * x.count }
  }

  // MARK: Weights

  /// The transform of a filter bank: for each of 216 points, panels of at most 64 columns, each [rows, width].
  @safe struct Weights {
    let base: UnsafePointer<Float>
    let rows, columns: Int

    var paddedColumns: Int { (columns + lanes - 1) / lanes * lanes }
    var pointCount: Int { rows * paddedColumns }
    var panels: Int { (columns + panel - 1) / panel }
    func width(_ index: Int) -> Int { min(panel, paddedColumns - index * panel) }
    func panelStart(_ point: Int, _ index: Int) -> UnsafePointer<Float> {
      unsafe base + point * pointCount + index * panel * rows
    }
    /// Floats of the transform of rows × columns filters.
    static func count(rows: Int, columns: Int) -> Int {
      points * rows * ((columns + lanes - 1) / lanes * lanes)
    }
  }

  /// Filters of a layer as a matrix of filters: which of its channels are rows and columns.
  @safe struct Filters {
    let weights: UnsafePointer<Float>
    /// Taps of a filter: 27, or 64 that are folded to 27.
    let taps: Int
    /// Distances between neighbouring channels, in filters.
    let rowStep, columnStep: Int
    let rows, columns: [Int]
    /// One a column.
    var factors: [Float]?
    var mirrored = false

    /// Filters from kept input channels, counted from `first`, to all outputs.
    init(_ layer: Convolution, _ p: Parameters, inputs: [Int], first: Int) {
      unsafe weights = UnsafePointer(p[layer.weight].baseAddress!)  // a layer has weights
      taps = layer.kernel == 3 ? 27 : 64
      rowStep = 1
      columnStep = layer.inputs
      rows = inputs.map { first + $0 }
      columns = Array(0..<layer.outputs)
    }

    /// Mirrored filters from all outputs to kept inputs, times their factors.
    init(_ layer: Convolution, _ p: Parameters, backTo inputs: [Int], first: Int, mask: [Float]?) {
      unsafe weights = UnsafePointer(p[layer.weight].baseAddress!)  // a layer has weights
      taps = layer.kernel == 3 ? 27 : 64
      rowStep = layer.inputs
      columnStep = 1
      rows = Array(0..<layer.outputs)
      columns = inputs.map { first + $0 }
      factors = mask.map { mask in inputs.map { mask[$0] } }
      mirrored = true
    }
  }

  /// The three taps into which the four of a stride-2 filter fall along an axis when the input is upsampled: two of
  /// them read the same stored voxel.
  private static let folds = [0, 1, 1, 2]
  private static func folded(_ tap: Int) -> Int {
    (folds[tap / 16] * 3 + folds[tap / 4 % 4]) * 3 + folds[tap % 4]
  }

  /// Rows of weights that are transformed together, so that each point gets a longer piece of memory.
  private static let rowsTogether = 4

  /// Transforms filters one below the other (their rows follow each other), same columns each.
  static func transform(
    _ banks: [Filters], into target: UnsafeMutablePointer<Float>, _ workers: Workers
  ) -> Weights {
    let all = banks.reduce(0) { $0 + $1.rows.count }, columns = banks[0].columns.count
    let weights = unsafe Weights(base: UnsafePointer(target), rows: all, columns: columns)
    let scratch = unsafe workers.scratch((27 + 54 + 108) * lanes + points * rowsTogether * panel)
    let foldings = (0..<64).map { folded($0) }
    var firstRow = 0
    for bank in banks {
      let start = firstRow, groups = (bank.rows.count + rowsTogether - 1) / rowsTogether
      workers.forEach(groups * weights.panels) { item, worker in
        let taps = unsafe scratch[worker], one = unsafe taps + 27 * lanes, two = unsafe one + 54 * lanes,
          local = unsafe two + 108 * lanes
        let p = item % weights.panels, width = weights.width(p)
        let first = item / weights.panels * rowsTogether, count = min(rowsTogether, bank.rows.count - first)
        for row in 0..<count {
          let from = unsafe bank.weights + bank.rows[first + row] * bank.rowStep * bank.taps
          for column in stride(from: 0, to: width, by: lanes) {
            let first = p * panel + column, some = min(lanes, columns - first)
            let filter = unsafe from + bank.columns[first] * bank.columnStep * bank.taps
            // Kept channels may have gaps.
            let step = some == lanes && bank.columns[first + lanes - 1] == bank.columns[first] + lanes - 1
            if bank.taps == 27, step {
              unsafe FilterLanes.read(filter, bank.columnStep * 27, filters: lanes, taps: 27, into: taps)
            } else {
              unsafe taps.update(repeating: 0, count: 27 * lanes)
              for lane in 0..<some {
                let filter = unsafe from + bank.columns[first + lane] * bank.columnStep * bank.taps,
                  to = unsafe taps + lane
                if bank.taps == 27 {
                  for tap in 0..<27 { unsafe to[tap * lanes] = filter[tap] }
                } else {
                  for tap in 0..<64 { unsafe to[foldings[tap] * lanes] += filter[tap] }
                }
              }
            }
            if let factors = bank.factors {
              for lane in 0..<some {
                for tap in 0..<27 { unsafe taps[tap * lanes + lane] *= factors[first + lane] }
              }
            }
            // [z, y, x] → [ζ, y, x] → [ζ, η, x] → [ζ, η, ξ]
            let line = bank.mirrored ? -lanes : lanes,
              origin = unsafe bank.mirrored ? taps + 26 * lanes : taps
            for i in 0..<9 {
              unsafe TileTransform.filter(origin + i * line, 9 * line, one + i * lanes, 9 * lanes)
            }
            for z in 0..<6 {
              for i in 0..<3 {
                unsafe TileTransform.filter(
                  one + (z * 9 + i) * lanes, 3 * lanes, two + (z * 18 + i) * lanes, 3 * lanes)
              }
            }
            for line in 0..<36 {
              unsafe TileTransform.filter(
                two + line * 3 * lanes, lanes, local + (line * 6 * rowsTogether + row) * width + column,
                rowsTogether * width)
            }
          }
        }
        let at = unsafe target + p * panel * all + (start + first) * width
        for point in 0..<points {
          unsafe (at + point * weights.pointCount).update(
            from: local + point * rowsTogether * width, count: count * width)
        }
      }
      firstRow += bank.rows.count
    }
    return weights
  }

  /// From this many tiles on it pays to leave out channels that dropout dropped by copying the others' transformed
  /// weights together; below, zeros are multiplied along.
  private static let tilesWorthPicking = 200

  /// Copies the `kept` rows of each bank, which have `channels` of them, out of transformed filters.
  private static func pick(
    _ kept: [[Int]], of channels: [Int], from whole: Weights, into target: UnsafeMutablePointer<Float>,
    _ workers: Workers
  ) -> Weights {
    var rows: [Int] = [], first = 0
    for (kept, channels) in zip(kept, channels) {
      rows += kept.map { first + $0 }
      first += channels
    }
    let picked = unsafe Weights(base: UnsafePointer(target), rows: rows.count, columns: whole.columns)
    workers.forEach(points * whole.panels) { item, _ in
      let point = item / whole.panels, p = item % whole.panels, width = whole.width(p)
      let from = unsafe whole.panelStart(point, p)
      let to = unsafe target + point * picked.pointCount + p * panel * rows.count
      for (i, row) in rows.enumerated() { unsafe copyValues(from + row * width, into: to + i * width, width) }
    }
    return picked
  }

  // MARK: Forward and data gradient

  static func forward(
    _ samples: [(inputs: [ConvolutionInput], y: Volume)], _ p: Parameters, bias: UnsafePointer<Float>?,
    moments: Bool, _ workers: Workers
  ) -> [Moments?] {
    samples.map { unsafe forward($0.inputs, p, into: $0.y, bias: bias, moments: moments, workers) }
  }

  /// Writes the sum of the inputs' convolutions, starting from `bias` (whole vectors), or from what y holds (nil).
  static func forward(
    _ inputs: [ConvolutionInput], _ p: Parameters, into y: Volume, bias: UnsafePointer<Float>?, moments: Bool,
    _ workers: Workers
  ) -> Moments? {
    var inputs = inputs
    if p.derived != nil, Blocks(y.size, most: 1).tiles.voxels < tilesWorthPicking {
      inputs = inputs.map {
        ConvolutionInput(layer: $0.layer, source: $0.source.keepingAll, first: $0.first)
      }
    }
    let sources = inputs.map { $0.layer.stride == 2 ? $0.source.asStored : $0.source }
    let kept = inputs.map { TileReader.kept($0.source) }, rows = kept.reduce(0) { $0 + $1.count }
    func banks(_ channels: [[Int]]) -> [Filters] {
      zip(inputs, channels).map { Filters($0.layer, p, inputs: $1, first: $0.first) }
    }
    func scratch() -> UnsafeMutablePointer<Float> {
      unsafe workers.sharedScratch(Weights.count(rows: rows, columns: y.channels))
    }
    let weights: Weights
    if let derived = p.derived {
      let channels = inputs.map(\.source.channels), all = channels.reduce(0, +)
      let base = unsafe derived.weights(
        inputs.flatMap { [$0.layer.weight.range.lowerBound, $0.first, $0.source.channels] },
        count: Weights.count(rows: all, columns: y.channels)
      ) { _ = unsafe transform(banks(channels.map { Array(0..<$0) }), into: $0, workers) }
      let whole = unsafe Weights(base: base, rows: all, columns: y.channels)
      weights = unsafe rows == all ? whole : pick(kept, of: channels, from: whole, into: scratch(), workers)
    } else {
      // Only kept channels' weights are wanted, others each time.
      weights = unsafe transform(banks(kept), into: scratch(), workers)
    }
    return unsafe convolve(
      TileReader(sources), weights,
      into: Target(
        base: y.base, size: y.size, pitch: y.channels, start: bias, halved: false, kept: nil),
      moments: moments,
      workers)
  }

  static func dataGradient(
    _ layer: Convolution, _ dy: Volume, _ p: Parameters, first: Int, _ mask: [Float]?, upsampled: Bool,
    into dx: Volume, adding: Bool, _ workers: Workers
  ) {
    let kept = mask.map { mask in mask.indices.filter { mask[$0] != 0 } } ?? Array(0..<dx.channels)
    if kept.isEmpty {
      if !adding { dx.fill(0) }
      return
    }
    let weights = unsafe transform(
      [Filters(layer, p, backTo: kept, first: first, mask: mask)],
      into: workers.sharedScratch(Weights.count(rows: layer.outputs, columns: kept.count)), workers)
    let start = Buffer(zeros: kept.count + lanes)
    withExtendedLifetime(start) {
      _ = unsafe convolve(
        TileReader([LayerInput(dy)]), weights,
        into: Target(
          base: dx.base, size: dx.size, pitch: dx.channels,
          start: adding ? nil : UnsafePointer(start.base),
          halved: upsampled && layer.stride == 1, kept: kept.count < dx.channels ? kept : nil), workers)
    }
  }

  /// Where a convolution's output goes.
  @safe struct Target {
    let base: UnsafeMutablePointer<Float>
    /// Of the volume that is written.
    let size: Size
    /// Floats of a voxel where it is written.
    let pitch: Int
    /// What values are added to, one a column and whole vectors of them: bias or 0.
    /// nil: to what is there.
    let start: UnsafePointer<Float>?
    /// The volume has half the convolution's size and gets the sum of each 2³ voxels (the gradient of upsampling).
    let halved: Bool
    /// The volume's channels that are written; nil: all. The others get 0, or stay as they are without a start.
    let kept: [Int]?
  }

  /// Writes the convolution of what `reader` reads; with `moments` gives Σ and Σ² of each channel of the result.
  @discardableResult
  static func convolve(
    _ reader: TileReader, _ weights: Weights, into target: Target, moments: Bool = false, _ workers: Workers
  ) -> Moments? {
    let size = reader.size, pitch = reader.pitch
    precondition(reader.count == weights.rows, "\(reader.count) channels for \(weights.rows) rows of weights")
    // OpenBLAS has fast kernels for products of at most a million multiplications.
    let blocks = Blocks(
      size,
      most: Blocks.isNarrow(size, max(pitch, weights.paddedColumns))
        ? Blocks.mostOfNarrow : pitch <= 64 ? 32 : max(8, min(48, 1_000_000 / (panel * pitch))))
    // With few blocks the panels are dealt too; each then transforms its input again.
    let groups = blocks.count >= 8 ? 1 : weights.panels
    let own = target.kept == nil ? 0 : 64 * weights.paddedColumns
    let regions = ConvolutionRegions(blocks.largest, pitch: pitch, columns: weights.paddedColumns, own: own)
    let scratch = unsafe workers.scratch(regions.count)
    var sums = [Double](repeating: 0, count: moments ? blocks.count * 2 * weights.columns : 0)
    unsafe sums.withUnsafeMutableBufferPointer { sums in
      nonisolated(unsafe) let sums = unsafe sums
      workers.forEach(blocks.count * groups) { item, worker in
        let block = blocks[item / groups], memory = unsafe scratch[worker]
        let group = item % groups
        let panels = groups == 1 ? 0..<weights.panels : group..<group + 1
        unsafe regions.input.read(block, reader, memory)
        let output = unsafe BlockOutput(target, memory + regions.own, block, weights)
        for (step, pair) in pairs.enumerated() {
          let v = unsafe memory + regions.v
          unsafe regions.input.transform(pair.0, of: block, pitch, memory, into: v)
          unsafe regions.input.transform(
            pair.1, of: block, pitch, memory, into: v + plane * regions.input.point)
          for p in panels {
            unsafe multiply(block.count, reader.count, pair, weights, panel: p, regions, memory)
            unsafe output.add(
              step: step, memory + regions.m, regions.outputPoint, panel: p, width: weights.width(p),
              back: memory + regions.back)
          }
        }
        output.finish(panels)
        if moments {
          let columns = weights.columns
          for p in panels {
            let first = p * panel, end = min(first + panel, columns)
            unsafe output.sums(
              first..<end, into: sums.baseAddress! + item / groups * 2 * columns, columns,
              memory + regions.sums)
          }
        }
      }
    }
    guard moments else { return nil }
    var total = [Double](repeating: 0, count: 2 * weights.columns)
    for block in 0..<blocks.count {
      for c in 0..<2 * weights.columns { total[c] += sums[block * 2 * weights.columns + c] }
    }
    return Moments(sums: Array(total[0..<weights.columns]), squares: Array(total[weights.columns...]))
  }

  /// M = V · U for the 72 points of two z-points and a panel of columns; `rows` channels of `tiles` tiles.
  private static func multiply(
    _ tiles: Int, _ rows: Int, _ pair: (Int, Int), _ weights: Weights, panel p: Int,
    _ regions: ConvolutionRegions, _ memory: UnsafeMutablePointer<Float>
  ) {
    let n = weights.width(p), pitch = regions.input.pitch
    for slice in 0..<2 {
      let zeta = slice == 0 ? pair.0 : pair.1
      for point in 0..<plane {
        let place = slice * plane + point
        unsafe Gemm.product(
          m: tiles, n: n, k: rows, memory + regions.v + place * regions.input.point, pitch,
          weights.panelStart(zeta * plane + point, p), n, beta: 0,
          memory + regions.m + place * regions.outputPoint, n)
      }
    }
  }

  /// A worker's memory for a block of a convolution: offsets of its regions.
  private struct ConvolutionRegions {
    let input: InputTransform
    /// Floats from one point to the next in M.
    let outputPoint: Int
    /// V and M of two z-points; what comes back from them; Σ and Σ² of a plane; the block's own output, if channels are
    /// spread later.
    let v, m, back, sums, own: Int
    let count: Int

    /// For blocks of at most `most` tiles; `columns` in whole vectors, and the `own` floats of a tile.
    init(_ most: Size, pitch: Int, columns: Int, own ownOfTile: Int) {
      var regions = Regions()
      input = InputTransform(most, pitch: pitch, in: &regions)
      outputPoint = most.voxels * panel + 16
      v = regions.add(2 * plane * input.point)
      m = regions.add(2 * plane * outputPoint)
      back = regions.add(48 * lanes)
      sums = regions.add(2 * columns)
      own = regions.add(most.voxels * ownOfTile)
      count = regions.count
    }
  }

  /// How a block's input is read and transformed, and where: its rows of voxels, what they give along z, [tile, ζ, y, x],
  /// and of a z-point along y.
  private struct InputTransform {
    /// Floats of a voxel, of a row, of a plane of rows, and from one point to the next in V.
    let pitch, row, rowsOfPlane, point: Int
    private let rows, stage, lines: Int

    init(_ most: Size, pitch: Int, in regions: inout Regions) {
      self.pitch = pitch
      row = (4 * most.x + 2) * pitch + lanes
      rowsOfPlane = (4 * most.y + 2) * row
      point = most.voxels * pitch + 16
      rows = regions.add((4 * most.z + 2) * row)
      stage = regions.add(most.z * 6 * rowsOfPlane)
      lines = regions.add(6 * row)
    }

    /// Reads and activates the rows, and transforms them along z.
    func read(_ block: Block, _ reader: TileReader, _ memory: UnsafeMutablePointer<Float>) {
      let rows = unsafe memory + rows, stage = unsafe memory + stage
      let bx = block.x.count, by = block.y.count, bz = block.z.count, width = (4 * bx + 2) * reader.pitch
      for line in 0..<4 * by + 2 {
        for j in 0..<4 * bz + 2 {
          unsafe reader.write(
            z: 4 * block.z.lowerBound + j - 1, y: 4 * block.y.lowerBound + line - 1,
            x: 4 * block.x.lowerBound - 1, width: 4 * bx + 2, into: rows + j * row)
        }
        for i in 0..<bz {
          unsafe TileTransform.input(
            rows + 4 * i * row, row, stage + i * 6 * rowsOfPlane + line * row, rowsOfPlane, count: width)
        }
      }
    }

    /// Transforms a z-point along y and x, for voxels of `pitch` floats: [36 points][tile][pitch].
    func transform(
      _ zeta: Int, of block: Block, _ pitch: Int, _ memory: UnsafeMutablePointer<Float>,
      into v: UnsafeMutablePointer<Float>
    ) {
      let stage = unsafe memory + stage, lines = unsafe memory + lines
      let bx = block.x.count, by = block.y.count, width = (4 * bx + 2) * pitch
      for i in 0..<block.z.count {
        for ty in 0..<by {
          unsafe TileTransform.input(
            stage + (i * 6 + zeta) * rowsOfPlane + 4 * ty * row, row, lines, row, count: width)
          for eta in 0..<6 {
            for tx in 0..<bx {
              unsafe TileTransform.input(
                lines + eta * row + 4 * tx * pitch, pitch,
                v + eta * 6 * point + ((i * by + ty) * bx + tx) * pitch, point, count: pitch)
            }
          }
        }
      }
    }
  }

  /// A block's part of the output.
  @safe private struct BlockOutput {
    let target: Target
    let z, y, x: Range<Int>
    let columns: Int
    /// Output voxels of a tile's side, and the block's first and last voxels along each axis.
    let side: Int
    let firstZ, firstY, firstX: Int
    let endZ, endY, endX: Int
    /// Where results are gathered: the target itself, or memory of the block's own if channels are spread later.
    let base: UnsafeMutablePointer<Float>
    let pitch, zStep, yStep: Int
    let isOwn: Bool

    init(
      _ target: Target, _ own: UnsafeMutablePointer<Float>, _ block: Block, _ weights: Weights
    ) {
      self.target = target
      (z, y, x) = (block.z, block.y, block.x)
      columns = weights.columns
      side = target.halved ? 2 : 4
      firstZ = z.lowerBound * side
      firstY = y.lowerBound * side
      firstX = x.lowerBound * side
      endZ = min(z.upperBound * side, target.size.z)
      endY = min(y.upperBound * side, target.size.y)
      endX = min(x.upperBound * side, target.size.x)
      isOwn = target.kept != nil
      if isOwn {
        unsafe base = own
        pitch = weights.paddedColumns
        yStep = (endX - firstX) * pitch
        zStep = (endY - firstY) * yStep
      } else {
        pitch = target.pitch
        yStep = target.size.x * pitch
        zStep = target.size.y * yStep
        unsafe base = target.base + firstZ * zStep + firstY * yStep + firstX * pitch
      }
    }

    /// Transforms the products of two z-points back and adds them.
    func add(
      step: Int, _ m: UnsafePointer<Float>, _ point: Int, panel p: Int, width: Int,
      back: UnsafeMutablePointer<Float>
    ) {
      let by = y.count, bx = x.count
      for tile in 0..<z.count * by * bx {
        let tz = tile / (by * bx), ty = tile / bx % by, tx = tile % bx
        let first = unsafe base + tz * side * zStep + ty * side * yStep + tx * side * pitch
        let nz = min(side, endZ - firstZ - tz * side), ny = min(side, endY - firstY - ty * side)
        let nx = min(side, endX - firstX - tx * side)
        for c in stride(from: 0, to: width, by: lanes) {
          let channels = min(lanes, columns - p * WinogradConvolution.panel - c)
          let from = unsafe m + tile * width + c
          for line in 0..<12 {
            let row = unsafe from + line * 6 * point
            let (v0, v1, v2, v3) = unsafe TileTransform.output(
              load(row), load(row + point), load(row + 2 * point), load(row + 3 * point),
              load(row + 4 * point),
              load(row + 5 * point))
            let to = unsafe back + line * 4 * lanes
            if target.halved {
              unsafe store(v0 + v1, to)
              unsafe store(v2 + v3, to + lanes)
            } else {
              unsafe store(v0, to)
              unsafe store(v1, to + lanes)
              unsafe store(v2, to + 2 * lanes)
              unsafe store(v3, to + 3 * lanes)
            }
          }
          let out = unsafe first + p * WinogradConvolution.panel + c
          // The first values are written, not added, unless the caller adds.
          let writes = unsafe step == 0 && (target.start != nil || isOwn)
          let start = unsafe target.start.map { unsafe load($0 + p * WinogradConvolution.panel + c) } ?? .zero
          for x in 0..<nx {
            let one = unsafe back + x * lanes, two = unsafe one + 24 * lanes, next = 4 * lanes
            var (p0, p1, p2, p3) = unsafe TileTransform.output(
              load(one), load(one + next), load(one + 2 * next), load(one + 3 * next), load(one + 4 * next),
              load(one + 5 * next))
            var (q0, q1, q2, q3) = unsafe TileTransform.output(
              load(two), load(two + next), load(two + 2 * next), load(two + 3 * next), load(two + 4 * next),
              load(two + 5 * next))
            if target.halved {
              p0 += p1
              p1 = p2 + p3
              q0 += q1
              q1 = q2 + q3
            }
            let voxel = unsafe out + x * pitch
            unsafe addLine(step, p0, q0, voxel, nz, channels, start, writes: writes)
            if ny > 1 { unsafe addLine(step, p1, q1, voxel + yStep, nz, channels, start, writes: writes) }
            if ny > 2 { unsafe addLine(step, p2, q2, voxel + 2 * yStep, nz, channels, start, writes: writes) }
            if ny > 3 { unsafe addLine(step, p3, q3, voxel + 3 * yStep, nz, channels, start, writes: writes) }
          }
        }
      }
    }

    /// Adds two z-points' values to the up to four voxels above each other, or writes them added to `start`.
    @inline(__always)
    private func addLine(
      _ step: Int, _ p: Lanes, _ q: Lanes, _ voxel: UnsafeMutablePointer<Float>, _ nz: Int, _ channels: Int,
      _ start: Lanes, writes: Bool
    ) {
      let far = unsafe voxel + (side - 1) * zStep
      if step == 2 {
        unsafe accumulate(p, voxel, channels)
        if nz == side { unsafe accumulate(q, far, channels) }
        return
      }
      let a = step == 0 ? TileTransform.a : TileTransform.b
      let even = p + q, odd = (p - q) * a, second = even * (a * a), third = odd * (a * a)
      if target.halved {
        if writes {
          unsafe write(start + even + odd, voxel, channels)
          if nz > 1 { unsafe write(start + second + third, far, channels) }
        } else {
          unsafe accumulate(even + odd, voxel, channels)
          if nz > 1 { unsafe accumulate(second + third, far, channels) }
        }
      } else if writes {
        unsafe write(start + even, voxel, channels)
        if nz > 1 { unsafe write(start + odd, voxel + zStep, channels) }
        if nz > 2 { unsafe write(start + second, voxel + 2 * zStep, channels) }
        if nz > 3 { unsafe write(start + third, far, channels) }
      } else {
        unsafe accumulate(even, voxel, channels)
        if nz > 1 { unsafe accumulate(odd, voxel + zStep, channels) }
        if nz > 2 { unsafe accumulate(second, voxel + 2 * zStep, channels) }
        if nz > 3 { unsafe accumulate(third, far, channels) }
      }
    }

    @inline(__always)
    private func write(_ v: Lanes, _ to: UnsafeMutablePointer<Float>, _ channels: Int) {
      if channels >= lanes {
        unsafe store(v, to)
      } else {
        for c in 0..<channels { unsafe to[c] = v[c] }
      }
    }

    @inline(__always)
    private func accumulate(_ v: Lanes, _ to: UnsafeMutablePointer<Float>, _ channels: Int) {
      if channels >= lanes {
        unsafe store(load(to) + v, to)
      } else {
        for c in 0..<channels { unsafe to[c] += v[c] }
      }
    }

    /// Spreads the kept channels into the target.
    func finish(_ panels: Range<Int>) {
      guard isOwn, let kept = target.kept else { return }
      let first = panels.lowerBound * WinogradConvolution.panel
      let end = min(panels.upperBound * WinogradConvolution.panel, columns)
      let targetRow = target.size.x * target.pitch
      // Panels write the dropped channels before their first kept one, the last one those behind it too.
      let from = first == 0 ? 0 : kept[first - 1] + 1, to = end == columns ? target.pitch : kept[end - 1] + 1
      for z in 0..<endZ - firstZ {
        for y in 0..<endY - firstY {
          let row =
            unsafe target.base + ((firstZ + z) * target.size.y + firstY + y) * targetRow + firstX
            * target.pitch
          let own = unsafe base + z * zStep + y * yStep
          for x in 0..<endX - firstX {
            let voxel = unsafe row + x * target.pitch, value = unsafe own + x * pitch
            if unsafe target.start != nil { unsafe (voxel + from).update(repeating: 0, count: to - from) }
            for c in first..<end { unsafe voxel[kept[c]] += value[c] }
          }
        }
      }
    }

    /// Adds Σ and Σ² over the block's voxels of some channels to `sums`.
    func sums(
      _ channels: Range<Int>, into sums: UnsafeMutablePointer<Double>, _ columns: Int,
      _ line: UnsafeMutablePointer<Float>
    ) {
      let n = channels.count
      for z in 0..<endZ - firstZ {
        // A plane of a block is short enough for sums of floats.
        unsafe line.update(repeating: 0, count: 2 * n)
        for y in 0..<endY - firstY {
          let row = unsafe base + z * zStep + y * yStep + channels.lowerBound
          for x in 0..<endX - firstX {
            let v = unsafe row + x * pitch
            var c = 0
            while c + lanes <= n {
              let value = unsafe load(v + c)
              unsafe store(load(line + c) + value, line + c)
              unsafe store(load(line + n + c).addingProduct(value, value), line + n + c)
              c += lanes
            }
            while c < n {
              unsafe line[c] += v[c]
              unsafe line[n + c] += v[c] * v[c]
              c += 1
            }
          }
        }
        for c in 0..<n {
          unsafe sums[channels.lowerBound + c] += Double(line[c])
          unsafe sums[columns + channels.lowerBound + c] += Double(line[n + c])
        }
      }
    }
  }

  // MARK: Weight gradient

  static func addWeightGradient(
    _ samples: [(inputs: [ConvolutionInput], dy: Volume)], into dp: ParameterVector, _ workers: Workers
  ) {
    for (inputs, dy) in samples {
      let layer = inputs[0].layer
      addWeightGradient(
        layer, dy, inputs.map { layer.stride == 2 ? $0.source.asStored : $0.source },
        first: inputs[0].first, into: dp, workers)
    }
  }

  /// Adds ∂L/∂weight of the input channels that `sources` read, of which the first is the layer's channel `first`.
  private static func addWeightGradient(
    _ layer: Convolution, _ dy: Volume, _ sources: [LayerInput], first: Int, into dp: ParameterVector,
    _ workers: Workers
  ) {
    let dw = unsafe dp[layer.weight].baseAddress!  // a layer has weights
    let filters = GradientFilters(layer, sources, first: first, columns: dy.channels)
    guard !filters.offsets.isEmpty else { return }
    let readers = (0..<filters.rows.count).map { TileReader(sources, filters.rows[$0]) }
    let gradients = (0..<filters.columns.count).map { TileReader([LayerInput(dy)], filters.columns[$0]) }
    let size = dy.size, panels = filters.panels
    // There is a panel of rows and one of columns.
    let xPitch = readers.map(\.pitch).max()!, gPitch = gradients.map(\.pitch).max()!
    let blocks = Blocks(
      size, most: Blocks.isNarrow(size, max(xPitch, gPitch)) ? Blocks.mostOfNarrow : 32)
    // Each piece has sums of its own, which are written and read once more: few of them where blocks are few.
    let pieces = Pieces(blocks.count, least: 4, limit: max(1, min(16, max(4, blocks.count / 10)) / panels))
    let regions = GradientRegions(blocks.largest, pitch: xPitch, gradientPitch: gPitch)
    let scratch = unsafe workers.scratch(regions.count)
    // [point, row, column]: a product writes one stretch of memory.
    let sumPoint = xPitch * gPitch + 16, sumCount = points * sumPoint
    let sums = unsafe workers.sharedScratch(panels * pieces.count * sumCount)
    workers.forEach(panels * pieces.count) { item, worker in
      let piece = pieces[item / panels], reader = readers[filters.rowPanel(item % panels)]
      let gradient = gradients[filters.columnPanel(item % panels)]
      let memory = unsafe scratch[worker], v = unsafe memory + regions.v, d = unsafe memory + regions.d
      let sum = unsafe sums + item * sumCount
      for index in piece {
        let block = blocks[index]
        unsafe regions.input.read(block, reader, memory)
        unsafe regions.gradient.read(block, gradient, memory)
        for zeta in 0..<6 {
          unsafe regions.input.transform(zeta, of: block, reader.pitch, memory, into: v)
          unsafe regions.gradient.transform(zeta, of: block, gradient.pitch, memory, into: d)
          for point in 0..<plane {
            unsafe Gemm.product(
              m: reader.count, n: gradient.pitch, k: block.count, v + point * regions.input.point,
              reader.pitch, transposedA: true, d + point * regions.gradient.point, gradient.pitch,
              beta: index > piece.lowerBound ? 1 : 0, sum + (zeta * plane + point) * sumPoint,
              gradient.pitch)
          }
        }
      }
    }
    // Pieces in order, then back to the taps.
    let items = (0..<panels).flatMap { p in
      filters.rows[filters.rowPanel(p)].indices.map { (panel: p, row: $0) }
    }
    workers.forEach(items.count) { item, worker in
      let p = items[item].panel, row = items[item].row
      let pitch = gradients[filters.columnPanel(p)].pitch
      let total = unsafe scratch[worker] + regions.total
      let first = filters.rows[filters.rowPanel(p)].lowerBound
      let at = unsafe sums + p * sumCount + (row - first) * pitch
      for point in 0..<points {
        for i in stride(from: 0, to: pitch, by: lanes) {
          let from = unsafe at + point * sumPoint + i
          var value = unsafe load(from)
          for piece in 1..<max(pieces.count, 1) { unsafe value += load(from + piece * panels * sumCount) }
          unsafe store(value, total + point * pitch + i)
        }
      }
      unsafe filters.add(total, pitch, scratch[worker] + regions.taps, row, filters.columnPanel(p), to: dw)
    }
  }

  /// Which filters of a layer a weight gradient is of, and in which panels of at most 64 rows and columns it is summed up.
  private struct GradientFilters {
    /// Where the filters of a row begin.
    let offsets: [Int]
    let rows, columns: Pieces
    /// Taps of a filter as they are stored, and floats from an output's filters to the next one's.
    private let taps, step: Int
    private let foldings: [Int]

    init(_ layer: Convolution, _ sources: [LayerInput], first: Int, columns count: Int) {
      let taps = layer.kernel == 3 ? 27 : 64
      var offsets: [Int] = [], first = first
      for source in sources {
        offsets += TileReader.kept(source).map { (first + $0) * taps }
        first += source.channels
      }
      self.offsets = offsets
      self.taps = taps
      step = layer.inputs * taps
      foldings = (0..<64).map { folded($0) }
      rows = Pieces(offsets.count, least: 1, limit: (offsets.count + panel - 1) / panel)
      columns = Pieces(count, least: 1, limit: (count + panel - 1) / panel)
    }

    var panels: Int { rows.count * columns.count }
    func rowPanel(_ panel: Int) -> Int { panel / columns.count }
    func columnPanel(_ panel: Int) -> Int { panel % columns.count }

    /// Transforms a row's sums, [point, pitch], back to the taps along each axis, and adds them to its filters.
    func add(
      _ sums: UnsafePointer<Float>, _ pitch: Int, _ memory: UnsafeMutablePointer<Float>, _ row: Int,
      _ columnPanel: Int, to dw: UnsafeMutablePointer<Float>
    ) {
      let outputs = columns[columnPanel]
      let one = unsafe memory, two = unsafe one + 108 * lanes, folded = unsafe two + 54 * lanes
      for column in stride(from: 0, to: outputs.count, by: lanes) {
        for line in 0..<36 {
          unsafe TileTransform.filterGradient(
            sums + line * 6 * pitch + column, pitch, one + line * 3 * lanes, lanes)
        }
        for z in 0..<6 {
          for x in 0..<3 {
            unsafe TileTransform.filterGradient(
              one + (z * 18 + x) * lanes, 3 * lanes, two + (z * 9 + x) * lanes, 3 * lanes)
          }
        }
        for i in 0..<9 {
          unsafe TileTransform.filterGradient(two + i * lanes, 9 * lanes, folded + i * lanes, 9 * lanes)
        }
        let some = min(lanes, outputs.count - column)
        let to = unsafe dw + (outputs.lowerBound + column) * step + offsets[row]
        if taps == 27 {
          unsafe FilterLanes.add(folded, 27, to: to, step, filters: some)
        } else {
          for lane in 0..<some {
            for tap in 0..<64 { unsafe to[lane * step + tap] += folded[foldings[tap] * lanes + lane] }
          }
        }
      }
    }
  }

  /// A worker's memory for a block of a weight gradient: offsets of its regions.
  private struct GradientRegions {
    let input: InputTransform
    let gradient: GradientTransform
    /// V and D of a z-point; a row's sums of all pieces, and its taps on their way back.
    let v, d, total, taps: Int
    let count: Int

    init(_ most: Size, pitch: Int, gradientPitch: Int) {
      var regions = Regions()
      input = InputTransform(most, pitch: pitch, in: &regions)
      gradient = GradientTransform(most, pitch: gradientPitch, in: &regions)
      v = regions.add(plane * input.point)
      d = regions.add(plane * gradient.point)
      total = regions.add(points * gradientPitch)
      taps = regions.add((108 + 54 + 27) * lanes)
      count = regions.count
    }
  }

  /// As `InputTransform`, of the output's gradient, whose tiles do not overlap.
  private struct GradientTransform {
    let row, rowsOfPlane, point: Int
    private let rows, stage, lines: Int

    init(_ most: Size, pitch: Int, in regions: inout Regions) {
      row = 4 * most.x * pitch + lanes
      rowsOfPlane = 4 * most.y * row
      point = most.voxels * pitch + 16
      rows = regions.add(4 * row)
      stage = regions.add(most.z * 6 * rowsOfPlane)
      lines = regions.add(6 * row)
    }

    func read(_ block: Block, _ reader: TileReader, _ memory: UnsafeMutablePointer<Float>) {
      let rows = unsafe memory + rows, stage = unsafe memory + stage
      let size = reader.size, x = 4 * block.x.lowerBound, bx = block.x.count, width = 4 * bx * reader.pitch
      for (i, tz) in block.z.enumerated() {
        for line in 0..<4 * block.y.count {
          let y = 4 * block.y.lowerBound + line, to = unsafe stage + i * 6 * rowsOfPlane + line * row
          if 4 * tz + 3 < size.z, let stored = unsafe reader.stored(z: 4 * tz, y: y, x: x, width: 4 * bx) {
            unsafe TileTransform.gradient(
              stored, size.y * size.x * reader.pitch, to, rowsOfPlane, count: width)
            continue
          }
          for j in 0..<4 {
            unsafe reader.write(z: 4 * tz + j, y: y, x: x, width: 4 * bx, into: rows + j * row)
          }
          unsafe TileTransform.gradient(rows, row, to, rowsOfPlane, count: width)
        }
      }
    }

    func transform(
      _ zeta: Int, of block: Block, _ pitch: Int, _ memory: UnsafeMutablePointer<Float>,
      into d: UnsafeMutablePointer<Float>
    ) {
      let stage = unsafe memory + stage, lines = unsafe memory + lines
      let bx = block.x.count, by = block.y.count, width = 4 * bx * pitch
      for i in 0..<block.z.count {
        for ty in 0..<by {
          unsafe TileTransform.gradient(
            stage + (i * 6 + zeta) * rowsOfPlane + 4 * ty * row, row, lines, row, count: width)
          for eta in 0..<6 {
            for tx in 0..<bx {
              unsafe TileTransform.gradient(
                lines + eta * row + 4 * tx * pitch, pitch,
                d + eta * 6 * point + ((i * by + ty) * bx + tx) * pitch, point, count: pitch)
            }
          }
        }
      }
    }
  }
}
