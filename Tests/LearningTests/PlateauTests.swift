import Foundation
import Testing

@testable import Learning

@Suite struct TrainingPlateauTests {
  private func scales(_ scores: [Double], patience: Int = 3) -> [Double] {
    var plateau = Plateau(patience: patience, factor: 0.5)
    return scores.map { score in
      plateau.observe(score)
      return plateau.scale
    }
  }

  @Test func rateIsHalvedAtTheThirdEpochWithoutABetterScore() {
    #expect(scales([0.5, 0.4, 0.3, 0.2, 0.1]) == [1, 1, 1, 0.5, 0.5])
  }

  @Test func anEqualScoreIsNotBetter() {
    #expect(scales([0.5, 0.5, 0.5, 0.5]) == [1, 1, 1, 0.5])
  }

  @Test func aBetterScoreStartsTheCountAnew() {
    #expect(scales([0.5, 0.4, 0.4, 0.6, 0.5, 0.5, 0.55]) == [1, 1, 1, 1, 1, 1, 0.5])
  }

  @Test func afterHalvingTheCountStartsAnewAndTheBestStays() {
    // 0.5 stays the best: 0.45 after a halving is no improvement.
    #expect(
      scales([0.5, 0, 0, 0, 0.45, 0.45, 0.45, 0, 0, 0.6, 0]) == [
        1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25, 0.25,
      ])
    #expect(scales([0.5, 0.1, 0.1], patience: 1) == [1, 0.5, 0.25])
  }

  @Test func aPlateauSurvivesItsFile() throws {
    var plateau = Plateau(patience: 3, factor: 0.5)
    for score in [0.1 + 0.2, 0, 0] { plateau.observe(score) }
    #expect(try JSONDecoder().decode(Plateau.self, from: JSONEncoder().encode(plateau)) == plateau)
  }
}

@Suite struct TrainingDecayingWeightsTests {
  private let weights = DecayingWeights([1, 59.4507, 1.01, 71.8481], decay: 0.98, floor: 1)

  @Test func theFirstEpochHasTheStartValues() { #expect(weights.weights(epoch: 0) == weights.start) }

  @Test func eachEpochDecaysDownToTheFloor() {
    #expect(weights.weights(epoch: 1) == [1, 59.4507 * 0.98, 1, 71.8481 * 0.98])
    let second = weights.weights(epoch: 2)
    #expect(second == [1, 59.4507 * 0.98 * 0.98, 1, 71.8481 * 0.98 * 0.98])
    #expect(weights.weights(epoch: 400) == [1, 1, 1, 1])
  }
}
