import Testing

@testable import Evaluation

@Suite struct BootstrapTests {
  @Test func hasTheBitsOfASecondProgram() throws {
    let golden = try StatisticsGolden.load().bootstrap
    #expect(golden.count == 4)
    for expected in golden {
      #expect(
        Summary(expected.values).interval == Interval(lower: expected.lower, upper: expected.upper),
        "\(expected.values.count) cases")
    }
  }

  /// All 5⁵ resamples of five cases are equally likely. Of 10,000 drawn ones the share below a bound has a standard
  /// deviation of 0.0016; the limit is four of them.
  @Test func boundsCutOffTheTailsOfAllResamples() {
    let values = [0.1, 0.25, 0.33, 0.71, 0.9]
    var sums = [0.0]
    for _ in values { sums = sums.flatMap { sum in values.map { sum + $0 } } }
    let interval = Summary(values).interval
    let below = sums.count { $0 / 5 < interval.lower }, above = sums.count { $0 / 5 > interval.upper }
    for tail in [below, above] { #expect(abs(Double(tail) / Double(sums.count) - 0.025) < 0.0064) }
  }

  @Test func severalColumnsHaveTheIntervalsOfEach() {
    let columns = [[0.5, 0.1, 0.9, 0.4], [3, 1, 4, 1.5], [-0.25, 0, 0, 0.75]]
    #expect(Bootstrap.intervals(ofMeans: columns) == columns.map { Summary($0).interval })
  }

  @Test func equalValuesHaveAnIntervalOfNoWidth() {
    #expect(Summary([0.1, 0.1, 0.1]).interval == Interval(lower: 0.1, upper: 0.1))
  }

  @Test func aColumnThatIsNotFiniteHasNoneAndLeavesTheOthersAlone() {
    let intervals = Bootstrap.intervals(ofMeans: [[1, .nan, 2], [1, 3, 2], [1, .infinity, 2]])
    #expect(intervals[0].lower.isNaN && intervals[0].upper.isNaN && intervals[2].upper.isNaN)
    #expect(intervals[1] == Summary([1, 3, 2]).interval && intervals[1].lower < 2 && intervals[1].upper > 2)
    #expect(Bootstrap.intervals(ofMeans: []).isEmpty)
  }
}
