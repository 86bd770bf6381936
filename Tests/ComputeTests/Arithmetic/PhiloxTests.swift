import Testing

@testable import Compute

@Suite struct ArithmeticPhiloxTests {
  /// Source: Random123's kat_vectors, philox4x32 with 10 rounds.
  @Test func blocksAreThePublishedAnswers() {
    func block(_ c: [UInt32], _ k: [UInt32]) -> [UInt32] {
      let b = Philox.block((c[0], c[1], c[2], c[3]), key: (k[0], k[1]))
      return [b.0, b.1, b.2, b.3]
    }
    let ones = UInt32.max
    #expect(block([0, 0, 0, 0], [0, 0]) == [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8])
    #expect(
      block([ones, ones, ones, ones], [ones, ones]) == [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd])
    #expect(
      block([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0])
        == [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1])
  }

  @Test func streamsOfAllPlacesAreApart() {
    var seen: Set<[UInt32]> = [], count = 0
    for seed in [UInt64(0), 1, 1 << 32] {
      for purpose in [Philox.Purpose.dropout, .teacherDropout, .augmentation] {
        for a in 0..<4 {
          for b in 0..<4 {
            for part in 0..<3 {
              var random = Philox(seed: seed, purpose, a, b, part: part)
              seen.insert((0..<4).map { _ in random.next() })
              let words = random.words(at: 0)
              seen.insert([words.0, words.1, words.2, words.3])
              count += 2
            }
          }
        }
      }
    }
    #expect(seen.count == count)
  }

  /// A purpose with another number draws other numbers, so no recipe would give its checkpoint any more.
  @Test func purposesKeepTheirNumbers() {
    let purposes: [Philox.Purpose] = [
      .initialWeights, .split, .permutation, .augmentation, .dropout, .teacherDropout, .phantom, .test,
      .windows,
      .sequences, .noise,
    ]
    #expect(purposes.map(\.rawValue) == Array(1...11))
    #expect(Philox.Purpose.bootstrap.rawValue == 16)
  }

  @Test func drawingDoesNotChangeTheFieldOfWords() {
    var random = Philox(seed: 3, .phantom)
    let before = random.words(at: 1 << 40)
    _ = random.next()
    #expect(random.words(at: 1 << 40) == before)
    #expect(random.words(at: 0) != random.words(at: 1 << 32))
  }

  /// Bounds are four standard errors of the mean of n = 100,000 numbers.
  @Test func uniformNumbersHaveTheirMoments() {
    var random = Philox(seed: 1, .test, 1)
    let n = 100_000, values = (0..<n).map { _ in Double(random.uniform()) }
    #expect(values.allSatisfy { $0 >= 0 && $0 < 1 })
    let mean = values.reduce(0, +) / Double(n)
    #expect(abs(mean - 0.5) <= 4 * (1.0 / 12 / Double(n)).squareRoot(), "mean \(mean), expected 0.5")
    let square = values.reduce(0) { $0 + $1 * $1 } / Double(n)
    #expect(
      abs(square - 1.0 / 3) <= 4 * (4.0 / 45 / Double(n)).squareRoot(), "mean square \(square), expected 1/3")
    // χ² of 64 equal bins, 63 degrees of freedom: mean 63, sd 11.2.
    var bins = [Double](repeating: 0, count: 64)
    for value in values { bins[Int(value * 64)] += 1 }
    let expected = Double(n) / 64, chi = bins.reduce(0) { $0 + ($1 - expected) * ($1 - expected) / expected }
    #expect(chi > 18 && chi < 108, "χ² is \(chi)")
  }

  @Test func normalNumbersHaveTheirMoments() {
    var random = Philox(seed: 1, .test, 2)
    let n = 100_000, values = (0..<n).map { _ in Double(random.normal()) }
    // E xᵏ and the variance of xᵏ for k = 1…4.
    for (k, (moment, variance)) in [(0.0, 1.0), (1, 2), (0, 15), (3, 96)].enumerated() {
      let mean =
        values.reduce(0) { sum, x in sum + (0...k).reduce(1) { product, _ in product * x } } / Double(n)
      let bound = 4 * (variance / Double(n)).squareRoot()
      #expect(abs(mean - moment) <= bound, "the mean of x^\(k + 1) is \(mean), expected \(moment) ± \(bound)")
    }
    let inside = Double(values.count { abs($0) < 1 }) / Double(n)
    #expect(abs(inside - 0.682_689) <= 4 * (0.2166 / Double(n)).squareRoot(), "\(inside) lie within 1")
  }

  @Test(arguments: [1, 2, 3, 7, 1000])
  func numbersBelowABoundAreEvenlySpread(bound: Int) {
    var random = Philox(seed: 1, .test, 3, bound), counts = [Int](repeating: 0, count: bound)
    for _ in 0..<100 * bound { counts[random.below(bound)] += 1 }
    // 100 expected each, sd 10: six of them even for the furthest of a thousand.
    #expect(counts.allSatisfy { abs($0 - 100) <= 60 }, "\(counts.min() ?? 0)…\(counts.max() ?? 0) times each")
  }

  @Test(arguments: [0, 1, 2, 50])
  func permutationsHoldEveryIndexOnce(count: Int) {
    var random = Philox(seed: 1, .permutation)
    let order = random.permutation(count)
    #expect(order.sorted() == Array(0..<count))
    if count > 10 { #expect(order != random.permutation(count)) }
  }
}
