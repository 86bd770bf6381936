import Files
import Foundation
import Imaging
import Terminal

/// What is measured of a region of a case.
package enum Metric: String, CaseIterable, Sendable {
  case dice, sensitivity, specificity
  /// The 95th percentile of surface distances, mm.
  case hd95
  /// The challenge's score of a map of uncertainties.
  case score

  /// The name in the challenge server's tables.
  package var column: String {
    switch self {
    case .dice: "Dice"
    case .sensitivity: "Sensitivity"
    case .specificity: "Specificity"
    case .hd95: "Hausdorff95"
    case .score: "Score"
    }
  }
}

/// The metrics of one case: fractions, and mm for distances.
package struct CaseScores: Equatable, Sendable {
  package var values: [Region: [Metric: Double]] = [:]
  /// The voxels behind the fractions.
  package var overlaps: [Region: Overlap] = [:]
  /// Where there are maps of uncertainties.
  package var uncertainty: [Region: UncertaintyScore] = [:]
  /// What metric sets say, where they were asked for.
  package var sets: CaseSets?

  package init() {}

  /// Dice, sensitivity and specificity.
  package init(_ overlaps: Overlaps) {
    for (region, overlap) in zip(overlaps.regions, overlaps.values) {
      values[region] = [
        .dice: overlap.dice, .sensitivity: overlap.sensitivity, .specificity: overlap.specificity,
      ]
      self.overlaps[region] = overlap
    }
  }

  /// nil where it wasn't measured.
  package subscript(region: Region, metric: Metric) -> Double? {
    get { values[region]?[metric] ?? (metric == .score ? uncertainty[region]?.score : nil) }
    set { values[region, default: [:]][metric] = newValue }
  }
}

/// How what can be measured in several ways was measured.
package struct MetricSettings: Equatable, Sendable {
  package var distance: SurfaceDistance
  /// Steps of the uncertainty score's thresholds; nil: there is no score.
  package var points: Int?
  /// nil where the cases are of no known split.
  package var set: EvaluatedSet?

  fileprivate var json: String {
    let points = points.map { ", \"points\": \($0)" } ?? ""
    let set = set.map { ", \"set\": \"\($0.rawValue)\"" } ?? ""
    return "{\"hd95_direction\": \"\(distance.direction.rawValue)\", \"hd95_empty\": "
      + "\"\(distance.empty.rawValue)\"\(points)\(set)}"
  }
}

/// All cases of one method.
package struct MethodEvaluation: Equatable, Sendable {
  /// What the method is called, e.g. `HAD-Net`.
  package let method: String
  /// nil where they are not known.
  package var settings: MetricSettings?
  /// What every case has scores of, in the order of tables.
  package let regions: [Region]
  /// By the case's ID.
  package var cases: [String: CaseScores]
  /// nil where no metric set was asked for.
  package var asked: AskedSets?

  package init(
    method: String, regions: [Region], settings: MetricSettings? = nil, cases: [String: CaseScores] = [:],
    asked: AskedSets? = nil
  ) {
    self.method = method
    self.regions = regions
    self.asked = asked
    self.settings = settings
    self.cases = cases
  }

  /// IDs in the order of all output.
  package var ids: [String] { cases.keys.sorted() }

  /// The metrics that every case has; none without cases.
  package var metrics: [Metric] {
    if cases.isEmpty { return [] }
    return Metric.allCases.filter { metric in
      cases.values.allSatisfy { scores in regions.allSatisfy { scores[$0, metric] != nil } }
    }
  }

  /// The values of a metric, cases by ID.
  package func values(_ region: Region, _ metric: Metric) -> [Double] {
    ids.compactMap { cases[$0]?[region, metric] }
  }

  /// A metric over all cases in a few numbers.
  package func summary(_ region: Region, _ metric: Metric) -> Summary { Summary(values(region, metric)) }
}

// MARK: - JSON

