/// A three-dimensional convolution with a cubic kernel and zero padding, over the channels of one or more
/// sources side by side (a concatenation that is never written).
///
/// Kernels sit behind three functions, `forward`, `addWeightGradient` and `dataGradient`; networks know no others.
package struct Convolution: Sendable {
  package let weight: Parameter  // [out, in, z, y, x]
  package let bias: Parameter?  // [out]
  package let inputs, outputs: Int
  package let kernel, stride, padding: Int

  /// `biasName` is nil for a convolution without bias.
  package init(
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

  /// Stride 1, the same size as its input, no bias; with a name of its own for the weights.
  package init(
    weight name: String, _ inputs: Int, _ outputs: Int, kernel: Int, in layout: inout ParameterLayout
  ) {
    weight = layout.add(name, outputs, inputs, kernel, kernel, kernel)
    bias = nil
    self.inputs = inputs
    self.outputs = outputs
    self.kernel = kernel
    stride = 1
    padding = kernel / 2
  }

  /// Where weight and bias lie in the vector.
  package var parameters: Range<Int> { weight.range.lowerBound..<(bias?.range ?? weight.range).upperBound }

  /// The output's size for an input of size `size`.
  package func outputSize(_ size: Size) -> Size {
    func side(_ n: Int) -> Int { n + 2 * padding < kernel ? 0 : (n + 2 * padding - kernel) / stride + 1 }
    return Size(side(size.z), side(size.y), side(size.x))
  }

  /// How a kernel computes a layer: chosen from shapes alone.
  package enum Method: String {
    /// Winograd's F(4, 3) along each axis; also a stride-2 layer's upsampled input, whose taps fold to 3³.
    case winograd = "F(4,3)³"
    /// Winograd's F(3, 2) along each axis over the parities of a stride-2 layer.
    case strided = "F(3,2)³"
    /// Lanes along x for few channels.
    case narrow
    /// A small matrix for each voxel.
    case pointwise
    /// Weights multiplied where they lie, for many channels over few voxels.
    case unfolded
    /// Taps gathered into matrices.
    case gathered
  }

  /// The method for `rows` channels read and `columns` written; `size` is the larger volume's, `tiled` the one that is
  /// cut into tiles.
  package func method(_ rows: Int, _ columns: Int, width: Int, tiled: Size, upsampled: Bool) -> Method {
    let tiles = WinogradConvolution.Blocks(tiled, most: 1).tiles.voxels
    if stride == 1 {
      if PointwiseConvolution.fits(self, rows, columns, upsampled: upsampled) { return .pointwise }
      // Measured: from 8 outputs and 4 inputs on transforms win even over the kernel made for few channels.
      let isNarrow = columns < 8 || rows < 4 || tiles < 16
      if isNarrow, NarrowConvolution.fits(self, rows, columns, width: width) { return .narrow }
      if !upsampled, UnfoldedConvolution.fits(self, rows, columns, tiled) { return .unfolded }
      return kernel == 3 && padding == 1 && columns >= 8 && tiles >= 16 ? .winograd : .gathered
    }
    guard kernel == 4 && stride == 2 && padding == 1 && columns >= (rows < 16 ? 64 : 16) else {
      return .gathered
    }
    return upsampled && tiles >= 16 ? .winograd : .strided
  }

  /// The method of forward and weight gradient for a source of this layer.
  package func forwardMethod(_ source: LayerInput) -> Method {
    method(
      source.channels, outputs, width: source.size.x, tiled: outputSize(source.size),
      upsampled: source.upsampled)
  }

  /// The method of the data gradient into `channels` of `size`, as they are read.
  package func dataGradientMethod(_ channels: Int, _ size: Size, upsampled: Bool) -> Method {
    method(outputs, channels, width: size.x, tiled: outputSize(size), upsampled: upsampled)
  }

  /// Writes y, [z, y, x, out], from the sources.
  package func forward(_ sources: [LayerInput], _ p: Parameters, into y: Volume, _ workers: Workers) {
    _ = Convolution.forward(
      [Sum([ConvolutionTerm(layer: self, sources: sources)], y)], p, moments: false, workers)
  }

  /// What convolutions of the same outputs are added up to.
  package struct Sum {
    let terms: [ConvolutionTerm]
    let y: Volume

    package init(_ terms: [ConvolutionTerm], _ y: Volume) {
      self.terms = terms
      self.y = y
    }
  }

  /// Computes sums of the same layers for several samples; with `moments` gives Σ y and Σ y² of each channel where the
  /// kernel has them at hand.
  package static func forward(
    _ samples: [Sum], _ p: Parameters, moments: Bool, _ workers: Workers
  ) -> [Moments?] {
    workers.measure(samples[0].terms[0].layer.kind(.forward3, .forward4)) {
      let terms = samples[0].terms, outputs = samples[0].y.channels
      // What the first kernel starts from; whole vectors.
      let start = Buffer(zeros: outputs + lanes)
      for term in terms {
        if let bias = term.layer.bias { for c in 0..<outputs { start.base[c] += p[bias][c] } }
      }
      return withExtendedLifetime(start) {
        // Where weights are most of the work, samples share it.
        if terms.count == 1, let strided = terms[0].layer.stridedPart(terms[0].sources) {
          StridedConvolution.forward(
            terms[0].layer, samples.map { (Array($0.terms[0].sources[strided]), $0.y) }, first: 0, p,
            bias: UnsafePointer(start.base), workers)
          let rest = strided.upperBound..<terms[0].sources.count
          return samples.map { sum($0, skipping: rest.lowerBound, p, bias: nil, moments: moments, workers) }
        }
        return samples.map {
          sum($0, skipping: 0, p, bias: UnsafePointer(start.base), moments: moments, workers)
        }
      }
    }
  }

  /// The first sources that are computed by parities, if there are any.
  private func stridedPart(_ sources: [LayerInput]) -> Range<Int>? {
    let count = sources.prefix { forwardMethod($0) == .strided }.count
    return count == 0 ? nil : 0..<count
  }

  /// Adds up what each term's sources give but the first `skipping`, starting from `bias`, or from what y holds (nil).
  private static func sum(
    _ sum: Sum, skipping: Int, _ p: Parameters, bias: UnsafePointer<Float>?, moments: Bool,
    _ workers: Workers
  ) -> Moments? {
    let y = sum.y
    var bias = bias
    // What Winograd computes is one sum over all its sources.
    var together: [WinogradConvolution.Input] = []
    for term in sum.terms {
      let layer = term.layer
      layer.check(term.sources, y)
      for part in layer.parts(term.sources, skipping: skipping, by: { layer.forwardMethod($0) }) {
        if part.method == .winograd {
          together += part.sources.map {
            WinogradConvolution.Input(layer: layer, source: $0.source, first: $0.first)
          }
          continue
        }
        if part.method == .strided {
          StridedConvolution.forward(
            layer, [(part.sources.map(\.source), y)], first: part.sources[0].first, p, bias: bias, workers)
          bias = nil
          continue
        }
        for (source, first) in part.sources {
          switch part.method {
          case .narrow:
            NarrowConvolution.forward(layer, source, first: first, p, into: y, bias: bias, workers)
          case .pointwise:
            PointwiseConvolution.forward(layer, source, first: first, p, into: y, bias: bias, workers)
          case .unfolded:
            UnfoldedConvolution.forward(layer, source, first: first, p, into: y, bias: bias, workers)
          default: GatheredConvolution.forward(layer, source, first: first, p, into: y, bias: bias, workers)
          }
          bias = nil
        }
      }
    }
    guard !together.isEmpty else { return nil }
    return WinogradConvolution.forward(together, p, into: y, bias: bias, moments: moments, workers)
  }

  /// Neighbouring sources of the same method, each with its first channel.
  private typealias Part = (method: Method, sources: [(source: LayerInput, first: Int)])

  private func kind(_ small: Profile.Kind, _ large: Profile.Kind) -> Profile.Kind {
    kernel == 1 ? .pointwise : kernel == 3 ? small : large
  }

  private func parts(_ sources: [LayerInput], skipping: Int = 0, by method: (LayerInput) -> Method) -> [Part]
  {
    var parts: [Part] = [], first = 0
    for (i, source) in sources.enumerated() {
      guard i >= skipping else {
        first += source.channels
        continue
      }
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
  package func addWeightGradient(
    _ dy: Volume, _ sources: [LayerInput], into dp: ParameterVector, biasMatters: Bool, _ workers: Workers
  ) {
    addWeightGradient([(sources, dy)], into: dp, biasMatters: biasMatters, workers)
  }

  /// The same, summed over several samples.
  func addWeightGradient(
    _ samples: [(sources: [LayerInput], dy: Volume)], into dp: ParameterVector, biasMatters: Bool,
    _ workers: Workers
  ) {
    workers.measure(kind(.weight3, .weight4)) {
      let strided = stridedPart(samples[0].sources)?.count ?? 0
      if strided > 0 {
        StridedConvolution.addWeightGradient(
          self, samples.map { (Array($0.sources[..<strided]), $0.dy) }, first: 0, into: dp, workers)
      }
      for (sources, dy) in samples {
        check(sources, dy)
        addWeightGradient(
          dy, parts(sources, skipping: strided, by: { forwardMethod($0) }), into: dp, workers)
        if biasMatters, let bias {
          let sums = channelSums(dy, workers)
          for (c, sum) in sums.enumerated() { dp[bias][c] += Float(sum) }
        }
      }
    }
  }

  private func addWeightGradient(_ dy: Volume, _ parts: [Part], into dp: ParameterVector, _ workers: Workers)
  {
    for part in parts {
      let first = part.sources[0].first
      switch part.method {
      case .winograd:
        WinogradConvolution.addWeightGradient(
          self, dy, part.sources.map { stride == 2 ? $0.source.asStored : $0.source }, first: first, into: dp,
          workers)
      case .strided:
        StridedConvolution.addWeightGradient(
          self, [(part.sources.map(\.source), dy)], first: first, into: dp, workers)
      case .narrow:
        for (source, first) in part.sources {
          NarrowConvolution.addWeightGradient(self, dy, source, first: first, into: dp, workers)
        }
      case .pointwise:
        for (source, first) in part.sources {
          PointwiseConvolution.addWeightGradient(self, dy, source, first: first, into: dp, workers)
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
  package func dataGradient(
    _ dy: Volume, _ p: Parameters, first: Int = 0, mask: [Float]? = nil, upsampled: Bool = false,
    into dx: Volume, adding: Bool = false, _ workers: Workers
  ) {
    dataGradient([(dy, dx)], p, first: first, mask: mask, upsampled: upsampled, adding: adding, workers)
  }

  /// The same for several samples.
  package func dataGradient(
    _ samples: [(dy: Volume, dx: Volume)], _ p: Parameters, first: Int = 0, mask: [Float]? = nil,
    upsampled: Bool = false, adding: Bool = false, _ workers: Workers
  ) {
    let (dy, dx) = samples[0], size = upsampled ? dx.size.doubled : dx.size
    precondition(
      outputSize(size) == dy.size && dy.channels == outputs && first + dx.channels <= inputs,
      "\(weight.name): gradient \(dy.shape) into \(dx.shape)")
    workers.measure(kind(.data3, .data4)) {
      let method = dataGradientMethod(dx.channels, size, upsampled: upsampled)
      if method == .strided {
        return StridedConvolution.dataGradient(
          self, samples, first: first, p, mask, upsampled: upsampled, adding: adding, workers)
      }
      for (dy, dx) in samples {
        switch method {
        case .winograd:
          WinogradConvolution.dataGradient(
            self, dy, p, first: first, mask, upsampled: upsampled, into: dx, adding: adding, workers)
        case .narrow:
          NarrowConvolution.dataGradient(
            self, dy, p, first: first, mask, upsampled: upsampled, into: dx, adding: adding, workers)
        case .pointwise:
          PointwiseConvolution.dataGradient(
            self, dy, p, first: first, mask, into: dx, adding: adding, workers)
        case .unfolded:
          UnfoldedConvolution.dataGradient(self, dy, p, first: first, mask, into: dx, adding: adding, workers)
        case .gathered, .strided:
          GatheredConvolution.dataGradient(
            self, dy, p, first: first, mask, upsampled: upsampled, into: dx, adding: adding, workers)
        }
      }
    }
  }

  private func check(_ sources: [LayerInput], _ y: Volume) {
    precondition(
      sources.reduce(0) { $0 + $1.channels } == inputs && y.channels == outputs
        && sources.allSatisfy { outputSize($0.size) == y.size },
      "\(weight.name): \(sources.map { "\($0.size)×\($0.channels)" }) into \(y.shape)")
  }
}

/// A convolution of its sources, as a part of a sum.
package struct ConvolutionTerm {
  let layer: Convolution
  let sources: [LayerInput]

  package init(layer: Convolution, sources: [LayerInput]) {
    self.layer = layer
    self.sources = sources
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
