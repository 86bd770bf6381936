import Foundation
import Testing

@testable import Compute
@testable import TestSupport

private let subsets = PlainGaussians.subsets

/// Four maps of C means and C log variances, noise and a gradient of the sample.
private struct Example {
  let shape: Shape
  let maps: [Volume]
  let noise, dz: Volume
  static let weight: Float = 0.3

  /// Variances between e⁻⁶ and e⁶ or so, or others.
  init(_ shape: Shape, logVariance: (Int, Float) -> Float = { _, normal in 2 * normal }) {
    self.shape = shape
    let c = shape.channels
    maps = (0..<4).map { sequence in
      let shape = Shape(shape.size, 2 * c)
      let values = normals(shape.count, sequence).enumerated().map { i, value in
        i % (2 * c) < c ? value : logVariance(i / (2 * c) * c + i % c, value)
      }
      return Island(shape, values).volume
    }
    noise = Island(shape, normals(shape.count, 10)).volume
    dz = Island(shape, normals(shape.count, 11)).volume
  }

  func fusion(_ present: [Bool]) -> GaussianFusion { GaussianFusion(maps: maps, present: present) }

  /// Where number `i` has its mean in a map; its log variance is C further on.
  func place(_ i: Int) -> Int { i / shape.channels * 2 * shape.channels + i % shape.channels }

  func number(_ i: Int) -> PlainGaussians {
    let at = place(i)
    return PlainGaussians(
      means: maps.map { Double($0.base[at]) },
      logVariances: maps.map { Double($0.base[at + shape.channels]) })
  }

  func divergences(_ present: [Bool]) -> (inter: Double, prior: Double) {
    let all = (0..<shape.count).map { number($0).divergences(present) }, n = Double(all.count)
    return (all.reduce(0) { $0 + $1.inter } / n, all.reduce(0) { $0 + $1.prior } / n)
  }

  /// dz·z and the weighted divergences' mean as a function of a number's eight values; their slopes by sequence: of the
  /// mean, of the log variance.
  func slopes(
    _ i: Int, _ present: [Bool], sampled: Bool = true, noisy: Bool = true, weight: Double = Double(weight)
  ) -> [(mean: Double, logVariance: Double)] {
    let number = number(i), step = 1e-5
    let noise = noisy ? Double(noise.base[i]) : 0, dz = sampled ? Double(dz.base[i]) : 0
    func loss(_ number: PlainGaussians) -> Double {
      let (inter, prior) = number.divergences(present)
      return dz * number.sample(present, noise: noise) + weight * (inter + prior) / Double(shape.count)
    }
    func slope(_ path: WritableKeyPath<PlainGaussians, Double>) -> Double {
      var above = number, below = number
      above[keyPath: path] += step
      below[keyPath: path] -= step
      return (loss(above) - loss(below)) / (2 * step)
    }
    return (0..<4).map { (slope(\.means[$0]), slope(\.logVariances[$0])) }
  }

  /// Islands for the gradients, full of NaN.
  func gradients() -> [Island] { maps.map { Island($0.shape, filled: .nan, surroundings: 1e6) } }
}

/// Fewer, as many and more channels than vectors have lanes, or not a divisor; numbers that fill no vector, and that leave
/// a remainder.
private let shapes = [
  Shape(Size(1, 1, 1), 1), Shape(Size(3, 5, 7), 2), Shape(Size(1, 1, 3), 3), Shape(Size(3, 5, 7), 4),
  Shape(Size(1, 1, 1), 4), Shape(Size(3, 1, 5), 6), Shape(Size(1, 3, 2), 8), Shape(Size(3, 2, 1), 16),
]

@Suite struct LayersGaussianFusionTests {
  /// Exponentials to 3e-7 and some float operations.
  private let bound = Bound(relative: 1e-6, most: 5e-6)

  @Test(arguments: shapes, subsets)
  func samplesAndPosteriorsMatchThePlainReference(shape: Shape, present: [Bool]) {
    let example = Example(shape), fusion = example.fusion(present), workers = Workers.poisoned(2)
    func island() -> Island { Island(shape, filled: .nan, surroundings: 1e6) }
    let z = island(), means = island(), mean = island(), logVariance = island()
    fusion.sample(noise: example.noise, into: z.volume, workers)
    fusion.sample(noise: nil, into: means.volume, workers)
    fusion.posterior(mean: mean.volume, logVariance: logVariance.volume, workers)
    let numbers = (0..<shape.count).map(example.number), products = numbers.map { $0.product(present) }
    for (what, found, expected) in [
      (
        "sample", z,
        numbers.enumerated().map { $1.sample(present, noise: Double(example.noise.base[$0])) }
      ),
      ("mean in place of a sample", means, products.map(\.mean)), ("mean", mean, products.map(\.mean)),
      ("log variance", logVariance, products.map(\.logVariance)),
    ] {
      let deviation = Deviation(found.volume.array, expected)
      #expect(deviation.isWithin(bound) && found.isAlone, "\(what): \(deviation)")
    }
  }

