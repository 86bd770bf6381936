import Foundation
import Testing

@testable import Compute
@testable import Learning
@testable import TestSupport

@Suite struct TrainingAdamTests {
  private func make(_ settings: Adam.Settings, _ start: [Float]) -> (Adam, ParameterVector) {
    var layout = ParameterLayout()
    _ = layout.add("w", start.count)
    let p = ParameterVector(zeros: layout)
    for (i, value) in start.enumerated() { p.values[i] = value }
    return (Adam(layout, settings), p)
  }

  private func update(
    _ adam: Adam, _ p: ParameterVector, _ gradient: [Float], scale: Float = 1, rate: Double = 0.1
  ) {
    var gradient = gradient
    gradient.withUnsafeMutableBufferPointer {
      adam.update(p, gradient: $0, scale: scale, rate: rate, Workers(1))
    }
  }

  private func expect(
    _ values: [Float], _ expected: [Double], _ what: String, _ location: SourceLocation = #_sourceLocation
  ) {
    // A handful of float operations.
    for (i, (v, e)) in zip(values, expected).enumerated() {
      #expect(
        abs(Double(v) - e) <= 5e-7 * max(1, abs(e)), "\(what)[\(i)]: \(v), expected \(e)",
        sourceLocation: location)
    }
  }

  @Test func twoStepsAreThoseWorkedOutByHand() {
    let (adam, p) = make(.init(beta1: 0.9, beta2: 0.999), [1, -2])
    update(adam, p, [0.5, -3])
    // The first step has the size of the rate, whatever the gradient's: m̂ = g, v̂ = g².
    expect(adam.first.array, [0.05, -0.3], "m")
    expect(adam.second.array, [0.00025, 0.009], "v")
    expect(p.array, [0.9, -1.9], "p")
    update(adam, p, [-0.25, -3])
    // m = 0.9 · 0.05 − 0.1 · 0.25, v = 0.999 · 0.00025 + 0.001 · 0.0625; m̂ = m/0.19, v̂ = v/0.001999.
    expect(adam.first.array, [0.02, -0.57], "m")
    expect(adam.second.array, [0.00031225, 0.017991], "v")
    expect(p.array, [0.873_366_294, -1.8], "p")
    #expect(adam.updates == 2)
  }

  @Test func theBetasOfDistillationAreCorrectedForToo() {
    let (adam, p) = make(.init(beta1: 0.5, beta2: 0.999), [0])
    update(adam, p, [2])
    expect(p.array, [-0.1], "p")
    update(adam, p, [0])
    // m̂ = 0.5/0.75, v̂ = 0.003996/0.001999.
    expect(p.array, [-0.1 - 0.1 * (0.5 / 0.75) / (0.003996 / 0.001999).squareRoot()], "p")
  }

  @Test func epsilonIsAddedToTheCorrectedRoot() {
    let (adam, p) = make(.init(beta1: 0.9, beta2: 0.999, epsilon: 1), [1])
    update(adam, p, [0.5])
    // 0.1 · 0.5/(0.5 + 1); inside the root, or before the correction, it would be 0.0447 or 0.0016.
    expect(p.array, [1 - 0.1 * 0.5 / 1.5], "p")
  }

  /// TensorFlow's form, of gradients far below, near and above ε, with steps without any between: momentum goes on.
  @Test(arguments: [1e-10, 1e-8, 3e-6, 0.1])
  func epsilonIsAddedToTheUncorrectedRoot(size: Double) {
    let (adam, p) = make(.init(beta1: 0.9, beta2: 0.999, isEpsilonUncorrected: true), [0, 0])
    let (other, q) = make(.init(beta1: 0.9, beta2: 0.999), [0, 0])
    var w = [0.0, 0], m = w, v = w, largest = 0.0
    for (step, signs) in [[1.0, -2], [0.5, 0], [0, 0], [-3, 1], [0, 0]].enumerated() {
      let gradient = signs.map { Float($0 * size) }, t = Double(step + 1)
      update(adam, p, gradient, rate: 1e-3)
      update(other, q, gradient, rate: 1e-3)
      let rate = 1e-3 * (1 - pow(0.999, t)).squareRoot() / (1 - pow(0.9, t))
      for i in 0..<2 {
        m[i] = 0.9 * m[i] + 0.1 * Double(gradient[i])
        v[i] = 0.999 * v[i] + 0.001 * Double(gradient[i]) * Double(gradient[i])
        let change = rate * m[i] / (v[i].squareRoot() + 1e-8)
        w[i] -= change
        largest = max(largest, abs(change))
        // Some float operations a step.
        #expect(abs(Double(p.values[i]) - w[i]) <= 2e-6 * largest, "[\(i)] after step \(step + 1)")
      }
    }
    // Where gradients are near ε the form is most of the steps, where they are large it is next to nothing.
    let difference = zip(p.array, q.array).map { abs(Double($0.0 - $0.1)) }.max() ?? 0
    #expect(
      size < 1e-5 ? difference > 0.1 * largest : difference < 1e-4 * largest, "\(difference) of \(largest)")
  }

  @Test func decayIsDecoupled() {
    let (adam, p) = make(.init(beta1: 0.9, beta2: 0.999, decay: 0.2), [1, -4])
    update(adam, p, [0.5, 0])
    // p · (1 − 0.1 · 0.2), then the step; the moments know nothing of it.
    expect(p.array, [0.98 - 0.1, -3.92], "p")
    expect(adam.first.array, [0.05, 0], "m")
    expect(adam.second.array, [0.00025, 0], "v")
  }

  @Test func scaleIsPartOfTheGradient() {
    let (a, p) = make(.init(beta1: 0.9, beta2: 0.999), [1]),
      (b, q) = make(.init(beta1: 0.9, beta2: 0.999), [1])
    update(a, p, [2], scale: 0.25)
    update(b, q, [0.5])
    #expect(p.array == q.array && a.first.array == b.first.array && a.second.array == b.second.array)
  }

  @Test func anyNumberOfWorkersGivesTheSameBits() {
    var layout = ParameterLayout()
    _ = layout.add("w", 100_003)
    func results(_ count: Int) -> [Float] {
      let p = ParameterVector(normal: layout, 1),
        adam = Adam(layout, .init(beta1: 0.9, beta2: 0.999, decay: 1e-5))
      let gradient = ParameterVector(normal: layout, 2)
      for _ in 0..<2 { adam.update(p, gradient: gradient.values, scale: 0.5, rate: 2e-4, Workers(count)) }
      return p.array + adam.first.array + adam.second.array
    }
    let one = results(1)
    for count in [2, 3, 5] { #expect(firstDifference(one, results(count)) == nil, "\(count) workers") }
  }
}
