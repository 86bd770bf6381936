import Testing

@testable import HADNet

/// The code behind a convolution.
private enum Kernel: CaseIterable, Sendable {
  case narrow, gathered

  func forward(
    _ layer: Convolution, _ source: Source, _ channels: Range<Int>, _ p: ParameterVector, into y: Volume,
    bias: Bool, adding: Bool, _ workers: Workers
  ) {
    switch self {
    case .narrow:
      NarrowConvolution.forward(layer, source, channels, p, into: y, bias: bias, adding: adding, workers)
    case .gathered:
      GatheredConvolution.forward(layer, source, channels, p, into: y, bias: bias, adding: adding, workers)
    }
  }

  func addWeightGradient(
    _ layer: Convolution, _ dy: Volume, _ source: Source, _ channels: Range<Int>, into dp: ParameterVector,
    _ workers: Workers
  ) {
    switch self {
    case .narrow: NarrowConvolution.addWeightGradient(layer, dy, source, channels, into: dp, workers)
    case .gathered: GatheredConvolution.addWeightGradient(layer, dy, source, channels, into: dp, workers)
    }
  }

  func dataGradient(
    _ layer: Convolution, _ dy: Volume, _ p: ParameterVector, _ channels: Range<Int>, _ mask: [Float]?,
    upsampled: Bool, into dx: Volume, adding: Bool, _ workers: Workers
  ) {
    switch self {
    case .narrow:
      NarrowConvolution.dataGradient(
        layer, dy, p, channels, mask, upsampled: upsampled, into: dx, adding: adding, workers)
    case .gathered where layer.stride == 1:
      GatheredConvolution.dataGradient(
        layer, dy, p, channels, mask, upsampled: upsampled, into: dx, adding: adding, workers)
    case .gathered:
      GatheredConvolution.stridedDataGradient(
        layer, dy, p, channels, mask, upsampled: upsampled, into: dx, adding: adding, workers)
    }
  }
}

/// A convolution and the volume it reads.
private struct Form: Sendable, CustomTestStringConvertible {
  let size: Size
  let inputs, outputs, kernel, stride, padding: Int

  init(_ size: Size, _ inputs: Int, _ outputs: Int, _ kernel: Int = 3, stride: Int = 1, padding: Int = 1) {
    self.size = size
    self.inputs = inputs
    self.outputs = outputs
    self.kernel = kernel
    self.stride = stride
    self.padding = padding
  }

  var isEven: Bool { [size.z, size.y, size.x].allSatisfy { $0 % 2 == 0 } }
  var looks: [Look] { Look.allCases.filter { !$0.isUpsampled || isEven } }
  var testDescription: String { "\(size), \(inputs)→\(outputs), \(kernel)³, stride \(stride)" }

  func layer(inputs: Int, bias: Bool, in layout: inout ParameterLayout) -> Convolution {
    Convolution(
      "conv", inputs, outputs, kernel: kernel, stride: stride, padding: padding, bias: bias, in: &layout)
  }
}

// The narrow kernel works in blocks of 16 voxels and 4 channels, and in items of 8 rows × 12 planes: sizes at, just
// above and far from these, and volumes one voxel thin.
private let narrowSizes = [
  Size(1, 1, 12), Size(1, 9, 16), Size(13, 1, 17), Size(12, 8, 16), Size(14, 10, 12), Size(3, 17, 15),
  Size(25, 3, 13), Size(2, 2, 34),
]
private let narrowChannels = [(1, 1), (2, 3), (3, 2), (4, 4), (5, 7), (7, 5), (8, 13), (16, 8), (32, 16)]
private let narrowForms = narrowSizes.flatMap { size in narrowChannels.map { Form(size, $0.0, $0.1) } }

/// Widths that the narrow kernel is never chosen for.
private let tinyForms = [
  Form(Size(1, 1, 1), 3, 4), Form(Size(2, 3, 5), 2, 1), Form(Size(4, 2, 6), 13, 16),
  Form(Size(5, 4, 1), 1, 5),
]

