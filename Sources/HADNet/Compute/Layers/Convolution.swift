// Each `unsafe` here stays within a channel's place of a volume, or in `start`, which has all outputs in whole
// vectors.

/// A three-dimensional convolution with a cubic kernel and zero padding, over the channels of one or more
/// sources side by side (a concatenation that is never written).
///
/// Kernels (`ConvolutionKernel`) sit behind three functions, `forward`, `addWeightGradient` and `dataGradient`; networks know
/// no others.
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

  /// The shape that a kernel is chosen by: of forward and weight gradient for `channels` of an input of `size`, or of the
  /// data gradient into as many.
  func shape(_ channels: Int, _ size: Size, upsampled: Bool, isDataGradient: Bool = false) -> ConvolutionShape
  {
    ConvolutionShape(
      kernel: kernel, stride: stride, padding: padding, inputs: isDataGradient ? outputs : channels,
      outputs: isDataGradient ? channels : outputs, width: size.x, tiled: outputSize(size),
      upsampled: upsampled, isDataGradient: isDataGradient)
  }

  /// The name of the kernel of forward and weight gradient for a source of this layer.
  package func kernelName(_ source: LayerInput) -> String { kernel(source).name }

  /// The name of the kernel of the data gradient into `channels` of `size`, as they are read.
  package func dataGradientKernelName(_ channels: Int, _ size: Size, upsampled: Bool) -> String {
    Convolution.kernel(for: shape(channels, size, upsampled: upsampled, isDataGradient: true)).name
  }

  /// Floats that the workers share for the transforms of `channels` of an input of `size`.
  package func transforms(_ channels: Int, _ size: Size, upsampled: Bool) -> Int {
    Convolution.kernel(for: shape(channels, size, upsampled: upsampled))
      .transforms(self, inputs: channels)
  }

  private func kernel(_ source: LayerInput) -> any ConvolutionKernel.Type {
    Convolution.kernel(for: shape(source.channels, source.size, upsampled: source.upsampled))
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

    /// `y`, [z, y, x, out], is overwritten.
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
      let outputs = samples[0].y.channels
      // What the first kernel starts from; whole vectors.
      let start = Buffer(zeros: outputs + lanes)
      for term in samples[0].terms {
        if let bias = term.layer.bias { for c in 0..<outputs { unsafe start.base[c] += p[bias][c] } }
      }
      let inputs = samples.map { sum in sum.terms.flatMap { $0.layer.inputs($0.sources, sum.y) } }
      return withExtendedLifetime(start) {
        var result: [Moments?] = [], bias: UnsafePointer<Float>? = unsafe UnsafePointer(start.base)
        for part in sums(parts(inputs[0])) {
          result = unsafe part.kernel.forward(
            zip(inputs, samples).map { inputs, sum in (part.places.map { inputs[$0] }, sum.y) }, p,
            bias: bias, moments: moments, workers)
          unsafe bias = nil
        }
        return result
      }
    }
  }

  /// The sources of a layer with output `y`, each with its first channel.
  private func inputs(_ sources: [LayerInput], _ y: Volume) -> [ConvolutionInput] {
    precondition(
      sources.reduce(0) { $0 + $1.channels } == inputs && y.channels == outputs
        && sources.allSatisfy { outputSize($0.size) == y.size },
      "\(weight.name): \(sources.map { "\($0.size)×\($0.channels)" }) into \(y.shape)")
    var first = 0
    return sources.map { source in
      defer { first += source.channels }
      return ConvolutionInput(layer: self, source: source, first: first)
    }
  }

  /// The places of inputs that a kernel takes together.
  private typealias Part = (kernel: any ConvolutionKernel.Type, places: [Int])

  /// Neighbouring inputs of a layer that have the same kernel.
  private static func parts(_ inputs: [ConvolutionInput]) -> [Part] {
    var parts: [Part] = []
    for (place, input) in inputs.enumerated() {
      let kernel = input.layer.kernel(input.source)
      if input.first > 0, let last = parts.last, last.kernel == kernel {
        parts[parts.count - 1].places.append(place)
      } else {
        parts.append((kernel, [place]))
      }
    }
    return parts
  }

  /// The parts as forward takes them: behind all others, as one, those of a kernel that sums layers.
  private static func sums(_ parts: [Part]) -> [Part] {
    var sums: [Part] = []
    for part in parts where part.kernel.sumsLayers {
      if let known = sums.firstIndex(where: { $0.kernel == part.kernel }) {
        sums[known].places += part.places
      } else {
        sums.append(part)
      }
    }
    return parts.filter { !$0.kernel.sumsLayers } + sums
  }

  private func kind(_ small: Profile.Kind, _ large: Profile.Kind) -> Profile.Kind {
    kernel == 1 ? .pointwise : kernel == 3 ? small : large
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
      let inputs = samples.map { self.inputs($0.sources, $0.dy) }
      for part in Convolution.parts(inputs[0]) {
        part.kernel.addWeightGradient(
          zip(inputs, samples).map { inputs, sample in (part.places.map { inputs[$0] }, sample.dy) },
          into: dp, workers)
      }
      guard biasMatters, let bias else { return }
      for sample in samples {
        for (c, sum) in channelSums(sample.dy, workers).enumerated() { unsafe dp[bias][c] += Float(sum) }
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
      let shape = shape(dx.channels, size, upsampled: upsampled, isDataGradient: true)
      Convolution.kernel(for: shape).dataGradient(
        self, samples, p, first: first, mask, upsampled: upsampled, adding: adding, workers)
    }
  }
}

/// A convolution of its sources, as a part of a sum.
package struct ConvolutionTerm {
  let layer: Convolution
  let sources: [LayerInput]

  /// `sources`: [z, y, x, C] each, side by side the layer's inputs.
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
  unsafe partial.withUnsafeMutableBufferPointer { partial in
    let partial = partial.baseAddress!  // there is at least one piece of at least one channel
    workers.forEach(pieces.count) { piece, _ in
      let sums = unsafe partial + piece * channels
      for row in pieces[piece] {
        var v = unsafe x.base + row * width * channels
        for _ in 0..<width {
          for c in 0..<channels { unsafe sums[c] += Double(v[c]) }
          unsafe v += channels
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
