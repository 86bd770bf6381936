// Pointers, since taps are turned in whole vectors. Each `unsafe` here stays within a volume's voxels, a layer's
// taps, or the scratch memory that is asked for beside it.

/// Convolutions of many channels over few voxels, where weights are most of the data: the input is unfolded into one
/// row of taps a voxel, in the order in which the weights are stored, so that these are multiplied where they lie.
enum UnfoldedConvolution: SourceKernel {
  static let name = "unfolded"

  /// Output channels, or input channels, of a work item.
  private static let panel = 64, group = lanes

  static func fits(_ shape: ConvolutionShape) -> Bool {
    shape.kernel == 3 && shape.stride == 1 && !shape.upsampled && shape.tiled.voxels <= 384
      && shape.inputs >= 32 && shape.outputs >= 32
  }

  /// The taps of every output voxel, [voxel, in, tap].
  private static func unfold(
    _ layer: Convolution, _ source: LayerInput, _ out: Size, _ workers: Workers
  ) -> UnsafeMutablePointer<Float> {
    // Dropped channels are read as zeros: the weights have all.
    let reader = TileReader([source.keepingAll]), kernel = layer.kernel, taps = kernel * kernel * kernel
    let padded = Size(
      source.size.z + 2 * layer.padding, source.size.y + 2 * layer.padding, source.size.x + 2 * layer.padding)
    let pitch = reader.pitch, columns = source.channels * taps
    let unfolded = unsafe workers.sharedScratch(out.voxels * columns + padded.voxels * pitch + lanes)
    let stage = unsafe unfolded + out.voxels * columns
    for z in 0..<padded.z {
      for y in 0..<padded.y {
        unsafe reader.write(
          z: z - layer.padding, y: y - layer.padding, x: -layer.padding, width: padded.x,
          into: stage + (z * padded.y + y) * padded.x * pitch)
      }
    }
    let scratch = unsafe workers.scratch(taps * lanes)
    workers.forEach((source.channels + group - 1) / group) { item, worker in
      let first = item * group, count = min(group, source.channels - first), lines = unsafe scratch[worker]
      for voxel in 0..<out.voxels {
        let from = start(voxel, out, padded, layer.stride)
        for tap in 0..<taps {
          unsafe store(
            load(stage + (from + offset(tap, kernel, padded)) * pitch + first), lines + tap * lanes)
        }
        unsafe FilterLanes.write(
          lines, taps, to: unfolded + voxel * columns + first * taps, taps, filters: count)
      }
    }
    return unsafe unfolded
  }

  /// The padded voxel at which an output voxel's taps start, and a tap's distance from it.
  private static func start(_ voxel: Int, _ out: Size, _ padded: Size, _ stride: Int) -> Int {
    let z = voxel / (out.y * out.x), y = voxel / out.x % out.y, x = voxel % out.x
    return (z * stride * padded.y + y * stride) * padded.x + x * stride
  }

  @inline(__always)
  private static func offset(_ tap: Int, _ kernel: Int, _ padded: Size) -> Int {
    (tap / (kernel * kernel) * padded.y + tap / kernel % kernel) * padded.x + tap % kernel
  }

  /// Writes the convolution of the layer's input channels `first`…, starting from `bias`, or from what y holds (nil).
  static func forward(
    _ layer: Convolution, _ source: LayerInput, first: Int, _ p: Parameters, into y: Volume,
    bias: UnsafePointer<Float>?, _ workers: Workers
  ) {
    let unfolded = unsafe unfold(layer, source, y.size, workers), voxels = y.shape.voxels,
      outputs = layer.outputs
    let taps = layer.kernel * layer.kernel * layer.kernel, columns = source.channels * taps
    let w = unsafe UnsafePointer(p[layer.weight].baseAddress!) + first * taps  // a layer has weights
    workers.forEach((outputs + panel - 1) / panel) { item, _ in
      let outs = item * panel..<min((item + 1) * panel, outputs)
      if let bias = unsafe bias {
        for voxel in 0..<voxels {
          for o in outs { unsafe y.base[voxel * outputs + o] = bias[o] }
        }
      }
      unsafe Gemm.product(
        m: voxels, n: outs.count, k: columns, unfolded, columns, w + outs.lowerBound * layer.inputs * taps,
        layer.inputs * taps, transposedB: true, beta: 1, y.base + outs.lowerBound, outputs)
    }
  }

