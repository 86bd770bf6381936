import Evaluation
import Testing

@testable import TestSupport
@testable import Imaging

@Suite struct EvaluationTableTests {
  private func scores(_ dice: Double, hd95: Double, score: Double? = nil) -> CaseScores {
    var scores = CaseScores()
    for region in Region.allCases {
      scores[region, .dice] = region == .et ? dice / 2 : dice
      scores[region, .hd95] = hd95
      if let score {
        scores.uncertainty[region] = UncertaintyScore(
          score: score, certain: (dice + 2) / 3, areas: .init(dice: score, ftp: 0.25, ftn: 0.125),
          filteredDice: [.init(threshold: 100, dice: dice), .init(threshold: 12.5, dice: 1)])
      }
    }
    return scores
  }

  @Test func columnsAreAligned() {
    let evaluation = MethodEvaluation(
      method: "m", cases: ["A": scores(0.75, hd95: 2), "B": scores(0.25, hd95: 373.128664)])
    #expect(
      evaluation.text == """
        2 cases: mean ± sd (median)

                                        WT                        TC                        ET
        Dice, %    50.00 ±  35.36 ( 50.00)   50.00 ±  35.36 ( 50.00)   25.00 ±  17.68 ( 25.00)
        HD95, mm  187.56 ± 262.43 (187.56)  187.56 ± 262.43 (187.56)  187.56 ± 262.43 (187.56)

        """)
  }

  @Test func oneCaseHasItsValuesOnly() {
    let evaluation = MethodEvaluation(method: "m", cases: ["A": scores(1, hd95: 2.25, score: 0.5)])
    #expect(
      evaluation.text == """
        1 case

                                    WT      TC      ET
        Dice, %                 100.00  100.00   50.00
        HD95, mm                  2.25    2.25    2.25
        Uncertainty score       0.5000  0.5000  0.5000
          if all were certain   1.0000  1.0000  1.0000
          area of Dice          0.5000  0.5000  0.5000
          area of filtered TP   0.2500  0.2500  0.2500
          area of filtered TN   0.1250  0.1250  0.1250
        Dice where U ≤ 100, %   100.00  100.00  100.00
        Dice where U ≤ 12.5, %  100.00  100.00  100.00

        """)
  }

  /// A line is there where every case has its value.
  @Test func whatACaseLacksHasNoLine() {
    let evaluation = MethodEvaluation(
      method: "m", cases: ["A": scores(1, hd95: 2, score: 0.5), "B": scores(1, hd95: 2)])
    #expect(!evaluation.text.contains("Uncertainty") && !evaluation.text.contains("U ≤"))
    #expect(evaluation.text.contains("HD95"))
  }
}
