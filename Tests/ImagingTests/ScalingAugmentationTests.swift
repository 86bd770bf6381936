import Foundation
import Testing

@testable import Compute
@testable import Files
@testable import Imaging

@Suite struct DataScalingAugmentationTests {
  /// Whole numbers in 0...10 at 7×5×6 voxels.
  static let size = Size(7, 5, 6)
  static let values: [Float] = (0..<210).map { i in
    let z = i / 30, y = i / 6 % 5, x = i % 6
    return Float((z * 7 + y * 5 + x * 3 + z * y * x) % 11)
  }

  /// A line of values along one of the axes.
  func line(_ values: [Float], along axis: Int) -> Volume {
    var sides = [1, 1, 1]
    sides[axis] = values.count
    return Volume(Shape(Size(sides[0], sides[1], sides[2]), 1), values)
  }

  func scaled(_ values: [Float], _ factor: Double, along axis: Int, flipped: Bool = false) -> [Float] {
    var factors = [1.0, 1, 1], flips = [false, false, false]
    factors[axis] = factor
    flips[axis] = flipped
    let volume = line(values, along: axis)
    return Scaling(volume.size, factors: factors, flips: flips).apply(volume, Workers(2)).array
  }

  /// Expected: scipy.ndimage.zoom, order 3. Bounds here and below: single precision of values up to 10.
  @Test(arguments: 0..<3)
  func aLineIsTheOneOfSciPy(axis: Int) {
    let values: [Float] = [3, -1, 4, 1, -5, 9, 2]
    let longer = [
      3, 0.072934473, -0.033618234, 4, 3.499145299, -2.543589744, -5, 5.433618234, 7.682621083, 2,
    ]
    let shorter = [3, 0.973557692, 1, 2.526442308, 2]
    for (factor, expected) in [(1.5, longer), (0.7, shorter)] {
      let got = scaled(values, factor, along: axis),
        flipped = scaled(values, factor, along: axis, flipped: true)
      #expect(got.count == expected.count && flipped.count == expected.count)
      for (i, value) in expected.enumerated() {
        #expect(abs(Double(got[i]) - value) < 1e-5, "factor \(factor), voxel \(i)")
        #expect(abs(Double(flipped[expected.count - 1 - i]) - value) < 1e-5, "factor \(factor), voxel \(i)")
      }
    }
  }