private let gatheredForms =
  tinyForms + [
    Form(Size(5, 7, 3), 33, 13), Form(Size(1, 6, 11), 16, 33), Form(Size(2, 2, 2), 33, 70),
    Form(Size(4, 2, 6), 70, 33),
    Form(Size(9, 1, 13), 7, 8), Form(Size(14, 12, 16), 5, 4), Form(Size(40, 9, 12), 2, 3),
    // 4³ with stride 2, as the discriminator's; odd sides leave a voxel over.
    Form(Size(2, 2, 2), 1, 1, 4, stride: 2), Form(Size(5, 7, 3), 4, 5, 4, stride: 2),
    Form(Size(8, 6, 10), 7, 8, 4, stride: 2), Form(Size(2, 9, 16), 16, 33, 4, stride: 2),
    Form(Size(4, 6, 2), 33, 13, 4, stride: 2), Form(Size(4, 4, 4), 70, 3, 4, stride: 2),
    Form(Size(20, 18, 14), 3, 2, 4, stride: 2), Form(Size(4, 4, 4), 3, 70, 4, stride: 2),
    // 4³ with stride 1: the discriminator's last.
    Form(Size(2, 2, 2), 8, 1, 4), Form(Size(2, 3, 5), 33, 1, 4), Form(Size(10, 8, 12), 4, 3, 4),
    // 1³: the U-Net's last.
    Form(Size(1, 1, 1), 1, 4, 1, padding: 0), Form(Size(3, 5, 7), 2, 4, 1, padding: 0),
    Form(Size(16, 12, 18), 8, 4, 1, padding: 0), Form(Size(2, 4, 2), 33, 16, 1, padding: 0),
  ]

private let kernelForms: [(Kernel, Form)] =
  (narrowForms + tinyForms).map { (.narrow, $0) } + gatheredForms.map { (.gathered, $0) }

/// Sums of n products round to about 6e-8·√n of their size: 3e-6 for the longest here, 3000 products.
private let bound = 1e-5

@Suite struct LayersConvolutionTests {
  /// Channels 1… of a layer that has one more on each side, so that offsets count.
  @Test(arguments: kernelForms)
  private func kernelsMatchThePlainReference(kernel: Kernel, form: Form) {
    var layout = ParameterLayout()
    let layer = form.layer(inputs: form.inputs + 2, bias: true, in: &layout)
    let channels = 1..<form.inputs + 1
    let plain = PlainConvolution(layer: layer, channels: channels, size: form.size)
    let p = ParameterVector(normal: layout, 1), workers = Workers.poisoned(2)
    let out = Shape(layer.outputSize(form.size), form.outputs)
    let dy = Volume(normal: out, 2), gradient = dy.array.map(Double.init)
    let before = normals(out.count, 3), bias = (0..<form.outputs).map { Double(p[layout.parameters[1]][$0]) }
    for look in form.looks {
      let input = Input(form.size, form.inputs, look, 4)

      let product = plain.forward(input.read, p)
      let y = Volume(zeros: out)
      y.fill(.nan)
      kernel.forward(layer, input.source, channels, p, into: y, bias: false, adding: false, workers)
      var deviation = Deviation(y.array, product)
      #expect(deviation.relative <= bound, "\(look): \(deviation)")
      y.fill(.nan)
      kernel.forward(layer, input.source, channels, p, into: y, bias: true, adding: false, workers)
      let withBias = product.indices.map { product[$0] + bias[$0 % form.outputs] }
      deviation = Deviation(y.array, withBias)
      #expect(deviation.relative <= bound, "\(look), bias: \(deviation)")
      for (i, value) in before.enumerated() { y.base[i] = value }
      kernel.forward(layer, input.source, channels, p, into: y, bias: true, adding: true, workers)
      deviation = Deviation(y.array, zip(withBias, before).map { $0 + Double($1) })
      #expect(deviation.relative <= bound, "\(look), bias, adding: \(deviation)")

      let start = normals(layout.count, 5), dp = ParameterVector(normal: layout, 5)
      kernel.addWeightGradient(layer, dy, input.source, channels, into: dp, workers)
      let sums = plain.weightGradient(gradient, input.read)
      let difference = layer.weight.range.map { Double(dp.values[$0]) - Double(start[$0]) }
      deviation = Deviation(difference, sums)
      // What stood there before is of the size 1 and takes its rounding error along.
      #expect(deviation.relative <= bound, "\(look), weight gradient: \(deviation)")
      let others = layer.weight.range.filter {
        !channels.contains($0 / (layer.kernel * layer.kernel * layer.kernel) % layer.inputs)
      }
      #expect(others.allSatisfy { dp.values[$0] == start[$0] }, "\(look): another channel's weights")

      guard look != .plain && look != .activated else { continue }
      let dx = Volume(zeros: input.source.volume.shape),
        expected = plain.dataGradient(
          gradient, p, input.mask, upsampled: look.isUpsampled)
      dx.fill(.nan)
      kernel.dataGradient(
        layer, dy, p, channels, input.mask, upsampled: look.isUpsampled, into: dx, adding: false, workers)
      deviation = Deviation(dx.array, expected)
      #expect(deviation.relative <= bound, "\(look), data gradient: \(deviation)")
      let held = normals(dx.shape.count, 6)
      for (i, value) in held.enumerated() { dx.base[i] = value }
      kernel.dataGradient(
        layer, dy, p, channels, input.mask, upsampled: look.isUpsampled, into: dx, adding: true, workers)
      deviation = Deviation(dx.array, zip(expected, held).map { $0 + Double($1) })
      #expect(deviation.relative <= bound, "\(look), data gradient, adding: \(deviation)")
    }
  }

