import Files
import Foundation
import Imaging

/// What Table 1 says in a cell, in full: every metric of every method over the cases, and the subject against each other
/// method.
package struct StatisticsTable: Sendable {
  /// A method's values of all cases.
  package struct Row: Equatable, Sendable {
    package let metric: Metric
    package let region: Region
    package let method: String
    package let summary: Summary
    /// Of the mean.
    package let interval: Interval
  }

  package let cases: Int
  /// Those of all methods.
  package let regions: [Region]
  /// Which cases; nil where that is not known.
  package let set: EvaluatedSet?
  /// By metric, then by region, methods in the paper's order; a metric that a method has not is left out.
  package let rows: [Row]
  /// The subject against the others, one comparison a metric, so that the tests of a metric are a family. None without
  /// the subject, or for it alone.
  package let comparisons: [(metric: Metric, comparison: Comparison)]

  /// Throws where two methods were not evaluated on the same cases.
  package init(_ evaluations: [MethodEvaluation], columns: TableColumns) throws(Fault) {
    let sorted = columns.arranged(evaluations, by: \.method)
    for other in sorted.dropFirst() { try sorted[0].requireCases(of: other) }
    cases = sorted.first?.cases.count ?? 0
    set = EvaluatedSet.common(sorted)
    let regions = try MethodEvaluation.commonRegions(sorted)
    self.regions = regions
    let metrics = Metric.allCases.filter { metric in sorted.contains { $0.metrics.contains(metric) } }
    var cells: [(metric: Metric, region: Region, method: String, values: [Double])] = []
    for metric in metrics {
      for region in regions {
        for evaluation in sorted where evaluation.metrics.contains(metric) {
          cells.append((metric, region, evaluation.method, evaluation.values(region, metric)))
        }
      }
    }
    rows = zip(cells, Bootstrap.intervals(ofMeans: cells.map(\.values))).map { cell, interval in
      Row(
        metric: cell.metric, region: cell.region, method: cell.method, summary: Summary(cell.values),
        interval: interval)
    }
    var comparisons: [(metric: Metric, comparison: Comparison)] = []
    if let subject = sorted.first(where: { $0.method == columns.subject }) {
      let others = sorted.filter { $0.method != subject.method }
      for metric in metrics {
        let comparison = try Comparison(subject, others, metrics: [metric])
        if !comparison.rows.isEmpty { comparisons.append((metric, comparison)) }
      }
    }
    self.comparisons = comparisons
  }
}

// MARK: - As text

extension StatisticsTable {
  /// One table for people.
  package struct Table: Equatable, Sendable {
    package let title: String
    package let header: [String]
    package let rows: [[String]]
    package let note: String
  }

  /// For each metric the methods' table, then the subject's differences where there are any.
  package var tables: [Table] {
    Metric.allCases.flatMap { metric -> [Table] in
      let rows = rows.filter { $0.metric == metric }
      if rows.isEmpty { return [] }
      let comparison = comparisons.first { $0.metric == metric }?.comparison
      return [table(metric, rows)] + (comparison.map { [table(metric, $0)] } ?? [])
    }
  }

  private func table(_ metric: Metric, _ rows: [Row]) -> Table {
    let unit = Unit(metric)
    return Table(
      title: metric.column + unit.name,
      header: ["Region", "Method", "mean", "sd", "median", "quartiles", "95 % interval"],
      rows: rows.map { row in
        let summary = row.summary
        return [
          row.region.name, row.method, unit.text(summary.mean), unit.text(summary.sd),
          unit.text(summary.median), "\(unit.text(summary.q25)) to \(unit.text(summary.q75))",
          "\(unit.text(row.interval.lower)) to \(unit.text(row.interval.upper))",
        ]
      }, note: "")
  }

