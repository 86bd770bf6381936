import TestSupport
import Testing

@testable import Compute
@testable import Imaging
@testable import Methods

@Suite struct MethodsSequenceDrawTests {
  /// Bounds are four standard errors of a share p of 20,000 draws.
  @Test func oneToFourSequencesArePresentEachAsOften() {
    let n = 20_000
    var counts = [Int](repeating: 0, count: 5), seen: [Modality: Int] = [:], sets: [[Modality]: Int] = [:]
    for step in 0..<n {
      var random = Philox(seed: 1, .sequences, step)
      let drawn = FusionStep.Draw.present(of: 4, random: &random)
      let present = zip(brats.sequences, drawn).filter(\.1).map(\.0)
      counts[present.count] += 1
      for modality in present { seen[modality, default: 0] += 1 }
      sets[present, default: 0] += 1
    }
    func expect(_ count: Int, _ share: Double) {
      let error = 4 * (share * (1 - share) / Double(n)).squareRoot()
      #expect(abs(Double(count) / Double(n) - share) < error, "\(count), expected \(share * Double(n))")
    }
    for k in 1...4 { expect(counts[k], 0.25) }
    for modality in Modality.allCases { expect(seen[modality] ?? 0, 0.625) }
    #expect(sets.count == 15)
    for (set, count) in sets { expect(count, 0.25 / [1: 4, 2: 6, 3: 4, 4: 1][set.count, default: 0]) }
  }

  @Test func whatIsPresentDependsOnItsNumbersAlone() {
    func draw(_ step: Int) -> [Bool] {
      var random = Philox(seed: 7, .sequences, step)
      return FusionStep.Draw.present(of: 4, random: &random)
    }
    #expect((0..<20).map(draw) == (0..<20).map(draw))
  }
}
