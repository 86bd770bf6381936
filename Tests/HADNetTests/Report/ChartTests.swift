@testable import HADNet
import Testing

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
}
