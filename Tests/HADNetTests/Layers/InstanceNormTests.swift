import Foundation
import Testing

@testable import HADNet

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

/// The layer as its definition says, in Float64.
private struct Plain {
  let slope: Double, gamma, beta: [Double]

  /// leaky(γ · (x − mean)/√(variance + ε) + β).
  func forward(_ x: [Double]) -> [Double] {
    let channels = gamma.count, n = Double(x.count / channels)
    var y = x
    for c in 0..<channels {
      let places = stride(from: c, to: x.count, by: channels)
      let mean = places.reduce(0) { $0 + x[$1] } / n
      let variance = places.reduce(0) { $0 + (x[$1] - mean) * (x[$1] - mean) } / n
      for i in places {
        let v = gamma[c] * (x[i] - mean) / (variance + 1e-5).squareRoot() + beta[c]
        y[i] = v > 0 ? v : slope * v
      }
    }
    return y
  }

  /// The gradients of x, γ and β from that of y.
  func backward(_ x: [Double], _ gradient: [Double]) -> (x: [Double], gamma: [Double], beta: [Double]) {
    let channels = gamma.count, n = Double(x.count / channels)
    var dx = x, dGamma = gamma, dBeta = beta
    for c in 0..<channels {
      let places = stride(from: c, to: x.count, by: channels)
      let mean = places.reduce(0) { $0 + x[$1] } / n
      let variance = places.reduce(0) { $0 + (x[$1] - mean) * (x[$1] - mean) } / n
      let rstd = 1 / (variance + 1e-5).squareRoot()
      func normed(_ i: Int) -> Double { (x[i] - mean) * rstd }
      func inner(_ i: Int) -> Double {
        gamma[c] * normed(i) + beta[c] > 0 ? gradient[i] : slope * gradient[i]
      }
      dGamma[c] = places.reduce(0) { $0 + inner($1) * normed($1) }
      dBeta[c] = places.reduce(0) { $0 + inner($1) }
      for i in places { dx[i] = gamma[c] * rstd * (inner(i) - dBeta[c] / n - normed(i) * dGamma[c] / n) }
    }
    return (dx, dGamma, dBeta)
  }
}

@Suite struct LayersInstanceNormTests {
  private func make(affine: Bool, _ channels: Int) -> (InstanceNorm, ParameterVector, Plain, slope: Float) {
    var layout = ParameterLayout()
    let norm = InstanceNorm("inst", channels, affine: affine, in: &layout)
    let p = ParameterVector(normal: layout, 1), slope: Float = affine ? 0.01 : 0.2
    let all = p.array.map(Double.init)
    let plain = Plain(
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
    func loss(_ plain: Plain, _ x: [Double]) -> Double {
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
          Plain(slope: plain.slope, gamma: Array(all[..<channels]), beta: Array(all[channels...])), values)
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
  @Test func gradientIsScaledWhereTheInputIsNotPositive() {
    let shape = Shape(Size(1, 1, 5), 1), x = Volume(shape, [2, -3, 0, 1e-30, -1e-30])
    let g = Volume(shape, [1, 2, 3, 4, 5])
    LeakyReLU.backward(g, x, slope: 0.5, Workers(1))
    #expect(g.array == [1, 1, 1.5, 4, 2.5])
  }
}
