import Testing

@testable import Compute
@testable import TestSupport

/// A volume and the size it is resized to.
private struct Change: Sendable, CustomTestStringConvertible {
  let from, to: Size
  let channels: Int

  init(_ from: Size, _ to: Size, _ channels: Int) {
    self.from = from
    self.to = to
    self.channels = channels
  }

  var testDescription: String { "\(from) to \(to), \(channels) channels" }
  var plain: PlainLinearResize { PlainLinearResize(from: from, to: to, channels: channels) }
}

/// One voxel alone, one voxel thin, odd, the networks' doublings to even and odd sizes, smaller than before, the same;
/// then enough rows for several pieces.
private let changes = [
  Change(Size(1, 1, 1), Size(2, 2, 2), 1), Change(Size(1, 1, 1), Size(1, 1, 1), 3),
  Change(Size(1, 5, 3), Size(2, 9, 5), 3), Change(Size(3, 1, 4), Size(5, 1, 7), 8),
  Change(Size(4, 3, 2), Size(7, 6, 3), 17), Change(Size(2, 3, 4), Size(4, 6, 8), 5),
  Change(Size(7, 6, 5), Size(3, 4, 2), 2), Change(Size(3, 2, 4), Size(1, 1, 1), 9),
  Change(Size(3, 4, 5), Size(3, 4, 5), 4), Change(Size(2, 2, 2), Size(7, 5, 9), 7),
  Change(Size(12, 9, 10), Size(23, 18, 19), 6),
]

@Suite struct LayersStretchTests {
  /// Eight products and their sum in floats, of values of size 1.
  private let bound = Bound(relative: 3e-7, most: 2e-6)

  @Test(arguments: changes)
  private func forwardMatchesThePlainReference(change: Change) {
    let shape = Shape(change.from, change.channels), x = Island(shape, normals(shape.count, 1)).volume
    let y = Island(Shape(change.to, change.channels), filled: .nan, surroundings: 1e6)
    LinearResize.forward(x, into: y.volume, Workers.poisoned(2))
    let deviation = Deviation(y.volume.array, change.plain.forward(x.array.map(Double.init)))
    #expect(deviation.isWithin(bound) && y.isAlone, "\(deviation)")
  }

  /// Of whole numbers, exactly: in[i], then the mean of in[i] and in[i + 1]; in the end the last stands twice.
  @Test(arguments: [1, 2, 5, 8], [1, 3, 8])
  func doublingPutsMeansBetweenNeighbours(count: Int, channels: Int) {
    var random = Philox(seed: 1, .test, count, channels)
    let values = (0..<count).map { _ in (0..<channels).map { _ in Float(random.below(100)) } }
    let expected = (0..<2 * count).flatMap { i in
      let low = values[i / 2], high = values[min(i / 2 + 1, count - 1)]
      return i % 2 == 0 ? low : zip(low, high).map { ($0 + $1) / 2 }
    }
    for (from, to) in [
      (Size(count, 1, 1), Size(2 * count, 1, 1)), (Size(1, count, 1), Size(1, 2 * count, 1)),
      (Size(1, 1, count), Size(1, 1, 2 * count)),
    ] {
      let y = Volume(zeros: Shape(to, channels))
      LinearResize.forward(Volume(Shape(from, channels), values.flatMap { $0 }), into: y, Workers(1))
      #expect(y.array == expected, "\(from) to \(to)")
    }
  }

  @Test(arguments: changes)
  private func backwardMatchesThePlainReference(change: Change) {
    let shape = Shape(change.to, change.channels), dy = Island(shape, normals(shape.count, 2)).volume
    let dx = Island(Shape(change.from, change.channels), filled: .nan, surroundings: 1e6)
    let workers = Workers.poisoned(2), expected = change.plain.backward(dy.array.map(Double.init))
    LinearResize.backward(dy, into: dx.volume, adding: false, workers)
    var deviation = Deviation(dx.volume.array, expected)
    #expect(deviation.isWithin(bound) && dx.isAlone, "\(deviation)")

    let before = normals(expected.count, 3), sum = Island(dx.volume.shape, before)
    workers.poison()
    LinearResize.backward(dy, into: sum.volume, adding: true, workers)
    deviation = Deviation(sum.volume.array, zip(before, expected).map { Double($0) + $1 })
    #expect(deviation.isWithin(bound) && sum.isAlone, "adding: \(deviation)")
  }

  /// ⟨S x, y⟩ = ⟨x, Sᵀ y⟩, whatever S is.
  @Test(arguments: changes)
  private func backwardIsTheAdjointOfForward(change: Change) {
    let x = Volume(normal: Shape(change.from, change.channels), 1), workers = Workers(2)
    let y = Volume(normal: Shape(change.to, change.channels), 2)
    let forward = Volume(zeros: y.shape), backward = Volume(zeros: x.shape)
    LinearResize.forward(x, into: forward, workers)
    LinearResize.backward(y, into: backward, adding: false, workers)
    func product(_ a: Volume, _ b: Volume) -> Double {
      zip(a.array, b.array).reduce(0) { $0 + Double($1.0) * Double($1.1) }
    }
    let size = (product(forward, forward) * product(y, y)).squareRoot()
    let difference = abs(product(forward, y) - product(x, backward))
    // Each of the values is off by 1e-7 or so of its size.
    #expect(difference <= 5e-7 * size, "\(difference) of \(size)")
  }

  /// L = Σ g·y is linear: a difference over 1 is its slope.
  @Test(arguments: changes.filter { $0.from.voxels * $0.channels < 450 })
  private func backwardMatchesFiniteDifferences(change: Change) {
    let x = Volume(normal: Shape(change.from, change.channels), 1), workers = Workers(1)
    let g = Volume(normal: Shape(change.to, change.channels), 2), y = Volume(zeros: g.shape)
    func loss() -> Double {
      LinearResize.forward(x, into: y, workers)
      return zip(y.array, g.array).reduce(0) { $0 + Double($1.0) * Double($1.1) }
    }
    let dx = Volume(zeros: x.shape)
    LinearResize.backward(g, into: dx, adding: false, workers)
    let slopes = (0..<x.shape.count).map { i in
      let value = x.base[i], above = value + 1, below = value - 1
      x.base[i] = above
      let high = loss()
      x.base[i] = below
      let low = loss()
      x.base[i] = value
      return (high - low) / Double(above - below)
    }
    // Losses of up to some hundred values of size 1, each rounded to 1e-7.
    let deviation = Deviation(dx.array, slopes)
    #expect(deviation.isWithin(.init(relative: 2e-6, most: 1e-5)), "\(deviation)")
  }

  @Test(arguments: changes.filter { $0.channels > 4 })
  private func anyNumberOfWorkersGivesTheSameBits(change: Change) {
    let x = Volume(normal: Shape(change.from, change.channels), 1)
    let dy = Volume(normal: Shape(change.to, change.channels), 2)
    expectSameBits(["y", "gradient", "gradient, adding"]) { workers in
      let y = Volume(zeros: dy.shape), dx = Volume(zeros: x.shape), sum = Volume(normal: x.shape, 3)
      LinearResize.forward(x, into: y, workers)
      LinearResize.backward(dy, into: dx, adding: false, workers)
      LinearResize.backward(dy, into: sum, adding: true, workers)
      return [y.array, dx.array, sum.array]
    }
  }
}