  /// Through `Convolution`, which chooses a kernel for each of its sources.
  @Test(arguments: [
    Form(Size(14, 10, 12), 0, 5), Form(Size(2, 4, 16), 0, 16), Form(Size(2, 4, 16), 0, 17),
    Form(Size(4, 6, 10), 0, 7),
    Form(Size(6, 4, 8), 0, 8, 4, stride: 2), Form(Size(4, 2, 6), 0, 3, 4),
    Form(Size(2, 2, 4), 0, 4, 1, padding: 0),
  ])
  private func sourcesSideBySideAreAConcatenation(form: Form) {
    let parts = [(3, Look.plain), (33, .activated), (4, .masked), (8, .upsampled), (1, .activatedMasked)]
    let inputs = parts.reduce(0) { $0 + $1.0 }
    var layout = ParameterLayout()
    let layer = form.layer(inputs: inputs, bias: true, in: &layout)
    let p = ParameterVector(normal: layout, 1), workers = Workers.poisoned(2)
    let out = Shape(layer.outputSize(form.size), form.outputs)
    let dy = Volume(normal: out, 2), gradient = dy.array.map(Double.init)
    let sources = parts.enumerated().map { Input(form.size, $1.0, $1.1, 10 * $0, slope: 0.2) }
    let bias = layer.bias.map { p[$0] }

    var expected = (0..<out.count).map { Double(bias?[$0 % form.outputs] ?? .nan) }
    var weights = [Double](repeating: 0, count: layer.weight.count), first = 0
    for (input, part) in zip(sources, parts) {
      let plain = PlainConvolution(layer: layer, channels: first..<first + part.0, size: form.size)
      expected = zip(expected, plain.forward(input.read, p)).map { $0 + $1 }
      weights = zip(weights, plain.weightGradient(gradient, input.read)).map { $0 + $1 }

      let dx = Volume(zeros: input.source.volume.shape)
      dx.fill(.nan)
      for adding in [false, true] {
        layer.dataGradient(
          dy, p, first: first, mask: input.mask, upsampled: input.source.upsampled, into: dx, adding: adding,
          workers)
        let gradient = plain.dataGradient(gradient, p, input.mask, upsampled: input.source.upsampled)
        let deviation = Deviation(dx.array, adding ? gradient.map { 2 * $0 } : gradient)
        #expect(deviation.relative <= bound, "channels from \(first), adding: \(adding): \(deviation)")
      }
      first += part.0
    }
    let y = Volume(zeros: out)
    y.fill(.nan)
    layer.forward(sources.map(\.source), p, into: y, workers)
    var deviation = Deviation(y.array, expected)
    #expect(deviation.relative <= bound, "\(deviation)")
    layer.forward(sources.map(\.source), p, into: y, adding: true, workers)
    deviation = Deviation(y.array, expected.map { 2 * $0 })
    #expect(deviation.relative <= bound, "adding: \(deviation)")

    for biasMatters in [false, true] {
      let dp = ParameterVector(zeros: layout)
      layer.addWeightGradient(dy, sources.map(\.source), into: dp, biasMatters: biasMatters, workers)
      deviation = Deviation(Array(dp[layer.weight]), weights)
      #expect(deviation.relative <= bound, "weight gradient: \(deviation)")
      let sums = (0..<form.outputs).map { o in
        biasMatters ? stride(from: o, to: out.count, by: form.outputs).reduce(0) { $0 + gradient[$1] } : 0
      }
      deviation = Deviation(layer.bias.map { Array(dp[$0]) } ?? [], sums)
      #expect(deviation.relative <= bound, "bias gradient: \(deviation)")
    }
  }

