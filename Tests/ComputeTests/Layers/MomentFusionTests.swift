import Testing

@testable import Compute
@testable import TestSupport

/// Mean and biased variance of numbers, in Float64.
private func moments(_ x: [Double]) -> (mean: Double, variance: Double) {
  let n = Double(x.count), mean = x.reduce(0, +) / n
  return (mean, x.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / n)
}

@Suite struct LayersMomentFusionTests {
  private func maps(_ count: Int, _ shape: Shape) -> [Volume] {
    // Means that differ by sequence, as maps have.
    (0..<count).map { i in
      Island(shape, normals(shape.count, i).map { $0 + Float(i) }).volume
    }
  }

  /// A handful of float operations each.
  private let bound = Bound(relative: 3e-7, most: 2e-6)

  @Test(
    arguments: [1, 2, 3, 4, 5, 8],
    [Shape(Size(1, 1, 1), 1), Shape(Size(3, 5, 7), 3), Shape(Size(1, 4, 2), 16), Shape(Size(11, 20, 13), 4)])
  func forwardMatchesThePlainReference(count: Int, shape: Shape) {
    let maps = maps(count, shape), channels = shape.channels
    let y = Island(Shape(shape.size, 2 * channels), filled: .nan, surroundings: 1e6)
    MomentFusion.forward(maps, into: y.volume, Workers.poisoned(2))
    let expected = (0..<2 * shape.count).map { i in
      let place = i / (2 * channels) * channels + i % channels
      let (mean, variance) = moments(maps.map { Double($0.base[place]) })
      return i % (2 * channels) < channels ? mean : variance
    }
    let deviation = Deviation(y.volume.array, expected)
    #expect(deviation.isWithin(bound) && y.isAlone, "\(deviation)")
  }

  @Test func oneSequenceIsItsOwnMeanWithoutVariance() {
    let shape = Shape(Size(3, 4, 5), 3), map = Volume(normal: shape, 1)
    let y = Volume(zeros: Shape(shape.size, 6)), dMap = Volume(zeros: shape), workers = Workers(1)
    MomentFusion.forward([map], into: y, workers)
    let dy = Volume(normal: y.shape, 2)
    MomentFusion.backward(dy, y, [map], into: [dMap], workers)
    for i in 0..<shape.count {
      let place = i / 3 * 6 + i % 3
      #expect(y.base[place] == map.base[i] && y.base[place + 3] == 0)
      #expect(dMap.base[i] == dy.base[place])
    }
  }

  /// Moments are polynomials of second degree: their central differences are exact.
  @Test(
    arguments: [1, 2, 3, 4, 5, 8],
    [Shape(Size(1, 1, 1), 1), Shape(Size(3, 1, 5), 3), Shape(Size(2, 3, 4), 8)])
  func backwardMatchesFiniteDifferences(count: Int, shape: Shape) {
    let maps = maps(count, shape), channels = shape.channels, workers = Workers.poisoned(2)
    let y = Volume(zeros: Shape(shape.size, 2 * channels)), dy = Volume(normal: y.shape, 9)
    MomentFusion.forward(maps, into: y, workers)
    let found = maps.map { _ in Island(shape, filled: .nan, surroundings: 1e6) }
    MomentFusion.backward(dy, y, maps, into: found.map(\.volume), workers)
    for (sequence, gradient) in found.enumerated() {
      let slopes = (0..<shape.count).map { i in
        let at = i / channels * 2 * channels + i % channels
        func loss(_ by: Double) -> Double {
          var values = maps.map { Double($0.base[i]) }
          values[sequence] += by
          let (mean, variance) = moments(values)
          return Double(dy.base[at]) * mean + Double(dy.base[at + channels]) * variance
        }
        return (loss(0.125) - loss(-0.125)) / 0.25
      }
      let deviation = Deviation(gradient.volume.array, slopes)
      #expect(deviation.isWithin(bound) && gradient.isAlone, "sequence \(sequence): \(deviation)")
    }
  }

  @Test(arguments: [1, 3, 4])
  func anyNumberOfWorkersGivesTheSameBits(count: Int) {
    let shape = Shape(Size(21, 20, 13), 3), maps = maps(count, shape)
    expectSameBits(["y"] + (0..<count).map { "gradient \($0)" }) { workers in
      let y = Volume(zeros: Shape(shape.size, 6)), dMaps = maps.map { Volume(zeros: $0.shape) }
      MomentFusion.forward(maps, into: y, workers)
      MomentFusion.backward(Volume(normal: y.shape, 9), y, maps, into: dMaps, workers)
      return [y.array] + dMaps.map(\.array)
    }
  }
}
