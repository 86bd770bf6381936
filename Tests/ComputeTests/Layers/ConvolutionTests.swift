import Testing

@testable import Compute
@testable import TestSupport

/// Whatever method is chosen: see `Kernel.bound`.
private let bound = Bound(relative: 5e-6, most: 5e-5)

@Suite struct LayersConvolutionTests {
  /// Sizes and widths of the networks' kinds; each must reach the kernel that is made for it, and each kernel is reached.
  @Test func theKernelFollowsFromShapes() {
    var chosen: Set<String> = []
    func expect(
      _ form: Form, upsampled: Bool = false, forward: any ConvolutionKernel.Type,
      dataGradient: any ConvolutionKernel.Type
    ) {
      var layout = ParameterLayout()
      let layer = form.layer(inputs: form.inputs, bias: false, in: &layout)
      let stored = Volume(unbacked: Shape(upsampled ? form.size.halved : form.size, form.inputs))
      let source = LayerInput(stored, Norm(identity: form.inputs), slope: 1, upsampled: upsampled)
      let names = [
        layer.kernelName(source), layer.dataGradientKernelName(form.inputs, form.size, upsampled: upsampled),
      ]
      #expect(names == [forward.name, dataGradient.name], "\(form.testDescription), upsampled: \(upsampled)")
      chosen.formUnion(names)
    }
    let narrow = NarrowConvolution.self, gathered = GatheredConvolution.self,
      unfolded = UnfoldedConvolution.self
    let pointwise = PointwiseConvolution.self, winograd = WinogradConvolution.self
    let strided = StridedConvolution.self
    expect(Form(Size(16, 16, 16), 4, 4), forward: narrow, dataGradient: narrow)
    expect(Form(Size(16, 16, 16), 4, 8), forward: winograd, dataGradient: narrow)
    expect(Form(Size(16, 16, 16), 3, 32), forward: winograd, dataGradient: narrow)
    expect(Form(Size(16, 16, 16), 32, 64), forward: winograd, dataGradient: winograd)
    expect(Form(Size(8, 8, 8), 64, 32), upsampled: true, forward: gathered, dataGradient: gathered)
    expect(Form(Size(16, 8, 8), 64, 32), upsampled: true, forward: winograd, dataGradient: winograd)
    expect(Form(Size(5, 6, 5), 64, 128), forward: unfolded, dataGradient: unfolded)
    expect(Form(Size(16, 16, 16), 8, 4, 1, padding: 0), forward: pointwise, dataGradient: pointwise)
    expect(Form(Size(16, 16, 16), 32, 4, 1, padding: 0), forward: gathered, dataGradient: gathered)
    expect(.strided(Size(16, 16, 16), 32, 64), forward: strided, dataGradient: strided)
    expect(.strided(Size(16, 16, 16), 7, 64), forward: strided, dataGradient: gathered)
    expect(.strided(Size(16, 16, 32), 32, 64), upsampled: true, forward: winograd, dataGradient: winograd)
    expect(.strided(Size(16, 16, 8), 32, 64), upsampled: true, forward: strided, dataGradient: strided)
    expect(Form(Size(4, 4, 4), 64, 1, 4), forward: gathered, dataGradient: gathered)
    #expect(chosen == Set(Convolution.kernels.map { $0.name }), "each row of the table is reached")
    #expect(chosen.count == Convolution.kernels.count, "names tell the rows apart")
  }

