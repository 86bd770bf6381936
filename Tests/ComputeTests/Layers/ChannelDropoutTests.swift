import Testing

@testable import Compute
@testable import Networks

@Suite struct LayersChannelDropoutTests {
  @Test(arguments: [Float(0.1), 0.2, 0.5, 0.9])
  func droppedChannelsAreZeroAndTheOthersScaled(probability: Float) {
    var random = Philox(seed: 1, .dropout)
    let count = 20000, mask = ChannelDropout(probability).mask(count, &random) ?? []
    #expect(mask.count == count)
    #expect(mask.allSatisfy { $0 == 0 || $0 == 1 / (1 - probability) })
    let share = Double(mask.count { $0 == 0 }) / Double(count), p = Double(probability)
    // Four standard deviations of a binomial's share.
    let bound = 4 * (p * (1 - p) / Double(count)).squareRoot()
    #expect(abs(share - p) <= bound, "\(share) of the channels are dropped, expected \(p) ± \(bound)")
  }

  @Test func nothingIsDroppedAtZero() {
    var random = Philox(seed: 1, .dropout)
    #expect(ChannelDropout(0).mask(8, &random) == nil)
  }

  @Test func masksAreAFunctionOfSeedPurposeStepSlotAndLayer() {
    func mask(
      seed: UInt64 = 7, _ purpose: Philox.Purpose = .dropout, step: Int = 3, slot: Int = 2, part: Int = 4
    ) -> [Float]? {
      DropoutDraw(probability: 0.5, seed: seed, purpose, step: step, slot: slot).mask(64, part: part)
    }
    let first = mask()
    #expect(first != nil && mask() == first)
    // 64 channels agree by chance once in 2⁶⁴.
    #expect(mask(seed: 8) != first)
    #expect(mask(.teacherDropout) != first)
    #expect(mask(step: 4) != first)
    #expect(mask(slot: 3) != first)
    #expect(mask(step: 2, slot: 3) != first)
    #expect(mask(part: 5) != first)
  }
}
