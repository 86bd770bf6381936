import Compute
import Files

/// An MRI sequence, in the order of the networks' channels.
package enum Modality: String, CaseIterable, Codable, CodingKeyRepresentable, Sendable {
  case flair, t1ce, t1, t2

  /// What is there without contrast agent, and all that a student sees: FLAIR, T1, T2.
  package static let student: [Modality] = [.flair, .t1, .t2]

  /// The channel of `PreparedCase.images` that holds this sequence: 0 FLAIR, 1 T1ce, 2 T1, 3 T2.
  package var channel: Int {
    switch self {
    case .flair: 0
    case .t1ce: 1
    case .t1: 2
    case .t2: 3
    }
  }

  /// The sequences that one step of training sees, in channel order; the others are dropped: a number of them
  /// uniform in 1...4, then that many at random without replacement. Each is there in 62.5 % of the steps.
  ///
  /// Source: U-HVED's application.py, `set_iteration_update`.
  package static func present(random: inout Philox) -> [Modality] {
    let count = 1 + random.below(allCases.count)
    return random.permutation(allCases.count).prefix(count).sorted().map { allCases[$0] }
  }
}

/// Which value stands for enhancing tumour in a data set's label files: 4 up to BraTS 2021, 3 from 2023 on.
/// 0 background, 1 NET and 2 ED are common to all.
package enum LabelConvention: String, Codable, Sendable {
  case brats2019, brats2023

  /// The convention that a case's name tells: names from `BraTS-` on (BraTS-GLI-00000-000) are those of 2023.
  package init(caseName: String) {
    self = caseName.lowercased().hasPrefix("brats-") ? .brats2023 : .brats2019
  }

  /// Those of some names that begin with `BraTS-` and are not known to be glioma, by the family (`BraTS-PED`): in other diseases'
  /// sets the same values mean other things.
  static func foreign(_ caseNames: [String]) -> [String: [String]] {
    var foreign: [String: [String]] = [:]
    for name in caseNames {
      let parts = name.split(separator: "-", omittingEmptySubsequences: false)
      guard parts.count > 1, parts[0].lowercased() == "brats" else { continue }
      if !["GLI", "SSA", "GOAT"].contains(parts[1].uppercased()) {
        foreign["BraTS-\(parts[1])", default: []].append(name)
      }
    }
    return foreign
  }

  /// Why cases of that family, at least one, are not read.
  static func refusal(
    _ names: [String], of family: String,
    advice: String =
      "leave these cases out, or, where the labels are 1 NET, 2 ED and 4 ET, give the cases names without "
      + "BraTS-"
  ) -> Fault {
    let meaning =
      switch family.uppercased() {
      case "BRATS-PED": "its labels, from 2024 on, are 1 ET, 2 NET, 3 cyst, 4 oedema"
      case "BRATS-MET": "these are metastases, and from 2025 on label 4 is a resection cavity"
      case "BRATS-MEN": "these are meningiomas"
      default: "what its labels mean is not known"
      }
    let others = names.count > 1 ? " (and \(names.count - 1) more)" : ""
    return Fault(
      .invalid,
      "\(names.first ?? family)\(others): \(family) is not read as glioma: \(meaning);\n\(advice)")
  }

  /// Refuses to score cases whose labels their names do not tell.
  package static func refuseForeign(_ caseNames: [String]) throws(Fault) {
    let foreign = foreign(caseNames)
    guard let family = foreign.keys.sorted().first else { return }
    throw refusal(
      foreign[family] ?? [], of: family,
      advice: "say with --labels what they are: 2019 (1 NET, 2 ED, 4 ET) or 2023 (1 NET, 2 ED, 3 ET)")
  }

  /// What is said of a value that isn't one of the convention's, in a file of that name.
  ///
  /// `option`: the option that says another convention of the file, if one does.
  func refusal(of value: Float, in name: String, option: String? = nil) -> String {
    let other: LabelConvention = self == .brats2019 ? .brats2023 : .brats2019
    if let option, value == Float(other.enhancing) {
      return
        "label \(other.enhancing) is none of \(values); if it is ET, as \(other == .brats2019 ? "up to 2021" : "from 2023 on"), "
        + "\(option) \(other == .brats2019 ? "2019" : "2023") reads it so"
    }
    if self == .brats2023, value == 4, name.lowercased().hasPrefix("brats-") {
      return
        "label 4 is the resection cavity (RC) of BraTS's sets of treated patients (2024 on), which can't be served "
        + "yet; leave such cases out, or set 4 to 0 in their truths"
    }
    let shown = Int(exactly: value).map { $0.magnitude < 1_000_000 ? "\($0)" : "\(value)" } ?? "\(value)"
    return "label \(shown) is none of this data set's, which are \(values)"
  }

  /// The file value of enhancing tumour (class 3).
  package var enhancing: UInt8 { self == .brats2019 ? 4 : 3 }

  /// The file's value of a class index in 0...3.
  package func value(of classIndex: UInt8) -> UInt8 { classIndex == 3 ? enhancing : classIndex }

  /// `0, 1, 2 and 4`, for messages.
  var values: String { "0, 1, 2 and \(enhancing)" }
}