extension MethodEvaluation {
  /// `{"settings": …, "regions": …, "cases": {ID: {"WT": {"dice": …}, …}, …}, "summary": {"WT": {"dice": {"mean": …}, …}, …}}`, one case a line.
  /// Numbers are the shortest that read back as the same; NaN is null.
  ///
  /// Where voxels were counted each region of a case also has `TP`, `FP`, `FN`, `TN`, `n_pred` and `n_ref`, and
  /// `mean` and `foreground_mean` follow, as in nnU-Net's summary.json. There as here Dice and IoU are means over the
  /// cases, but two empty masks count as 1, where nnU-Net leaves them out.
  package var json: String {
    let metrics = metrics
    func object(_ members: [(String, String)]) -> String {
      "{" + members.map { "\(jsonString($0.0)): \($0.1)" }.joined(separator: ", ") + "}"
    }
    func lines(_ members: [(String, String)]) -> String {
      if members.isEmpty { return "{}" }
      return "{\n" + members.map { "    \(jsonString($0.0)): \($0.1)" }.joined(separator: ",\n") + "\n  }"
    }
    func uncertainty(_ score: UncertaintyScore) -> String {
      let areas = score.areas
      return object([
        ("score", jsonNumber(score.score)), ("certain", jsonNumber(score.certain)),
        (
          "auc",
          object([
            ("dice", jsonNumber(areas.dice)), ("ftp", jsonNumber(areas.ftp)), ("ftn", jsonNumber(areas.ftn)),
          ])
        ),
        (
          "filtered_dice",
          object(score.filteredDice.map { (thresholdText($0.threshold), jsonNumber($0.dice)) })
        ),
      ])
    }
    func members(_ scores: CaseScores, _ region: Region) -> [(String, String)] {
      var members = Metric.allCases.filter { $0 != .score }.compactMap { metric in
        scores[region, metric].map { (metric.rawValue, jsonNumber($0)) }
      }
      members += (scores.overlaps[region]?.counts ?? []).map { ($0.name, "\($0.voxels)") }
      if let score = scores.uncertainty[region] {
        members.append(("uncertainty", uncertainty(score)))
      } else if let score = scores[region, .score] {
        members.append(("uncertainty", object([("score", jsonNumber(score))])))
      }
      return members + sets(scores, region)
    }
    /// Those that were asked for; whole regions of 2020 are there already, single classes are not.
    func sets(_ scores: CaseScores, _ region: Region) -> [(String, String)] {
      (asked?.sets ?? []).flatMap { set -> [(String, String)] in
        guard let own = scores.sets?[set, region] else { return [] }
        if set != .brats2020 { return [(set.rawValue, own.json)] }
        return regions.contains(region) ? [] : zip(own.names, own.values).map { ($0, jsonNumber($1)) }
      }
    }
    let singles = asked?.scored.filter { !regions.contains($0) } ?? []
    let cases = self.cases.sorted { $0.key < $1.key }.map { id, scores in
      var own = regions.map { ($0.name, object(members(scores, $0))) }
      own += singles.map { ($0.name, object(sets(scores, $0))) }
      if let volumes = scores.sets?.volumes {
        own.append(
          (
            "volumes",
            object([
              ("truth_mm3", jsonNumber(volumes.truth)), ("prediction_mm3", jsonNumber(volumes.prediction)),
            ])
          ))
      }
      return (id, object(own))
    }
    func spread(_ values: [Double]) -> String {
      let summary = Summary(values.filter { !$0.isNaN })
      return object([
        ("mean", jsonNumber(summary.mean)), ("sd", jsonNumber(summary.sd)),
        ("median", jsonNumber(summary.median)),
        ("q25", jsonNumber(summary.q25)), ("q75", jsonNumber(summary.q75)),
      ])
    }
    func summaries(_ region: Region) -> [(String, String)] {
      (asked?.sets ?? []).filter { $0 != .brats2020 }.map { set in
        let all = ids.compactMap { self.cases[$0]?.sets?[set, region] }
        return (
          set.rawValue,
          object((all.first?.names ?? []).map { name in (name, spread(all.compactMap { $0[name] })) })
        )
      }
    }
    let summary =
      regions.map { region in
        (
          region.name,
          object(
            metrics.map { metric in
              let summary = self.summary(region, metric)
              return (
                metric.rawValue,
                object([
                  ("mean", jsonNumber(summary.mean)), ("sd", jsonNumber(summary.sd)),
                  ("median", jsonNumber(summary.median)), ("q25", jsonNumber(summary.q25)),
                  ("q75", jsonNumber(summary.q75)), ("ci95", jsonPair(summary.interval)),
                ])
              )
            } + summaries(region))
        )
      } + singles.map { ($0.name, object(summaries($0))) }
    let means = overlapMeans
    let nnunet =
      means.isEmpty
      ? ""
      : ",\n  \"mean\": "
        + lines(zip(regions, means).map { ($0.name, object($1.map { ($0, jsonNumber($1)) })) })
        + ",\n  \"foreground_mean\": "
        + object(
          means[0].indices.map { i in (means[0][i].name, jsonNumber(mean(means.map { $0[i].value }))) })
    let settings = settings.map { "  \"settings\": \($0.json),\n" } ?? ""
    let parts = regions.map { region in
      "{\"name\": \(jsonString(region.name)), \"classes\": \(region.classes)}"
    }
    let named = "  \"regions\": [\(parts.joined(separator: ", "))],\n"
    return
      "{\n\(settings)\(named)  \"cases\": \(lines(cases)),\n  \"summary\": \(lines(summary))\(nnunet)\(asked.map(patientsJSON) ?? "")\n}\n"
  }

