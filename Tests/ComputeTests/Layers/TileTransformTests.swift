import Testing

@testable import Compute
@testable import TestSupport

@Suite struct LayersTileTransformTests {
  /// Distances between values where they are read and written, and vectors side by side.
  private static let from = 40, to = 24, count = 16

  /// Rows of `count` numbers, `step` apart.
  private func rows(_ count: Int, _ step: Int, _ part: Int) -> [Float] { normals(count * step, part) }

  private func column(_ rows: [Float], _ count: Int, _ step: Int, _ i: Int) -> [Double] {
    (0..<count).map { Double(rows[$0 * step + i]) }
  }

  /// Products are of floats of size 1 to 10: 1e-6 is about ten roundings.
  @Test func productsOfTransformsAreACorrelation() {
    let x = rows(6, Self.from, 1), g = rows(3, Self.from, 2)
    var v = [Float](repeating: .nan, count: 6 * Self.to), u = v
    TileTransform.input(x, Self.from, &v, Self.to, count: Self.count)
    for i in stride(from: 0, to: Self.count, by: lanes) {
      g.withUnsafeBufferPointer { g in
        u.withUnsafeMutableBufferPointer { u in
          TileTransform.filter(g.baseAddress! + i, Self.from, u.baseAddress! + i, Self.to)
        }
      }
    }
    #expect(v[Self.count..<Self.to].allSatisfy { $0.isNaN }, "more values than asked for are transformed")
    var found: [Double] = [], expected: [Double] = []
    for i in stride(from: 0, to: Self.count, by: lanes) {
      let m = (0..<6).map { row in
        Lanes((0..<lanes).map { v[row * Self.to + i + $0] * u[row * Self.to + i + $0] })
      }
      let y = TileTransform.output(m[0], m[1], m[2], m[3], m[4], m[5])
      for lane in 0..<lanes {
        let d = column(x, 6, Self.from, i + lane), taps = column(g, 3, Self.from, i + lane)
        found += [y.0, y.1, y.2, y.3].map { Double($0[lane]) }
        expected += (0..<4).map { o in (0..<3).reduce(0) { $0 + d[o + $1] * taps[$1] } }
      }
    }
    let deviation = Deviation(found, expected)
    #expect(deviation.relative <= 1e-6, "\(deviation)")
  }

  @Test func productsOfGradientsAreThoseOfTheTaps() {
    let x = rows(6, Self.from, 1), dy = rows(4, Self.from, 2)
    var v = [Float](repeating: .nan, count: 6 * Self.to), d = v
    TileTransform.input(x, Self.from, &v, Self.to, count: Self.count)
    TileTransform.gradient(dy, Self.from, &d, Self.to, count: Self.count)
    #expect(d[Self.count..<Self.to].allSatisfy { $0.isNaN }, "more values than asked for are transformed")
    let m = zip(v, d).map { $0 * $1 }
    var taps = [Float](repeating: .nan, count: 3 * Self.to)
    for i in stride(from: 0, to: Self.count, by: lanes) {
      m.withUnsafeBufferPointer { m in
        taps.withUnsafeMutableBufferPointer { taps in
          TileTransform.filterGradient(m.baseAddress! + i, Self.to, taps.baseAddress! + i, Self.to)
        }
      }
    }
    var found: [Double] = [], expected: [Double] = []
    for i in 0..<Self.count {
      let values = column(x, 6, Self.from, i), gradients = column(dy, 4, Self.from, i)
      found += column(taps, 3, Self.to, i)
      expected += (0..<3).map { tap in (0..<4).reduce(0) { $0 + gradients[$1] * values[$1 + tap] } }
    }
    let deviation = Deviation(found, expected)
    #expect(deviation.relative <= 1e-6, "\(deviation)")
  }
}
