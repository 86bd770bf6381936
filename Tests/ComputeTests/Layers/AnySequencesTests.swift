import Foundation
import Testing

@testable import Compute
@testable import TestSupport

/// U-HVED's fusion of any number of sequences, a number at a time, in Float64.
private struct PlainFusion {
  var means, logVariances: [Double]
  private static let epsilon = 1e-7

  func product(_ present: [Bool]) -> (mean: Double, variance: Double) {
    var sum = 1.0, product = 0.0
    for i in means.indices where present[i] {
      let t = 1 / (exp(logVariances[i]) + PlainFusion.epsilon)
      sum += t
      product += t * means[i]
    }
    return (product / sum, 1 / sum + PlainFusion.epsilon)
  }

  func sample(_ present: [Bool], _ noise: Double) -> Double {
    let product = product(present)
    return product.mean + product.variance.squareRoot() * noise
  }

  private static func divergence(_ a: (mean: Double, variance: Double), _ mean: Double, _ variance: Double)
    -> Double
  {
    let d = a.mean - mean
    return (-1 + log(variance) - log(a.variance) + (a.variance + d * d) / (variance + epsilon)) / 2
  }

  func divergences(_ present: [Bool]) -> (inter: Double, prior: Double) {
    let q = product(present), subsets = (1 << means.count) - 1
    var inter = 0.0, prior = 0.0
    for s in 1...subsets {
      let own = product(means.indices.map { s >> $0 & 1 == 1 })
      inter += PlainFusion.divergence(q, own.mean, own.variance)
      prior += PlainFusion.divergence(own, 0, 1)
    }
    return (inter / Double(subsets - 1), prior / Double(subsets))
  }
}

@Suite struct LayersAnySequencesTests {
  @Test(arguments: [2, 3, 4, 5, 6, 7, 8]) func divergencesAndGradientsMatchThePlainReference(count: Int) {
    let shape = Shape(Size(1, 2, 3), 4), present = (0..<count).map { $0 != 1 }, weight = 0.3
    let maps = (0..<count).map { Volume(Shape(shape.size, 8), normals(48, $0)) }
    let noise = Volume(shape, normals(24, 20)), dz = Volume(shape, normals(24, 21)),
      workers = Workers.poisoned(2)
    let fusion = GaussianFusion(maps: maps, present: present)
    let gradients = maps.map { _ in Volume(zeros: Shape(shape.size, 8)) }
    let found = fusion.divergences(dz, noise: noise, weight: Float(weight), into: gradients, workers)
    let z = Volume(zeros: shape)
    fusion.sample(noise: noise, into: z, workers)

    var inter = 0.0, prior = 0.0
    for i in 0..<24 {
      let at = i / 4 * 8 + i % 4
      let number = PlainFusion(
        means: maps.map { Double($0.array[at]) }, logVariances: maps.map { Double($0.array[at + 4]) })
      let own = number.divergences(present)
      inter += own.inter / 24
      prior += own.prior / 24
      #expect(abs(Double(z.array[i]) - number.sample(present, Double(noise.array[i]))) <= 1e-5)
      func loss(_ number: PlainFusion) -> Double {
        let (inter, prior) = number.divergences(present)
        return Double(dz.array[i]) * number.sample(present, Double(noise.array[i])) + weight * (inter + prior)
          / 24
      }
      for sequence in 0..<count {
        for (path, place) in [(\PlainFusion.means, at), (\PlainFusion.logVariances, at + 4)] {
          var above = number, below = number
          above[keyPath: path][sequence] += 1e-5
          below[keyPath: path][sequence] -= 1e-5
          let slope = (loss(above) - loss(below)) / 2e-5, value = Double(gradients[sequence].array[place])
          #expect(
            abs(value - slope) <= 1e-5 * max(1, abs(slope)),
            "\(count), \(sequence): \(value), expected \(slope)")
        }
      }
    }
    #expect(
      abs(found.inter - inter) <= 1e-5 * max(1, inter) && abs(found.prior - prior) <= 1e-5 * max(1, prior))
  }
}
