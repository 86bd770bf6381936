import Foundation
import Testing

@testable import Compute
@testable import TestSupport

/// Logits [z, y, x, classes] and true classes, of which every fifth is left out, in Float64.
private struct Example {
  let classes: Int
  let size = Size(3, 2, 7)
  var logits: [Double]
  let labels: [UInt8]

  init(_ classes: Int) {
    self.classes = classes
    logits = normals(42 * classes, classes).map { 2 * Double($0) }
    labels = (0..<42).map { $0 % 5 == 3 ? LabelVolume.ignored : UInt8($0 * $0 % classes) }
  }

  var volume: Volume { Volume(Shape(size, classes), logits.map(Float.init)) }
  var truth: LabelVolume { LabelVolume(size, labels) }
  var weights: [Float] { (0..<classes).map { 1 + Float($0) / 2 } }

  private func softmax(_ voxel: Int, _ temperature: Double) -> [Double] {
    let x = logits[voxel * classes..<(voxel + 1) * classes], most = x.max() ?? 0
    let e = x.map { exp(($0 - most) / temperature) }, all = e.reduce(0, +)
    return e.map { $0 / all }
  }

  private var known: [Int] { labels.indices.filter { labels[$0] != LabelVolume.ignored } }

  var crossEntropy: Double {
    var sum = 0.0, total = 0.0
    for voxel in known {
      let label = Int(labels[voxel]), w = Double(weights[label])
      sum -= w * log(softmax(voxel, 1)[label])
      total += w
    }
    return sum / total
  }

  /// Cross-entropy and Dice over the foreground.
  func overlap(_ temperature: Double) -> (crossEntropy: Double, dice: Double) {
    var entropy = 0.0, pq = [Double](repeating: 0, count: classes), pp = pq, qq = pq
    for voxel in known {
      let p = softmax(voxel, temperature), label = Int(labels[voxel])
      entropy -= log(p[label])
      for c in 0..<classes { pp[c] += p[c] * p[c] }
      pq[label] += p[label]
      qq[label] += 1
    }
    var dice = 0.0
    for c in 1..<classes { dice += (2 * pq[c] + 1e-5) / (pp[c] + qq[c] + 1e-5) }
    return (entropy / Double(known.count), 1 - dice / Double(classes - 1))
  }

  /// The same against another network's logits, over all voxels or those that the truth does not leave out.
  func overlap(
    _ temperature: Double, soft other: [Double], leavesOut: Bool
  ) -> (crossEntropy: Double, dice: Double) {
    var target = self
    target.logits = other
    let voxels = leavesOut ? known : Array(labels.indices)
    var entropy = 0.0, pq = [Double](repeating: 0, count: classes), pp = pq, qq = pq
    for voxel in voxels {
      let p = softmax(voxel, temperature), q = target.softmax(voxel, temperature)
      for c in 0..<classes {
        entropy -= q[c] * log(p[c])
        pq[c] += p[c] * q[c]
        pp[c] += p[c] * p[c]
        qq[c] += q[c] * q[c]
      }
    }
    var dice = 0.0
    for c in 1..<classes { dice += (2 * pq[c] + 1e-5) / (pp[c] + qq[c] + 1e-5) }
    return (entropy / Double(voxels.count), 1 - dice / Double(classes - 1))
  }

  /// Central differences of a loss by each logit.
  func slopes(_ loss: (Example) -> Double) -> [Double] {
    logits.indices.map { i in
      var above = self, below = self
      above.logits[i] += 1e-5
      below.logits[i] -= 1e-5
      return (loss(above) - loss(below)) / 2e-5
    }
  }
}

