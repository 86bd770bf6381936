import Imaging

extension EvaluatedSet {
  /// That of evaluations which stand in one table; nil where it is not known of any.
  package static func common(_ evaluations: [MethodEvaluation]) -> EvaluatedSet? {
    let sets = evaluations.compactMap { $0.settings?.set }
    return sets.contains(.validation) ? .validation : sets.first
  }

  /// `8 test cases`, `1 validation case`, and `3 cases` where the set is not known.
  package static func count(_ cases: Int, _ set: EvaluatedSet?) -> String {
    "\(cases) \(set.map { "\($0) " } ?? "")case\(cases == 1 ? "" : "s")"
  }

  /// The first field of a CSV table's header.
  static func corner(_ set: EvaluatedSet?) -> String {
    set == .validation ? "Region (validation cases)" : "Region"
  }

  /// What stands in a picture of such cases, which may be looked at without the page around it; nil for test cases.
  package var pictured: String? {
    switch self {
    case .test: nil
    case .validation: "Validation cases: they chose the checkpoints, so that this is optimistic."
    case .training: "Training cases: the networks have learnt from them, so that this is far too good."
    }
  }

  /// What a reader of validation cases' scores must know; nil for others.
  package var caution: String? {
    switch self {
    case .test: nil
    case .validation:
      "These validation cases chose the checkpoints, so that all of this is optimistic, the p values too."
    case .training: "The networks have learnt from these training cases, so that all of this is far too good."
    }
  }
}