  /// Each of the 15 products of a number has variance e⁻¹⁶ to 1: its terms are up to some hundreds and cancel in part.
  @Test(arguments: shapes, subsets)
  func divergencesMatchThePlainReference(shape: Shape, present: [Bool]) {
    let example = Example(shape), expected = example.divergences(present)
    let found = example.fusion(present).divergences(
      nil, noise: nil, weight: 1, into: nil, Workers.poisoned(2))
    for (name, value, truth) in [
      ("inter", found.inter, expected.inter), ("prior", found.prior, expected.prior),
    ] {
      #expect(abs(value - truth) <= 2e-6 * max(1, truth), "\(name): \(value), expected \(truth)")
    }
  }

  /// Differences in Float64 are good to 1e-8. Pulls between products of nearly equal means are off by 1e-7 over the
  /// smallest variance.
  @Test(arguments: shapes, subsets)
  func gradientsMatchFiniteDifferences(shape: Shape, present: [Bool]) {
    let example = Example(shape), gradients = example.gradients()
    _ = example.fusion(present).divergences(
      example.dz, noise: example.noise, weight: Example.weight, into: gradients.map(\.volume),
      Workers.poisoned(2))
    expect(gradients, example) { example.slopes($0, present) }
  }

  /// Alone: the divergences, the sample by its mean, the sample with noise.
  @Test(arguments: [(false, false, 0.3), (true, false, 0), (true, true, 0)])
  func eachPartOfTheGradientMatchesFiniteDifferences(sampled: Bool, noisy: Bool, weight: Double) {
    let example = Example(Shape(Size(3, 5, 3), 2)), present = [true, false, true, true]
    let gradients = example.gradients()
    _ = example.fusion(present).divergences(
      sampled ? example.dz : nil, noise: noisy ? example.noise : nil, weight: Float(weight),
      into: gradients.map(\.volume), Workers(1))
    expect(gradients, example) {
      example.slopes($0, present, sampled: sampled, noisy: noisy, weight: weight)
    }
    // The sample knows nothing of a sequence that is dropped; the divergences do.
    let isZero = gradients[1].volume.array.allSatisfy { $0 == 0 }
    #expect(isZero == (weight == 0))
  }

