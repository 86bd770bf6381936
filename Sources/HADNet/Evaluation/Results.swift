import Foundation

/// What is measured of a region of a case.
public enum Metric: String, CaseIterable, Sendable {
  case dice, sensitivity, specificity
  /// The 95th percentile of surface distances, mm.
  case hd95

  /// The name in the challenge server's tables.
  public var column: String {
    switch self {
    case .dice: "Dice"
    case .sensitivity: "Sensitivity"
    case .specificity: "Specificity"
    case .hd95: "Hausdorff95"
    }
  }
}

/// The metrics of one case: fractions, and mm for distances.
public struct CaseScores: Equatable, Sendable {
  public var values: [Region: [Metric: Double]] = [:]

  public init() {}

  /// Dice, sensitivity and specificity.
  public init(_ overlaps: Overlaps) {
    for region in Region.allCases {
      let overlap = overlaps[region]
      values[region] = [
        .dice: overlap.dice, .sensitivity: overlap.sensitivity, .specificity: overlap.specificity,
      ]
    }
  }

  /// nil where it wasn't measured.
  public subscript(region: Region, metric: Metric) -> Double? {
    get { values[region]?[metric] }
    set { values[region, default: [:]][metric] = newValue }
  }
}

/// All cases of one method.
public struct MethodEvaluation: Equatable, Sendable {
  /// What the method is called, e.g. `HAD-Net`.
  public let method: String
  /// By the case's ID.
  public var cases: [String: CaseScores]

  public init(method: String, cases: [String: CaseScores] = [:]) {
    self.method = method
    self.cases = cases
  }

  /// IDs in the order of all output.
  public var ids: [String] { cases.keys.sorted() }

  /// The metrics that every case has; none without cases.
  public var metrics: [Metric] {
    if cases.isEmpty { return [] }
    return Metric.allCases.filter { metric in
      cases.values.allSatisfy { scores in Region.allCases.allSatisfy { scores[$0, metric] != nil } }
    }
  }

  /// The values of a metric, cases by ID.
  public func values(_ region: Region, _ metric: Metric) -> [Double] {
    ids.compactMap { cases[$0]?[region, metric] }
  }

  public func summary(_ region: Region, _ metric: Metric) -> Summary { Summary(values(region, metric)) }
}

// MARK: - JSON

