import Foundation
import Testing

@testable import Compute
@testable import TestSupport

/// softmax of four logits over a temperature, in Float64.
private func softmax(_ x: ArraySlice<Double>, _ temperature: Double) -> [Double] {
  let largest = x.max() ?? 0, e = x.map { exp(($0 - largest) / temperature) }, all = e.reduce(0, +)
  return e.map { $0 / all }
}

/// Both losses as their definition says.
private func plain(
  _ logits: [Double], _ q: [Double], _ classes: Range<Int>, _ temperature: Double
) -> (crossEntropy: Double, dice: Double) {
  let voxels = logits.count / 4
  var entropy = 0.0, pq = [Double](repeating: 0, count: 4), pp = pq, qq = pq
  for v in 0..<voxels {
    let p = softmax(logits[4 * v..<4 * v + 4], temperature)
    for c in 0..<4 {
      entropy -= q[4 * v + c] * log(p[c])
      pq[c] += p[c] * q[4 * v + c]
      pp[c] += p[c] * p[c]
      qq[c] += q[4 * v + c] * q[4 * v + c]
    }
  }
  let dice = classes.reduce(0) { $0 + (2 * pq[$1] + 1e-5) / (pp[$1] + qq[$1] + 1e-5) }
  return (entropy / Double(voxels), 1 - dice / Double(classes.count))
}

/// What logits are held against.
private enum Kind: CaseIterable, Sendable {
  case all
  /// Some classes have no voxel.
  case one, two
  case soft

  func target(_ size: Size, _ temperature: Double) -> (target: OverlapLoss.Target, q: [Double]) {
    var random = Philox(seed: 7, .test, size.voxels)
    if self == .soft {
      let other = Volume(Shape(size, 4), normals(size.voxels * 4, 3).map { 3 * $0 })
      let values = other.array.map(Double.init)
      return (
        .logits(other), (0..<size.voxels).flatMap { softmax(values[4 * $0..<4 * $0 + 4], temperature) }
      )
    }
    let classes: [UInt8] = self == .all ? [0, 1, 2, 3] : self == .two ? [0, 2] : [1]
    let labels = (0..<size.voxels).map { _ in classes[random.below(classes.count)] }
    return (
      .classes(LabelVolume(size, labels)), labels.flatMap { label in (0..<4).map { $0 == label ? 1 : 0 } }
    )
  }
}

@Suite struct LossesOverlapLossTests {
  @Test func valuesAndGradientAreThoseWorkedOutByHand() {
    // Two voxels, 0.25 for each class; the classes 1 and 3. Dice of 1 and 3: (2 · 0.25 + ε)/(2/16 + 1 + ε); of 0 and 2:
    // ε/(2/16 + ε).
    let size = Size(1, 1, 2), logits = Volume(zeros: Shape(size, 4)), labels = LabelVolume(size, [1, 3])
    let own = 0.500_01 / 1.125_01, absent = 1e-5 / 0.125_01
    let all = OverlapLoss(classes: 0..<4).losses(logits, .classes(labels), gradient: nil, Workers(1))
    #expect(abs(all.crossEntropy - log(4)) <= 1e-7)
    #expect(abs(all.dice - (1 - (own + absent) / 2)) <= 1e-7, "\(all)")
    let foreground = OverlapLoss(classes: 1..<4).losses(logits, .classes(labels), gradient: nil, Workers(1))
    #expect(abs(foreground.dice - (1 - (2 * own + absent) / 3)) <= 1e-7, "\(foreground)")
  }

  @Test(
    arguments: Kind.allCases,
    [
      (Size(1, 1, 1), 0..<4, 1.0), (Size(3, 1, 5), 0..<4, 1), (Size(3, 1, 5), 1..<4, 1),
      (Size(2, 7, 3), 1..<4, 5), (Size(2, 7, 3), 0..<4, 5),
    ])
  private func matchesThePlainReferenceAndItsDifferences(
    kind: Kind, form: (size: Size, classes: Range<Int>, temperature: Double)
  ) {
    let (size, classes, temperature) = form, shape = Shape(size, 4)
    let x = normals(shape.count, 1).map { 3 * $0 }, values = x.map(Double.init)
    let (target, q) = kind.target(size, temperature)
    let loss = OverlapLoss(classes: classes, temperature: Float(temperature))
    let gradient = Island(shape, filled: .nan, surroundings: 1e6), workers = Workers.poisoned(2)
    let found = loss.losses(
      Island(shape, x).volume, target, weight: 0.75, gradient: gradient.volume, workers)
    let expected = plain(values, q, classes, temperature)
    // Exponentials and logarithms to 3e-7 and 2e-7.
    #expect(
      abs(found.crossEntropy - expected.crossEntropy) <= 5e-7 * max(1, expected.crossEntropy),
      "\(found), expected \(expected)")
    #expect(abs(found.dice - expected.dice) <= 1e-6, "\(found), expected \(expected)")

