import Files

/// What the names of BraTS's cases say of their labels.
package enum BraTSNames {
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
}

extension LabelValues {
  /// The values that BraTS's gliomas have: ET is 4 up to 2021, 3 from 2023 on.
  package static let upTo2021 = TaskPreset.brats.task.values(caseName: "")
  package static let from2023 = TaskPreset.brats.task.values(caseName: "BraTS-")

  /// What is said of a value that isn't one of these, in a truth or a prediction.
  ///
  /// `option`: the option that says other values of the file, if one does.
  func refusal(of value: Float, in file: NIfTIImage, option: String? = nil) -> Fault {
    Fault(.invalid, "\(file.header.path): \(refusal(of: value, in: file.header.path, option: option))")
  }

  private func refusal(of value: Float, in path: String, option: String?) -> String {
    let name = path.split(separator: "/").last.map(String.init) ?? ""
    let isOld = self == .upTo2021, isNew = self == .from2023
    if let option, isOld && value == 3 || isNew && value == 4 {
      return
        "label \(Int(value)) is none of \(words); if it is ET, as \(isNew ? "up to 2021" : "from 2023 on"), "
        + "\(option) \(isNew ? "2019" : "2023") reads it so"
    }
    if isNew, value == 4, name.lowercased().hasPrefix("brats-") {
      return
        "label 4 is the resection cavity (RC) of BraTS's sets of treated patients (2024 on): in a recipe say "
        + "task: brats2024 or task: {preset: brats, read_as: {4: background}}, to a command --task brats2024"
    }
    let shown = Int(exactly: value).map { $0.magnitude < 1_000_000 ? "\($0)" : "\(value)" } ?? "\(value)"
    return "label \(shown) is none of this data set's, which are \(words)"
  }
}
