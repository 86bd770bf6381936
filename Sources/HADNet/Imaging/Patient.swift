import Foundation

/// Whose a case is. A patient may have several: visits of a study, time points before and after treatment. They are
/// alike, so they must not lie in training and test both.
package enum Patient {
  /// The patient that a case's name tells: `BraTS-GLI-00002` of `BraTS-GLI-00002-001`, `sub-01` of `sub-01_ses-2`,
  /// `UPENN-GBM-00003` of `UPENN-GBM-00003_11`, `UCSF-PDGM-0004` of `UCSF-PDGM-0004_FU003d`; else the case itself.
  ///
  /// `folders`: names of the folders that the case lies in, below the data set's; BIDS names a patient there.
  package static func of(caseName name: String, folders: [String] = []) -> String {
    let lower = name.lowercased()
    if lower.hasPrefix("brats-") {
      let parts = name.split(separator: "-", omittingEmptySubsequences: false)
      if parts.count == 4, isNumber(parts[2]), isNumber(parts[3]), parts[3].utf8.count == 3 {
        return parts[0...2].joined(separator: "-")
      }
    } else if lower.hasPrefix("upenn-gbm-") {
      let parts = name.split(separator: "_")
      if parts.count > 1, isNumber(parts[1]), parts[1].utf8.count == 2 { return String(parts[0]) }
    } else if lower.hasPrefix("ucsf-pdgm-") {
      if let visit = name.range(of: "_FU", options: .caseInsensitive) {
        return String(name[..<visit.lowerBound])
      }
    } else if lower.hasPrefix("sub-"), let end = name.firstIndex(of: "_") {
      return String(name[..<end])
    }
    return folders.first { $0.lowercased().hasPrefix("sub-") } ?? name
  }

  private static func isNumber(_ text: Substring) -> Bool {
    !text.isEmpty && text.utf8.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
  }
}