extension MethodEvaluation {
  /// `{"cases": {ID: {"WT": {"dice": …}, …}, …}, "summary": {"WT": {"dice": {"mean": …}, …}, …}}`, one case a line.
  /// Numbers are the shortest that read back as the same; NaN is null.
  public var json: String {
    let metrics = metrics
    func object(_ members: [(String, String)]) -> String {
      "{" + members.map { "\(jsonString($0.0)): \($0.1)" }.joined(separator: ", ") + "}"
    }
    func lines(_ members: [(String, String)]) -> String {
      if members.isEmpty { return "{}" }
      return "{\n" + members.map { "    \(jsonString($0.0)): \($0.1)" }.joined(separator: ",\n") + "\n  }"
    }
    let cases = ids.map { id in
      (
        id,
        object(
          Region.allCases.map { region in
            let scores = self.cases[id]
            return (
              region.rawValue,
              object(metrics.map { ($0.rawValue, jsonNumber(scores?[region, $0] ?? .nan)) })
            )
          })
      )
    }
    let summary = Region.allCases.map { region in
      (
        region.rawValue,
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
          })
      )
    }
    return "{\n  \"cases\": \(lines(cases)),\n  \"summary\": \(lines(summary))\n}\n"
  }

  /// Reads an evaluation's JSON file. The summary is not read: it follows from the cases.
  public static func load(_ path: String, method: String? = nil) throws(Fault) -> MethodEvaluation {
    guard FileManager.default.fileExists(atPath: path) else {
      throw Fault(.missing, "\(path): there is no such file")
    }
    guard let bytes = FileManager.default.contents(atPath: path) else {
      throw Fault(.storage, "\(path) can't be read")
    }
    if bytes.isEmpty { throw Fault(.missing, "\(path) is empty") }
    let name = method ?? URL(fileURLWithPath: path).deletingPathExtension().lastPathComponent
    return try MethodEvaluation(json: bytes, file: path, method: name)
  }

  /// Reads an evaluation's JSON; `file` is its name in errors.
  public init(json: Data, file: String, method: String) throws(Fault) {
    let root: JSONNode
    do {
      root = try JSONDecoder().decode(JSONNode.self, from: json)
    } catch {
      throw Fault(.invalid, "\(file) is not JSON; expected what evaluate --json writes")
    }
    guard let cases = root["cases"]?.members else {
      throw Fault(.invalid, "\(file) has no \"cases\"; expected what evaluate --json writes")
    }
    self.init(method: method)
    for (id, value) in cases.sorted(by: { $0.key < $1.key }) {
      var scores = CaseScores()
      for region in Region.allCases {
        guard let metrics = value[region.rawValue]?.members else {
          throw Fault(.invalid, "\(file): case \(id) has no \(region.rawValue)")
        }
        for metric in Metric.allCases {
          switch metrics[metric.rawValue] {
          case nil: continue
          case .number(let number): scores[region, metric] = number
          case .null: scores[region, metric] = .nan
          default:
            throw Fault(
              .invalid, "\(file): \(metric.rawValue) of \(region.rawValue) of case \(id) is not a number")
          }
        }
      }
      self.cases[id] = scores
    }
    if self.cases.isEmpty { throw Fault(.missing, "\(file) has no cases") }
    if metrics.isEmpty { throw Fault(.invalid, "\(file) has no metric that every case has") }
  }
}

/// Any JSON, as far as evaluations need it. (JSONSerialization reads numbers by way of decimals, which changes
/// their last bit.)
private enum JSONNode: Decodable {
  case null, number(Double), object([String: JSONNode]), other

  init(from decoder: any Decoder) throws {
    if let members = try? [String: JSONNode](from: decoder) {
      self = .object(members)
      return
    }
    let container = try decoder.singleValueContainer()
    if container.decodeNil() {
      self = .null
    } else if let number = try? container.decode(Double.self) {
      self = .number(number)
    } else {
      self = .other
    }
  }

  var members: [String: JSONNode]? {
    if case .object(let members) = self { return members }
    return nil
  }

  subscript(key: String) -> JSONNode? { members?[key] }
}

/// A text as JSON, quotes included.
func jsonString(_ text: String) -> String {
  var result = "\""
  for scalar in text.unicodeScalars {
    switch scalar {
    case "\"": result += "\\\""
    case "\\": result += "\\\\"
    case "\n": result += "\\n"
    case "\t": result += "\\t"
    case "\r": result += "\\r"
    case _ where scalar.value < 0x20:
      let digits = String(scalar.value, radix: 16)
      result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
    default: result.unicodeScalars.append(scalar)
    }
  }
  return result + "\""
}

/// A number as JSON: the shortest digits that read back as the same; what JSON has no number for is null.
func jsonNumber(_ value: Double) -> String { value.isFinite ? "\(value)" : "null" }

// MARK: - CSV

extension MethodEvaluation {
  /// A table like the challenge server's: a line a case, then Mean, StdDev, Median, 25quantile and 75quantile.
  public var csv: String {
    let columns = metrics.flatMap { metric in [Region.et, .wt, .tc].map { (metric: metric, region: $0) } }
    var text = (["Label"] + columns.map { "\($0.metric.column)_\($0.region.rawValue)" }).joined(
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

/// A field of a CSV file, in quotes where it needs them.
func csvField(_ text: String) -> String {
  guard text.contains(where: { ",\"\n\r".contains($0) }) else { return text }
  return "\"" + text.replacing("\"", with: "\"\"") + "\""
}