  /// Expected: gaussian_filter (with factors below 1) and zoom of scipy.ndimage.
  @Test func aVolumeIsTheOneOfSciPy() {
    let images = Volume(Shape(Self.size, 1), Self.values)
    let labels = LabelVolume(Self.size, Self.values.map { UInt8($0) % 4 })
    let cases:
      [(factors: [Double], size: Size, sum: Double, weighted: Double, first: [Double], classes: [Int])] = [
        (
          [0.6, 0.9, 0.8], Size(4, 4, 5), 384.8834747354768, -16.444165375189506,
          [1.0682757, 4.4448727, 7.5944948, 3.3864914, 3.3985935, 6.8900651], [109, 4304]
        ),
        (
          [0.6, 1.2, 0.8], Size(4, 6, 5), 582.2133750000003, -30.6951071682678,
          [0, 3.7129934, 8.625, 2.4276316, 4, 3.4308571], [153, 9032]
        ),
      ]
    for item in cases {
      let out = Scaling(Self.size, factors: item.factors, flips: [false, false, false]).apply(
        images, labels, Workers(2))
      #expect(out.images.size == item.size && out.labels.size == item.size)
      let values = out.images.array.map(Double.init)
      #expect(abs(values.reduce(0, +) - item.sum) < 2e-4)
      #expect(abs(values.indices.reduce(0) { $0 + values[$1] * cos(Double($1)) } - item.weighted) < 2e-4)
      for (value, expected) in zip(values, item.first) { #expect(abs(value - expected) < 1e-5) }
      let classes = out.labels.classes.map(Int.init)
      #expect(classes.reduce(0, +) == item.classes[0])
      #expect(classes.indices.reduce(0) { $0 + $1 * classes[$1] } == item.classes[1])
    }
  }

  /// The spline through a line, its coefficients by elimination, read where voxel i of the result lies.
  func reference(_ source: [Double], _ scaled: Int, _ flipped: Bool) -> [Double] {
    let values = flipped ? source.reversed() : source, n = values.count
    func mirrored(_ i: Int) -> Int { n == 1 ? 0 : i < 0 ? -i : i > n - 1 ? 2 * (n - 1) - i : i }
    var rows = (0..<n).map { i in
      var row = [Double](repeating: 0, count: n + 1)
      for (offset, weight) in [(-1, 1.0 / 6), (0, 4.0 / 6), (1, 1.0 / 6)] {
        row[mirrored(i + offset)] += weight
      }
      row[n] = values[i]
      return row
    }
    for i in 0..<n {
      for j in 0..<n where j != i {
        let factor = rows[j][i] / rows[i][i]
        for k in 0...n { rows[j][k] -= factor * rows[i][k] }
      }
    }
    func coefficient(_ i: Int) -> Double { rows[mirrored(i)][n] / rows[mirrored(i)][mirrored(i)] }
    func bump(_ t: Double) -> Double {
      let t = abs(t)
      return t < 1 ? 2.0 / 3 - t * t + t * t * t / 2 : t < 2 ? (2 - t) * (2 - t) * (2 - t) / 6 : 0
    }
    return (0..<scaled).map { i in
      let place = scaled == 1 ? 0 : Double(i) * Double(n - 1) / Double(scaled - 1)
      let below = Int(place)
      // A line of two voxels is mirrored at both ends within one spline.
      return (-1...2).reduce(0.0) { sum, k in
        var index = below + k
        if n > 1 { while index < 0 || index > n - 1 { index = mirrored(index) } }
        return sum + bump(place - Double(below + k)) * coefficient(index)
      }
    }
  }

  static let sizes = [Size(1, 1, 1), Size(1, 2, 3), Size(2, 1, 7), Size(3, 5, 4), Size(9, 6, 1)]

  /// One factor is not below 1, so nothing is smoothed. The bound: single precision of values below 1, some tens of
  /// operations.
  @Test(arguments: sizes, [[1.1, 0.9, 1.37], [0.6, 1.0, 2.5], [0.01, 1.2, 0.8]])
  func splinesAreThoseOfTheReference(size: Size, factors: [Double]) {
    var random = Philox(seed: 2, .test)
    let images = Volume(Shape(size, 3), (0..<(size.voxels * 3)).map { _ in random.uniform(-1, 1) })
    let flips = [true, false, factors[0] < 1]
    let scaling = Scaling(size, factors: factors, flips: flips), out = scaling.apply(images, Workers(2))
    var values = images.array.map(Double.init), sides = size.array + [3]
    for axis in 0..<3 {
      let n = sides[axis], m = max(1, Int((Double(n) * factors[axis]).rounded(.toNearestOrEven)))
      let inner = sides[(axis + 1)...].reduce(1, *), outer = sides[..<axis].reduce(1, *)
      var next = [Double](repeating: 0, count: outer * m * inner)
      for o in 0..<outer {
        for i in 0..<inner {
          let line = reference((0..<n).map { values[(o * n + $0) * inner + i] }, m, flips[axis])
          for k in 0..<m { next[(o * m + k) * inner + i] = line[k] }
        }
      }
      values = next
      sides[axis] = m
    }
    #expect(out.shape == Shape(Size(sides[0], sides[1], sides[2]), 3))
    for (i, value) in values.enumerated() {
      #expect(abs(Double(out.base[i]) - value) < 1e-5, "value \(i): \(out.base[i]), expected \(value)")
    }
  }

  @Test(arguments: 0..<3)
  func aCubicPolynomialStaysOneAwayFromTheEnds(axis: Int) {
    func polynomial(_ t: Double) -> Double { 0.3 + t * (0.5 - t * (1.5 - t * 2)) }
    let n = 81
    for factor in [0.9, 1.1] {
      let out = scaled(
        (0..<n).map { Float(polynomial(Double($0) / Double(n - 1))) }, factor, along: axis)
      for i in (out.count / 4)..<(out.count * 3 / 4) {
        #expect(abs(Double(out[i]) - polynomial(Double(i) / Double(out.count - 1))) < 1e-6, "voxel \(i)")
      }
    }
  }

  @Test func factorOneIsTheIdentityToTheLastBit() {
    let images = Volume(Shape(Self.size, 1), Self.values.map { $0 / 7 })
    let labels = LabelVolume(Self.size, Self.values.map { UInt8($0) % 4 })
    // 1.02 rounds to the same sides.
    for factors in [[1.0, 1, 1], [1.02, 1.02, 1.02]] {
      let out = Scaling(Self.size, factors: factors, flips: [false, false, false]).apply(
        images, labels, Workers(2))
      #expect(out.images.array == images.array && out.labels == labels)
      #expect(out.images.base != images.base)
    }
  }

  @Test(arguments: [[true, false, false], [false, true, false], [false, false, true], [true, true, true]])
  func aFlipMirrorsItsAxis(flips: [Bool]) {
    let images = Volume(Shape(Self.size, 1), Self.values)
    let labels = LabelVolume(Self.size, Self.values.map { UInt8($0) % 4 })
    let out = Scaling(Self.size, factors: [1, 1, 1], flips: flips).apply(images, labels, Workers(2))
    for z in 0..<7 {
      for y in 0..<5 {
        for x in 0..<6 {
          let to = (z * 5 + y) * 6 + x
          let from = ((flips[0] ? 6 - z : z) * 5 + (flips[1] ? 4 - y : y)) * 6 + (flips[2] ? 5 - x : x)
          #expect(out.images.base[to] == Self.values[from] && out.labels.classes[to] == labels.classes[from])
        }
      }
    }
  }

  @Test func onlyThreeFactorsBelowOneSmooth() {
    let size = Size(40, 40, 40)
    func sds(_ factors: [Double]) -> [Double] {
      Scaling(size, factors: factors, flips: [false, false, false]).axes.map(\.sd)
    }
    for factors in [[0.5, 0.5, 1.0], [0.5, 1.1, 0.5], [1.0, 0.5, 0.5], [1.1, 1.1, 1.1]] {
      #expect(sds(factors) == [0, 0, 0])
    }
    for (sd, factor) in zip(sds([0.5, 0.75, 0.999]), [0.5, 0.75, 0.999]) {
      #expect(abs(sd * sd - (1 / (factor * factor) - 1) / (8 * log(2))) < 1e-12)
    }
    // A Gaussian in front of the same spline: away from the ends what it gives is flatter, and a constant stays.
    let noise = (0..<40).map { Float($0 % 2) }
    func range(_ factors: [Double]) -> Float {
      let values = Scaling(Size(1, 1, 40), factors: factors, flips: [false, false, false])
        .apply(line(noise, along: 2), Workers(2)).array.dropFirst(3).dropLast(3)
      return (values.max() ?? 0) - (values.min() ?? 0)
    }
    #expect(range([0.6, 0.6, 0.55]) < 0.5 && range([0.6, 1, 0.55]) > 0.9)
    let constant = Scaling(Size(1, 1, 40), factors: [0.6, 0.6, 0.55], flips: [false, false, false])
      .apply(line([Float](repeating: 3, count: 40), along: 2), Workers(2))
    #expect(constant.array.allSatisfy { abs($0 - 3) < 1e-6 })
  }

  @Test func labelsStayClassesAndSidesAreInRange() {
    let size = Size(20, 30, 25)
    var seen: Set<[Int]> = [], flips = 0
    for epoch in 0..<40 {
      var random = Philox(seed: 1, .augmentation, epoch)
      let images = Volume(zeros: Shape(size, 1))
      let labels = LabelVolume(size, (0..<size.voxels).map { UInt8($0 % 4) })
      images.base[0] = 1
      let out = ScalingAugmentation().apply(images: images, labels: labels, random: &random, Workers(2))
      #expect(out.images.size == out.labels.size)
      #expect(Set(out.labels.classes).isSubset(of: [0, 1, 2, 3]))
      for (side, whole) in zip(out.images.size.array, size.array) {
        #expect(abs(side - whole) <= whole / 10)
      }
      seen.insert(out.images.size.array)
      let corner = out.images.array.indices.max { out.images.base[$0] < out.images.base[$1] } ?? 0
      flips += corner == 0 ? 0 : 1
    }
    #expect(seen.count > 20)
    // The bright corner stays where it is in an eighth of the draws.
    #expect((28...39).contains(flips))
  }

  @Test func dependsOnItsNumbersAlone() {
    let size = Size(9, 40, 11)
    var numbers = Philox(seed: 4, .test)
    let images = Volume(Shape(size, 4), (0..<(size.voxels * 4)).map { _ in numbers.uniform() })
    let labels = LabelVolume(size, (0..<size.voxels).map { _ in UInt8(numbers.below(4)) })
    func hash(_ epoch: Int) -> [String] {
      var random = Philox(seed: 1, .augmentation, epoch)
      let out = ScalingAugmentation().apply(images: images, labels: labels, random: &random, Workers(2))
      return [ContentHash.of(out.images.array), ContentHash.of(out.labels.classes)]
    }
    #expect(hash(1) == hash(1))
    #expect(hash(1) != hash(2))
    // A channel has the same bits whatever others lie beside it.
    var random = Philox(seed: 1, .augmentation, 1)
    let whole = ScalingAugmentation().apply(images: images, labels: labels, random: &random, Workers(2))
      .images
    for c in 0..<4 {
      var random = Philox(seed: 1, .augmentation, 1)
      let one = images.crop(VoxelBox(origin: Size(0, 0, 0), size: size), channels: [c])
      let alone = ScalingAugmentation().apply(images: one, labels: labels, random: &random, Workers(2)).images
      #expect(
        alone.array == whole.crop(VoxelBox(origin: Size(0, 0, 0), size: whole.size), channels: [c]).array)
    }
  }
}
