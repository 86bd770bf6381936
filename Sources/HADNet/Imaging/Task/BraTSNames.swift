import Files

/// What the names of BraTS's cases say of their labels.
package enum BraTSNames {
  /// `PED` of `BraTS-PED-00001-000`, in capitals; nil for names of other kinds.
  static func family(_ caseName: String) -> String? {
    let parts = caseName.split(separator: "-", omittingEmptySubsequences: false)
    guard parts.count > 1, parts[0].lowercased() == "brats" else { return nil }
    return parts[1].uppercased()
  }

  /// The number of a visit, from 100 on after treatment: 101 of `BraTS-GLI-02063-101`.
  static func visit(_ caseName: String) -> Int? {
    let parts = caseName.split(separator: "-")
    return parts.count == 4 ? Int(parts[3]) : nil
  }

  /// The presets whose values a family's files may have, the most likely first.
  private static let presets: [String: [TaskPreset]] = [
    "GLI": [.brats, .brats2024], "SSA": [.africa, .brats], "GOAT": [.brats], "MEN": [.brats],
    "MET": [.metastases, .brats2024], "PED": [.pediatric],
  ]

  /// The presets that may be meant by a family's names; none for a family that is not known.
  static func presets(of family: String) -> [TaskPreset] { presets[family, default: []] }

  /// Cases among others whose names say that their labels are not those of the task's preset, by the family (`BraTS-PED`): in other
  /// diseases' sets the same values mean other things. Where all are of one family, somebody has said the task.
  static func foreign(_ caseNames: [String], _ task: SegmentationTask) -> [String: [String]] {
    guard let preset = task.preset, Set(caseNames.map(family)).count > 1 else { return [:] }
    var foreign: [String: [String]] = [:]
    for name in caseNames {
      guard let family = family(name), !presets(of: family).contains(preset) else { continue }
      foreign["BraTS-\(family)", default: []].append(name)
    }
    return foreign
  }

  /// Why cases of that family, at least one, are not read beside others.
  static func refusal(_ names: [String], of family: String) -> Fault {
    let meaning =
      switch family {
      case "BraTS-PED": "its labels, from 2024 on, are 1 ET, 2 NETC, 3 cyst, 4 oedema"
      case "BraTS-MET": "these are metastases, and from 2025 on label 4 is a resection cavity"
      case "BraTS-GLI", "BraTS-SSA", "BraTS-GOAT", "BraTS-MEN": "its labels are 1 NET, 2 ED, 3 ET"
      default: "what its labels mean is not known"
      }
    let others = names.count > 1 ? " (and \(names.count - 1) more)" : ""
    return Fault(
      .invalid,
      "\(names.first ?? family)\(others): \(family) is not read with the other cases: \(meaning);\n"
        + "give these cases a folder and a task of their own, or names without BraTS- where their labels are the others'"
    )
  }

  /// Says aloud where all names say another task than the one that is taken; nil where they do not.
  static func contradiction(_ caseNames: [String], _ task: SegmentationTask) -> String? {
    guard let preset = task.preset, let name = caseNames.min(), let family = family(name),
      Set(caseNames.map(Self.family)).count == 1, !presets(of: family).contains(preset)
    else { return nil }
    let usual = presets(of: family).first.map { ", by whose names they would be \($0.rawValue)" } ?? ""
    return "labels are read as \(preset.rawValue) in cases of BraTS-\(family)\(usual): \(name) for one"
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
