import Foundation
import Learning

/// Looks at the epochs for a discriminator that no longer helps.
enum DiscriminatorWatch {
  /// So many epochs in a row are told once, then each time there are so many more.
  static let patience = 10
  /// A discriminator that guesses is right in half of the cases.
  private static let guessing = 0.55

  /// What is wrong with the last epochs, if they make the count full.
  @Sendable static func warning(_ epochs: [StepValues]) -> String? {
    func count(_ holds: (StepValues) -> Bool) -> Int { epochs.reversed().prefix(while: holds).count }
    guard let accuracy = epochs.last?[.accuracy] else { return nil }
    let percent = String(format: "%.0f", 100 * accuracy)
    let saturated = count { $0[.updated] == 0 }
    if saturated > 0, saturated % patience == 0 {
      return
        "the discriminator is right in \(percent) % and has learnt nothing for \(saturated) epochs: it tells "
        + "student from teacher so easily that its gradient says little; a student trained longer before, or a lower "
        + "hadnet.gate, helps"
    }
    let collapsed = count { $0[.accuracy] <= guessing && $0[.updated] > 0.5 }
    if collapsed > 0, collapsed % patience == 0 {
      return
        "the discriminator is right in \(percent) %, no more than a guess, for \(collapsed) epochs: what it teaches "
        + "is noise; a smaller hadnet.lambda or a higher hadnet.rate may help"
    }
    return nil
  }
}
