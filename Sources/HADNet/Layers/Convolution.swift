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

  /// How a kernel computes a layer: chosen from shapes alone.
  enum Method: String {
    /// Winograd's F(4, 3) along each axis; also a stride-2 layer's upsampled input, whose taps fold to 3³.
    case winograd = "F(4,3)³"
    /// Winograd's F(3, 2) along each axis over the parities of a stride-2 layer.
    case strided = "F(3,2)³"
    /// Lanes along x for few channels.
    case narrow
    /// Weights multiplied where they lie, for many channels over few voxels.
    case unfolded
    /// Taps gathered into matrices.
    case gathered
  }

  /// The method for `rows` channels read and `columns` written; `size` is the larger volume's, `tiled` the one that is
  /// cut into tiles.
  private func method(_ rows: Int, _ columns: Int, width: Int, tiled: Size, upsampled: Bool) -> Method {
    let tiles = WinogradConvolution.Blocks(tiled, most: 1).tiles.voxels
    if stride == 1 {
      if NarrowConvolution.fits(self, rows, columns, width: width) { return .narrow }
      if !upsampled, UnfoldedConvolution.fits(self, rows, columns, tiled) { return .unfolded }
      return kernel == 3 && padding == 1 && min(rows, columns) >= 16 && tiles >= 16 ? .winograd : .gathered
    }
    guard kernel == 4 && stride == 2 && padding == 1 && min(rows, columns) >= 16 else { return .gathered }
    return upsampled && tiles >= 16 ? .winograd : .strided
  }

  /// The method of forward and weight gradient for a source of this layer.
  func forwardMethod(_ source: Source) -> Method {
    method(
      source.channels, outputs, width: source.size.x, tiled: outputSize(source.size), upsampled: source.upsampled)
  }

  /// The method of the data gradient into `channels` of `size`, as they are read.
  func dataGradientMethod(_ channels: Int, _ size: Size, upsampled: Bool) -> Method {
    method(outputs, channels, width: size.x, tiled: outputSize(size), upsampled: upsampled)
  }

  /// Writes y, [z, y, x, out], from the sources.
  public func forward(_ sources: [Source], _ p: ParameterVector, into y: Volume, _ workers: Workers) {
    _ = Convolution.forward(
      [ConvolutionTerm(layer: self, sources: sources)], p, into: y, moments: false, workers)
  }

  /// Writes the sum of convolutions of the same outputs; with `moments` gives Σ y and Σ y² of each channel where the
  /// kernel has them at hand.
  static func forward(
    _ terms: [ConvolutionTerm], _ p: ParameterVector, into y: Volume, moments: Bool, _ workers: Workers
  ) -> Moments? {
    workers.measure(terms[0].layer.kind(.forward3, .forward4)) {
      sum(terms, p, into: y, moments: moments, workers)
    }
  }

  private static func sum(
    _ terms: [ConvolutionTerm], _ p: ParameterVector, into y: Volume, moments: Bool, _ workers: Workers
  ) -> Moments? {
    // What the first kernel starts from; whole vectors.
    let start = Buffer(zeros: y.channels + lanes)
    for term in terms {
      if let bias = term.layer.bias { for c in 0..<y.channels { start.base[c] += p[bias][c] } }
    }
    var bias: UnsafePointer<Float>? = UnsafePointer(start.base)
    // What Winograd computes is one sum over all its sources.
    var together: [WinogradConvolution.Input] = []
    for term in terms {
      let layer = term.layer
      layer.check(term.sources, y)
      for part in layer.parts(term.sources, by: { layer.forwardMethod($0) }) {
        switch part.method {
        case .winograd:
          together += part.sources.map { WinogradConvolution.Input(layer: layer, source: $0.source, first: $0.first) }
          continue
        case .strided:
          StridedConvolution.forward(
            layer, part.sources.map(\.source), first: part.sources[0].first, p, into: y, bias: bias, workers)
        case .narrow:
          for (source, first) in part.sources {
            NarrowConvolution.forward(layer, source, first: first, p, into: y, bias: bias, workers)
            bias = nil
          }
        case .unfolded:
          for (source, first) in part.sources {
            UnfoldedConvolution.forward(layer, source, first: first, p, into: y, bias: bias, workers)
            bias = nil
          }
        case .gathered:
          for (source, first) in part.sources {
            GatheredConvolution.forward(layer, source, first: first, p, into: y, bias: bias, workers)
            bias = nil
          }
        }
        bias = nil
      }
    }
    guard !together.isEmpty else { return nil }
    return withExtendedLifetime(start) {
      WinogradConvolution.forward(together, p, into: y, bias: bias, moments: moments, workers)
    }
  }

  /// Neighbouring sources of the same method, each with its first channel.
  private typealias Part = (method: Method, sources: [(source: Source, first: Int)])

  private func kind(_ small: Profile.Kind, _ large: Profile.Kind) -> Profile.Kind {
    kernel == 1 ? .pointwise : kernel == 3 ? small : large
  }

  private func parts(_ sources: [Source], by method: (Source) -> Method) -> [Part] {
    var parts: [Part] = [], first = 0
    for source in sources {
      let method = method(source)
      if parts.last?.method == method {
        parts[parts.count - 1].sources.append((source, first))
      } else {
        parts.append((method, [(source, first)]))
      }
      first += source.channels
    }
    return parts
  }

  /// Adds ∂L/∂weight, and ∂L/∂bias unless a norm behind makes it zero (`biasMatters` false), to `dp`.
  public func addWeightGradient(
    _ dy: Volume, _ sources: [Source], into dp: ParameterVector, biasMatters: Bool, _ workers: Workers
  ) {
    check(sources, dy)
    workers.measure(kind(.weight3, .weight4)) {
      addWeightGradient(dy, parts(sources, by: { forwardMethod($0) }), into: dp, workers)
      if biasMatters, let bias {
        let sums = channelSums(dy, workers)
        for (c, sum) in sums.enumerated() { dp[bias][c] += Float(sum) }
      }
    }
  }

  private func addWeightGradient(_ dy: Volume, _ parts: [Part], into dp: ParameterVector, _ workers: Workers) {
    for part in parts {
      switch part.method {
      case .winograd:
        WinogradConvolution.addWeightGradient(
          self, dy, part.sources.map { stride == 2 ? $0.source.asStored : $0.source }, first: part.sources[0].first,
          into: dp, workers)
      case .strided:
        StridedConvolution.addWeightGradient(
          self, dy, part.sources.map(\.source), first: part.sources[0].first, into: dp, workers)
      case .narrow:
        for (source, first) in part.sources {
          NarrowConvolution.addWeightGradient(self, dy, source, first: first, into: dp, workers)
        }
      case .unfolded:
        for (source, first) in part.sources {
          UnfoldedConvolution.addWeightGradient(self, dy, source, first: first, into: dp, workers)
        }
      case .gathered:
        for (source, first) in part.sources {
          GatheredConvolution.addWeightGradient(self, dy, source, first: first, into: dp, workers)
        }
      }
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
    workers.measure(kind(.data3, .data4)) {
      dataGradient(
        dy, p, first: first, mask, dataGradientMethod(dx.channels, size, upsampled: upsampled), upsampled: upsampled,
        into: dx, adding: adding, workers)
    }
  }

  private func dataGradient(
    _ dy: Volume, _ p: ParameterVector, first: Int, _ mask: [Float]?, _ method: Method, upsampled: Bool,
    into dx: Volume, adding: Bool, _ workers: Workers
  ) {
    switch method {
    case .winograd:
      WinogradConvolution.dataGradient(
        self, dy, p, first: first, mask, upsampled: upsampled, into: dx, adding: adding, workers)
    case .strided:
      StridedConvolution.dataGradient(
        self, dy, first: first, p, mask, upsampled: upsampled, into: dx, adding: adding, workers)
    case .narrow:
      NarrowConvolution.dataGradient(
        self, dy, p, first: first, mask, upsampled: upsampled, into: dx, adding: adding, workers)
    case .unfolded:
      UnfoldedConvolution.dataGradient(self, dy, p, first: first, mask, into: dx, adding: adding, workers)
    case .gathered:
      GatheredConvolution.dataGradient(
        self, dy, p, first: first, mask, upsampled: upsampled, into: dx, adding: adding, workers)
    }
  }

  private func check(_ sources: [Source], _ y: Volume) {
    precondition(
      sources.reduce(0) { $0 + $1.channels } == inputs && y.channels == outputs
        && sources.allSatisfy { outputSize($0.size) == y.size },
      "\(weight.name): \(sources.map { "\($0.size)×\($0.channels)" }) into \(y.shape)")
  }
}

/// A convolution of its sources, as a part of a sum.
struct ConvolutionTerm {
  let layer: Convolution
  let sources: [Source]
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
