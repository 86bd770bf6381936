import Files
import Foundation
import Imaging
import Terminal

extension MethodEvaluation {
  /// Throws where a case is missing on one side.
  func requireCases(of other: MethodEvaluation) throws(Fault) {
    for (one, another) in [(self, other), (other, self)] {
      if let id = one.ids.first(where: { another.cases[$0] == nil }) {
        throw Fault(.missing, "case \(id) is in \(one.method) but not in \(another.method)")
      }
    }
  }

  /// The regions that evaluations have in common: all of them, in one order. Throws where they differ.
  static func commonRegions(_ evaluations: [MethodEvaluation]) throws(Fault) -> [Region] {
    guard let first = evaluations.first else { return [] }
    if let other = evaluations.first(where: { $0.regions != first.regions }) {
      func names(_ one: MethodEvaluation) -> String { one.regions.map(\.name).joined(separator: ", ") }
      throw Fault(
        .invalid,
        "\(first.method) was scored for \(names(first)), \(other.method) for \(names(other)): evaluate both for one task"
      )
    }
    return first.regions
  }

  /// Names for evaluations by their files: a file's name without extension, or, where it is summary.json or not all
  /// differ, its folder's name; the paths where these do not differ either.
  package static func names(_ paths: [String]) -> [String] {
    let files = paths.map { URL(fileURLWithPath: $0) }
    let names = files.map { $0.deletingPathExtension().lastPathComponent }
    let folders = files.map { $0.deletingLastPathComponent().lastPathComponent }
    let mixed = zip(names, folders).map { $0 == "summary" ? $1 : $0 }
    return [mixed, folders].first { Set($0).count == paths.count } ?? paths
  }
}

/// A method against others on the same cases: paired tests for each region and metric that both have.
package struct Comparison: Sendable {
  /// The method minus one other.
  package struct Row: Equatable, Sendable {
    package let other: String
    package let region: Region
    package let metric: Metric
    /// Of the cases' differences.
    package let differences: Summary
    /// Of the mean difference.
    package let interval: Interval
    package let test: PairedTTest
    package let signedRank: SignedRankTest
    /// The two tests' p values after Holm's correction. All rows of a comparison are one family, for each kind of test.
    package let adjusted, adjustedSignedRank: Double
  }

  package let method: String
  package let regions: [Region]
  package let others: [String]
  package let cases: Int
  /// Which cases; nil where that is not known.
  package let set: EvaluatedSet?
  /// By the other method, then by metric.
  package let rows: [Row]

  /// Throws where a case is missing on one side, no metric is common, or one was measured in different ways.
  package init(
    _ method: MethodEvaluation, _ others: [MethodEvaluation], metrics: [Metric] = Metric.allCases
  ) throws(Fault) {
    let regions = try MethodEvaluation.commonRegions([method] + others)
    self.regions = regions
    var sides: [(other: String, region: Region, metric: Metric, a: [Double], b: [Double])] = []
    for other in others {
      try method.requireCases(of: other)
      if let one = method.settings, let another = other.settings {
        let shared = metrics.filter { method.metrics.contains($0) && other.metrics.contains($0) }
        for (metric, isSame) in [
          (Metric.hd95, one.distance == another.distance), (.score, one.points == another.points),
        ] where shared.contains(metric) && !isSame {
          throw Fault(
            .invalid,
            "\(method.method) and \(other.method) were evaluated with different settings of \(metric.column); evaluate "
              + "both alike")
        }
      }
      for metric in metrics where method.metrics.contains(metric) && other.metrics.contains(metric) {
        for region in regions {
          sides.append(
            (other.method, region, metric, method.values(region, metric), other.values(region, metric)))
        }
      }
    }
    if sides.isEmpty, let other = others.first {
      func names(_ one: MethodEvaluation) -> String {
        one.metrics.isEmpty ? "none" : one.metrics.map(\.rawValue).joined(separator: ", ")
      }
      throw Fault(
        .invalid,
        "no metric is in both: \(method.method) has \(names(method)), \(other.method) has \(names(other))")
    }
    let differences = sides.map { zip($0.a, $0.b).map { $0 - $1 } }
    let intervals = Bootstrap.intervals(ofMeans: differences)
    let tests = sides.map { PairedTTest($0.a, $0.b) }, adjusted = holm(tests.map(\.p))
    let signedRanks = differences.map(SignedRankTest.init), adjustedRanks = holm(signedRanks.map(\.p))
    self.method = method.method
    self.others = others.map(\.method)
    cases = method.cases.count
    set = EvaluatedSet.common([method] + others)
    rows = sides.indices.map { i in
      Row(
        other: sides[i].other, region: sides[i].region, metric: sides[i].metric,
        differences: Summary(differences[i]), interval: intervals[i], test: tests[i],
        signedRank: signedRanks[i], adjusted: adjusted[i], adjustedSignedRank: adjustedRanks[i])
    }
  }
}

// MARK: - Text

