import Testing

@testable import Compute
@testable import Evaluation
@testable import Imaging
@testable import TestSupport

extension Entropy {
  static func classes(_ p: [Double]) -> Double { classes(p.count) { p[$0] } }
}

@Suite struct InferenceSampleSumsTests {
  /// Logits of several samples, now and then large or equal.
  private func logits(_ size: Size, _ count: Int) -> [Volume] {
    var random = Philox(seed: 3, .test)
    return (0..<count).map { _ in
      let volume = Volume(zeros: Shape(size, 4))
      for i in 0..<volume.shape.count {
        volume.base[i] = random.below(8) == 0 ? random.uniform(-60, 60) : random.uniform(-4, 4)
      }
      return volume
    }
  }

  private func softmax(_ volume: Volume, _ voxel: Int) -> [Double] {
    let x = (0..<4).map { Double(volume.base[voxel * 4 + $0]) }, top = x.max() ?? 0
    let e = x.map { Portable.exp($0 - top) }, all = e.reduce(0, +)
    return e.map { $0 / all }
  }

  /// A probability is a whole number of 2⁻²², and a float softmax is off by as much again.
  @Test(arguments: [Size(1, 1, 1), Size(3, 5, 7), Size(16, 16, 33)], [1, 2, 9])
  func meansAreThoseOfThePlainFormula(size: Size, samples: Int) {
    let all = logits(size, samples), workers = Workers(2)
    var sums = SampleSums(size, samples: samples, entropies: true)
    for volume in all { sums.add(volume, workers) }
    for voxel in 0..<size.voxels {
      let plain = all.map { softmax($0, voxel) }
      let mean = (0..<4).map { c in plain.reduce(0) { $0 + $1[c] } / Double(samples) }
      let entropy =
        plain.reduce(0) { $0 + Entropy.classes($1) } / Double(samples)
      let found = sums.probabilities(voxel)
      for c in 0..<4 { #expect(abs(found[c] - mean[c]) < 4e-7, "voxel \(voxel), class \(c)") }
      for region in Region.allCases {
        let own = region.classes.reduce(0) { $0 + mean[Int($1)] }
        #expect(abs(sums.probability(region, voxel) - own) < 1e-6, "voxel \(voxel), \(region)")
      }
      #expect(abs(sums.expectedEntropy(voxel) - entropy) < 2e-6, "voxel \(voxel)")
      let best = (0..<4).max { (mean[$0], $1) < (mean[$1], $0) } ?? 0
      if mean.sorted()[3] - mean.sorted()[2] > 1e-5 { #expect(sums.labels.classes[voxel] == UInt8(best)) }
    }
  }

  @Test func bitsDependNeitherOnOrderNorOnThreadsNorOnWhoAdds() {
    let size = Size(20, 20, 21), all = logits(size, 7)
    func sums(_ order: [[Int]], threads: Int) -> SampleSums {
      let workers = Workers(threads)
      let parts = order.map { numbers in
        var sums = SampleSums(size, samples: 7, entropies: true)
        for i in numbers { sums.add(all[i], workers) }
        return sums
      }
      var total = parts[0]
      for part in parts.dropFirst() { total.add(part) }
      return total
    }
    let plain = sums([[0, 1, 2, 3, 4, 5, 6]], threads: 1)
    for other in [
      sums([[6, 5, 4, 3, 2, 1, 0]], threads: 3), sums([[3, 1], [6, 0, 2], [5, 4]], threads: 2),
    ] {
      let isSame = other.probabilities == plain.probabilities && other.entropies == plain.entropies
      #expect(isSame)
    }
  }

  /// The largest sums there can be fit, and means stay means.
  @Test(arguments: [369, 370, 511, 512, 3000, 1 << 20]) func manySamplesDoNotOverflow(samples: Int) {
    let size = Size(1, 1, 2), workers = Workers(1), volume = Volume(zeros: Shape(size, 4))
    // One voxel is certain, the other knows nothing.
    volume.base[3] = 50
    var sums = SampleSums(size, samples: samples, entropies: true)
    for _ in 0..<min(samples, 3000) { sums.add(volume, workers) }
    let share = Double(min(samples, 3000)) / Double(samples)
    #expect(abs(sums.probability(.et, 0) - share) < 1e-9)
    #expect(abs(sums.probability(.wt, 1) - 0.75 * share) < 1e-3)
    #expect(abs(sums.expectedEntropy(1) - Entropy.most(4) * share) < 2e-3)
    #expect(sums.probabilities.allSatisfy { $0 >= 0 } && sums.entropies.allSatisfy { $0 >= 0 })
  }

  /// The most classes there can be, of which nothing is known: the largest entropy there is.
  @Test(arguments: [1, 511, 512, 3000]) func manySamplesOfManyClassesDoNotOverflow(samples: Int) {
    let size = Size(1, 1, 1), workers = Workers(1), volume = Volume(zeros: Shape(size, 17))
    var sums = SampleSums(size, classes: 17, samples: samples, entropies: true)
    for _ in 0..<samples { sums.add(volume, workers) }
    #expect(abs(sums.expectedEntropy(0) - Entropy.most(17)) < 4e-3)
    #expect((0..<17).allSatisfy { abs(sums.probability($0, 0) - 1 / 17) < 1e-3 })
  }

  /// Of tasks that are not BraTS's. A probability is a whole number of 2⁻²², and a float softmax is off by as much again.
  @Test(arguments: [2, 3, 7, 8, 17], [1, 2]) func anyNumberOfClassesIsSummedUp(classes: Int, threads: Int) {
    let size = Size(3, 5, 7), samples = 3, workers = Workers(threads)
    let all = (0..<samples).map { sample in
      Volume(Shape(size, classes), normals(size.voxels * classes, sample).map { 3 * $0 })
    }
    var sums = SampleSums(size, classes: classes, samples: samples, entropies: true)
    for volume in all { sums.add(volume, workers) }
    let multiclass = UncertaintyMaps(sums, [Region("a", [1])], .multiclass, workers)
    let first = Segmentation.labels(all[0], workers)
    for voxel in 0..<size.voxels {
      var mean = [Double](repeating: 0, count: classes), expected = 0.0
      for volume in all {
        let x = (0..<classes).map { Double(volume.base[voxel * classes + $0]) }, top = x.max() ?? 0
        let e = x.map { Portable.exp($0 - top) }, total = e.reduce(0, +)
        for c in 0..<classes {
          let p = e[c] / total
          mean[c] += p / Double(samples)
          expected -= p * Portable.log(p) / Double(samples)
        }
      }
      let own = (0..<classes).map { all[0].base[voxel * classes + $0] }
      #expect(own[Int(first.classes[voxel])] == own.max())
      for c in 0..<classes { #expect(abs(sums.probability(c, voxel) - mean[c]) < 4e-7) }
      #expect(abs(sums.expectedEntropy(voxel) - expected) < 2e-6 * Double(classes))
      let entropy = mean.reduce(0) { $0 - $1 * Portable.log($1) }, sorted = mean.sorted()
      let percent = 100 * entropy / Portable.log(Double(classes))
      #expect(abs(Double(multiclass.maps[0][voxel]) - percent) < 1e-2, "\(classes) classes")
      guard sorted[classes - 1] - sorted[classes - 2] > 1e-5 else { continue }
      #expect(sums.labels.classes[voxel] == mean.firstIndex(of: sorted[classes - 1]).map(UInt8.init))
    }
  }
}
