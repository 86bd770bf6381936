import Testing

@testable import Compute
@testable import TestSupport

@Suite struct LayersMaxPoolTests {
  /// Exact: nothing is computed but the activation, in the same float operations. An odd side's last window is smaller.
  @Test(
    arguments: [
      Shape(Size(2, 2, 2), 1), Shape(Size(2, 4, 6), 3), Shape(Size(10, 8, 2), 5), Shape(Size(4, 2, 34), 7),
      Shape(Size(2, 4, 4), 16), Shape(Size(6, 2, 4), 17), Shape(Size(2, 6, 2), 20), Shape(Size(4, 4, 2), 70),
      Shape(Size(1, 1, 1), 1), Shape(Size(1, 1, 1), 16), Shape(Size(3, 5, 7), 3), Shape(Size(1, 4, 9), 8),
      Shape(Size(5, 1, 2), 4), Shape(Size(2, 3, 1), 17), Shape(Size(7, 2, 5), 2), Shape(Size(9, 7, 4), 32),
    ], [Look.activated, .plain])
  func takesTheLargestOfEachEightAndLeadsTheGradientThere(shape: Shape, look: Look) {
    let input = Input(shape.size, shape.channels, look, 1), channels = shape.channels
    let half = shape.size.halvedUp, workers = Workers.poisoned(3)
    let pooled = Island(Shape(half, channels), filled: .nan, surroundings: 1e6), y = pooled.volume
    MaxPool.forward(input.source, into: y, workers)
    #expect(pooled.isAlone, "a neighbour of y is written to")
    let before = normals(shape.count, 3), dy = Island(y.shape, normals(y.shape.count, 2)).volume
    let gradient = Island(shape, before, surroundings: 1e6), dx = gradient.volume
    workers.poison()
    MaxPool.addGradient(dy, input.source, into: dx, workers)
    #expect(gradient.isAlone, "a neighbour of dx is written to")

    var largest = [Double](repeating: -.infinity, count: y.shape.count),
      places = [Int](repeating: 0, count: y.shape.count)
    for z in 0..<shape.size.z {
      for row in 0..<shape.size.y {
        for x in 0..<shape.size.x {
          for c in 0..<channels {
            let i = ((z * shape.size.y + row) * shape.size.x + x) * channels + c
            let j = (((z / 2) * half.y + row / 2) * half.x + x / 2) * channels + c
            if input.read[i] > largest[j] { (largest[j], places[j]) = (input.read[i], i) }
          }
        }
      }
    }
    // One multiplication and one addition in float.
    let deviation = Deviation(y.array, largest)
    #expect(deviation.relative <= 1e-6, "\(deviation)")
    var expected = before
    for (j, place) in places.enumerated() { expected[place] += dy.base[j] }
    #expect(firstDifference(dx.array, expected) == nil)
  }

  @Test(arguments: [[0, 1, 2, 3, 4, 5, 6, 7], [1, 4], [2, 3, 7], [6, 7], [3, 4]])
  func ofEqualsTheFirstInMemoryTakesTheGradient(largest: [Int]) {
    let shape = Shape(Size(2, 2, 2), 1)
    let x = Volume(shape, (0..<8).map { largest.contains($0) ? 1.5 : -1 }), dx = Volume(zeros: shape)
    MaxPool.addGradient(Volume(Shape(Size(1, 1, 1), 1), [3]), LayerInput(x), into: dx, Workers(1))
    #expect(dx.array == (0..<8).map { $0 == largest[0] ? 3 : 0 })
  }

  /// All values are the same, also those that stand for the voxels beyond an odd side.
  @Test(arguments: [Size(3, 3, 3), Size(1, 5, 4), Size(5, 4, 1), Size(1, 1, 1)])
  func ofEqualsInAWindowThatIsCutTheFirstTakesTheGradient(size: Size) {
    let shape = Shape(size, 9), x = Volume(zeros: shape), dx = Volume(zeros: shape)
    x.fill(-1.5)
    let dy = Volume(normal: Shape(size.halvedUp, 9), 1)
    MaxPool.addGradient(dy, LayerInput(x), into: dx, Workers(1))
    var expected = [Float](repeating: 0, count: shape.count)
    for i in 0..<dy.shape.voxels {
      let z = i / (dy.size.y * dy.size.x), y = i / dy.size.x % dy.size.y, x = i % dy.size.x
      let corner = (2 * z * size.y + 2 * y) * size.x + 2 * x
      for c in 0..<9 { expected[corner * 9 + c] = dy.base[i * 9 + c] }
    }
    #expect(dx.array == expected)
  }

  /// L = Σ g·y is linear as long as no other value becomes the largest: the step is an eighth of the least distance.
  @Test(arguments: [Size(4, 2, 6), Size(3, 1, 5), Size(5, 3, 2)])
  func gradientMatchesFiniteDifferences(size: Size) {
    let shape = Shape(size, 2), workers = Workers(1)
    var random = Philox(seed: 1, .test)
    let x = Volume(shape, random.permutation(shape.count).map { Float($0) - 20 })
    let source = LayerInput(x, Norm(identity: 2), slope: 0.25), y = Volume(zeros: Shape(size.halvedUp, 2))
    let g = Volume(normal: y.shape, 1), dx = Volume(zeros: shape)
    func loss() -> Double {
      MaxPool.forward(source, into: y, workers)
      return zip(y.array, g.array).reduce(0) { $0 + Double($1.0) * Double($1.1) }
    }
    MaxPool.addGradient(g, source, into: dx, workers)
    for i in 0..<shape.count {
      let value = x.base[i]
      x.base[i] = value + 0.125
      let above = loss()
      x.base[i] = value - 0.125
      let below = loss()
      x.base[i] = value
      // The pool gives the gradient of the activated value; 0 lies in the kink of the activation.
      if value == 0 { continue }
      let expected = Double(dx.base[i]) * (value > 0 ? 1 : 0.25), found = (above - below) / 0.25
      // Values up to 40 round by 2e-6.
      #expect(abs(found - expected) <= 1e-4, "[\(i)]: \(found), expected \(expected)")
    }
  }

  @Test(arguments: [
    Shape(Size(12, 14, 10), 3), Shape(Size(34, 2, 4), 17), Shape(Size(2, 2, 2), 1), Shape(Size(13, 15, 9), 3),
  ])
  func anyNumberOfWorkersGivesTheSameBits(shape: Shape) {
    let input = Input(shape.size, shape.channels, .activatedMasked, 1)
    expectSameBits(["y", "gradient"]) { workers in
      let y = Volume(zeros: Shape(shape.size.halvedUp, shape.channels)), dx = Volume(normal: shape, 2)
      MaxPool.forward(input.source, into: y, workers)
      MaxPool.addGradient(Volume(normal: y.shape, 3), input.source, into: dx, workers)
      return [y.array, dx.array]
    }
  }
}