  private func table(_ metric: Metric, _ comparison: Comparison) -> Table {
    let unit = Unit(metric)
    return Table(
      title: "\(metric.column)\(unit.name): \(comparison.method) minus each other method",
      header: [
        "Region", "Minus", "mean", "95 % interval", "median", "t", "p", "p Holm", "Wilcoxon p", "p Holm",
      ],
      rows: byRegion(comparison).map { row in
        [
          row.region.name, row.other, unit.text(row.differences.mean, "+"),
          "\(unit.text(row.interval.lower, "+")) to \(unit.text(row.interval.upper, "+"))",
          unit.text(row.differences.median, "+"), number(row.test.t, "%.2f"), pText(row.test.p),
          pText(row.adjusted), pText(row.signedRank.p), pText(row.adjustedSignedRank),
        ]
      },
      note: "Two-sided paired t-tests and Wilcoxon's signed-rank tests; p Holm is corrected for the "
        + "\(comparison.rows.count) tests of the table, each kind of test by itself."
        + (set == .validation ? " Of validation cases: optimistic." : ""))
  }

  private func byRegion(_ comparison: Comparison) -> [Comparison.Row] {
    regions.flatMap { region in comparison.rows.filter { $0.region == region } }
  }

  /// What holds for all tables.
  package var note: String {
    (set?.caution.map { $0 + " " } ?? "")
      + "Over \(EvaluatedSet.count(cases, set)); sd with n − 1. 95 % intervals are of the mean, by the bootstrap over "
      + "the cases (percentiles of \(Bootstrap.resamples) resamples)."
  }

  package var markdown: String {
    var text = "# Statistics\n\n\(note)\n"
    for table in tables {
      text += "\n## \(table.title)\n\n" + markdownTable(table.header, table.rows)
      if !table.note.isEmpty { text += "\n\(table.note)\n" }
    }
    return text
  }

  /// One line a metric, region and method, and one a difference of the subject to another method, which `Minus` names; all
  /// digits, fractions and mm.
  package var csv: String {
    let columns = ["Mean", "StdDev", "Median", "25quantile", "75quantile", "Lower95", "Upper95"]
    let tests = ["t", "df", "p", "pHolm", "W", "pWilcoxon", "pWilcoxonHolm"]
    func digits(_ values: [Double]) -> [String] { values.map { $0.isNaN ? "nan" : "\($0)" } }
    func numbers(_ summary: Summary, _ interval: Interval) -> [String] {
      digits([
        summary.mean, summary.sd, summary.median, summary.q25, summary.q75, interval.lower, interval.upper,
      ])
    }
    var lines = [["Metric", EvaluatedSet.corner(set), "Method", "Minus"] + columns + tests]
    for row in rows {
      let empty = tests.map { _ in "" }
      lines.append(
        [row.metric.column, row.region.name, row.method, ""] + numbers(row.summary, row.interval) + empty)
    }
    for (metric, comparison) in comparisons {
      for row in byRegion(comparison) {
        let test = row.test, ranks = row.signedRank
        lines.append(
          [metric.column, row.region.name, comparison.method, row.other]
            + numbers(row.differences, row.interval)
            + digits([test.t]) + ["\(test.degreesOfFreedom)"]
            + digits([test.p, row.adjusted, ranks.statistic, ranks.p, row.adjustedSignedRank]))
      }
    }
    return lines.map { $0.map(csvField).joined(separator: ",") + "\n" }.joined()
  }
}

/// How a metric is written for people: overlaps in percent, as the paper has them, distances in mm, scores as they are.
private struct Unit {
  let name: String
  private let factor: Double, digits: Int

  init(_ metric: Metric) {
    if [.dice, .sensitivity, .specificity].contains(metric) {
      (name, factor, digits) = (", percent", 100, 2)
    } else if metric == .hd95 {
      (name, factor, digits) = (", mm", 1, 2)
    } else {
      (name, factor, digits) = ("", 1, 4)
    }
  }

  func text(_ value: Double, _ sign: String = "") -> String { number(value * factor, "%\(sign).\(digits)f") }
}

private func number(_ value: Double, _ format: String) -> String {
  value.isNaN ? "–" : value.isInfinite ? (value < 0 ? "−∞" : "∞") : String(format: format, value)
}

private func pText(_ p: Double) -> String { p < 0.001 ? "< 0.001" : number(p, "%.3f") }
