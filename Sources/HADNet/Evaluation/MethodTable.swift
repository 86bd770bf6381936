import Files
import Foundation
import Imaging

/// The paper's Tables 1 and 2: a metric of WT, TC and ET, a column a method.
///
/// The subject's cell (HAD-Net's) has a star where it is better than *every* other method that sees no more than it: `**`
/// if all those paired t-tests have p < 0.001, `*` if all have p < 0.05. The paper stars where HAD-Net differs, which for
/// its figures is the same; a star for being worse would be misread. The teacher sees T1ce, so it takes no part in the
/// stars.
package struct MethodTable: Sendable {
  /// What a table is of.
  package enum Content: Sendable {
    /// Table 1.
    case dice
    /// Table 2: the challenge's score of the uncertainties.
    case score

    package var metric: Metric { self == .dice ? .dice : .score }
    /// The name of its files.
    package var name: String { self == .dice ? "table1" : "table2" }

    /// What the numbers are.
    package var caption: String { self == .dice ? "Dice in percent" : "Score of the uncertainties (0 to 1)" }

    /// `66.7` percent, or `0.608`.
    func text(_ value: Double) -> String {
      self == .dice ? String(format: "%.1f", value * 100) : String(format: "%.3f", value)
    }

    /// `66.7 ± 19.7`, the first value with a sign if `signed`; without a deviation of one value.
    func text(_ mean: Double, sd: Double, signed: Bool = false) -> String {
      let plus = signed && !mean.isNaN && mean.sign == .plus ? "+" : ""
      return plus + text(mean) + (sd.isNaN ? "" : " ± " + text(sd))
    }
  }

  /// The subject against one other method.
  package struct Test: Equatable, Sendable {
    package let method: String
    package let region: Region
    package let test: PairedTTest
  }

  package let content: Content
  package let columns: TableColumns
  /// Those that there are, in the paper's order; others follow as they came.
  package let methods: [String]
  /// Those of all methods.
  package let regions: [Region]
  /// In the order of `methods` for each region: `66.7 ± 19.7**`, percent.
  package let cells: [Region: [String]]
  package let tests: [Test]
  /// What each method's score would be if it claimed certainty everywhere; of scores alone.
  package let certain: [Region: [String]]
  /// How many cases; the methods have the same.
  package let cases: Int
  /// Which cases; nil where that is not known.
  package let set: EvaluatedSet?

  /// A score's table has the methods that have scores.
  ///
  /// Throws where two methods were not evaluated on the same cases.
  package init(
    _ content: Content, _ evaluations: [MethodEvaluation], columns: TableColumns
  ) throws(Fault) {
    let metric = content.metric
    let sorted = columns.arranged(evaluations, by: \.method).filter {
      content == .dice || $0.metrics.contains(metric)
    }
    self.content = content
    self.columns = columns
    methods = sorted.map(\.method)
    cases = sorted.first?.cases.count ?? 0
    set = EvaluatedSet.common(sorted)
    let regions = try MethodEvaluation.commonRegions(sorted)
    self.regions = regions
    var tests: [Test] = [], cells: [Region: [String]] = [:]
    let subject = sorted.first { $0.method == columns.subject }
    if let reference = subject ?? sorted.first {
      for other in sorted where other.method != reference.method {
        try reference.requireCases(of: other)
        guard subject != nil, reference.metrics.contains(metric), other.metrics.contains(metric) else {
          continue
        }
        for region in regions {
          let test = PairedTTest(reference.values(region, metric), other.values(region, metric))
          tests.append(Test(method: other.method, region: region, test: test))
        }
      }
    }
    for region in regions {
      let stars = MethodTable.stars(
        tests.filter { $0.region == region && !columns.informed.contains($0.method) }.map(\.test))
      cells[region] = sorted.map { evaluation in
        MethodTable.text(content, evaluation.summary(region, metric))
          + (evaluation.method == columns.subject ? stars : "")
      }
    }
    self.tests = tests
    self.cells = cells
    var certain: [Region: [String]] = [:]
    if content == .score {
      for region in regions {
        certain[region] = sorted.map { evaluation in
          MethodTable.text(
            content, Summary(evaluation.ids.compactMap { evaluation.cases[$0]?.uncertainty[region]?.certain })
          )
        }
      }
    }
    self.certain = certain
  }

  private static func text(_ content: Content, _ summary: Summary) -> String {
    content.text(summary.mean, sd: summary.sd)
  }

  private static func stars(_ tests: [PairedTTest]) -> String {
    guard !tests.isEmpty, tests.allSatisfy({ $0.meanDifference > 0 }) else { return "" }
    if tests.allSatisfy({ $0.p < 0.001 }) { return "**" }
    return tests.allSatisfy { $0.p < 0.05 } ? "*" : ""
  }

  /// What the stars mean, and over how many cases.
  package var note: String {
    var base = "\(content.caption), mean ± standard deviation over \(EvaluatedSet.count(cases, set))."
    if let caution = set?.caution { base += " " + caution }
    base += columns.remarks(on: methods)
    if !certain.isEmpty {
      base +=
        " Certain: the score of a map that is 0 everywhere, (Dice + 2) / 3; the score compares methods with the same kind "
        + "of map, and does not say that a map is worth having."
    }
    guard !tests.isEmpty else { return base }
    return base
      + " * p < 0.05, ** p < 0.001: \(columns.subject) better than each other method that sees no \(columns.unseen) "
      + "(two-sided paired t-tests, not corrected for multiple tests)."
  }

  /// The subject's difference to each other method: a line a method, `+5.5 (p < 0.001)` a region.
  package var differences: [(method: String, cells: [String])] {
    methods.filter { method in tests.contains { $0.method == method } }.map { method in
      (
        method,
        regions.map { region in
          tests.first { $0.method == method && $0.region == region }.map { difference($0.test) } ?? ""
        }
      )
    }
  }

  /// The regions' lines, and those of certainty.
  package var rows: [[String]] {
    regions.map { [$0.name] + (cells[$0] ?? []) }
      + regions.filter { certain[$0] != nil }.map {
        ["\($0.name) certain"] + (certain[$0] ?? [])
      }
  }

  package var markdown: String {
    // A star would start emphasis.
    func plain(_ text: String) -> String { text.replacing("*", with: "\\*") }
    var text = markdownTable([""] + methods, rows.map { $0.map(plain) })
    text += "\n" + plain(note) + "\n"
    if !tests.isEmpty {
      text += "\n"
      text += markdownTable(
        ["\(columns.subject) minus"] + regions.map(\.name),
        differences.map { [$0.method] + $0.cells })
    }
    return text
  }

  package var csv: String {
    ([[EvaluatedSet.corner(set)] + methods] + rows).map { $0.map(csvField).joined(separator: ",") + "\n" }
      .joined()
  }

  private func difference(_ test: PairedTTest) -> String {
    let points = content.text(test.meanDifference, sd: .nan, signed: true)
    if test.p.isNaN { return test.n < 2 ? points : "no difference" }
    return points + (test.p < 0.001 ? " (p < 0.001)" : String(format: " (p = %.3f)", test.p))
  }
}

/// A table in Markdown, a line a row.
func markdownTable(_ header: [String], _ rows: [[String]]) -> String {
  "|" + header.map { $0.isEmpty ? " |" : " \($0) |" }.joined() + "\n|"
    + header.map { _ in " --- |" }.joined() + "\n"
    + rows.map { "|" + $0.map { " \($0) |" }.joined() + "\n" }.joined()
}
