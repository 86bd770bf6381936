import Foundation
import Testing

@testable import Compute
@testable import TestSupport

/// Tiny, odd, one voxel thin; one voxel alone; large enough for several pieces.
private let shapes = [
  Shape(Size(1, 1, 2), 1), Shape(Size(2, 1, 3), 2), Shape(Size(1, 7, 1), 5), Shape(Size(3, 5, 7), 3),
  Shape(Size(9, 5, 5), 4), Shape(Size(3, 2, 3), 17), Shape(Size(2, 3, 4), 8),
]

/// Too large for finite differences: many periods of vectors, more than are summed up in floats, and some voxels over.
private let largeShapes = [
  Shape(Size(12, 20, 11), 3), Shape(Size(2, 33, 13), 20), Shape(Size(5, 7, 9), 70),
  Shape(Size(1, 1, 3001), 1),
  Shape(Size(30, 17, 19), 8), Shape(Size(3, 4, 3), 130),
]

@Suite struct LayersInstanceNormTests {
  private func make(affine: Bool, _ channels: Int) -> (InstanceNorm, ParameterVector, PlainNorm, slope: Float)
  {
    var layout = ParameterLayout()
    let norm = InstanceNorm("inst", channels, affine: affine, in: &layout)
    let p = ParameterVector(normal: layout, 1), slope: Float = affine ? 0.01 : 0.2
    let all = p.array.map(Double.init)
    let plain = PlainNorm(
      slope: Double(slope), gamma: affine ? Array(all[..<channels]) : Array(repeating: 1, count: channels),
      beta: affine ? Array(all[channels...]) : Array(repeating: 0, count: channels))
    return (norm, p, plain, slope)
  }

  @Test(arguments: shapes + largeShapes, [true, false])
  func forwardMatchesThePlainReference(shape: Shape, affine: Bool) {
    let (norm, p, plain, slope) = make(affine: affine, shape.channels)
    let x = Island(shape, normals(shape.count, 2)).volume, workers = Workers.poisoned(2)
    // A mean of 3 standard deviations, as after a convolution with a bias.
    for i in 0..<shape.count { x.base[i] += 3 }
    let factors = norm.forward(x, p, nil, workers)
    let y = (0..<shape.count).map { i -> Double in
      let c = i % shape.channels, v = factors.scale[c] * x.base[i] + factors.shift[c]
      return Double(v > 0 ? v : slope * v)
    }
    // Σx² in floats along a row: 1e-7 of a mean square that is 10 times the variance.
    let deviation = Deviation(y, plain.forward(x.array.map(Double.init)))
    #expect(deviation.relative <= 1e-5, "\(deviation)")
  }

  @Test func oneVoxelAloneReadsAsTheShift() {
    let (norm, p, plain, _) = make(affine: true, 3)
    let x = Volume(Shape(Size(1, 1, 1), 3), [0, 2, -3]), factors = norm.forward(x, p, nil, Workers(1))
    for c in 0..<3 {
      // rstd is 1/√1e-5 = 316, so rounding of 3 · 316 · 6e-8 is left.
      let value = factors.scale[c] * x.base[c] + factors.shift[c]
      #expect(abs(Double(value) - plain.beta[c]) <= 3e-4, "channel \(c): \(value), expected \(plain.beta[c])")
    }
  }

  /// Differences of the plain reference over 1e-5 in Float64 are good to 1e-8; backward's floats to 1e-6 or so, times
  /// up to 10 where its terms nearly cancel.
  @Test(arguments: shapes.dropFirst(), [true, false])
  func backwardMatchesFiniteDifferences(shape: Shape, affine: Bool) {
    let (norm, p, plain, slope) = make(affine: affine, shape.channels)
    let x = Volume(normal: shape, 3), g = Volume(normal: shape, 4), workers = Workers.poisoned(2)
    let weights = g.array.map(Double.init), values = x.array.map(Double.init)
    func loss(_ plain: PlainNorm, _ x: [Double]) -> Double {
      zip(plain.forward(x), weights).reduce(0) { $0 + $1.0 * $1.1 }
    }
    let step = 1e-5
    let expected = values.indices.map { i in
      var above = values, below = values
      above[i] += step
      below[i] -= step
      return (loss(plain, above) - loss(plain, below)) / (2 * step)
    }
    let dp = ParameterVector(normal: p.layout, 5), before = dp.array
    norm.backward(g, x, norm.forward(x, p, nil, workers), slope: slope, p, into: dp, workers)
    var deviation = Deviation(g.array, expected)
    #expect(deviation.relative <= 1e-5, "\(deviation)")
    guard affine else { return }
    let all = plain.gamma + plain.beta, channels = shape.channels
    let gradient = all.indices.map { i in
      func moved(_ by: Double) -> Double {
        var all = all
        all[i] += by
        return loss(
          PlainNorm(slope: plain.slope, gamma: Array(all[..<channels]), beta: Array(all[channels...])), values
        )
      }
      return (moved(step) - moved(-step)) / (2 * step)
    }
    deviation = Deviation(zip(dp.array, before).map { Double($0) - Double($1) }, gradient)
    #expect(deviation.relative <= 1e-5, "parameters: \(deviation)")
  }

