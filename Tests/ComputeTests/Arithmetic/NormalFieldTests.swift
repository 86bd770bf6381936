import Foundation
import Testing

@testable import Compute
@testable import TestSupport

@Suite struct ArithmeticNormalFieldTests {
  private func field(_ random: Philox, _ count: Int, _ workers: Workers = Workers(1)) -> [Float] {
    [Float](unsafeUninitializedCapacity: count) { buffer, filled in
      if let base = buffer.baseAddress { random.fillNormal(base, count: count, workers) }
      filled = count
    }
  }

  private let count = 1_000_000
  private func numbers() -> [Double] { field(Philox(seed: 1, .test, 1), count).map(Double.init) }

  /// Bounds are four standard errors of the mean of n numbers: of E xᵏ and the variance of xᵏ, k = 1…6.
  @Test func momentsAreThoseOfANormalNumber() {
    let values = numbers(), n = Double(count)
    for (k, (moment, variance)) in [(0.0, 1.0), (1, 2), (0, 15), (3, 96), (0, 945), (15, 10_170)].enumerated()
    {
      let mean = values.reduce(0) { sum, x in sum + (0...k).reduce(1) { product, _ in product * x } } / n
      let bound = 4 * (variance / n).squareRoot()
      #expect(abs(mean - moment) <= bound, "the mean of x^\(k + 1) is \(mean), expected \(moment) ± \(bound)")
    }
  }

  /// χ² of 100 bins that are equally likely, 99 degrees of freedom: mean 99, sd 14.1; four of them.
  @Test func numbersAreSpreadAsTheNormalDistributionSays() {
    var bins = [Double](repeating: 0, count: 100)
    for x in numbers() { bins[min(99, Int(50 * erfc(-x / 2.0.squareRoot())))] += 1 }
    let expected = Double(count) / 100
    let chi = bins.reduce(0) { $0 + ($1 - expected) * ($1 - expected) / expected }
    #expect(chi > 43 && chi < 156, "χ² is \(chi)")
  }

  /// Of a million numbers 2700 lie beyond 3, 63 beyond 4, and 0.6 beyond 5, on each side half: within four standard
  /// deviations √n. The method's largest is √(2 · 24 ln 2).
  @Test func tailsAreAsLongAsTheyShouldBe() {
    let values = numbers()
    for sign in [1.0, -1] {
      let beyond3 = Double(values.count { sign * $0 > 3 }), beyond4 = Double(values.count { sign * $0 > 4 })
      #expect(abs(beyond3 - 1349.9) <= 4 * 1349.9.squareRoot(), "\(beyond3) beyond \(3 * sign)")
      #expect(abs(beyond4 - 31.67) <= 4 * 31.67.squareRoot(), "\(beyond4) beyond \(4 * sign)")
    }
    #expect(values.allSatisfy { abs($0) <= (48 * log(2.0)).squareRoot() + 1e-6 })
  }

  /// Numbers are made in pairs of the same radius, eight apart: neither they nor their squares know of each other, nor of
  /// other neighbours. Four standard errors.
  @Test(arguments: [1, 2, 4, 8, 16, 32])
  func numbersDoNotKnowTheirNeighbours(distance: Int) {
    let values = numbers(), n = Double(count - distance)
    var products = 0.0, squares = 0.0
    for i in distance..<count {
      let a = values[i - distance], b = values[i]
      products += a * b
      squares += (a * a - 1) * (b * b - 1)
    }
    #expect(abs(products / n) <= 4 / n.squareRoot(), "\(products / n)")
    #expect(abs(squares / n) <= 4 * 2 / n.squareRoot(), "\(squares / n)")
  }

  /// Nothing is written behind the last.
  @Test(arguments: [0, 1, 7, 8, 9, 15, 16, 17, 1000, 4111, 70_001])
  func fewerNumbersAreTheFirstOfMore(count: Int) {
    let random = Philox(seed: 3, .test, 2), all = field(random, 100_000)
    let buffer = Buffer(zeros: count + 40)
    buffer.values.update(repeating: -7)
    random.fillNormal(buffer.base, count: count, Workers(2))
    #expect(firstDifference(Array(buffer.values[..<count]), Array(all[..<count])) == nil)
    #expect(buffer.values[count...].allSatisfy { $0 == -7 })
  }

  @Test(arguments: [5, 4111, 50_000])
  func anyNumberOfWorkersGivesTheSameBits(count: Int) {
    expectSameBits(["field"]) { [field(Philox(seed: 5, .test, 1, 2), count, $0)] }
  }

  /// Seeds, purposes, places and parts; numbers drawn one by one before do not change the field.
  @Test func otherStreamsAreOtherFields() {
    let streams = [
      Philox(seed: 1, .test), Philox(seed: 2, .test), Philox(seed: 1 << 32, .test), Philox(seed: 1, .dropout),
      Philox(seed: 1, .test, 1), Philox(seed: 1, .test, 0, 1), Philox(seed: 1, .test, part: 1),
    ]
    let n = 10_000, fields = streams.map { field($0, n) }
    for i in fields.indices {
      for j in 0..<i {
        let products = zip(fields[i], fields[j]).reduce(0) { $0 + Double($1.0) * Double($1.1) } / Double(n)
        // Four standard errors.
        #expect(abs(products) <= 0.04, "streams \(i) and \(j): \(products)")
      }
    }
    var drawn = streams[0]
    for _ in 0..<5 { _ = drawn.next() }
    #expect(firstDifference(field(drawn, n), fields[0]) == nil)
  }
}