/// Losses of tasks that are not BraTS's: any number of classes, and voxels that the truth leaves out.
@Suite struct LossesAnyClassesTests {
  private func expect(_ found: [Float], _ expected: [Double], _ name: String) {
    let largest = expected.map(abs).max() ?? 0
    for i in expected.indices {
      #expect(
        abs(Double(found[i]) - expected[i]) <= 2e-6 + 1e-5 * largest,
        "\(name)[\(i)]: \(found[i]), expected \(expected[i])")
    }
  }

  @Test(arguments: [2, 3, 4, 7, 17], [1, 2]) func crossEntropyMatchesThePlainReference(
    classes: Int, threads: Int
  ) {
    let example = Example(classes)
    let gradient = Island(Shape(example.size, classes), filled: .nan, surroundings: 1e6)
    let loss = CrossEntropy.loss(
      example.volume, example.truth, weights: example.weights, gradient: gradient.volume,
      Workers.poisoned(threads))
    #expect(abs(loss - example.crossEntropy) <= 1e-6 * example.crossEntropy)
    expect(gradient.volume.array, example.slopes(\.crossEntropy), "cross-entropy of \(classes)")
  }

  @Test(arguments: [2, 3, 4, 7, 17], [1.0, 5.0]) func overlapMatchesThePlainReference(
    classes: Int, temperature: Double
  ) {
    let example = Example(classes)
    let loss = OverlapLoss(classes: 1..<classes, temperature: Float(temperature))
    let gradient = Island(Shape(example.size, classes), filled: .nan, surroundings: 1e6)
    let found = loss.losses(
      example.volume, .classes(example.truth), weight: 0.75, gradient: gradient.volume, Workers.poisoned(2))
    let expected = example.overlap(temperature)
    #expect(abs(found.crossEntropy - expected.crossEntropy) <= 1e-6 * max(1, expected.crossEntropy))
    #expect(abs(found.dice - expected.dice) <= 1e-6)
    let slopes = example.slopes { one in
      let both = one.overlap(temperature)
      return 0.75 * (both.crossEntropy + both.dice)
    }
    expect(gradient.volume.array, slopes, "overlap of \(classes)")
  }

  /// Against softened logits of another network, with and without voxels that the truth leaves out.
  @Test(arguments: [2, 4, 6, 17], [false, true]) func softTargetsMatchThePlainReference(
    classes: Int, leavesOut: Bool
  ) {
    let example = Example(classes), other = normals(42 * classes, 50).map { 3 * Double($0) }
    let loss = OverlapLoss(classes: 1..<classes, temperature: 5)
    let gradient = Island(Shape(example.size, classes), filled: .nan, surroundings: 1e6)
    let found = loss.losses(
      example.volume,
      .logits(
        Volume(Shape(example.size, classes), other.map(Float.init)), truth: leavesOut ? example.truth : nil),
      weight: 0.75, gradient: gradient.volume, Workers.poisoned(2))
    let expected = example.overlap(5, soft: other, leavesOut: leavesOut)
    #expect(abs(found.crossEntropy - expected.crossEntropy) <= 1e-6 * max(1, expected.crossEntropy))
    #expect(abs(found.dice - expected.dice) <= 1e-6)
    let slopes = example.slopes { one in
      let both = one.overlap(5, soft: other, leavesOut: leavesOut)
      return 0.75 * (both.crossEntropy + both.dice)
    }
    expect(gradient.volume.array, slopes, "overlap of \(classes)")
  }

  /// What is left out counts as if it were not there, and learns nothing.
  @Test func voxelsThatAreLeftOutGetNoGradient() {
    let example = Example(4), workers = Workers(1)
    let gradient = Volume(zeros: Shape(example.size, 4))
    gradient.fill(7)
    _ = CrossEntropy.loss(
      example.volume, example.truth, weights: example.weights, gradient: gradient, workers)
    for (voxel, label) in example.labels.enumerated() {
      let own = gradient.array[4 * voxel..<4 * voxel + 4]
      #expect((label == LabelVolume.ignored) == own.allSatisfy { $0 == 0 })
    }
    let none = LabelVolume(example.size, [UInt8](repeating: LabelVolume.ignored, count: 42))
    #expect(
      CrossEntropy.loss(example.volume, none, weights: example.weights, gradient: gradient, workers) == 0)
    #expect(gradient.array.allSatisfy { $0 == 0 })
  }
}