  /// The plain gradients are themselves judged by differences of the plain forward.
  @Test(arguments: shapes.dropFirst() + largeShapes, [true, false])
  func backwardMatchesThePlainReference(shape: Shape, affine: Bool) {
    let (norm, p, plain, slope) = make(affine: affine, shape.channels), workers = Workers.poisoned(2)
    let x = Island(shape, normals(shape.count, 3)).volume, values = x.array.map(Double.init)
    let given = normals(shape.count, 4), island = Island(shape, given, surroundings: 1e6)
    let expected = plain.backward(values, given.map(Double.init))
    let dp = ParameterVector(normal: p.layout, 5), before = dp.array,
      factors = norm.forward(x, p, nil, workers)
    workers.poison()
    norm.backward(island.volume, x, factors, slope: slope, p, into: dp, workers)
    var deviation = Deviation(island.volume.array, expected.x)
    // As with finite differences: terms of the size 1 nearly cancel in the smallest shapes.
    #expect(deviation.relative <= 1e-5 && island.isAlone, "\(deviation)")
    if affine {
      deviation = Deviation(
        zip(dp.array, before).map { Double($0) - Double($1) }, expected.gamma + expected.beta)
      #expect(deviation.relative <= 1e-5, "parameters: \(deviation)")
    }
    guard shape.count < 200 else { return }
    let i = shape.count / 2, step = 1e-5
    func loss(_ by: Double) -> Double {
      var moved = values
      moved[i] += by
      return zip(plain.forward(moved), given).reduce(0) { $0 + $1.0 * Double($1.1) }
    }
    #expect(abs((loss(step) - loss(-step)) / (2 * step) - expected.x[i]) <= 1e-6)
  }

  @Test func namesAreTheGivenOnes() {
    var layout = ParameterLayout()
    _ = InstanceNorm("plain", 2, in: &layout)
    _ = InstanceNorm(gamma: "a/gamma", beta: "b/beta", 3, epsilon: 1e-6, in: &layout)
    #expect(layout.parameters.map(\.name) == ["plain.weight", "plain.bias", "a/gamma", "b/beta"])
    #expect(layout.parameters.map(\.extents) == [[2], [2], [3], [3]])
  }

  /// A variance of the size of ε: a wrong ε would be off by half and more.
  @Test(arguments: [1e-6, 1e-5, 1e-2])
  func epsilonIsTheGivenOne(epsilon: Double) {
    var layout = ParameterLayout()
    let norm = InstanceNorm(gamma: "gamma", beta: "beta", 3, epsilon: epsilon, in: &layout)
    let p = ParameterVector(normal: layout, 1), all = p.array.map(Double.init)
    let plain = PlainNorm(slope: 0.02, gamma: Array(all[..<3]), beta: Array(all[3...]), epsilon: epsilon)
    let shape = Shape(Size(5, 3, 7), 3), sd = Float(epsilon.squareRoot()), workers = Workers(2)
    let x = Volume(shape, normals(shape.count, 2).map { sd * $0 }), g = Volume(normal: shape, 3)
    let values = x.array.map(Double.init), expected = plain.backward(values, g.array.map(Double.init))
    let factors = norm.forward(x, p, nil, workers), source = LayerInput(x, factors, slope: 0.02)
    let y = (0..<shape.count).map { source.value($0 / 3, $0 % 3) }
    var deviation = Deviation(y, plain.forward(values))
    #expect(deviation.relative <= 1e-6, "\(deviation)")
    let dp = ParameterVector(zeros: layout)
    norm.backward(g, x, factors, slope: 0.02, p, into: dp, workers)
    deviation = Deviation(g.array, expected.x)
    #expect(deviation.relative <= 1e-6, "gradient: \(deviation)")
    deviation = Deviation(dp.array, expected.gamma + expected.beta)
    #expect(deviation.relative <= 1e-6, "parameters: \(deviation)")
  }

