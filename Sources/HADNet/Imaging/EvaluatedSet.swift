/// Which of a split's cases an evaluation is of.
package enum EvaluatedSet: String, Codable, Sendable {
  /// Those that chose each stage's checkpoint; they are scored where the split has no test cases.
  case validation
  case test
  /// Those that the networks have learnt from: only `evaluate --split FILE:train` scores them.
  case training = "train"
}