  private func expect(
    _ gradients: [Island], _ example: Example, _ location: SourceLocation = #_sourceLocation,
    _ slopes: (Int) -> [(mean: Double, logVariance: Double)]
  ) {
    let all = (0..<example.shape.count).map(slopes)
    for (sequence, gradient) in gradients.enumerated() {
      var expected = [Double](repeating: .nan, count: gradient.volume.shape.count)
      for (i, slopes) in all.enumerated() {
        expected[example.place(i)] = slopes[sequence].mean
        expected[example.place(i) + example.shape.channels] = slopes[sequence].logVariance
      }
      let deviation = Deviation(gradient.volume.array, expected)
      #expect(
        deviation.isWithin(.init(relative: 2e-5, most: 2e-4)) && gradient.isAlone,
        "sequence \(sequence): \(deviation)", sourceLocation: location)
    }
  }

  // MARK: The clip

  private static let extremes: [Float] = [-60, -50.01, -50, -49.9, -20, 0, 20, 49.9, 50, 50.01, 60]

  /// Variances of all sizes beside each other.
  private func extreme(_ limit: Float = .infinity) -> Example {
    let values = LayersGaussianFusionTests.extremes
    return Example(Shape(Size(5, 5, 5), 3)) { i, normal in
      let value = values[Int((normal + 8) * 1000) % values.count]
      return min(max(value, -limit), limit)
    }
  }

  @Test(arguments: subsets)
  func variancesOfAllSizesMatchThePlainReference(present: [Bool]) {
    let example = extreme(), shape = example.shape, fusion = example.fusion(present), workers = Workers(1)
    let z = Volume(zeros: shape), mean = Volume(zeros: shape), logVariance = Volume(zeros: shape)
    fusion.sample(noise: example.noise, into: z, workers)
    fusion.posterior(mean: mean, logVariance: logVariance, workers)
    let numbers = (0..<shape.count).map(example.number), products = numbers.map { $0.product(present) }
    let samples = numbers.enumerated().map { $1.sample(present, noise: Double(example.noise.base[$0])) }
    // Values of size 1, and logarithms up to 16.
    for (what, found, expected, bound) in [
      ("sample", z, samples, 3e-6), ("mean", mean, products.map(\.mean), 3e-6),
      ("log variance", logVariance, products.map(\.logVariance), 5e-6),
    ] {
      let errors = zip(found.array, expected).map { abs(Double($0) - $1) }
      let worst = errors.indices.max { errors[$0] < errors[$1] } ?? 0
      #expect(
        errors.allSatisfy { $0 <= bound },
        "\(what) \(worst): \(found.base[worst]), expected \(expected[worst])")
    }
    let found = fusion.divergences(nil, noise: nil, weight: 1, into: nil, workers)
    let expected = example.divergences(present)
    // Squares of distances over variances of 2e-7.
    #expect(abs(found.inter / expected.inter - 1) <= 1e-5, "\(found), expected \(expected)")
    #expect(abs(found.prior / expected.prior - 1) <= 1e-5, "\(found), expected \(expected)")
  }

  /// Bit for bit, but that no gradient leads out of the clip.
  @Test(arguments: subsets)
  func beyondTheClipAllIsAsAtItsEndWithoutGradient(present: [Bool]) {
    let free = extreme(), held = extreme(50), shape = free.shape, workers = Workers(1)
    func results(_ example: Example) -> (z: [Float], gradients: [[Float]], divergences: [Double]) {
      let fusion = example.fusion(present), z = Volume(zeros: shape), gradients = example.gradients()
      fusion.sample(noise: example.noise, into: z, workers)
      let (inter, prior) = fusion.divergences(
        example.dz, noise: example.noise, weight: Example.weight, into: gradients.map(\.volume), workers)
      return (z.array, gradients.map(\.volume.array), [inter, prior])
    }
    let a = results(free), b = results(held)
    #expect(firstDifference(a.z, b.z) == nil && a.divergences == b.divergences)
    var beyond = 0, within = 0, wrong: [String] = []
    for sequence in 0..<4 {
      for i in 0..<shape.count {
        let at = free.place(i), l = at + shape.channels, isBeyond = free.maps[sequence].base[l].magnitude > 50
        let found = a.gradients[sequence], truth = b.gradients[sequence]
        if found[at].bitPattern != truth[at].bitPattern { wrong.append("mean \(i) of \(sequence)") }
        if isBeyond ? found[l] != 0 : found[l].bitPattern != truth[l].bitPattern {
          wrong.append("log variance \(i) of \(sequence)")
        }
        if isBeyond { beyond += 1 } else if found[l] != 0 { within += 1 }
      }
    }
    #expect(wrong.isEmpty, "gradients of \(wrong.count) numbers, the first of \(wrong.first ?? "")")
    #expect(beyond > 300 && within > 300)
  }

  /// Be it a mean or a log variance, of a sequence that is fused or of one that is dropped.
  @Test(arguments: [0, 1], [1, 3])
  func aNumberThatIsNoneMakesTheDivergencesNone(sequence: Int, channel: Int) {
    let example = Example(Shape(Size(1, 3, 2), 2)), present = [true, false, true, true]
    example.maps[sequence].base[4 + channel] = .nan
    let found = example.fusion(present).divergences(nil, noise: nil, weight: 1, into: nil, Workers(1))
    #expect(found.inter.isNaN && found.prior.isNaN, "\(found)")
    let z = Volume(zeros: example.shape)
    example.fusion(present).sample(noise: example.noise, into: z, Workers(1))
    #expect((0..<z.shape.count).filter { z.base[$0].isNaN } == (sequence == 0 ? [2 + channel % 2] : []))
  }

  // MARK: Sequences that were not computed

  @Test(arguments: subsets, [2, 3, 8])
  func aSampleNeedsNoMapOfADroppedSequence(present: [Bool], channels: Int) {
    let example = Example(Shape(Size(3, 2, 5), channels)), workers = Workers(2)
    let bare = GaussianFusion(maps: zip(example.maps, present).map { $1 ? $0 : nil }, present: present)
    func results(_ fusion: GaussianFusion) -> [Float] {
      let all = (0..<4).map { _ in Volume(zeros: example.shape) }
      fusion.sample(noise: example.noise, into: all[0], workers)
      fusion.sample(noise: nil, into: all[1], workers)
      fusion.posterior(mean: all[2], logVariance: all[3], workers)
      return all.flatMap(\.array)
    }
    #expect(firstDifference(results(bare), results(example.fusion(present))) == nil)
  }

  @Test(arguments: [Shape(Size(13, 11, 9), 6), Shape(Size(12, 7, 11), 8), Shape(Size(17, 15, 9), 4)])
  func anyNumberOfWorkersGivesTheSameBits(shape: Shape) {
    let example = Example(shape), fusion = example.fusion([true, false, true, true])
    expectSameBits(["z", "mean", "log variance", "divergences", "gradients"]) { workers in
      let z = Volume(zeros: shape), mean = Volume(zeros: shape), logVariance = Volume(zeros: shape)
      let gradients = example.maps.map { Volume(zeros: $0.shape) }
      fusion.sample(noise: example.noise, into: z, workers)
      fusion.posterior(mean: mean, logVariance: logVariance, workers)
      let (inter, prior) = fusion.divergences(
        example.dz, noise: example.noise, weight: 0.1, into: gradients, workers)
      return [
        z.array, mean.array, logVariance.array, inter.halves + prior.halves, gradients.flatMap(\.array),
      ]
    }
  }
}