  /// Volumes side by side, each normed by itself: what the norm of the whole makes of these channels. Sums are in
  /// another order.
  @Test(arguments: [[3, 5], [8, 4, 1], [2, 16], [7]])
  func aPartIsNormedAsItWouldBeInTheWhole(parts: [Int]) {
    let channels = parts.reduce(0, +), size = Size(3, 5, 7), whole = Shape(size, channels)
    let (norm, p, _, slope) = make(affine: true, channels), workers = Workers.poisoned(2)
    let x = Volume(normal: whole, 2), gradient = Volume(normal: whole, 3), given = gradient.array
    let dp = ParameterVector(normal: p.layout, 4), own = ParameterVector(copying: dp)
    let factors = norm.forward(x, p, nil, workers)
    norm.backward(gradient, x, factors, slope: slope, p, into: dp, workers)
    var first = 0
    for count in parts {
      func part(_ values: [Float]) -> [Float] {
        (0..<size.voxels).flatMap { values[$0 * channels + first..<$0 * channels + first + count] }
      }
      let y = Island(Shape(size, count), part(x.array)).volume
      let g = Island(Shape(size, count), part(given), surroundings: 1e6)
      workers.poison()
      let found = norm.forward(y, first: first, p, nil, workers), meant = first..<first + count
      for (a, b) in [
        (found.scale, factors.scale), (found.shift, factors.shift), (found.mean, factors.mean),
        (found.rstd, factors.rstd),
      ] {
        let deviation = Deviation(a, b[meant].map(Double.init))
        #expect(deviation.relative <= 1e-6, "channels \(meant): \(deviation)")
      }
      let before = own.array
      workers.poison()
      norm.backward(g.volume, y, first: first, found, slope: slope, p, into: own, workers)
      let deviation = Deviation(g.volume.array, part(gradient.array).map(Double.init))
      #expect(deviation.relative <= 1e-6 && g.isAlone, "gradient of channels \(meant): \(deviation)")
      for i in 0..<own.count where !meant.contains(i % channels) {
        #expect(own.values[i] == before[i], "another channel's parameter: \(i)")
      }
      first += count
    }
    let deviation = Deviation(own.array, dp.array.map(Double.init))
    #expect(deviation.relative <= 1e-6, "parameters: \(deviation)")
  }

  @Test func withoutPlaceForThemParameterGradientsAreNotMade() {
    let (norm, p, _, slope) = make(affine: true, 3)
    let shape = Shape(Size(3, 4, 5), 3), x = Volume(normal: shape, 1), workers = Workers(1)
    let a = Volume(normal: shape, 2), b = Volume(normal: shape, 2), factors = norm.forward(x, p, nil, workers)
    norm.backward(a, x, factors, slope: slope, p, into: nil, workers)
    norm.backward(b, x, factors, slope: slope, p, into: ParameterVector(zeros: p.layout), workers)
    #expect(firstDifference(a.array, b.array) == nil)
  }

  @Test(arguments: [Shape(Size(3, 5, 7), 3), Shape(Size(20, 30, 9), 4), Shape(Size(1, 200, 2), 33)])
  func anyNumberOfWorkersGivesTheSameBits(shape: Shape) {
    let (norm, p, _, slope) = make(affine: true, shape.channels), x = Volume(normal: shape, 2)
    expectSameBits(["scale", "shift", "mean", "rstd", "gradient", "parameters' gradients", "leaky ReLU"]) {
      workers in
      let g = Volume(normal: shape, 3), dp = ParameterVector(normal: p.layout, 4)
      let factors = norm.forward(x, p, nil, workers), leaky = Volume(normal: shape, 5)
      norm.backward(g, x, factors, slope: slope, p, into: dp, workers)
      LeakyReLU.backward(leaky, x, slope: slope, workers)
      return [factors.scale, factors.shift, factors.mean, factors.rstd, g.array, dp.array, leaky.array]
    }
  }
}

@Suite struct LayersLeakyReLUTests {
  @Test func whatIsNotPositiveIsScaled() {
    let x = Volume(Shape(Size(1, 1, 6), 1), [2, -3, 0, 1e-30, -1e-30, -.infinity])
    LeakyReLU.forward(x, slope: 0.5, Workers(1))
    #expect(x.array == [2, -1.5, 0, 1e-30, -0.5e-30, -.infinity])
  }

  /// More than one piece, and backward by the output in place of the input.
  @Test func backwardMatchesFiniteDifferencesOfForward() {
    let shape = Shape(Size(40, 31, 29), 1), x = Volume(normal: shape, 1), y = Volume(normal: shape, 1)
    LeakyReLU.forward(y, slope: 0.02, Workers(2))
    let g = Volume(normal: shape, 2), given = g.array
    LeakyReLU.backward(g, y, slope: 0.02, Workers(2))
    for i in 0..<shape.count {
      let slope: Float = x.base[i] > 0 ? 1 : 0.02
      if y.base[i] != slope * x.base[i] || g.base[i] != slope * given[i] {
        Issue.record("[\(i)]: \(x.base[i]) gives \(y.base[i]), gradient \(given[i]) gives \(g.base[i])")
        break
      }
    }
  }

  @Test func gradientIsScaledWhereTheInputIsNotPositive() {
    let shape = Shape(Size(1, 1, 5), 1), x = Volume(shape, [2, -3, 0, 1e-30, -1e-30])
    let g = Volume(shape, [1, 2, 3, 4, 5])
    LeakyReLU.backward(g, x, slope: 0.5, Workers(1))
    #expect(g.array == [1, 1, 1.5, 4, 2.5])
  }
}
