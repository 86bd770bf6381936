import Testing

@testable import Learning
@testable import Methods

@Suite struct DiscriminatorWatchTests {
  private func history(_ epochs: [(accuracy: Double, updated: Double)]) -> [StepValues] {
    epochs.map {
      StepValues(DistillationStep.terms, loss: 1, [.accuracy: $0.accuracy, .updated: $0.updated])
    }
  }

  private func repeated(_ count: Int, _ accuracy: Double, _ updated: Double) -> [(Double, Double)] {
    [(Double, Double)](repeating: (accuracy, updated), count: count)
  }

  /// Told after ten epochs in a row, and after ten more.
  @Test func aDiscriminatorThatLearnsNothingIsTold() throws {
    for count in 1...21 {
      let warning = DiscriminatorWatch.warning(
        history(repeated(3, 0.7, 0.5) + repeated(count, 0.974, 0)))
      #expect((warning != nil) == (count % 10 == 0), "\(count)")
      if count == 20 {
        #expect(try #require(warning).contains("right in 97 % and has learnt nothing for 20 epochs"))
      }
    }
  }

  @Test func anEpochWithAnUpdateStartsAnew() {
    #expect(
      DiscriminatorWatch.warning(
        history(repeated(9, 0.97, 0) + [(0.9, 0.1)] + repeated(1, 0.97, 0))) == nil)
  }

  @Test func aDiscriminatorThatGuessesIsTold() throws {
    for count in 1...11 {
      let warning = DiscriminatorWatch.warning(history(repeated(2, 0.8, 1) + repeated(count, 0.52, 1)))
      #expect((warning != nil) == (count == 10), "\(count)")
      if count == 10 { #expect(try #require(warning).contains("52 %, no more than a guess, for 10 epochs")) }
    }
  }

  /// A state that was read may say anything.
  @Test func anyAccuracyCanBeTold() throws {
    for accuracy in [1e300, -.infinity, .nan] {
      #expect(DiscriminatorWatch.warning(history(repeated(10, accuracy, 0))) != nil)
    }
  }

  @Test func aStageWithoutDiscriminatorHasNothingToTell() {
    let history = (1...30).map { _ in StepValues(Method.student.terms, loss: 1, [:]) }
    #expect(Method.student.watch(history) == nil && DiscriminatorWatch.warning([]) == nil)
  }
}
