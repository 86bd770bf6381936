// Pointers, since a voxel is one vector. Each `unsafe` here stays within a voxel of a volume; what is behind the
// last one is room that every buffer has. Types that hold a pointer are `@safe`: whoever follows it writes
// `unsafe`.

/// Convolutions of 1³ with at most eight channels on both sides: a small matrix for each voxel, read and written once.
enum PointwiseConvolution: SourceKernel {
  static let name = "pointwise"

  static func fits(_ shape: ConvolutionShape) -> Bool {
    shape.kernel == 1 && shape.stride == 1 && shape.inputs <= lanes && shape.outputs <= lanes
      && !shape.upsampled
  }

  static func forward(
    _ layer: Convolution, _ source: LayerInput, first: Int, _ p: Parameters, into y: Volume,
    bias: UnsafePointer<Float>?, _ workers: Workers
  ) {
    let w = unsafe p[layer.weight]
    unsafe multiply(source, into: y, start: bias, workers) { o, i in unsafe w[o * layer.inputs + first + i] }
  }

  static func dataGradient(
    _ layer: Convolution, _ dy: Volume, _ p: Parameters, first: Int, _ mask: [Float]?, upsampled: Bool,
    into dx: Volume, adding: Bool, _ workers: Workers
  ) {
    precondition(!upsampled, "\(layer.weight.name): no pointwise kernel reads upsampled")
    let w = unsafe p[layer.weight], zeros = Buffer(zeros: lanes)
    withExtendedLifetime(zeros) {
      unsafe multiply(LayerInput(dy), into: dx, start: adding ? nil : UnsafePointer(zeros.base), workers) {
        i, o in
        unsafe w[o * layer.inputs + first + i] * (mask?[i] ?? 1)
      }
    }
  }

  /// y = start + W x, or with no start y += W x; `weight(to, from)`.
  private static func multiply(
    _ source: LayerInput, into y: Volume, start: UnsafePointer<Float>?, _ workers: Workers,
    weight: (Int, Int) -> Float
  ) {
    let inputs = source.channels, outputs = y.channels
    var columns = InlineArray<8, Lanes>(repeating: .zero)
    for i in 0..<inputs { for o in 0..<outputs { columns[i][o] = weight(o, i) } }
    var first = Lanes.zero
    if let start = unsafe start { for o in 0..<outputs { first[o] = unsafe start[o] } }
    let w = columns, begin = first
    let adds = unsafe start == nil, reader = Reader(source),
      pieces = Pieces(y.shape.voxels, least: 4096, limit: 256)
    workers.forEach(pieces.count) { piece, _ in
      for voxel in pieces[piece] {
        let x = reader.values(voxel), to = unsafe y.base + voxel * outputs
        var sum = begin
        for i in 0..<inputs { sum = sum.addingProduct(w[i], Lanes(repeating: x[i])) }
        if outputs == lanes {
          unsafe store(adds ? load(to) + sum : sum, to)
        } else {
          for o in 0..<outputs { unsafe to[o] = adds ? to[o] + sum[o] : sum[o] }
        }
      }
    }
  }

  static func addWeightGradient(
    _ layer: Convolution, _ dy: Volume, _ source: LayerInput, first: Int, into dp: ParameterVector,
    _ workers: Workers
  ) {
    let inputs = source.channels, outputs = dy.channels, dw = unsafe dp[layer.weight]
    let x = Reader(source), g = Reader(LayerInput(dy))
    let pieces = Pieces(dy.shape.voxels, least: 4096, limit: 64), width = lanes * lanes
    var partial = [Double](repeating: 0, count: pieces.count * width)
    unsafe partial.withUnsafeMutableBufferPointer { partial in
      nonisolated(unsafe) let partial = unsafe partial
      workers.forEach(pieces.count) { piece, _ in
        var sums = InlineArray<8, Lanes>(repeating: .zero)
        func flush() {
          for i in 0..<inputs {
            for o in 0..<outputs { unsafe partial[piece * width + i * lanes + o] += Double(sums[i][o]) }
            sums[i] = .zero
          }
        }
        for (n, voxel) in pieces[piece].enumerated() {
          let values = x.values(voxel), gradient = g.values(voxel)
          for i in 0..<inputs { sums[i] = sums[i].addingProduct(gradient, Lanes(repeating: values[i])) }
          // Short sums of floats are added up in Double.
          if n % 256 == 255 { flush() }
        }
        flush()
      }
    }
    for o in 0..<outputs {
      for i in 0..<inputs {
        let sum = (0..<pieces.count).reduce(0.0) { $0 + partial[$1 * width + i * lanes + o] }
        unsafe dw[o * layer.inputs + first + i] += Float(sum)
      }
    }
  }

  /// A voxel's channels as they are read, 0 behind the last.
  @safe private struct Reader: @unchecked Sendable {
    private let base: UnsafeMutablePointer<Float>
    private let channels: Int
    private let scale, shift, slope: Lanes
    private let isActivated: Bool

    init(_ source: LayerInput) {
      unsafe base = source.volume.base
      channels = source.channels
      isActivated = source.scale != nil
      var scale = Lanes(repeating: 1), shift = Lanes.zero
      if let s = source.scale, let t = source.shift {
        for c in 0..<channels { (scale[c], shift[c]) = (s[c], t[c]) }
      }
      (self.scale, self.shift, slope) = (scale, shift, Lanes(repeating: source.slope))
    }

    @inline(__always)
    func values(_ voxel: Int) -> Lanes {
      let from = unsafe base + voxel * channels
      var value = Lanes.zero
      if channels == lanes {
        value = unsafe load(from)
      } else if channels == 4 {
        value = unsafe Lanes(
          lowHalf: UnsafeRawPointer(from).loadUnaligned(as: SIMD4<Float>.self), highHalf: .zero)
      } else {
        for c in 0..<channels { value[c] = unsafe from[c] }
      }
      guard isActivated else { return value }
      let n = shift.addingProduct(value, scale), m = n * slope
      return n.replacing(with: m, where: n .< m)
    }
  }
}
