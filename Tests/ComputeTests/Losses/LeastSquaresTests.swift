import Testing

@testable import Compute
@testable import TestSupport

@Suite struct LossesLeastSquaresTests {
  private let shape = Shape(Size(1, 2, 2), 1)

  @Test func valueAndGradientAreThoseWorkedOutByHand() {
    let scores = Volume(shape, [0, 1, 3, -1]), gradient = Volume(zeros: shape)
    // Of squares 1, 0, 4, 4; all exact in binary.
    #expect(LeastSquares.loss(scores, target: 1, factor: 0.5, gradient: gradient) == 2.25)
    #expect(gradient.array == [-0.25, 0, 0.5, -0.5])
    #expect(LeastSquares.loss(scores, target: 0, factor: 1, gradient: gradient) == 2.75)
    #expect(gradient.array == [0, 0.5, 1.5, -0.5])
  }

  /// A square's central difference has no error of its own: what is left is rounding.
  @Test func gradientMatchesFiniteDifferences() {
    let scores = Volume(normal: shape, 1), gradient = Volume(zeros: shape), other = Volume(zeros: shape)
    _ = LeastSquares.loss(scores, target: 1, factor: 0.2, gradient: gradient)
    let expected = (0..<shape.count).map { i in
      let value = scores.base[i]
      scores.base[i] = value + 0.5
      let above = LeastSquares.loss(scores, target: 1, factor: 0.2, gradient: other), up = scores.base[i]
      scores.base[i] = value - 0.5
      let below = LeastSquares.loss(scores, target: 1, factor: 0.2, gradient: other), down = scores.base[i]
      scores.base[i] = value
      return 0.2 * (above - below) / Double(up - down)
    }
    let deviation = Deviation(gradient.array, expected)
    #expect(deviation.relative <= 1e-6, "\(deviation)")
  }
}
