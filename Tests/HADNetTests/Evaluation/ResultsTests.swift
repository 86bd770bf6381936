import Foundation
import HADNet
import Testing

/// A method whose Dice in all regions are `dice`, for cases A, B, C, …
func evaluation(_ method: String, _ dice: [Double]) -> MethodEvaluation {
  var result = MethodEvaluation(method: method)
  for (i, value) in dice.enumerated() {
    var scores = CaseScores()
    for region in Region.allCases { scores[region, .dice] = value }
    result.cases[String(UnicodeScalar(UInt8(65 + i)))] = scores
  }
  return result
}

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

  @Test func jsonReadsBackAsTheSame() throws {
    let golden = try Golden.load()
    var evaluation = MethodEvaluation(method: "m")
    for (id, files) in golden.cases.mapValues(\.files) {
      let truth = try Golden.labels(#require(files["truth"]))
      let prediction = try Golden.labels(#require(files["seg"]))
      evaluation.cases[id] = CaseScores(Overlaps(truth: truth, prediction: prediction))
    }
    let json = evaluation.json
    #expect(try MethodEvaluation(json: Data(json.utf8), file: "a.json", method: "m") == evaluation)
    for region in Region.allCases {
      for metric in [Metric.dice, .sensitivity, .specificity] {
        let expected = try #require(golden.summary[region.rawValue]?[metric.rawValue])
        let found = evaluation.summary(region, metric)
        #expect(abs(found.mean - expected.mean) <= 1e-12 && abs(found.sd - expected.sd) <= 1e-12)
        #expect(abs(found.median - expected.median) <= 1e-12)
      }
    }
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
}