  /// For each region the means over the cases of what nnU-Net tells of overlaps, under its names; none where a case
  /// has no counts.
  private var overlapMeans: [[(name: String, value: Double)]] {
    let all = regions.map { region in ids.compactMap { cases[$0]?.overlaps[region] } }
    guard !cases.isEmpty, all.allSatisfy({ $0.count == cases.count }) else { return [] }
    return all.map { overlaps in
      [("Dice", mean(overlaps.map(\.dice))), ("IoU", mean(overlaps.map(\.iou)))]
        + overlaps[0].counts.indices.map { i in
          (overlaps[0].counts[i].name, mean(overlaps.map { Double($0.counts[i].voxels) }))
        }
    }
  }

  /// Reads an evaluation's JSON file. The summary is not read: it follows from the cases.
  ///
  /// Throws `.missing` where it is missing or empty, `.storage` where it can't be read, `.invalid` where it is none.
  package static func load(_ path: String, method: String? = nil) throws(Fault) -> MethodEvaluation {
    guard FileManager.default.fileExists(atPath: path) else {
      throw Fault(.missing, "\(path): there is no such file")
    }
    if AtomicFile.isFolder(path) { throw Fault(.missing, "\(path) is a folder; a file of scores is needed") }
    let bytes = Data(try InputFile.bytes(path))
    if bytes.isEmpty { throw Fault(.missing, "\(path) is empty") }
    let name = method ?? URL(fileURLWithPath: path).deletingPathExtension().lastPathComponent
    return try MethodEvaluation(json: bytes, file: path, method: name)
  }

  /// Reads an evaluation's JSON; `file` is its name in errors. Throws `.invalid` where it is none.
  package init(json: Data, file: String, method: String) throws(Fault) {
    let root: JSONNode
    do {
      root = try JSONDecoder().decode(JSONNode.self, from: json)
    } catch {
      throw Fault(.invalid, "\(file) is not JSON; expected what evaluate --json writes")
    }
    guard let cases = root["cases"]?.members else {
      throw Fault(.invalid, "\(file) has no \"cases\"; expected what evaluate --json writes")
    }
    self.init(method: method, regions: try MethodEvaluation.regions(root, file))
    if case .text(let direction) = root["settings"]?["hd95_direction"],
      case .text(let empty) = root["settings"]?["hd95_empty"],
      let direction = SurfaceDistance.Direction(rawValue: direction),
      let empty = SurfaceDistance.Empty(rawValue: empty)
    {
      var points: Int?
      if case .number(let number) = root["settings"]?["points"] { points = Int(exactly: number) }
      settings = MetricSettings(distance: .init(direction: direction, empty: empty), points: points)
      if case .text(let name) = root["settings"]?["set"] { settings?.set = EvaluatedSet(rawValue: name) }
    }
    for (id, value) in cases.sorted(by: { $0.key < $1.key }) {
      var scores = CaseScores()
      for region in regions {
        guard let metrics = value[region.name]?.members else {
          throw Fault(.invalid, "\(file): case \(id) has no \(region.name)")
        }
        let node = RegionNode(members: metrics, place: "\(region.name) of case \(id)", file: file)
        for metric in Metric.allCases where metric != .score {
          scores[region, metric] = try node.number(metric.rawValue)
        }
        scores.overlaps[region] = try node.overlap()
        if let uncertainty = try node.uncertainty() {
          scores.uncertainty[region] = uncertainty
        } else {
          scores[region, .score] = try node.number("uncertainty", "score")
        }
      }
      self.cases[id] = scores
    }
    if self.cases.isEmpty { throw Fault(.missing, "\(file) has no cases") }
    if metrics.isEmpty { throw Fault(.invalid, "\(file) has no metric that every case has") }
  }
}

extension MethodEvaluation {
  /// The regions that a file names; of one that names none, those of BraTS.
  private static func regions(_ root: JSONNode, _ file: String) throws(Fault) -> [Region] {
    guard let list = root["regions"] else { return TaskPreset.brats.task.regions }
    let regions = list.elements?.compactMap { node -> Region? in
      guard case .text(let name) = node["name"], let elements = node["classes"]?.elements else { return nil }
      let classes = elements.compactMap { element -> UInt8? in
        if case .number(let number) = element { return UInt8(exactly: number) }
        return nil
      }
      return classes.count == elements.count ? Region(name, classes) : nil
    }
    guard let regions, !regions.isEmpty, regions.count == list.elements?.count else {
      throw Fault(.invalid, "\(file): its \"regions\" are not as evaluate --json writes them")
    }
    return regions
  }
}

