/// A three-dimensional convolution with a cubic kernel and zero padding, over the channels of one or more
/// sources side by side (a concatenation that is never written).
///
/// Kernels sit behind three functions, `forward`, `addWeightGradient` and `dataGradient`; networks know no others.
public struct Convolution: Sendable {
  public let weight: Parameter  // [out, in, z, y, x]
  public let bias: Parameter?  // [out]
  public let inputs, outputs: Int
  public let kernel, stride, padding: Int

  /// `biasName` is nil for a convolution without bias.
  public init(
    _ name: String, _ inputs: Int, _ outputs: Int, kernel: Int = 3, stride: Int = 1, padding: Int = 1,
    bias hasBias: Bool = true, in layout: inout ParameterLayout
  ) {
    weight = layout.add("\(name).weight", outputs, inputs, kernel, kernel, kernel)
    bias = hasBias ? layout.add("\(name).bias", outputs) : nil
    self.inputs = inputs
    self.outputs = outputs
    self.kernel = kernel
    self.stride = stride
    self.padding = padding
  }

  /// The output's size for an input of size `size`.
  public func outputSize(_ size: Size) -> Size {
    func side(_ n: Int) -> Int { n + 2 * padding < kernel ? 0 : (n + 2 * padding - kernel) / stride + 1 }
    return Size(side(size.z), side(size.y), side(size.x))
  }

  /// Writes y, [z, y, x, out], from the sources; with `adding` adds to what y holds.
  public func forward(
    _ sources: [Source], _ p: ParameterVector, into y: Volume, adding: Bool = false, _ workers: Workers
  ) {
    check(sources, y)
    var first = 0
    for (i, source) in sources.enumerated() {
      let channels = first..<first + source.channels
      if NarrowConvolution.fits(self, channels.count, width: source.size.x) {
        NarrowConvolution.forward(
          self, source, channels, p, into: y, bias: i == 0, adding: adding || i > 0, workers)
      } else {
        GatheredConvolution.forward(
          self, source, channels, p, into: y, bias: i == 0, adding: adding || i > 0, workers)
      }
      first = channels.upperBound
    }
  }

  /// Adds ∂L/∂weight, and ∂L/∂bias unless a norm behind makes it zero (`biasMatters` false), to `dp`.
  public func addWeightGradient(
    _ dy: Volume, _ sources: [Source], into dp: ParameterVector, biasMatters: Bool, _ workers: Workers
  ) {
    check(sources, dy)
    var first = 0
    for source in sources {
      let channels = first..<first + source.channels
      if NarrowConvolution.fits(self, channels.count, width: source.size.x) {
        NarrowConvolution.addWeightGradient(self, dy, source, channels, into: dp, workers)
      } else {
        GatheredConvolution.addWeightGradient(self, dy, source, channels, into: dp, workers)
      }
      first = channels.upperBound
    }
    if biasMatters, let bias {
      let sums = channelSums(dy, workers)
      for (c, sum) in sums.enumerated() { dp[bias][c] += Float(sum) }
    }
  }

  /// Writes ∂L/∂(stored values before dropout and upsampling) of the input channels from `first` on, as many as
  /// `dx` has, for a source with this `mask` and upsampling; with `adding` adds to what `dx` holds.
  public func dataGradient(
    _ dy: Volume, _ p: ParameterVector, first: Int = 0, mask: [Float]? = nil, upsampled: Bool = false,
    into dx: Volume, adding: Bool = false, _ workers: Workers
  ) {
    let size = upsampled ? dx.size.doubled : dx.size
    precondition(
      outputSize(size) == dy.size && dy.channels == outputs && first + dx.channels <= inputs,
      "\(weight.name): gradient \(dy.shape) into \(dx.shape)")
    let channels = first..<first + dx.channels
    if NarrowConvolution.fitsTransposed(self, channels.count, width: size.x) {
      NarrowConvolution.dataGradient(
        self, dy, p, channels, mask, upsampled: upsampled, into: dx, adding: adding, workers)
    } else if stride == 1 {
      GatheredConvolution.dataGradient(
        self, dy, p, channels, mask, upsampled: upsampled, into: dx, adding: adding, workers)
    } else {
      GatheredConvolution.stridedDataGradient(
        self, dy, p, channels, mask, upsampled: upsampled, into: dx, adding: adding, workers)
    }
  }

  private func check(_ sources: [Source], _ y: Volume) {
    precondition(
      sources.reduce(0) { $0 + $1.channels } == inputs && y.channels == outputs
        && sources.allSatisfy { outputSize($0.size) == y.size },
      "\(weight.name): \(sources.map { "\($0.size)×\($0.channels)" }) into \(y.shape)")
  }
}

/// Σ over voxels for each channel, in Double, over pieces that the shape decides.
func channelSums(_ x: Volume, _ workers: Workers) -> [Double] {
  let channels = x.channels, rows = x.size.z * x.size.y, width = x.size.x
  let pieces = Pieces(rows, least: 16, limit: 64)
  var partial = [Double](repeating: 0, count: pieces.count * channels)
  partial.withUnsafeMutableBufferPointer { partial in
    let partial = partial.baseAddress!  // there is at least one piece of at least one channel
    workers.forEach(pieces.count) { piece, _ in
      let sums = partial + piece * channels
      for row in pieces[piece] {
        var v = x.base + row * width * channels
        for _ in 0..<width {
          for c in 0..<channels { sums[c] += Double(v[c]) }
          v += channels
        }
      }
    }
  }
  var sums = [Double](repeating: 0, count: channels)
  for piece in 0..<pieces.count {
    for c in 0..<channels { sums[c] += partial[piece * channels + c] }
  }
  return sums
}
