@testable import Evaluation
@testable import Imaging

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
