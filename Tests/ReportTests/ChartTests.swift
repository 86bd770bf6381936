import TestSupport
import Testing

@testable import Methods
@testable import Imaging
@testable import Report
@testable import Study

@Suite struct ChartTests {
  @Test func ticksAreRound() {
    #expect(Chart.ticks(0...1, about: 5) == [0, 0.2, 0.4, 0.6, 0.8, 1])
    #expect(Chart.ticks(0...0.35, about: 4) == [0, 0.1, 0.2, 0.3])
    #expect(Chart.ticks(1...40, about: 5) == [10, 20, 30, 40])
    #expect(Chart.text(2e-4) == "2e-4" && Chart.text(0.25) == "0.25" && Chart.text(1e-5) == "1e-5")
    #expect(Chart.text(200_000) == "2e5" && Chart.text(800) == "800" && Chart.text(0) == "0")
  }

  @Test func aGapBreaksTheLine() {
    let chart = Chart("t", [.init("a", [(1, 1), (2, .nan), (3, 2), (4, 3)])])
    #expect(chart.plan(width: 100, height: 100).lines.map(\.points.count) == [1, 2])
  }

  @Test func valuesStandWhereTheyShould() {
    let chart = Chart("t", [.init("a", [(0, 0), (10, 1)])])
    let line = chart.plan(width: 100, height: 50).lines[0].points
    #expect(line[0] == (0, 50) && line[1] == (100, 0))
  }

  @Test(arguments: [
    [], [(1.0, 2.0)], [(1, 2), (2, 2)], [(1, .nan)], [(1, 0), (2, -3)], [(1, 1e-9), (2, 1e9)],
    [(1e300, 1), (1, 1e308), (2, -1e308)],
  ])
  func anyDataMakesAChart(points: [(Double, Double)]) {
    for logarithmic in [false, true] {
      let chart = Chart("t", [.init("a", points.map { (x: $0.0, y: $0.1) })], logarithmic: logarithmic)
      #expect(
        chart.svg().hasSuffix("</svg>") && !chart.svg().contains("nan") && !chart.svg().contains("inf\""))
      #expect(chart.picture().width == 640)
    }
  }

  @Test func everyCurveLiesBetweenTwoNumbers() {
    let plan = Chart("t", [.init("a", [(1, 0.13), (2, 1.62)])]).plan(width: 100, height: 200)
    #expect(plan.yTicks.first?.text == "0" && plan.yTicks.first?.at == 200)
    #expect(plan.yTicks.last?.text == "2" && plan.yTicks.last?.at == 0)
  }

  @Test func logarithmsHaveTicksToo() {
    let chart = Chart("rate", [.init("a", [(1, 2e-4), (2, 1e-4), (3, 5e-5)])], logarithmic: true)
    #expect(chart.plan(width: 100, height: 100).yTicks.map(\.text) == ["5e-5", "1e-4", "2e-4"])
  }

  @Test func aLongLegendHasSeveralLines() {
    let names = ["loss", "cross-entropy", "discriminator", "reconstruction"]
    let chart = Chart("t", names.map { Chart.Series($0, [(1, 1), (2, 2)]) })
    let lines = chart.legend(end: 300) { Double($0.count * 7) }
    #expect(lines.map { $0.map(\.series) } == [[0, 1], [2, 3]])
    #expect(lines[1].map(\.x) == [0, 24 + 91 + 20])
    // A name that is too long for any line has one to itself.
    #expect(chart.legend(end: 10) { _ in 50 }.map(\.count) == [1, 1, 1, 1])
    #expect(Chart("t", []).legend(end: 10) { _ in 50 }.count == 1)
  }

  @Test func chartsOfAKindStandUnderEachOther() {
    let chart = Chart("t", [.init("a", [(1, 1), (2, 2)])])
    let sheet = Chart.picture([[chart, nil, chart], [chart, chart]])
    let one = chart.picture()
    #expect(sheet.width == 3 * one.width && sheet.height == 2 * one.height)
    /// Whether anything is drawn there.
    func isDrawn(_ row: Int, _ column: Int) -> Bool {
      (0..<one.height).contains { y in
        (0..<one.width).contains { sheet[column * one.width + $0, row * one.height + y] != .white }
      }
    }
    #expect((0..<3).map { isDrawn(0, $0) } == [true, false, true])
    #expect((0..<3).map { isDrawn(1, $0) } == [true, true, false])
  }

  @Test func chartsAreOfWhatAHistoryHas() {
    var history = History(columns: ["epoch", "rate", "loss", "wt", "tc", "et", "score"])
    history.append([1, 2e-4, 0.5, 0.25, nil, 0.5, 0.3])
    let plain = RunReport.charts(.student, history, brats.regions)
    #expect(
      plain.map { $0?.title } == [
        "Student: loss", "Student: validation Dice, %", nil, nil, "Student: learning rate",
      ])
    #expect(plain[1]?.series.map(\.name) == ["WT", "ET"])
    #expect(plain[1]?.series[1].points.map(\.y) == [50])

    let columns = [
      "epoch", "loss", "cross_entropy", "adversarial", "validation_loss", "accuracy", "accuracy_real",
      "updated",
      "distance_1", "distance_2", "judged_fake",
    ]
    history = History(columns: columns)
    history.append(columns.map { $0 == "judged_fake" ? nil : 0.5 })
    #expect(
      RunReport.charts(.hadnet, history, brats.regions).map { $0?.series.map(\.name) } == [
        ["loss", "cross-entropy", "adversarial", "validation"], nil,
        ["accuracy", "accuracy, real", "steps updated"],
        ["scale 1", "scale 2"], nil,
      ])
  }
}
