import Foundation
import Testing

@testable import Compute
@testable import TestSupport

@Suite struct ArithmeticTranscendentalTests {
  /// The values of a function of eight numbers, eight at a time.
  private func values(_ x: [Float], _ function: (Lanes) -> Lanes) -> [Float] {
    stride(from: 0, to: x.count, by: lanes).flatMap { start in
      var group = Lanes(repeating: 1)
      for i in 0..<min(lanes, x.count - start) { group[i] = x[start + i] }
      let y = function(group)
      return (0..<min(lanes, x.count - start)).map { y[$0] }
    }
  }

  private func random(_ count: Int, _ low: Float, _ high: Float) -> [Float] {
    var random = Philox(seed: 1, .test, count)
    return (0..<count).map { _ in random.uniform(low, high) }
  }

  /// As its documentation promises.
  @Test func exponentialIsThatOfTheCLibrary() {
    // Also around the borders between powers of two.
    let borders = (-125...125).flatMap { k -> [Float] in
      let x = (Float(k) + 0.5) * 0.693_147_2
      return [x.nextDown, x, x.nextUp]
    }
    let x =
      [0, -0, 1, -1, 1e-30, -1e-7, 87, -87] + borders + random(50_000, -87, 87) + random(50_001, -1, 1)
      + random(10_000, -1e-3, 1e-3)
    for (x, y) in zip(x, values(x, Transcendental.exp)) {
      let expected = Foundation.exp(Double(x))
      if !(abs(Double(y) - expected) <= 3e-7 * expected) {
        Issue.record("exp \(x): \(y), expected \(expected)")
        break
      }
    }
    #expect(Transcendental.exp(.zero) == Lanes(repeating: 1))
  }

  @Test func exponentialBeyondItsRangeIsThatOfTheEnd() {
    let ends = Transcendental.exp(Lanes(87, -87, 87, -87, 87, -87, 87, -87))
    let beyond = Transcendental.exp(
      Lanes(87.1, -87.1, 1e10, -1e10, .infinity, -.infinity, .greatestFiniteMagnitude, -88))
    #expect(beyond == ends)
    #expect(ends[0].isFinite && ends[1] > 0)
  }

  /// Absolute near 1, relative elsewhere, as its documentation promises.
  @Test func logarithmIsThatOfTheCLibrary() {
    let around = [Float(1), 2, 0.5, Float(2).squareRoot(), Float(0.5).squareRoot(), 1e-7, 3, 10].flatMap {
      [$0.nextDown, $0, $0.nextUp]
    }
    let x =
      around + [.leastNormalMagnitude, .greatestFiniteMagnitude, 0x1p-24] + random(50_000, 0.5, 2)
      + random(50_001, 0, 1).map { max($0, 1e-7) } + random(50_002, -86, 88).map { Foundation.exp($0) }
    for (x, y) in zip(x, values(x, Transcendental.log)) {
      let expected = Foundation.log(Double(x))
      if !(abs(Double(y) - expected) <= 2e-7 * max(1, abs(expected))) {
        Issue.record("log \(x): \(y), expected \(expected)")
        break
      }
    }
    #expect(Transcendental.log(Lanes(repeating: 1)) == Lanes.zero)
  }

  /// A loss must not hide that its case is none.
  @Test func theExponentialOfWhatIsNotANumberIsNone() {
    var x = Lanes(repeating: 0.5)
    x[3] = .nan
    let y = Transcendental.exp(x)
    for i in 0..<lanes { #expect(y[i].isNaN == (i == 3), "\(y)") }
  }

  /// No lane knows of another.
  @Test func aNumberGivesTheSameBitsInEveryLane() {
    let x = random(64, 0.01, 80)
    for function in [Transcendental.exp, Transcendental.log] {
      let plain = values(x, function)
      for shift in 1..<lanes {
        let turned = values(x.indices.map { x[($0 + shift) % x.count] }, function)
        #expect(firstDifference(turned, x.indices.map { plain[($0 + shift) % x.count] }) == nil)
      }
    }
  }
}
