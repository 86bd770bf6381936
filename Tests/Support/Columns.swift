@testable import Evaluation
@testable import Files
@testable import Methods

/// Tables as studies have them.
extension MethodTable {
  init(_ content: Content, _ evaluations: [MethodEvaluation]) throws(Fault) {
    try self.init(content, evaluations, columns: .methods)
  }
}

extension StatisticsTable {
  init(_ evaluations: [MethodEvaluation]) throws(Fault) { try self.init(evaluations, columns: .methods) }
}

extension SeedTable {
  init(
    _ content: MethodTable.Content, _ runs: [(seed: UInt64, evaluations: [MethodEvaluation])]
  ) throws(Fault) {
    try self.init(content, runs, columns: .methods)
  }
}
