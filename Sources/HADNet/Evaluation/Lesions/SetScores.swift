import Files
import Foundation
import Imaging
import Terminal

/// What a metric set says of one region of one case, as an evaluation keeps it: numbers with their names.
package struct SetScores: Codable, Equatable, Sendable {
  /// In the order of output. NaN where a value is not defined; an infinite distance is `InstanceScores.penalty`, as in means.
  package let names: [String]
  package let values: [Double]
  /// Of each part of the truth: numbers, and 0 or 1 for what is so or not.
  package let lesions: [[String: Double]]

  package init(names: [String], values: [Double], lesions: [[String: Double]]) {
    self.names = names
    self.values = values
    self.lesions = lesions
  }

  /// nil for a set that was not asked for.
  init?(_ scores: RegionScores, _ set: MetricSet) {
    let values = scores.values(set)
    if values.isEmpty { return nil }
    let lesions: [[String: Double]]
    switch set {
    case .brats2020: lesions = []
    case .brats2023:
      lesions = (scores.lesions?.lesions ?? []).map {
        ["volume": $0.volume, "found": $0.isFound ? 1 : 0, "dice": $0.dice, "hd95": $0.hd95]
      }
    case .brats2026:
      lesions = (scores.instances?.lesions ?? []).map { lesion in
        var own = [
          "voxels": Double(lesion.voxels), "volume": lesion.volume, "matched": lesion.match == nil ? 0 : 1,
        ]
        if let match = lesion.match {
          own.merge(["dsc": match.dsc, "nsd": match.nsd, "hd95": match.hd95]) { $1 }
        }
        return own
      }
    }
    self.init(names: values.map(\.name), values: values.map { SetScores.bounded($0.value) }, lesions: lesions)
  }

  private static func bounded(_ value: Double) -> Double {
    value == .infinity ? InstanceScores.penalty : value
  }

  /// The value of a name; nil where there is none.
  package subscript(name: String) -> Double? { names.firstIndex(of: name).map { values[$0] } }

  /// `{"num_tp": 1, …, "lesions": […]}`: whole numbers are counts.
  var json: String {
    let own = zip(names, values).map { "\(jsonString($0)): \(SetScores.text($1, of: $0))" }
    let parts = lesions.map { lesion in
      "{"
        + lesion.sorted { $0.key < $1.key }.map { name, value in
          let flags = ["found", "matched"]
          return
            "\(jsonString(name)): \(flags.contains(name) ? "\(value != 0)" : SetScores.text(value, of: name))"
        }.joined(separator: ", ") + "}"
    }
    return "{" + (own + ["\"lesions\": [\(parts.joined(separator: ", "))]"]).joined(separator: ", ") + "}"
  }

  private static let counts: Set = [
    "num_tp", "num_fp", "num_fn", "n_ref", "n_pred", "tp", "fp", "fn", "voxels",
  ]

  private static func text(_ value: Double, of name: String) -> String {
    if counts.contains(name), let count = Int(exactly: value) { return "\(count)" }
    return RegionScores.jsonText(value)
  }
}

/// The volumes of a region, mm³.
package struct RegionVolumes: Codable, Equatable, Sendable {
  package let truth, prediction: Double

  package init(truth: Double, prediction: Double) {
    self.truth = truth
    self.prediction = prediction
  }
}

/// What metric sets say of a case, of the regions and of single classes beside them.
package struct CaseSets: Codable, Equatable, Sendable {
  /// By the set's name, then the region's.
  private var scores: [String: [String: SetScores]] = [:]
  /// Of the task's region of detection.
  package var volumes: RegionVolumes?

  package init() {}

  package subscript(set: MetricSet, region: Region) -> SetScores? {
    get { scores[set.rawValue]?[region.name] }
    set { scores[set.rawValue, default: [:]][region.name] = newValue }
  }

  /// Several cases' as JSON, to be sent from rank to rank: numbers come back as they were, NaN too.
  package static func json(_ cases: [String: CaseSets]) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    encoder.nonConformingFloatEncodingStrategy = .convertToString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    return String(decoding: try encoder.encode(cases), as: UTF8.self)
  }

  package static func cases(json: String) throws -> [String: CaseSets] {
    let decoder = JSONDecoder()
    decoder.nonConformingFloatDecodingStrategy = .convertFromString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    return try decoder.decode([String: CaseSets].self, from: Data(json.utf8))
  }
}

