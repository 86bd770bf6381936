import Testing

@testable import Compute
@testable import Files
@testable import Learning
@testable import Methods
@testable import Networks
@testable import TestSupport

@Suite struct TrainingFusionStepTests {
  private let size = Size(12, 9, 10)

  /// With β₁ = 0 the first moment is the gradient times its scale, exactly.
  private func step(
    _ fusion: FusionNetwork.Fusion, slots: Int, present: [Bool]? = nil, _ workers: Workers = Workers(1)
  ) -> Looped<FusionStep> {
    let network = FusionNetwork(fusion, width: 2)
    return Looped(
      FusionStep(
        network, network.initialParameters(seed: 1, part: 0),
        .init(
          decay: 1e-5, divergence: 0.1, reconstruction: 0.1,
          optimiser: .init(beta1: 0, beta2: 0.999, isEpsilonUncorrected: true)), size: size,
        draw: .init { item, batch, _ in
          let draw = draw(batch.step)(item)
          return .init(present: present ?? draw.present, noise: draw.noise)
        }, .single(slots), workers), slots: slots)
  }

  /// Other sequences and other noise for each slot, and for each step.
  private func draw(_ step: Int = 0) -> (SlotCase) -> FusionStep.Draw {
    { item in
      let bits = 1 + (7 * item.slot + 5 * step + 4) % 15
      return .init(present: (0..<4).map { bits >> $0 & 1 == 1 }) { level, volume in
        volume.copy(from: Volume(normal: volume.shape, 100 * step + 10 * item.slot + level))
      }
    }
  }

  private func cases(_ count: Int) -> [SlotCase] { (0..<count).map { SlotCase(normal: $0, size) } }

  private func state(_ step: Looped<FusionStep>) -> [Float] {
    step.p.array + step.optimiser.first.array + step.optimiser.second.array
  }

  @Test(arguments: FusionNetwork.Fusion.allCases)
  func reportsAreNamed(fusion: FusionNetwork.Fusion) throws {
    let values = try step(fusion, slots: 1).run(cases(1)).all
    #expect(values.count == 1 + FusionStep.terms(fusion).count)
    let weights = fusion == .moments ? [1.0, 1] : [1, 1, 0.1, 0.1]
    let sum = zip(values.dropFirst(), weights).reduce(0) { $0 + $1.0 * $1.1 }
    // The rest is decay: half of 1e-5 times the mean of Σ w² over the kernels, of which each has some units.
    let decay = values[0] - sum
    #expect(decay > 1e-6 && decay < 1e-3, "\(decay)")
  }

  @Test(arguments: FusionNetwork.Fusion.allCases)
  func twoSlotsAreTheMeanOfTheirGradients(fusion: FusionNetwork.Fusion) throws {
    let cases = cases(2), parts = step(fusion, slots: 1)
    var gradients: [[Float]] = [], rows: [[Double]] = []
    for item in cases {
      rows.append(parts.program.learn(item, draw()(item)).values.all)
      gradients.append(parts.gradient.array)
    }
    #expect(gradients[0] != gradients[1])
    let two = step(fusion, slots: 2)
    let report = try two.run(cases)
    try two.loop.settle()
    #expect(report.all == zip(rows[0], rows[1]).map { ($0 + $1) / 2 })
    var sum = zip(gradients[0], gradients[1]).map { $0 + $1 }
    #expect(firstDifference(two.optimiser.first.array, sum.map { $0 * 0.5 }) == nil)
    sum.withUnsafeMutableBufferPointer {
      parts.optimiser.update(parts.p, gradient: $0, scale: 0.5, rate: 1e-3, Workers(1))
    }
    #expect(firstDifference(state(two), state(parts)) == nil)
  }

  /// All of the gradient is told to be final, each range once and with the numbers that stay.
  @Test(arguments: FusionNetwork.Fusion.allCases)
  func whatIsToldToBeFinalIs(fusion: FusionNetwork.Fusion) {
    let step = step(fusion, slots: 1), item = cases(1)[0]
    var told = [Float](repeating: .nan, count: step.p.count), times = [Int](repeating: 0, count: step.p.count)
    _ = step.program.learn(item, draw()(item)) { range in
      for i in range {
        told[i] = step.gradient.values[i]
        times[i] += 1
      }
    }
    #expect(times.allSatisfy { $0 == 1 })
    #expect(firstDifference(told, step.gradient.array) == nil)
  }

  @Test(arguments: FusionNetwork.Fusion.allCases)
  func oneTwoAndThreeThreadsGiveTheSameBits(fusion: FusionNetwork.Fusion) throws {
    func results(_ threads: Int) throws -> ([[Double]], [Float]) {
      let step = step(fusion, slots: 2, Workers.poisoned(threads))
      let values = try (0..<2).map { try step.run(cases(2), step: $0).all }
      try step.loop.settle()
      return (values, state(step))
    }
    let one = try results(1)
    for threads in [2, 3] {
      let other = try results(threads)
      #expect(one.0 == other.0 && firstDifference(one.1, other.1) == nil, "\(threads) threads")
    }
  }

  /// Nothing of the steps before is left in memory: the same case, drawn as before, at parameters as before.
  @Test(arguments: FusionNetwork.Fusion.allCases)
  func aStepIsAFunctionOfItsCaseAndParameters(fusion: FusionNetwork.Fusion) throws {
    let used = step(fusion, slots: 1), fresh = step(fusion, slots: 1), item = cases(1)[0]
    for i in 0..<3 {
      try used.run([SlotCase(normal: 0, size)], step: i)
    }
    try used.loop.settle()
    fresh.p.copy(from: used.p)
    let a = used.program.learn(item, draw(9)(item)), b = fresh.program.learn(item, draw(9)(item))
    #expect(a.values == b.values && a.decay == b.decay)
    #expect(firstDifference(used.gradient.array, fresh.gradient.array) == nil)
  }

  @Test(arguments: FusionNetwork.Fusion.allCases)
  func aLossThatIsNoNumberEndsTheRunBeforeTheUpdate(fusion: FusionNetwork.Fusion) {
    // The slot's draw has all sequences, so that the one with the NaN is there.
    step(fusion, slots: 1, present: [true, true, true, true]).expectEndBeforeTheUpdate(cases(1)[0], nanAt: 2)
  }
}
