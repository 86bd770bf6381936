import Files

extension Split {
  /// A fold tests, the next one validates, and another is left to train on.
  package static let leastFolds = 3
  /// More than any study has time for.
  package static let mostFolds = 1000

  /// One fold of a cross-validation: its cases test, those of the next fold choose the model (the first's after the last),
  /// the others train. So no case that is scored has chosen a checkpoint, and over all folds each is scored once.
  ///
  /// Patients of each grade in random order (HGG, LGG, unknown, one grade after the other, drawn as for a split at
  /// random); patient number i goes to fold i mod `count`, with all cases.
  ///
  /// Throws `.recipe` for more folds than patients.
  package static func fold(_ fold: Int, of count: Int, _ cases: [CaseFiles], seed: UInt64) throws -> Split {
    precondition(count >= leastFolds && (0..<count).contains(fold), "fold \(fold) of \(count)")
    let deck = Deck(cases, seed: seed)
    guard deck.patients >= count else {
      throw Fault(
        .recipe,
        "data.split asks for \(count) folds, and there \(deck.patients == 1 ? "is" : "are") only "
          + "\(deck.patients.named("patient")); a fold has one at least")
    }
    var parts = [[String]](repeating: [], count: count)
    for (i, ids) in deck.order.enumerated() { parts[i % count] += ids }
    return try Split(folds: parts, fold)
  }

  /// Of the cases of each fold: those of one test, those of the next validate.
  init(folds parts: [[String]], _ fold: Int) throws {
    let next = (fold + 1) % parts.count
    try self.init(
      train: parts.indices.filter { $0 != fold && $0 != next }.flatMap { parts[$0] },
      validation: parts[next], test: parts[fold])
  }
}
