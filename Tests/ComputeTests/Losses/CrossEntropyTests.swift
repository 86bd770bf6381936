import Foundation
import Testing

@testable import Compute
@testable import TestSupport

@Suite struct LossesCrossEntropyTests {
  /// Two voxels: softmax of (ln 1, ln 2, ln 3, ln 4) is (0.1, 0.2, 0.3, 0.4), of four zeros 0.25 each.
  private let logits: [Float] = [0, 0.693_147_2, 1.098_612_3, 1.386_294_4, 0, 0, 0, 0]
  private let shape = Shape(Size(1, 1, 2), 4)

  @Test func valueAndGradientAreThoseWorkedOutByHand() {
    let gradient = Volume(zeros: shape), weights: [Float] = [1, 2, 3, 4]
    // Classes 1 and 3, weights 2 and 4.
    let loss = CrossEntropy.loss(
      Volume(shape, logits), LabelVolume(shape.size, [1, 3]), weights: weights, gradient: gradient, Workers(1)
    )
    // (2 · 1.609438 + 4 · 1.386294)/(2 + 4)
    #expect(abs(loss - 1.460_675_4) <= 1e-6, "\(loss), expected 1.4606754")
    // (2/6)·(softmax − 1 at class 1); (4/6)·(softmax − 1 at class 3).
    let expected = [0.1, -0.8, 0.3, 0.4].map { $0 / 3 } + [0.25, 0.25, 0.25, -0.75].map { $0 / 1.5 }
    let deviation = Deviation(gradient.array, expected)
    // Rounding of a few float operations.
    #expect(deviation.relative <= 1e-6, "\(deviation)")
  }

  @Test func onlyRatiosOfWeightsCount() {
    let truth = LabelVolume(shape.size, [0, 2]), x = Volume(shape, logits)
    let a = CrossEntropy.loss(x, truth, weights: [1, 2, 3, 4], gradient: nil, Workers(1))
    let b = CrossEntropy.loss(x, truth, weights: [2, 4, 6, 8], gradient: nil, Workers(1))
    // Twice the weight is exact in binary.
    #expect(a == b)
    // Weight 0: the voxel is not there.
    let c = CrossEntropy.loss(x, truth, weights: [0, 1, 1, 1], gradient: nil, Workers(1))
    #expect(abs(c - 1.386_294_4) <= 1e-6, "\(c), expected ln 4")
  }

  @Test func hugeLogitsStayFinite() {
    let gradient = Volume(zeros: shape), x = Volume(shape, [1e4, -1e4, 0, 5, 3e38, -3e38, 0, 0])
    let loss = CrossEntropy.loss(
      x, LabelVolume(shape.size, [1, 0]), weights: [1, 1, 1, 1], gradient: gradient, Workers(1))
    #expect(loss == 1e4)
    #expect(gradient.array == [0.5, -0.5, 0, 0, 0, 0, 0, 0])
  }

  /// Of a Float64 reference, over 1e-5: good to 1e-9; the gradient is float.
  @Test(arguments: [Size(1, 1, 1), Size(3, 1, 5), Size(2, 7, 3)])
  func gradientMatchesFiniteDifferences(size: Size) {
    let x = normals(size.voxels * 4, 1), weights: [Float] = [1, 59.4507, 23.3190, 71.8481]
    var random = Philox(seed: 1, .test)
    let truth = LabelVolume(size, (0..<size.voxels).map { _ in UInt8(random.below(4)) })
    func reference(_ x: [Double]) -> Double {
      var sum = 0.0, total = 0.0
      for (v, label) in truth.classes.enumerated() {
        let own = Array(x[4 * v..<4 * v + 4]), w = Double(weights[Int(label)])
        sum += w * (log(own.reduce(0) { $0 + exp($1) }) - own[Int(label)])
        total += w
      }
      return sum / total
    }
    let gradient = Volume(zeros: Shape(size, 4)), values = x.map(Double.init)
    let loss = CrossEntropy.loss(
      Volume(Shape(size, 4), x), truth, weights: weights, gradient: gradient, Workers(1))
    #expect(abs(loss - reference(values)) <= 1e-6 * loss, "\(loss), expected \(reference(values))")
    let expected = values.indices.map { i in
      var above = values, below = values
      above[i] += 1e-5
      below[i] -= 1e-5
      return (reference(above) - reference(below)) / 2e-5
    }
    let deviation = Deviation(gradient.array, expected)
    #expect(deviation.relative <= 1e-6, "\(deviation)")
  }

  @Test func anyNumberOfWorkersGivesTheSameBits() {
    let size = Size(24, 20, 28), x = Volume(normal: Shape(size, 4), 1)
    let truth = LabelVolume(size, (0..<size.voxels).map { UInt8($0 * $0 % 4) })
    func results(_ count: Int) -> (Double, [Float]) {
      let gradient = Volume(zeros: x.shape)
      let loss = CrossEntropy.loss(x, truth, weights: [1, 3, 2, 5], gradient: gradient, Workers(count))
      return (loss, gradient.array)
    }
    let one = results(1)
    for count in [2, 3, 5] {
      let other = results(count)
      #expect(
        other.0.bitPattern == one.0.bitPattern && firstDifference(other.1, one.1) == nil, "\(count) workers")
    }
  }
}