    let step = 1e-5
    let slopes = values.indices.map { i in
      var above = values, below = values
      above[i] += step
      below[i] -= step
      let a = plain(above, q, classes, temperature), b = plain(below, q, classes, temperature)
      return 0.75 * (a.crossEntropy + a.dice - b.crossEntropy - b.dice) / (2 * step)
    }
    // Differences in Float64 are good to 1e-9; p − q cancels where a voxel is sure of its class.
    var deviation = Deviation(gradient.volume.array, slopes)
    #expect(deviation.relative <= 2e-6 && gradient.isAlone, "\(deviation)")

    let before = normals(shape.count, 9), sum = Island(shape, before)
    let again = loss.losses(
      Island(shape, x).volume, target, weight: 0.75, gradient: sum.volume, adding: true, workers)
    deviation = Deviation(sum.volume.array, zip(before, slopes).map { Double($0) + $1 })
    #expect(deviation.relative <= 2e-6 && sum.isAlone, "adding: \(deviation)")
    #expect(again == found, "a loss depends on what becomes of its gradient")
  }

  /// Cross-entropy against itself is the entropy, where its gradient is 0; Dice has its optimum there too.
  @Test(arguments: [1, 5])
  func logitsThatAreTheTargetHaveNoGradient(temperature: Float) {
    let x = Volume(normal: Shape(Size(3, 5, 4), 4), 1), gradient = Volume(zeros: x.shape)
    let loss = OverlapLoss(classes: 1..<4, temperature: temperature)
    let found = loss.losses(x, .logits(x), gradient: gradient, Workers(1))
    #expect(abs(found.dice) <= 1e-7 && found.crossEntropy > 0)
    // Of size 1/60 elsewhere.
    #expect(gradient.array.allSatisfy { abs($0) <= 1e-8 })
  }

  @Test func hugeLogitsStayFinite() {
    let size = Size(1, 1, 2), gradient = Volume(zeros: Shape(size, 4))
    let x = Volume(Shape(size, 4), [1e4, -1e4, 0, 5, 3e30, -3e30, 0, 0])
    let found = OverlapLoss(classes: 0..<4).losses(
      x, .classes(LabelVolume(size, [1, 0])), gradient: gradient, Workers(1))
    #expect(found.crossEntropy == 1e4 && found.dice.isFinite)
    #expect(gradient.array.allSatisfy { $0.isFinite })
  }

  @Test(arguments: 0..<4)
  func aLogitThatIsNotANumberMakesTheLossNone(channel: Int) {
    let size = Size(1, 2, 2), x = Volume(normal: Shape(size, 4), 1)
    x.base[8 + channel] = .nan
    let found = OverlapLoss(classes: 1..<4).losses(
      x, .classes(LabelVolume(size, [0, 1, 2, 3])), gradient: nil, Workers(1))
    #expect(found.crossEntropy.isNaN)
  }

  /// Enough voxels for several pieces.
  @Test(arguments: [Kind.all, .soft])
  private func anyNumberOfWorkersGivesTheSameBits(kind: Kind) {
    let size = Size(25, 20, 29), x = Volume(normal: Shape(size, 4), 1), target = kind.target(size, 5).target
    expectSameBits(["losses", "gradient", "gradient, adding"]) { workers in
      let gradient = Volume(zeros: x.shape), sum = Volume(normal: x.shape, 2)
      let loss = OverlapLoss(classes: 1..<4, temperature: 5)
      let (entropy, dice) = loss.losses(x, target, gradient: gradient, workers)
      _ = loss.losses(x, target, weight: 0.5, gradient: sum, adding: true, workers)
      return [entropy.halves + dice.halves, gradient.array, sum.array]
    }
  }
}