  /// L = Σ g·y is linear in weights and inputs, so a difference over a step of 1 is exact but for rounding: L adds
  /// up to 4000 floats of relative error 1e-7, which leaves 1e-5 of the gradient.
  @Test(arguments: [
    Form(Size(3, 5, 13), 3, 4), Form(Size(1, 1, 12), 2, 3), Form(Size(3, 2, 5), 5, 33),
    Form(Size(1, 7, 1), 4, 2),
    Form(Size(6, 5, 4), 3, 5, 4, stride: 2), Form(Size(3, 2, 4), 7, 1, 4),
    Form(Size(3, 5, 2), 3, 4, 1, padding: 0),
  ])
  private func gradientsMatchFiniteDifferences(form: Form) {
    var layout = ParameterLayout()
    let layer = form.layer(inputs: form.inputs, bias: true, in: &layout)
    let p = ParameterVector(normal: layout, 1), workers = Workers(1)
    let x = Volume(normal: Shape(form.size, form.inputs), 2),
      mask = (0..<form.inputs).map { $0 % 3 == 1 ? Float(0) : 1.25 }
    let y = Volume(zeros: Shape(layer.outputSize(form.size), form.outputs)), g = Volume(normal: y.shape, 3)
    func loss() -> Double {
      layer.forward([Source(x, mask: mask)], p, into: y, workers)
      return zip(y.array, g.array).reduce(0) { $0 + Double($1.0) * Double($1.1) }
    }
    func differences(_ values: UnsafeMutableBufferPointer<Float>) -> [Double] {
      values.indices.map { i in
        let value = values[i]
        values[i] = value + 0.5
        let above = loss(), up = values[i]
        values[i] = value - 0.5
        let below = loss(), down = values[i]
        values[i] = value
        return (above - below) / Double(up - down)
      }
    }
    let dp = ParameterVector(zeros: layout), dx = Volume(zeros: x.shape)
    layer.addWeightGradient(g, [Source(x, mask: mask)], into: dp, biasMatters: true, workers)
    layer.dataGradient(g, p, mask: mask, into: dx, workers)
    var deviation = Deviation(dp.array, differences(p.values))
    #expect(deviation.relative <= 1e-5, "parameters: \(deviation)")
    deviation = Deviation(
      dx.array, differences(UnsafeMutableBufferPointer(start: x.base, count: x.shape.count)))
    #expect(deviation.relative <= 1e-5, "inputs: \(deviation)")
  }