/// What a JSON says of one region of one case.
private struct RegionNode {
  let members: [String: JSONNode]
  /// `WT of case X`, for messages.
  let place: String
  let file: String

  /// The number at the end of a path of names; nil where it is not there.
  func number(_ path: String...) throws(Fault) -> Double? {
    switch path.dropFirst().reduce(members[path[0]], { $0?[$1] }) {
    case nil: return nil
    case .number(let number): return number
    case .null: return .nan
    default: throw Fault(.invalid, "\(file): \(path.joined(separator: ".")) of \(place) is not a number")
    }
  }

  func overlap() throws(Fault) -> Overlap? {
    var counts: [Int] = []
    for name in Overlap.names.prefix(4) {
      guard let count = try number(name), let voxels = Int(exactly: count) else { continue }
      // Far more than any volume has: sums of them stay numbers.
      guard (0...1 << 48).contains(voxels) else {
        throw Fault(.invalid, "\(file): \(name) of \(place) is no count of voxels")
      }
      counts.append(voxels)
    }
    guard counts.count == 4 else { return nil }
    return Overlap(tp: counts[0], fp: counts[1], fn: counts[2], tn: counts[3])
  }

  /// nil where there is no more than a score.
  func uncertainty() throws(Fault) -> UncertaintyScore? {
    guard let score = try number("uncertainty", "score"), let dice = try number("uncertainty", "auc", "dice"),
      let ftp = try number("uncertainty", "auc", "ftp"), let ftn = try number("uncertainty", "auc", "ftn")
    else { return nil }
    var filtered: [UncertaintyScore.Filtered] = []
    for name in (members["uncertainty"]?["filtered_dice"]?.members ?? [:]).keys {
      if let threshold = Double(name), let dice = try number("uncertainty", "filtered_dice", name) {
        filtered.append(.init(threshold: threshold, dice: dice))
      }
    }
    let certain = try number("uncertainty", "certain"), whole = try number("dice") ?? .nan
    return UncertaintyScore(
      score: score, certain: certain ?? (whole + 2) / 3, areas: .init(dice: dice, ftp: ftp, ftn: ftn),
      filteredDice: filtered.sorted { $0.threshold > $1.threshold })
  }
}

/// Any JSON, as far as evaluations need it. (JSONSerialization reads numbers by way of decimals, which changes
/// their last bit.)
private enum JSONNode: Decodable {
  case null, number(Double), text(String), list([JSONNode]), object([String: JSONNode]), other

  init(from decoder: any Decoder) throws {
    if let members = try? [String: JSONNode](from: decoder) {
      self = .object(members)
      return
    }
    if let elements = try? [JSONNode](from: decoder) {
      self = .list(elements)
      return
    }
    let container = try decoder.singleValueContainer()
    if container.decodeNil() {
      self = .null
    } else if let number = try? container.decode(Double.self) {
      self = .number(number)
    } else if let text = try? container.decode(String.self) {
      self = .text(text)
    } else {
      self = .other
    }
  }

  var elements: [JSONNode]? {
    if case .list(let elements) = self { return elements }
    return nil
  }

  var members: [String: JSONNode]? {
    if case .object(let members) = self { return members }
    return nil
  }

  subscript(key: String) -> JSONNode? { members?[key] }
}

/// `75`, `12.5`: a threshold as a key.
func thresholdText(_ threshold: Double) -> String {
  Int(exactly: threshold).map(String.init) ?? "\(threshold)"
}

// MARK: - CSV

extension MethodEvaluation {
  /// The challenge server has its own order of BraTS's regions.
  private var csvRegions: [Region] { regions == [.wt, .tc, .et] ? [.et, .wt, .tc] : regions }

  /// A table like the challenge server's: a line a case, then Mean, StdDev, Median, 25quantile and 75quantile.
  package var csv: String {
    let columns = metrics.flatMap { metric in csvRegions.map { (metric: metric, region: $0) } }
    var text = (["Label"] + columns.map { csvField("\($0.metric.column)_\($0.region.name)") }).joined(
      separator: ",")
    text += "\n"
    func line(_ label: String, _ values: [Double]) {
      text += ([csvField(label)] + values.map { "\($0)" }).joined(separator: ",") + "\n"
    }
    for id in ids { line(id, columns.map { cases[id]?[$0.region, $0.metric] ?? .nan }) }
    let summaries = columns.map { summary($0.region, $0.metric) }
    line("Mean", summaries.map(\.mean))
    line("StdDev", summaries.map(\.sd))
    line("Median", summaries.map(\.median))
    line("25quantile", summaries.map(\.q25))
    line("75quantile", summaries.map(\.q75))
    return text
  }
}
