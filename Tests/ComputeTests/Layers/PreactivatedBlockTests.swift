import Testing

@testable import Compute
@testable import TestSupport

/// A block, the channels of the volumes it reads side by side, and their size.
private struct BlockForm: Sendable, CustomTestStringConvertible {
  let size: Size
  let inputs: [Int]
  let inner, outputs: Int

  init(_ size: Size, _ inputs: [Int], _ inner: Int, _ outputs: Int) {
    self.size = size
    self.inputs = inputs
    self.inner = inner
    self.outputs = outputs
  }

  var channels: Int { inputs.reduce(0, +) }
  var testDescription: String { "\(size), \(inputs)→\(inner)→\(outputs)" }

  /// The channels of input `i` of values [voxel, all inputs' channels].
  func part(_ i: Int, of values: [Float]) -> [Float] {
    let first = inputs[..<i].reduce(0, +), channels = channels
    return (0..<size.voxels).flatMap { values[$0 * channels + first..<$0 * channels + first + inputs[i]] }
  }
}

/// For differences: one voxel thin, odd; one input, two, three.
private let forms = [
  BlockForm(Size(1, 3, 2), [1], 2, 1), BlockForm(Size(3, 1, 5), [2], 3, 2),
  BlockForm(Size(3, 4, 5), [3, 2], 4, 3),
  BlockForm(Size(1, 1, 7), [1, 3], 2, 2), BlockForm(Size(2, 3, 3), [1, 2, 1], 3, 4),
]

/// As in the networks: narrow kernels, transforms whose sums serve the second norm, transforms beside narrow ones.
private let largeForms = [
  BlockForm(Size(9, 10, 11), [8], 16, 8), BlockForm(Size(13, 9, 10), [4, 12], 16, 8),
  BlockForm(Size(5, 6, 7), [8, 4], 8, 4),
  BlockForm(Size(10, 11, 9), [3, 16, 8], 8, 20), BlockForm(Size(3, 3, 3), [64, 32], 32, 16),
]

/// A block between other parameters, so that offsets count, and its plain reference.
private struct Example {
  let block: PreactivatedBlock
  let plain: PlainBlock
  let p: ParameterVector

  init(_ form: BlockForm) {
    var layout = ParameterLayout()
    _ = layout.add("before", 3)
    block = PreactivatedBlock("b", form.channels, form.inner, form.outputs, in: &layout)
    _ = layout.add("behind", 3)
    p = ParameterVector(normal: layout, 1)
    plain = PlainBlock("b", size: form.size)
  }
}

/// What the block makes of `x` and of the gradient `dy`.
private struct Found {
  let y: [Float]
  /// By input.
  let dx: [[Float]]
  /// Of the block's parameters.
  let dp: [Double]
  /// Neither a neighbour of a volume nor another parameter's gradient is written to.
  let isAlone: Bool

  init(
    _ form: BlockForm, _ block: PreactivatedBlock, _ p: ParameterVector, x: [Float], dy: [Float],
    _ workers: Workers
  ) {
    func island(_ channels: Int) -> Island {
      Island(Shape(form.size, channels), filled: .nan, surroundings: 1e6)
    }
    let inputs = form.inputs.indices.map {
      Island(Shape(form.size, form.inputs[$0]), form.part($0, of: x)).volume
    }
    let inner = island(form.inner), dInner = island(form.inner), y = island(form.outputs)
    let dInputs = form.inputs.map(island)
    let own = 1 << 20, shared = 1 << 21
    workers.poison(own, shared: shared)
    let saved = block.forward(inputs, p, inner: inner.volume, into: y.volume, workers)
    let dp = ParameterVector(normal: p.layout, 7), before = dp.array
    workers.poison(own, shared: shared)
    block.backward(
      Island(Shape(form.size, form.outputs), dy).volume, inputs, inner: inner.volume, saved, p, into: dp,
      dInner: dInner.volume, dInputs: dInputs.map(\.volume), workers)
    self.y = y.volume.array
    dx = dInputs.map(\.volume.array)
    self.dp = block.parameters.map { Double(dp.values[$0]) - Double(before[$0]) }
    isAlone =
      ([inner, dInner, y] + dInputs).allSatisfy(\.isAlone)
      && before.indices.allSatisfy {
        block.parameters.contains($0) || dp.values[$0].bitPattern == before[$0].bitPattern
      }
  }
}

