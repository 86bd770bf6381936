import Testing

@testable import Methods
@testable import Study

@Suite struct TrainingStateTests {
  @Test func ofEqualScoresTheLaterIsTheBest() {
    var state = TrainingState(.student), best: [Int?] = []
    for score in [0.3, 0.5, 0.5, 0.4] {
      state.epoch += 1
      let isBest = state.observe(score)
      #expect(isBest == (state.bestEpoch == state.epoch))
      best.append(state.bestEpoch)
    }
    #expect(best == [1, 2, 3, 3] && state.bestScore == 0.5)
  }
}
