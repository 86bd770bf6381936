import Testing

@testable import Compute
@testable import TestSupport

// A tile is 3³ output voxels; odd sides leave an input voxel over. Blocks are of 8 input or 64 output channels.
private let sizes = [
  Size(2, 2, 2), Size(2, 3, 27), Size(2, 33, 3), Size(5, 7, 4), Size(6, 6, 6), Size(12, 9, 14),
  Size(8, 10, 6),
]
private let channels = [(1, 1), (2, 3), (3, 2), (5, 7), (7, 17), (17, 5), (20, 35)]
private let forms: [Form] =
  sizes.flatMap { size in channels.map { .strided(size, $0.0, $0.1) } } + [
    .strided(Size(4, 6, 2), 35, 64), .strided(Size(4, 4, 4), 64, 64), .strided(Size(2, 5, 8), 70, 130),
    .strided(Size(4, 2, 6), 130, 70), .strided(Size(2, 2, 2), 130, 17), .strided(Size(6, 2, 2), 3, 130),
    // More tiles than are taken together, and more than a work item's.
    .strided(Size(40, 38, 42), 1, 2), .strided(Size(36, 30, 44), 9, 3),
  ]

@Suite struct LayersStridedConvolutionTests {
  @Test(arguments: forms)
  func matchesThePlainReference(form: Form) { expectThePlainReference(.strided, form) }

  @Test(
    arguments: [
      .strided(Size(36, 30, 44), 9, 3), .strided(Size(12, 10, 14), 20, 130), .strided(Size(4, 4, 4), 140, 70),
    ] as [Form])
  func anyNumberOfWorkersGivesTheSameBits(form: Form) { expectSameBits(.strided, form) }

  /// Samples go through the kernel together; each must come out as if it were alone.
  @Test(
    arguments: [1, 2, 3],
    [
      .strided(Size(2, 2, 2), 3, 64), .strided(Size(6, 4, 10), 17, 20), .strided(Size(5, 7, 4), 70, 130),
      .strided(Size(20, 20, 16), 2, 3),
    ] as [Form])
  func samplesTogetherMatchThePlainReference(count: Int, form: Form) {
    var layout = ParameterLayout()
    let layer = form.layer(inputs: form.inputs + 1, bias: false, in: &layout)
    let p = ParameterVector(normal: layout, 1), workers = Workers(2), bound = Kernel.strided.bound
    let plain = PlainConvolution(layer: layer, channels: 1..<form.inputs + 1, size: form.size),
      bias = form.bias(2)
    let out = Shape(layer.outputSize(form.size), form.outputs)
    // Dropout drops other channels in each sample.
    let looks: [Look] = [.activatedMasked, .masked, .activatedMasked]
    let inputs = (0..<count).map { Input(form.size, form.inputs, looks[$0], 10 + $0) }
    let gradients = (0..<count).map { Island(out, normals(out.count, 20 + $0)).volume }

    let y = (0..<count).map { _ in Island(out, filled: .nan, surroundings: 1e6) }
    workers.poison(1 << 20, shared: 1 << 20)
    func read(_ input: Input) -> [ConvolutionInput] {
      [ConvolutionInput(layer: layer, source: input.source, first: 1)]
    }
    _ = StridedConvolution.forward(
      zip(inputs, y).map { (read($0), $1.volume) }, p, bias: UnsafePointer(bias.memory.base), moments: false,
      workers)
    for (i, (input, y)) in zip(inputs, y).enumerated() {
      let product = plain.forward(input.read, p)
      let deviation = Deviation(
        y.volume.array, product.indices.map { product[$0] + Double(bias.values[$0 % form.outputs]) })
      #expect(deviation.isWithin(bound) && y.isAlone, "sample \(i): \(deviation)")
    }

    let dp = ParameterVector(zeros: layout)
    workers.poison(1 << 20, shared: 1 << 20)
    StridedConvolution.addWeightGradient(
      zip(inputs, gradients).map { (read($0), $1) }, into: dp, workers)
    let expected = zip(inputs, gradients).reduce([Double](repeating: 0, count: layout.count)) { sum, pair in
      zip(sum, plain.weightGradient(pair.1.array.map(Double.init), pair.0.read)).map { $0 + $1 }
    }
    let deviation = Deviation(dp.array, expected)
    #expect(deviation.isWithin(bound), "weight gradient: \(deviation)")

    let mask = inputs[0].mask
    for upsampled in form.isEven ? [false, true] : [false] {
      for adding in [false, true] {
        let shape = Shape(upsampled ? form.size.halved : form.size, form.inputs),
          held = normals(shape.count, 30)
        let dx = (0..<count).map { _ in Island(shape, held, surroundings: 1e6) }
        workers.poison(1 << 20, shared: 1 << 20)
        StridedConvolution.dataGradient(
          layer, zip(gradients, dx).map { ($0, $1.volume) }, p, first: 1, mask, upsampled: upsampled,
          adding: adding,
          workers)
        for (i, (gradient, dx)) in zip(gradients, dx).enumerated() {
          let expected = plain.dataGradient(gradient.array.map(Double.init), p, mask, upsampled: upsampled)
          let deviation = Deviation(
            dx.volume.array, adding ? zip(expected, held).map { $0 + Double($1) } : expected)
          #expect(
            deviation.isWithin(bound) && dx.isAlone,
            "data gradient of sample \(i), upsampled: \(upsampled), adding: \(adding): \(deviation)")
        }
      }
    }
  }
}