  /// The way back of a layer of stride 2 that is not 4³ is written for few channels only.
  @Test func aShapeWithoutAKernelIsRefused() async {
    await #expect(processExitsWith: .failure) {
      let form = Form(Size(8, 8, 8), 9, 16, 3, stride: 2)
      var layout = ParameterLayout()
      let layer = form.layer(inputs: form.inputs, bias: false, in: &layout)
      _ = layer.dataGradientKernelName(form.inputs, form.size, upsampled: false)
    }
  }

  /// Through `Convolution`, which chooses a kernel for each of its sources.
  @Test(
    arguments: [
      Form(Size(14, 10, 12), 0, 5), Form(Size(2, 4, 16), 0, 16), Form(Size(2, 4, 16), 0, 17),
      Form(Size(4, 6, 10), 0, 7), Form(Size(10, 8, 12), 0, 20), Form(Size(6, 2, 36), 0, 70),
      Form(Size(4, 4, 6), 0, 35), .strided(Size(6, 4, 8), 0, 8), .strided(Size(6, 4, 8), 0, 20),
      .strided(Size(4, 6, 6), 0, 70), .strided(Size(2, 2, 122), 0, 17), .strided(Size(2, 10, 64), 0, 64),
      Form(Size(4, 2, 6), 0, 3, 4), Form(Size(2, 2, 4), 0, 4, 1, padding: 0),
    ] as [Form])
  func sourcesSideBySideAreAConcatenation(form: Form) {
    let parts: [(Int, Look)] = [
      (3, .plain), (33, .activated), (4, .masked), (70, .activatedMasked), (18, .upsampledMasked),
      (5, .dropped),
      (16, .upsampled), (1, .activatedMasked),
    ]
    let inputs = parts.reduce(0) { $0 + $1.0 }
    var layout = ParameterLayout()
    let layer = form.layer(inputs: inputs, bias: true, in: &layout)
    let p = ParameterVector(normal: layout, 1), workers = Workers(2)
    let out = Shape(layer.outputSize(form.size), form.outputs)
    let dy = Island(out, normals(out.count, 2)).volume, gradient = dy.array.map(Double.init)
    let sources = parts.enumerated().map { Input(form.size, $1.0, $1.1, 10 * $0, slope: 0.2) }
    let bias = layer.bias.map { p[$0] }

    var expected = (0..<out.count).map { Double(bias?[$0 % form.outputs] ?? .nan) }
    var weights = [Double](repeating: 0, count: layer.weight.count), first = 0
    for (input, part) in zip(sources, parts) {
      let plain = PlainConvolution(layer: layer, channels: first..<first + part.0, size: form.size)
      expected = zip(expected, plain.forward(input.read, p)).map { $0 + $1 }
      weights = zip(weights, plain.weightGradient(gradient, input.read)).map { $0 + $1 }

      let dx = Island(input.source.volume.shape, filled: .nan, surroundings: 1e6)
      for adding in [false, true] {
        workers.poison()
        layer.dataGradient(
          dy, p, first: first, mask: input.mask, upsampled: input.source.upsampled, into: dx.volume,
          adding: adding, workers)
        let gradient = plain.dataGradient(gradient, p, input.mask, upsampled: input.source.upsampled)
        let deviation = Deviation(dx.volume.array, adding ? gradient.map { 2 * $0 } : gradient)
        #expect(
          deviation.isWithin(bound) && dx.isAlone, "channels from \(first), adding: \(adding): \(deviation)")
      }
      first += part.0
    }
    let y = Island(out, filled: .nan, surroundings: 1e6)
    workers.poison()
    layer.forward(sources.map(\.source), p, into: y.volume, workers)
    var deviation = Deviation(y.volume.array, expected)
    #expect(deviation.isWithin(bound) && y.isAlone, "\(deviation)")

    for biasMatters in [false, true] {
      let dp = ParameterVector(zeros: layout)
      workers.poison()
      layer.addWeightGradient(dy, sources.map(\.source), into: dp, biasMatters: biasMatters, workers)
      deviation = Deviation(Array(dp[layer.weight]), weights)
      #expect(deviation.isWithin(bound), "weight gradient: \(deviation)")
      let sums = (0..<form.outputs).map { o in
        biasMatters ? stride(from: o, to: out.count, by: form.outputs).reduce(0) { $0 + gradient[$1] } : 0
      }
      deviation = Deviation(layer.bias.map { Array(dp[$0]) } ?? [], sums)
      #expect(deviation.isWithin(bound), "bias gradient: \(deviation)")
    }
  }

  /// The gradient of the discriminator's first layer, into logits and sequences.
  @Test(arguments: [(3, 64), (4, 16), (4, 130)])
  func gradientsOfFewChannelsMatchThePlainReference(channels: Int, outputs: Int) {
    var layout = ParameterLayout()
    let form = Form.strided(Size(18, 5, 12), 7, outputs),
      layer = form.layer(inputs: 7, bias: true, in: &layout)
    let p = ParameterVector(normal: layout, 1), workers = Workers.poisoned(2), first = 7 - channels
    let out = Shape(layer.outputSize(form.size), outputs), dy = Island(out, normals(out.count, 2)).volume
    let plain = PlainConvolution(layer: layer, channels: first..<7, size: form.size)
    let shape = Shape(form.size, channels), held = normals(shape.count, 3)
    for mask in [nil, (0..<channels).map { $0 == 1 ? Float(0) : 1.25 }, Array(repeating: 0, count: channels)]
    {
      let expected = plain.dataGradient(dy.array.map(Double.init), p, mask, upsampled: false)
      for adding in [false, true] {
        let dx = Island(shape, adding ? held : Array(repeating: .nan, count: shape.count), surroundings: 1e6)
        layer.dataGradient(dy, p, first: first, mask: mask, into: dx.volume, adding: adding, workers)
        let deviation = Deviation(
          dx.volume.array, adding ? zip(expected, held).map { $0 + Double($1) } : expected)
        #expect(
          deviation.isWithin(Kernel.gathered.bound) && dx.isAlone,
          "\(mask.map { "\($0)" } ?? "no mask"), adding: \(adding): \(deviation)")
      }
    }
  }

  /// L = Σ g·y is linear in weights and inputs, so a difference over a step of 1 is exact but for rounding: L adds
  /// up to 4000 floats of relative error 1e-7, which leaves 1e-5 of the gradient.
  @Test(arguments: [
    Form(Size(3, 5, 13), 3, 4), Form(Size(1, 1, 12), 2, 3), Form(Size(3, 2, 5), 5, 33),
    Form(Size(1, 7, 1), 4, 2),
    Form(Size(6, 5, 4), 3, 5, 4, stride: 2), Form(Size(3, 2, 4), 7, 1, 4),
    Form(Size(3, 5, 2), 3, 4, 1, padding: 0),
    // Winograd, by parities, and unfolded.
    Form(Size(5, 9, 8), 1, 17), .strided(Size(2, 2, 4), 1, 64), Form(Size(1, 2, 2), 32, 32),
  ])
  func gradientsMatchFiniteDifferences(form: Form) {
    var layout = ParameterLayout()
    let layer = form.layer(inputs: form.inputs, bias: true, in: &layout)
    let p = ParameterVector(normal: layout, 1), workers = Workers(1)
    let x = Volume(normal: Shape(form.size, form.inputs), 2),
      mask = (0..<form.inputs).map { $0 % 3 == 1 ? Float(0) : 1.25 }
    let y = Volume(zeros: Shape(layer.outputSize(form.size), form.outputs)), g = Volume(normal: y.shape, 3)
    func loss() -> Double {
      layer.forward([LayerInput(x, mask: mask)], p, into: y, workers)
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
    layer.addWeightGradient(g, [LayerInput(x, mask: mask)], into: dp, biasMatters: true, workers)
    layer.dataGradient(g, p, mask: mask, into: dx, workers)
    var deviation = Deviation(dp.array, differences(p.values))
    #expect(deviation.relative <= 1e-5, "parameters: \(deviation)")
    deviation = Deviation(
      dx.array, differences(UnsafeMutableBufferPointer(start: x.base, count: x.shape.count)))
    #expect(deviation.relative <= 1e-5, "inputs: \(deviation)")
  }

  /// Nearest upsampling is part of reading: its gradient is that of the convolution that reads.
  @Test(arguments: [
    Form(Size(2, 4, 14), 3, 4), Form(Size(2, 2, 2), 2, 3), .strided(Size(4, 6, 8), 2, 3),
    .strided(Size(4, 4, 16), 16, 17), .strided(Size(2, 2, 122), 16, 17),
  ])
  func upsamplingsGradientMatchesFiniteDifferences(form: Form) {
    var layout = ParameterLayout()
    let layer = form.layer(inputs: form.inputs, bias: false, in: &layout)
    let p = ParameterVector(normal: layout, 1), workers = Workers(1)
    let half = Size(form.size.z / 2, form.size.y / 2, form.size.x / 2)
    let x = Volume(normal: Shape(half, form.inputs), 2),
      mask = (0..<form.inputs).map { $0 == 1 ? Float(0) : 1.25 }
    let source = LayerInput(x, Norm(identity: form.inputs), slope: 1, mask: mask, upsampled: true)
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

  @Test(arguments: [Shape(Size(1, 1, 1), 3), Shape(Size(20, 13, 6), 17)])
  func sumsOfChannelsAreTheSameBitsForAnyNumberOfWorkers(shape: Shape) {
    let x = Island(shape, normals(shape.count, 1)).volume
    expectSameBits(["channel sums"]) { [channelSums(x, $0).map { Float($0) }] }
    for (c, sum) in channelSums(x, Workers(2)).enumerated() {
      let expected = stride(from: c, to: shape.count, by: shape.channels).reduce(0) {
        $0 + Double(x.base[$1])
      }
      // Sums of Doubles.
      #expect(abs(sum - expected) <= 1e-9, "channel \(c): \(sum), expected \(expected)")
    }
  }
}
