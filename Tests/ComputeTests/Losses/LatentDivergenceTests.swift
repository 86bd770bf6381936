import Foundation
import Testing

@testable import Compute
@testable import TestSupport

/// KL(softmax(teacher) ‖ softmax(student)) over channels, the mean over voxels, in Float64.
private func plain(student: [Double], teacher: [Double], _ channels: Int) -> Double {
  func logSoftmax(_ x: ArraySlice<Double>) -> [Double] {
    let largest = x.max() ?? 0, all = largest + log(x.reduce(0) { $0 + exp($1 - largest) })
    return x.map { $0 - all }
  }
  var sum = 0.0
  for voxel in stride(from: 0, to: student.count, by: channels) {
    let s = logSoftmax(student[voxel..<voxel + channels]), t = logSoftmax(teacher[voxel..<voxel + channels])
    for c in 0..<channels { sum += exp(t[c]) * (t[c] - s[c]) }
  }
  return sum / Double(student.count / channels)
}

@Suite struct LossesLatentDivergenceTests {
  @Test func valueAndGradientAreThoseWorkedOutByHand() {
    // One voxel: teacher ½, ½; student ¼, ¾. ½ ln(½ / ¼) + ½ ln(½ / ¾).
    let shape = Shape(Size(1, 1, 1), 2), gradient = Volume(zeros: shape)
    let loss = LatentDivergence.loss(
      student: LayerInput(Volume(shape, [0, log(3)])), teacher: LayerInput(Volume(shape, [5, 5])), weight: 2,
      gradient: gradient, Workers(1))
    #expect(abs(loss - 0.5 * log(4.0 / 3)) <= 1e-7, "\(loss)")
    // Twice student − teacher.
    #expect(Deviation(gradient.array, [-0.5, 0.5]).relative <= 1e-6, "\(gradient.array)")
  }

  /// Both maps seen through norms and leaky ReLU, as a U-Net's are; the gradient is of what is read.
  @Test(arguments: [
    Shape(Size(1, 1, 1), 1), Shape(Size(1, 2, 3), 2), Shape(Size(3, 5, 3), 7), Shape(Size(2, 2, 2), 16),
    Shape(Size(5, 4, 3), 33),
  ])
  func matchesThePlainReferenceAndItsDifferences(shape: Shape) {
    let student = Input(shape.size, shape.channels, .activated, 1)
    let teacher = Input(shape.size, shape.channels, .activated, 5)
    let gradient = Island(shape, filled: .nan, surroundings: 1e6), workers = Workers.poisoned(2)
    let found = LatentDivergence.loss(
      student: student.source, teacher: teacher.source, weight: 10, gradient: gradient.volume, workers)
    let expected = plain(student: student.read, teacher: teacher.read, shape.channels)
    // Float64 but for the activation.
    #expect(abs(found - expected) <= 1e-6 * max(1, expected), "\(found), expected \(expected)")
    let step = 1e-5
    let slopes = student.read.indices.map { i in
      var above = student.read, below = student.read
      above[i] += step
      below[i] -= step
      func loss(_ x: [Double]) -> Double { plain(student: x, teacher: teacher.read, shape.channels) }
      return 10 * (loss(above) - loss(below)) / (2 * step)
    }
    let deviation = Deviation(gradient.volume.array, slopes)
    #expect(deviation.relative <= 1e-6 && gradient.isAlone, "\(deviation)")
    let alone = LatentDivergence.loss(
      student: student.source, teacher: teacher.source, weight: 10, gradient: nil, workers)
    #expect(alone == found)
  }

  @Test func equalMapsHaveNoDivergenceAndNoGradient() {
    let x = Volume(normal: Shape(Size(3, 4, 5), 6), 1), gradient = Volume(zeros: x.shape)
    gradient.fill(1)
    let loss = LatentDivergence.loss(
      student: LayerInput(x), teacher: LayerInput(x), weight: 10, gradient: gradient, Workers(1))
    #expect(loss == 0 && gradient.array.allSatisfy { $0 == 0 })
  }

  /// What is added to all channels of a voxel is nothing to a softmax; the other direction is another number.
  @Test func onlyDifferencesBetweenChannelsCount() {
    let shape = Shape(Size(2, 3, 2), 4), a = Volume(normal: shape, 1), b = Volume(normal: shape, 2)
    func loss(_ student: Volume, _ teacher: Volume) -> Double {
      LatentDivergence.loss(
        student: LayerInput(student), teacher: LayerInput(teacher), weight: 1, gradient: nil, Workers(1))
    }
    let shifted = Volume(shape, a.array.enumerated().map { $1 + Float($0 / 4) })
    #expect(abs(loss(shifted, b) - loss(a, b)) <= 1e-6)
    #expect(abs(loss(b, a) - loss(a, b)) > 1e-3)
  }

  @Test(arguments: [Float.nan, .infinity, -.infinity], [0, 7])
  func aMapThatIsNoNumberMakesTheLossNone(value: Float, place: Int) {
    let shape = Shape(Size(1, 2, 2), 2), a = Volume(normal: shape, 1), b = Volume(normal: shape, 2)
    a.base[place] = value
    for (student, teacher) in [(a, b), (b, a), (a, a)] {
      let gradient = Volume(zeros: shape)
      let loss = LatentDivergence.loss(
        student: LayerInput(student), teacher: LayerInput(teacher), weight: 1, gradient: gradient, Workers(1))
      #expect(!loss.isFinite, "\(loss)")
    }
  }

  @Test func anyNumberOfWorkersGivesTheSameBits() {
    let size = Size(10, 9, 7), student = Input(size, 5, .activated, 1),
      teacher = Input(size, 5, .activated, 5)
    expectSameBits(["loss", "gradient"]) { workers in
      let gradient = Volume(zeros: Shape(size, 5))
      let loss = LatentDivergence.loss(
        student: student.source, teacher: teacher.source, weight: 1, gradient: gradient, workers)
      return [loss.halves, gradient.array]
    }
  }
}
