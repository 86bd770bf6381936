import Testing

@testable import Compute
@testable import TestSupport

/// An up block's join: the skip and the upsampled lower volume, each with its own convolution and dropout.
private struct Join: Sendable, CustomTestStringConvertible {
  let size: Size
  let skip, lower, outputs: Int

  init(_ size: Size, _ skip: Int, _ lower: Int, _ outputs: Int) {
    self.size = size
    self.skip = skip
    self.lower = lower
    self.outputs = outputs
  }

  var testDescription: String { "\(size), \(skip) and \(lower)→\(outputs)" }
}

private let joins = [
  // Narrow both; winograd both, one panel and several; unfolded and gathered; narrow and winograd.
  Join(Size(6, 10, 14), 5, 7, 7), Join(Size(10, 8, 12), 17, 20, 20), Join(Size(4, 6, 36), 35, 70, 70),
  Join(Size(4, 4, 6), 35, 64, 35), Join(Size(6, 10, 14), 3, 35, 16), Join(Size(2, 2, 2), 1, 2, 3),
]

@Suite struct LayersConvolutionUnitTests {
  @Test(
    arguments: joins,
    [[Look.masked, .upsampledMasked], [.activated, .upsampled], [.dropped, .upsampledMasked]])
  private func aJoinIsTheSumOfItsConvolutions(join: Join, looks: [Look]) {
    var layout = ParameterLayout()
    let convolutions = [
      Convolution("skip", join.skip, join.outputs, in: &layout),
      Convolution("lower", join.lower, join.outputs, in: &layout),
    ]
    let unit = ConvolutionUnit(
      convolutions: convolutions, norm: InstanceNorm("inst", join.outputs, in: &layout), slope: 0.01)
    let p = ParameterVector(normal: layout, 1), workers = Workers.poisoned(2)
    workers.poison(1 << 20, shared: 1 << 21)
    // Two samples at once, each to come out as if it were alone.
    let inputs = (0..<2).map { sample in
      [
        Input(join.size, join.skip, looks[0], 10 + sample),
        Input(join.size, join.lower, looks[1], 20 + sample),
      ]
    }
    let shape = Shape(join.size, join.outputs)
    let y = (0..<2).map { _ in Island(shape, filled: .nan, surroundings: 1e6) }
    let norms = unit.forward(
      zip(inputs, y).map { (sources: $0.map { [$0.source] }, y: $1.volume) }, p, workers)
    for (sample, (inputs, y)) in zip(inputs, y).enumerated() {
      var expected = [Double](repeating: 0, count: shape.count)
      for (layer, input) in zip(convolutions, inputs) {
        let plain = PlainConvolution(layer: layer, channels: 0..<layer.inputs, size: join.size)
        let product = plain.forward(input.read, p), bias = layer.bias.map { p[$0] }
        for i in expected.indices { expected[i] += product[i] + Double(bias?[i % join.outputs] ?? .nan) }
      }
      let deviation = Deviation(y.volume.array, expected)
      #expect(deviation.isWithin(Kernel.winograd.bound) && y.isAlone, "sample \(sample): \(deviation)")

      // The norm may take its moments from the kernel. Scale and shift are of γ, β and values some standard deviations
      // from 0.
      let norm = norms[sample], n = Double(shape.voxels)
      var mean: [Double] = [], rstd: [Double] = []
      for c in 0..<join.outputs {
        let values = stride(from: c, to: shape.count, by: join.outputs).map { expected[$0] }
        mean.append(values.reduce(0, +) / n)
        rstd.append(
          1
            / (values.reduce(0) { $0 + ($1 - mean[c]) * ($1 - mean[c]) } / n + 1e-5)
            .squareRoot())
      }
      // Means may be near 0: in standard deviations.
      for c in 0..<join.outputs {
        // Squares are floats: where a mean is many standard deviations from 0 the variance has fewer digits.
        let far = mean[c] * rstd[c], allowed = 1e-5 + 2.4e-7 * far * far
        let distance = (Double(norm.mean[c]) - mean[c]).magnitude * rstd[c]
        let error = (Double(norm.rstd[c]) / rstd[c] - 1).magnitude
        #expect(
          distance <= allowed, "sample \(sample), mean of channel \(c): \(distance) standard deviations off")
        #expect(error <= allowed, "sample \(sample), rstd of channel \(c): \(error)")
      }
    }
  }

  @Test(arguments: joins)
  private func anyNumberOfWorkersGivesTheSameBits(join: Join) {
    var layout = ParameterLayout()
    let unit = ConvolutionUnit(
      convolutions: [
        Convolution("skip", join.skip, join.outputs, in: &layout),
        Convolution("lower", join.lower, join.outputs, in: &layout),
      ], norm: InstanceNorm("inst", join.outputs, in: &layout), slope: 0.01)
    let p = ParameterVector(normal: layout, 1), shape = Shape(join.size, join.outputs)
    let sources = [
      [Input(join.size, join.skip, .masked, 2).source],
      [Input(join.size, join.lower, .upsampledMasked, 3).source],
    ]
    expectSameBits(["y", "scale", "shift", "gradient", "parameters' gradients"]) { workers in
      let y = Volume(zeros: shape), gradient = Volume(normal: shape, 4),
        dp = ParameterVector(normal: layout, 5)
      let norm = unit.forward(sources, p, into: y, workers)
      unit.backward(gradient, y, norm, sources, p, into: dp, workers)
      return [y.array, norm.scale, norm.shift, gradient.array, dp.array]
    }
  }
}
