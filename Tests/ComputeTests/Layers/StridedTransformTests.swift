import Testing

@testable import Compute
@testable import TestSupport

/// Small whole numbers, with which all of these transforms are exact.
@Suite struct LayersStridedTransformTests {
  private static let step = 24, count = 16

  private func rows(_ count: Int, _ part: Int) -> [Float] {
    normals(count * Self.step, part).map { ($0 * 8).rounded() }
  }

  private func vector(_ rows: [Float], _ row: Int, _ i: Int) -> Lanes {
    Lanes((0..<lanes).map { rows[row * Self.step + i + $0] })
  }

  @Test func productsOfTransformsAreACorrelation() {
    let x = rows(4, 1), g = rows(2, 2)
    var v = x
    StridedTransform.input(&v, Self.step, count: Self.count)
    for row in 0..<4 {
      for i in Self.count..<Self.step { #expect(v[row * Self.step + i] == x[row * Self.step + i]) }
    }
    for i in stride(from: 0, to: Self.count, by: lanes) {
      let u = StridedTransform.filter(vector(g, 0, i), vector(g, 1, i))
      let y = StridedTransform.output(
        vector(v, 0, i) * u.0, vector(v, 1, i) * u.1, vector(v, 2, i) * u.2, vector(v, 3, i) * u.3)
      for (o, found) in [y.0, y.1, y.2].enumerated() {
        #expect(found == vector(x, o, i) * vector(g, 0, i) + vector(x, o + 1, i) * vector(g, 1, i))
      }
    }
  }

  @Test func productsOfGradientsAreThoseOfTheTaps() {
    let x = rows(4, 1), dy = rows(3, 2)
    var v = x, d = dy + [Float](repeating: .nan, count: Self.step)
    StridedTransform.input(&v, Self.step, count: Self.count)
    StridedTransform.gradient(&d, Self.step, count: Self.count)
    for i in stride(from: 0, to: Self.count, by: lanes) {
      let taps = StridedTransform.filterGradient(
        vector(v, 0, i) * vector(d, 0, i), vector(v, 1, i) * vector(d, 1, i),
        vector(v, 2, i) * vector(d, 2, i),
        vector(v, 3, i) * vector(d, 3, i))
      for (tap, found) in [taps.0, taps.1].enumerated() {
        let expected = (0..<3).reduce(Lanes.zero) { $0 + vector(dy, $1, i) * vector(x, $1 + tap, i) }
        #expect(found == expected)
      }
    }
  }
}
