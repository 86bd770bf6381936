import Foundation
import Testing

@testable import Compute

@Suite struct ArithmeticPortableTests {
  @Test func logarithmIsThatOfTheCLibrary() {
    var random = Philox(seed: 1, .test)
    var values = [1.0, 2, 0.5, 2.0.squareRoot(), 0.5.squareRoot(), 1.nextUp, 1.nextDown, 1e-300, 1e300]
    for _ in 0..<20_000 { values.append(Double(random.next()) * 0x1p-32 + 0x1p-33) }
    for _ in 0..<2000 { values.append(Foundation.exp(Double(random.uniform(-700, 700)))) }
    for x in values {
      let value = Portable.log(x), expected = Foundation.log(x)
      // As its documentation promises.
      #expect(abs(value - expected) <= 1e-15 * abs(expected), "log \(x): \(value), expected \(expected)")
    }
  }

  @Test func exponentialIsThatOfTheCLibrary() {
    var random = Philox(seed: 2, .test)
    var values = [0.0, 1, -1, 708, -708, 709, 1e-20]
    for _ in 0..<20_000 { values.append(Double(random.uniform(-700, 700))) }
    for _ in 0..<20_000 { values.append(Double(random.uniform(-1, 1))) }
    for x in values {
      let value = Portable.exp(x), expected = Foundation.exp(x)
      #expect(abs(value - expected) <= 1e-14 * expected, "exp \(x): \(value), expected \(expected)")
    }
    #expect(Portable.exp(-709) == 0 && Portable.exp(710) == .infinity && Portable.exp(.nan).isNaN)
  }

  @Test func sineAndCosineAreThoseOfTheCLibrary() {
    var random = Philox(seed: 3, .test)
    for x in [0, .pi / 4, .pi / 2, .pi, -.pi] + (0..<20_000).map({ _ in Double(random.uniform(-999, 999)) }) {
      let (sine, cosine) = Portable.sineAndCosine(x)
      #expect(abs(sine - sin(x)) <= 1e-13, "sin \(x): \(sine), expected \(sin(x))")
      #expect(abs(cosine - cos(x)) <= 1e-13, "cos \(x): \(cosine), expected \(cos(x))")
    }
  }
}