/// What was asked for beside the scores that are always there.
package struct AskedSets: Equatable, Sendable {
  /// In the order of `MetricSet`.
  package let sets: [MetricSet]
  /// What is scored: the task's regions, then single classes.
  package let scored: [Region]
  /// The region of detection and of volumes.
  package let detect: Region

  package init(_ sets: [MetricSet], _ task: SegmentationTask) {
    self.sets = MetricSet.allCases.filter(sets.contains)
    scored = task.scored
    detect = task.detect
  }
}

extension MethodEvaluation {
  /// `"detection": …, "volumes": …`, over all cases that have volumes.
  func patientsJSON(_ asked: AskedSets) -> String {
    let volumes = ids.compactMap { cases[$0]?.sets?.volumes }.map {
      (truth: $0.truth, prediction: $0.prediction)
    }
    let found = PatientDetection(volumes), agreement = VolumeAgreement(volumes)
    func object(_ members: [(String, String)]) -> String {
      "{" + members.map { "\"\($0)\": \($1)" }.joined(separator: ", ") + "}"
    }
    let detection = object([
      ("region", jsonString(asked.detect.name)), ("tp", "\(found.tp)"), ("fp", "\(found.fp)"),
      ("fn", "\(found.fn)"),
      ("tn", "\(found.tn)"), ("sensitivity", jsonNumber(found.sensitivity)),
      ("specificity", jsonNumber(found.specificity)),
      ("balanced_accuracy", jsonNumber(found.balancedAccuracy)),
    ])
    let all = object([
      ("region", jsonString(asked.detect.name)), ("r2", jsonNumber(agreement.r2)),
      ("r2_identity", jsonNumber(agreement.r2Identity)),
      ("bias_ml", jsonNumber(agreement.bias)), ("lower_ml", jsonNumber(agreement.lower)),
      ("upper_ml", jsonNumber(agreement.upper)),
    ])
    return ",\n  \"detection\": \(detection),\n  \"volumes\": \(all)"
  }

  /// A table of means and standard deviations over the cases (n − 1) for each set but BraTS 2020's, whose table is always there, and what
  /// detection and volumes tell.
  package var setsText: String {
    guard let asked else { return "" }
    var text = ""
    for set in asked.sets where set != .brats2020 {
      let names = MetricSet.shown[set] ?? []
      let rows = asked.scored.map { region in
        [region.name]
          + names.map { name in
            let known = ids.compactMap { cases[$0]?.sets?[set, region]?[name] }.filter { !$0.isNaN }
            let digits = name.contains("hd95") ? 2 : 4
            if known.isEmpty { return "–" }
            return fixed(mean(known), digits)
              + (known.count > 1 ? " ± " + fixed(standardDeviation(known), digits) : "")
          }
      }
      let lines = [[set.rawValue] + names, ["---"] + names.map { _ in "---:" }] + rows
      text +=
        "\n" + aligned(lines.map { "| " + $0.joined(separator: " | ") + " |" }.joined(separator: "\n")) + "\n"
    }
    let volumes = ids.compactMap { cases[$0]?.sets?.volumes }.map {
      (truth: $0.truth, prediction: $0.prediction)
    }
    let found = PatientDetection(volumes), agreement = VolumeAgreement(volumes)
    func share(_ value: Double) -> String { value.isNaN ? "–" : fixed(value, 3) }
    text +=
      "\n\(asked.detect.name) in a case: \(found.tp) found, \(found.fn) missed, \(found.fp) only predicted, \(found.tn) in neither; "
      + "sensitivity \(share(found.sensitivity)), specificity \(share(found.specificity)), balanced accuracy "
      + "\(share(found.balancedAccuracy))\n"
      + "\(asked.detect.name) in mL: bias \(share(agreement.bias)), limits of agreement \(share(agreement.lower)) to "
      + "\(share(agreement.upper)), R² \(share(agreement.r2)), R² of equality \(share(agreement.r2Identity))\n"
    return text
  }
}

private func fixed(_ value: Double, _ digits: Int) -> String { String(format: "%.\(digits)f", value) }

extension MetricSet {
  /// What a table shows of a set.
  static let shown: [MetricSet: [String]] = [
    .brats2023: ["lesion_dice", "lesion_hd95", "legacy_dice", "legacy_hd95", "num_tp", "num_fp", "num_fn"],
    .brats2026: ["f1", "lesion_dsc", "lesion_nsd", "lesion_hd95", "global_dsc", "global_nsd", "global_hd95"],
  ]
}
