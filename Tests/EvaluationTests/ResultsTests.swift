import Foundation
import Testing

@testable import Compute
@testable import Evaluation
@testable import Files
@testable import TestSupport
@testable import Imaging

private func sentence(_ json: String) -> Fault? {
  do {
    _ = try MethodEvaluation(json: Data(json.utf8), file: "a.json", method: "a")
    return nil
  } catch { return error }
}

@Suite struct ResultsTests {
  @Test func jsonHasTheFixedForm() {
    #expect(
      evaluation("m", [0.1, 0.3]).json == """
        {
          "regions": [{"name": "WT", "classes": [1, 2, 3]}, {"name": "TC", "classes": [1, 3]}, {"name": "ET", "classes": [3]}],
          "cases": {
            "A": {"WT": {"dice": 0.1}, "TC": {"dice": 0.1}, "ET": {"dice": 0.1}},
            "B": {"WT": {"dice": 0.3}, "TC": {"dice": 0.3}, "ET": {"dice": 0.3}}
          },
          "summary": {
            "WT": {"dice": {"mean": 0.2, "sd": 0.1414213562373095, "median": 0.2, "q25": 0.15, "q75": 0.25, "ci95": [0.1, 0.3]}},
            "TC": {"dice": {"mean": 0.2, "sd": 0.1414213562373095, "median": 0.2, "q25": 0.15, "q75": 0.25, "ci95": [0.1, 0.3]}},
            "ET": {"dice": {"mean": 0.2, "sd": 0.1414213562373095, "median": 0.2, "q25": 0.15, "q75": 0.25, "ci95": [0.1, 0.3]}}
          }
        }

        """)
  }

  /// A case with all there can be.
  private func whole() -> MethodEvaluation {
    let truth = LabelVolume(Size(1, 1, 4), [3, 3, 1, 0]),
      prediction = LabelVolume(Size(1, 1, 4), [3, 1, 1, 1])
    var scores = CaseScores(Overlaps(truth: truth, prediction: prediction))
    for region in Region.allCases {
      scores[region, .hd95] = 1.5
      scores.uncertainty[region] = UncertaintyScore(
        score: 0.75, certain: 0.875, areas: .init(dice: 0.5, ftp: 0.25, ftn: 0.125),
        filteredDice: [.init(threshold: 100, dice: 1), .init(threshold: 12.5, dice: 0.25)])
    }
    return MethodEvaluation(method: "m", cases: ["A": scores])
  }

  @Test func jsonOfACaseHasAllThereIs() {
    let json = whole().json
    let et = """
      "ET": {"dice": 0.6666666666666666, "sensitivity": 0.5, "specificity": 1.0, "hd95": 1.5, "TP": 1, "FP": 0, \
      "FN": 1, "TN": 2, "n_pred": 1, "n_ref": 2, "uncertainty": {"score": 0.75, "certain": 0.875, \
      "auc": {"dice": 0.5, "ftp": 0.25, "ftn": 0.125}, "filtered_dice": {"100": 1.0, "12.5": 0.25}}}}

      """
    #expect(json.contains(et), "\(json)")
    for metric in ["dice", "sensitivity", "specificity", "hd95", "score"] {
      #expect(json.contains("\"\(metric)\": {\"mean\": "), "\(json)")
    }
    // WT is 3 of 4 voxels, of which all are found, and one more; TC likewise.
    let larger = """
      {"Dice": 0.8571428571428571, "IoU": 0.75, "TP": 3.0, "FP": 1.0, "FN": 0.0, "TN": 0.0, "n_pred": 4.0, \
      "n_ref": 3.0}
      """
    let smaller = """
      {"Dice": 0.6666666666666666, "IoU": 0.5, "TP": 1.0, "FP": 0.0, "FN": 1.0, "TN": 2.0, "n_pred": 1.0, \
      "n_ref": 2.0}
      """
    let means = """
        "mean": {
          "WT": \(larger),
          "TC": \(larger),
          "ET": \(smaller)
        },
        "foreground_mean": {"Dice": 0.79
      """
    #expect(json.contains(means), "\(json)")
  }

  @Test func jsonReadsBackAsTheSame() throws {
    func readBack(_ evaluation: MethodEvaluation) throws -> MethodEvaluation {
      try MethodEvaluation(json: Data(evaluation.json.utf8), file: "a.json", method: "m")
    }
    var evaluation = whole()
    #expect(try readBack(evaluation) == evaluation)
    // Cases that lack something keep what they have.
    var scores = try #require(evaluation.cases["A"])
    scores.uncertainty = [:]
    scores.overlaps = [:]
    evaluation.cases["B"] = scores
    scores[.wt, .score] = 0.1
    evaluation.cases["C"] = scores
    #expect(try readBack(evaluation) == evaluation)
    #expect(evaluation.metrics == [.dice, .sensitivity, .specificity, .hd95])
    #expect(!evaluation.json.contains("foreground_mean"))
  }

  /// Files in the fixed form, without what was added to it.
  @Test func jsonOfTheFixedFormIsRead() throws {
    let region = """
      {"dice": 0.25, "sensitivity": 1, "specificity": 1, "hd95": 2, "uncertainty": {"score": 0.5, \
      "auc": {"dice": 0.5, "ftp": 0.5, "ftn": 0.5}, "filtered_dice": {"25": 0.5, "100": 0.25}}}
      """
    let json = #"{"cases": {"A": {"WT": \#(region), "TC": \#(region), "ET": \#(region)}}}"#
    let read = try MethodEvaluation(json: Data(json.utf8), file: "a.json", method: "m")
    let uncertainty = try #require(read.cases["A"]?.uncertainty[.tc])
    #expect(uncertainty.score == 0.5 && uncertainty.certain == 0.75)
    #expect(
      uncertainty.filteredDice == [.init(threshold: 100, dice: 0.25), .init(threshold: 25, dice: 0.5)])
    #expect(read.metrics == Metric.allCases && read.values(.et, .score) == [0.5])
    #expect(read.cases["A"]?.overlaps.isEmpty == true)
  }

  @Test func oneCaseWritesNullForItsDeviationAndInterval() throws {
    let json = evaluation("m", [0.5]).json
    #expect(json.contains("\"sd\": null") && json.contains("\"ci95\": [null, null]"))
    #expect(try MethodEvaluation(json: Data(json.utf8), file: "a.json", method: "m").cases.count == 1)
  }

  @Test func badJSONIsNamed() {
    #expect(sentence("{") == Fault(.invalid, "a.json is not JSON; expected what evaluate --json writes"))
    #expect(
      sentence("[]") == Fault(.invalid, "a.json has no \"cases\"; expected what evaluate --json writes"))
    #expect(sentence("{\"cases\": {}}") == Fault(.missing, "a.json has no cases"))
    #expect(sentence("{\"cases\": {\"X\": {\"WT\": {}}}}") == Fault(.invalid, "a.json: case X has no TC"))
    #expect(
      sentence(#"{"cases": {"X": {"WT": {"dice": "good"}, "TC": {}, "ET": {}}}}"#)
        == Fault(.invalid, "a.json: dice of WT of case X is not a number"))
    #expect(
      sentence(#"{"cases": {"X": {"WT": {"uncertainty": {"score": [1]}}, "TC": {}, "ET": {}}}}"#)
        == Fault(.invalid, "a.json: uncertainty.score of WT of case X is not a number"))
    #expect(throws: Fault(.missing, "none.json: there is no such file")) {
      try MethodEvaluation.load("none.json")
    }
  }

  @Test func csvIsLikeTheServers() {
    var results = evaluation("m", [0.25, 0.75])
    for id in results.ids {
      for region in Region.allCases { results.cases[id]?[region, .sensitivity] = region == .wt ? 1 : 0.5 }
    }
    #expect(
      results.csv == """
        Label,Dice_ET,Dice_WT,Dice_TC,Sensitivity_ET,Sensitivity_WT,Sensitivity_TC
        A,0.25,0.25,0.25,0.5,1.0,0.5
        B,0.75,0.75,0.75,0.5,1.0,0.5
        Mean,0.5,0.5,0.5,0.5,1.0,0.5
        StdDev,0.3535533905932738,0.3535533905932738,0.3535533905932738,0.0,0.0,0.0
        Median,0.5,0.5,0.5,0.5,1.0,0.5
        25quantile,0.375,0.375,0.375,0.5,1.0,0.5
        75quantile,0.625,0.625,0.625,0.5,1.0,0.5

        """)
  }

  @Test func csvHasEveryMetric() {
    let lines = whole().csv.split(separator: "\n")
    let header = """
      Label,Dice_ET,Dice_WT,Dice_TC,Sensitivity_ET,Sensitivity_WT,Sensitivity_TC,Specificity_ET,Specificity_WT,\
      Specificity_TC,Hausdorff95_ET,Hausdorff95_WT,Hausdorff95_TC,Score_ET,Score_WT,Score_TC
      """
    #expect(lines[0] == header)
    #expect(lines[1].hasSuffix(",1.5,1.5,1.5,0.75,0.75,0.75"))
    #expect(
      lines.map { $0.prefix { $0 != "," } }.dropFirst(2) == [
        "Mean", "StdDev", "Median", "25quantile", "75quantile",
      ])
  }
}