extension Comparison {
  /// Tables for the terminal, one for each other method. HD95 in mm, all else as fractions.
  package var text: String {
    let header = [
      "metric", "region", "n", "mean", "95 % interval", "median", "sd", "t", "p", "p Holm", "Wilcoxon p",
      "p Holm",
    ]
    let cells = rows.map { row in
      func number(_ value: Double, _ sign: String = "+") -> String {
        formatted(value, "%\(sign).\(row.metric == .hd95 ? 2 : 4)f")
      }
      return [
        row.metric.rawValue, row.region.name, "\(row.test.n)", number(row.differences.mean),
        "[\(number(row.interval.lower)), \(number(row.interval.upper))]", number(row.differences.median),
        number(row.differences.sd, ""), formatted(row.test.t, "%.3f"),
        row.differences.mean == 0 && row.differences.sd == 0 ? "no difference" : pText(row.test.p),
        pText(row.adjusted), pText(row.signedRank.p), pText(row.adjustedSignedRank),
      ]
    }
    let widths = header.indices.map { i in ([header] + cells).map { $0[i].count }.max() ?? 0 }
    func line(_ row: [String]) -> String {
      row.indices.map { i in
        let space = String(repeating: " ", count: widths[i] - row[i].count)
        // Words to the left, numbers to the right.
        return i < 2 ? row[i] + space : space + row[i]
      }.joined(separator: "  ")
    }
    var lines: [String] = []
    for other in others {
      lines += [
        "\(method) − \(other), \(EvaluatedSet.count(cases, set)), two-sided paired t-tests and Wilcoxon's signed-rank tests",
        "",
      ]
      lines += [line(header)] + zip(rows, cells).filter { $0.0.other == other }.map { line($0.1) } + [""]
    }
    lines += [
      "95 % interval: of the mean, by the bootstrap over the cases (percentiles of \(Bootstrap.resamples) resamples).",
      "p Holm: corrected for the \(rows.count) tests above, each kind of test by itself.",
    ]
    if let caution = set?.caution { lines.append(caution) }
    return lines.joined(separator: "\n") + "\n"
  }

  /// `{"method": …, "cases": …, "set": …, "resamples": …, "family": …, "against": {METHOD: {"WT": {"dice": {"mean": …, "sd": …,
  /// "median": …, "q25": …, "q75": …, "ci95": [low, high], "t_test": {"t": …, "df": …, "p": …, "p_holm": …},
  /// "wilcoxon": {"n": …, "statistic": …, "exact": …, "p": …, "p_holm": …}}, …}, …}, …}}`: numbers of the differences;
  /// an infinite t and NaN are null; "set" only where it is known.
  package var json: String {
    func object(_ members: [(String, String)], _ indent: Int) -> String {
      if members.isEmpty { return "{}" }
      let space = String(repeating: " ", count: indent)
      let lines = members.map { "\(space)  \(jsonString($0.0)): \($0.1)" }
      return "{\n" + lines.joined(separator: ",\n") + "\n\(space)}"
    }
    func numbers(_ row: Row) -> String {
      let summary = row.differences, test = row.test, ranks = row.signedRank
      let values = [
        ("mean", summary.mean), ("sd", summary.sd), ("median", summary.median), ("q25", summary.q25),
        ("q75", summary.q75),
      ]
      return "{" + values.map { "\"\($0.0)\": \(jsonNumber($0.1))" }.joined(separator: ", ")
        + ", \"ci95\": \(jsonPair(row.interval))"
        + ", \"t_test\": {\"t\": \(jsonNumber(test.t)), \"df\": \(test.degreesOfFreedom)"
        + ", \"p\": \(jsonNumber(test.p)), \"p_holm\": \(jsonNumber(row.adjusted))}"
        + ", \"wilcoxon\": {\"n\": \(ranks.n), \"statistic\": \(jsonNumber(ranks.statistic))"
        + ", \"exact\": \(ranks.isExact), \"p\": \(jsonNumber(ranks.p))"
        + ", \"p_holm\": \(jsonNumber(row.adjustedSignedRank))}}"
    }
    let against = others.map { other in
      let rows = rows.filter { $0.other == other }
      let regions = regions.map { region in
        (
          region.name,
          object(rows.filter { $0.region == region }.map { ($0.metric.rawValue, numbers($0)) }, 6)
        )
      }
      return (other, object(regions, 4))
    }
    return object(
      [
        ("method", jsonString(method)), ("cases", "\(cases)"),
      ] + (set.map { [("set", jsonString($0.rawValue))] } ?? []) + [
        ("resamples", "\(Bootstrap.resamples)"), ("family", "\(rows.count)"), ("against", object(against, 2)),
      ], 0) + "\n"
  }
}

/// `[low, high]`.
func jsonPair(_ interval: Interval) -> String {
  "[\(jsonNumber(interval.lower)), \(jsonNumber(interval.upper))]"
}

private func formatted(_ value: Double, _ format: String) -> String {
  if value.isNaN { return "nan" }
  return value.isFinite ? String(format: format, value) : "\(value)"
}

/// A probability in three digits.
private func pText(_ p: Double) -> String {
  if p.isNaN { return "nan" }
  return p != 0 && p < 1e-4 ? String(format: "%.2e", p) : String(format: "%.4f", p)
}