@Suite struct LayersPreactivatedBlockTests {
  @Test func parametersLieOneAfterTheOtherByTheirPublishedNames() {
    var layout = ParameterLayout()
    _ = layout.add("before", 3)
    let block = PreactivatedBlock("block_1_T1", 5, 4, 3, in: &layout)
    #expect(
      layout.parameters.dropFirst().map(\.name) == [
        "block_1_T1/in_0/InstanceNorm/gamma", "block_1_T1/in_0/InstanceNorm/beta", "block_1_T1/conv_0/w",
        "block_1_T1/in_1/InstanceNorm/gamma", "block_1_T1/in_1/InstanceNorm/beta", "block_1_T1/conv_1/w",
      ])
    #expect(
      layout.parameters.dropFirst().map(\.extents)
        == [[5], [5], [4, 5, 3, 3, 3], [4], [4], [3, 4, 3, 3, 3]])
    #expect(block.parameters == 3..<layout.count)
  }

  /// Two transforms or kernels behind each other, each with its bound, and two norms, which divide by standard deviations
  /// of some units.
  @Test(arguments: forms + largeForms)
  private func matchesThePlainReference(form: BlockForm) {
    let example = Example(form), plain = example.plain, p = example.p, count = form.size.voxels
    let x = normals(count * form.channels, 2), dy = normals(count * form.outputs, 3)
    let found = Found(form, example.block, p, x: x, dy: dy, Workers(2))
    var deviation = Deviation(found.y, plain.forward(x.map(Double.init), p))
    #expect(deviation.relative <= 2e-5, "\(deviation)")
    let expected = plain.backward(x.map(Double.init), dy.map(Double.init), p)
    for i in form.inputs.indices {
      deviation = Deviation(
        found.dx[i], form.part(i, of: expected.x.map(Float.init)).map(Double.init))
      #expect(deviation.relative <= 2e-5, "gradient of input \(i): \(deviation)")
    }
    deviation = Deviation(found.dp, expected.p)
    #expect(deviation.relative <= 2e-5, "parameters: \(deviation)")
    #expect(found.isAlone)
  }

  /// Differences of the plain reference in Float64 over about 1.5e-5, steps that floats can take: good to 1e-8 away from
  /// the kinks. Of every parameter and every value of each input.
  @Test(arguments: forms)
  private func backwardMatchesFiniteDifferences(form: BlockForm) {
    let example = Example(form), plain = example.plain, p = example.p, count = form.size.voxels,
      step: Float = 0x1p-16
    let x = normals(count * form.channels, 2), dy = normals(count * form.outputs, 3)
    let found = Found(form, example.block, p, x: x, dy: dy, Workers(2))
    let values = x.map(Double.init)
    func loss(_ x: [Double]) -> Double {
      zip(plain.forward(x, p), dy).reduce(0) { $0 + $1.0 * Double($1.1) }
    }
    let slopes = example.block.parameters.map { i in
      let value = p.values[i], above = value + step, below = value - step
      p.values[i] = above
      let high = loss(values)
      p.values[i] = below
      let low = loss(values)
      p.values[i] = value
      return (high - low) / Double(above - below)
    }
    var deviation = Deviation(found.dp, slopes)
    #expect(deviation.relative <= 2e-5, "parameters: \(deviation)")
    let ofInputs = values.indices.map { i in
      var above = values, below = values
      above[i] += Double(step)
      below[i] -= Double(step)
      return Float((loss(above) - loss(below)) / Double(2 * step))
    }
    for i in form.inputs.indices {
      deviation = Deviation(found.dx[i], form.part(i, of: ofInputs).map(Double.init))
      #expect(deviation.relative <= 2e-5, "gradient of input \(i): \(deviation)")
    }
  }

  @Test(arguments: [largeForms[1], largeForms[2]])
  private func anyNumberOfWorkersGivesTheSameBits(form: BlockForm) {
    let example = Example(form), p = example.p, count = form.size.voxels
    let x = normals(count * form.channels, 2), dy = normals(count * form.outputs, 3)
    expectSameBits(["y", "parameters' gradients"] + form.inputs.map { "gradient of \($0) channels" }) {
      workers in
      let found = Found(form, example.block, p, x: x, dy: dy, workers)
      return [found.y, found.dp.map { Float($0) }] + found.dx
    }
  }
}
