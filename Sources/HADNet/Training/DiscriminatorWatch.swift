import Foundation

/// Looks at a stage's history for a discriminator that no longer helps.
enum DiscriminatorWatch {
  /// So many epochs in a row are told once, then each time there are so many more.
  static let patience = 10
  /// A discriminator that guesses is right in half of the cases.
  private static let guessing = 0.55

  /// What is wrong with the last epochs, if they make the count full.
  static func warning(_ history: [EpochRecord]) -> String? {
    func count(_ holds: (EpochRecord) -> Bool) -> Int { history.reversed().prefix(while: holds).count }
    guard let last = history.last?.terms, let accuracy = last["accuracy"] else { return nil }
    let percent = String(format: "%.0f", 100 * accuracy)
    let saturated = count { $0.terms["updated"] == 0 }
    if saturated > 0, saturated % patience == 0 {
      return
        "the discriminator is right in \(percent) % and has learnt nothing for \(saturated) epochs: it tells "
        + "student from teacher so easily that its gradient says little; a student trained longer before, or a lower "
        + "hadnet.gate, helps"
    }
    let collapsed = count { ($0.terms["accuracy"] ?? 1) <= guessing && ($0.terms["updated"] ?? 0) > 0.5 }
    if collapsed > 0, collapsed % patience == 0 {
      return
        "the discriminator is right in \(percent) %, no more than a guess, for \(collapsed) epochs: what it teaches "
        + "is noise; a smaller hadnet.lambda or a higher hadnet.rate may help"
    }
    return nil
  }
}