  /// Nearest upsampling is part of reading: its gradient is that of the convolution that reads.
  @Test(arguments: [
    Form(Size(2, 4, 14), 3, 4), Form(Size(2, 2, 2), 2, 3), Form(Size(4, 6, 8), 2, 3, 4, stride: 2),
  ])
  private func upsamplingsGradientMatchesFiniteDifferences(form: Form) {
    var layout = ParameterLayout()
    let layer = form.layer(inputs: form.inputs, bias: false, in: &layout)
    let p = ParameterVector(normal: layout, 1), workers = Workers(1)
    let half = Size(form.size.z / 2, form.size.y / 2, form.size.x / 2)
    let x = Volume(normal: Shape(half, form.inputs), 2),
      mask = (0..<form.inputs).map { $0 == 1 ? Float(0) : 1.25 }
    let source = Source(x, Norm(identity: form.inputs), slope: 1, mask: mask, upsampled: true)
    let y = Volume(zeros: Shape(layer.outputSize(form.size), form.outputs)), g = Volume(normal: y.shape, 3)
    func loss() -> Double {
      layer.forward([source], p, into: y, workers)
      return zip(y.array, g.array).reduce(0) { $0 + Double($1.0) * Double($1.1) }
    }
    let dx = Volume(zeros: x.shape)
    layer.dataGradient(g, p, mask: mask, upsampled: true, into: dx, workers)
    let differences = (0..<x.shape.count).map { i in
      let value = x.base[i]
      x.base[i] = value + 0.5
      let above = loss(), up = x.base[i]
      x.base[i] = value - 0.5
      let below = loss(), down = x.base[i]
      x.base[i] = value
      return (above - below) / Double(up - down)
    }
    // Linear, as above.
    let deviation = Deviation(dx.array, differences)
    #expect(deviation.relative <= 1e-5, "\(deviation)")
  }

  @Test(arguments: [
    (Kernel.narrow, Form(Size(26, 18, 12), 5, 7)), (.narrow, Form(Size(12, 40, 16), 4, 4)),
    (.gathered, Form(Size(26, 18, 12), 5, 7)), (.gathered, Form(Size(2, 2, 4), 16, 140)),
    (.gathered, Form(Size(2, 2, 4), 140, 16)), (.gathered, Form(Size(20, 18, 14), 3, 8, 4, stride: 2)),
    (.gathered, Form(Size(4, 4, 4), 140, 8, 4, stride: 2)), (.gathered, Form(Size(10, 8, 12), 8, 1, 4)),
    (.gathered, Form(Size(16, 12, 18), 8, 4, 1, padding: 0)),
  ])
  private func anyNumberOfWorkersGivesTheSameBits(kernel: Kernel, form: Form) {
    var layout = ParameterLayout()
    let layer = form.layer(inputs: form.inputs, bias: true, in: &layout)
    let p = ParameterVector(normal: layout, 1), channels = 0..<form.inputs
    let input = Input(form.size, form.inputs, .upsampled, 2)
    func results(_ count: Int) -> [[Float]] {
      let workers = Workers(count), y = Volume(normal: Shape(layer.outputSize(form.size), form.outputs), 3)
      let dy = Volume(normal: y.shape, 4), dp = ParameterVector(normal: layout, 5)
      kernel.forward(layer, input.source, channels, p, into: y, bias: true, adding: true, workers)
      kernel.addWeightGradient(layer, dy, input.source, channels, into: dp, workers)
      let full = Volume(normal: Shape(form.size, form.inputs), 6),
        half = Volume(normal: input.source.volume.shape, 7)
      kernel.dataGradient(
        layer, dy, p, channels, input.mask, upsampled: false, into: full, adding: true, workers)
      kernel.dataGradient(
        layer, dy, p, channels, input.mask, upsampled: true, into: half, adding: false, workers)
      return [y.array, dp.array, full.array, half.array, channelSums(dy, workers).map { Float($0) }]
    }
    let one = results(1),
      names = ["y", "weight gradient", "data gradient", "of the upsampled", "channel sums"]
    for count in [2, 3, 5] {
      for (name, (a, b)) in zip(names, zip(one, results(count))) {
        #expect(firstDifference(a, b) == nil, "\(count) workers: \(name)")
      }
    }
  }
}