  /// Adds ∂L/∂weight of input channels `first`….
  static func addWeightGradient(
    _ layer: Convolution, _ dy: Volume, _ source: LayerInput, first: Int, into dp: ParameterVector,
    _ workers: Workers
  ) {
    let unfolded = unsafe unfold(layer, source, dy.size, workers), outputs = layer.outputs
    let taps = layer.kernel * layer.kernel * layer.kernel, columns = source.channels * taps
    let dw = unsafe dp[layer.weight].baseAddress! + first * taps  // a layer has weights
    workers.forEach((outputs + panel - 1) / panel) { item, _ in
      let outs = item * panel..<min((item + 1) * panel, outputs)
      unsafe Gemm.product(
        m: outs.count, n: columns, k: dy.shape.voxels, dy.base + outs.lowerBound, outputs, transposedA: true,
        unfolded,
        columns, beta: 1, dw + outs.lowerBound * layer.inputs * taps, layer.inputs * taps)
    }
  }

  /// Writes, or adds, ∂L/∂x of input channels `first`….
  static func dataGradient(
    _ layer: Convolution, _ dy: Volume, _ p: Parameters, first: Int, _ mask: [Float]?, upsampled: Bool,
    into dx: Volume, adding: Bool, _ workers: Workers
  ) {
    precondition(!upsampled, "\(layer.weight.name): no unfolded kernel reads upsampled")
    let taps = layer.kernel * layer.kernel * layer.kernel, voxels = dy.shape.voxels
    let w = unsafe UnsafePointer(p[layer.weight].baseAddress!) + first * taps  // a layer has weights
    let padded = Size(
      dx.size.z + 2 * layer.padding, dx.size.y + 2 * layer.padding, dx.size.x + 2 * layer.padding)
    let most = group * taps
    let scratch = unsafe workers.scratch(voxels * most + padded.voxels * lanes + taps * lanes)
    workers.forEach((dx.channels + group - 1) / group) { item, worker in
      let channels = item * group..<min((item + 1) * group, dx.channels), columns = channels.count * taps
      let unfolded = unsafe scratch[worker], sum = unsafe unfolded + voxels * most,
        lines = unsafe sum + padded.voxels * lanes
      unsafe Gemm.product(
        m: voxels, n: columns, k: layer.outputs, dy.base, layer.outputs, w + channels.lowerBound * taps,
        layer.inputs * taps, beta: 0, unfolded, columns)
      unsafe sum.update(repeating: 0, count: padded.voxels * lanes)
      for voxel in 0..<voxels {
        unsafe FilterLanes.read(
          unfolded + voxel * columns, taps, filters: channels.count, taps: taps, into: lines)
        let to = start(voxel, dy.size, padded, layer.stride)
        for tap in 0..<taps {
          let place = unsafe sum + (to + offset(tap, layer.kernel, padded)) * lanes
          unsafe store(load(place) + load(lines + tap * lanes), place)
        }
      }
      for voxel in 0..<dx.shape.voxels {
        let z = voxel / (dx.size.y * dx.size.x), y = voxel / dx.size.x % dx.size.y, x = voxel % dx.size.x
        let line = (z + layer.padding) * padded.y + y + layer.padding
        let from = unsafe sum + (line * padded.x + x + layer.padding) * lanes
        let to = unsafe dx.base + voxel * dx.channels
        for c in channels {
          unsafe to[c] = (adding ? to[c] : 0) + from[c - channels.lowerBound] * (mask?[c] ?? 1)
        }
      }
    }
  }
}
