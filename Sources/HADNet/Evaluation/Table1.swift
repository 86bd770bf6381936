import Foundation

/// The paper's Table 1: Dice of WT, TC and ET, a column a method.
///
/// HAD-Net's cell has a star where it is better than *every* other method that sees no T1ce: `**` if all those paired
/// t-tests have p < 0.001, `*` if all have p < 0.05. The paper stars where HAD-Net differs, which for its figures is
/// the same; a star for being worse would be misread. The teacher sees T1ce, so it takes no part in the stars.
public struct Table1: Sendable {
  /// The paper's columns.
  public static let order = ["Teacher", "Student", "HAD-Net", "AD-Net", "KD-Net+", "U-HeMIS", "U-HVED"]

  /// In the paper's order; methods that the paper has not follow as they came.
  static func arranged<T>(_ items: [T], by method: (T) -> String) -> [T] {
    order.compactMap { name in items.first { method($0) == name } }
      + items.filter { !order.contains(method($0)) }
  }

  /// HAD-Net against one other method.
  public struct Test: Equatable, Sendable {
    public let method: String
    public let region: Region
    public let test: PairedTTest
  }

  /// Those that there are, in the paper's order; others follow as they came.
  public let methods: [String]
  /// In the order of `methods` for each region: `66.7 ± 19.7**`, percent.
  public let cells: [Region: [String]]
  public let tests: [Test]
  /// How many cases; the methods have the same.
  public let cases: Int

  /// Throws where two methods were not evaluated on the same cases.
  public init(_ evaluations: [MethodEvaluation]) throws(Fault) {
    let sorted = Table1.arranged(evaluations, by: \.method)
    methods = sorted.map(\.method)
    cases = sorted.first?.cases.count ?? 0
    var tests: [Test] = [], cells: [Region: [String]] = [:]
    let hadnet = sorted.first { $0.method == "HAD-Net" }
    if let reference = hadnet ?? sorted.first {
      for other in sorted where other.method != reference.method {
        try reference.requireCases(of: other)
        guard hadnet != nil, reference.metrics.contains(.dice), other.metrics.contains(.dice) else {
          continue
        }
        for region in Region.allCases {
          let test = PairedTTest(reference.values(region, .dice), other.values(region, .dice))
          tests.append(Test(method: other.method, region: region, test: test))
        }
      }
    }
    for region in Region.allCases {
      let stars = Table1.stars(tests.filter { $0.region == region && $0.method != "Teacher" }.map(\.test))
      cells[region] = sorted.map { evaluation in
        let summary = evaluation.summary(region, .dice)
        return percent(summary) + (evaluation.method == "HAD-Net" ? stars : "")
      }
    }
    self.tests = tests
    self.cells = cells
  }

  private static func stars(_ tests: [PairedTTest]) -> String {
    guard !tests.isEmpty, tests.allSatisfy({ $0.meanDifference > 0 }) else { return "" }
    if tests.allSatisfy({ $0.p < 0.001 }) { return "**" }
    return tests.allSatisfy { $0.p < 0.05 } ? "*" : ""
  }

  /// What the control is, which the paper does not have.
  static let control = " Control: the student trained on as long as HAD-Net, without the adversarial term."

  /// What the stars mean, and over how many cases.
  public var note: String {
    var base = "Dice in percent, mean ± standard deviation over \(cases) \(cases == 1 ? "case" : "cases")."
    if methods.contains("Control") { base += Table1.control }
    guard !tests.isEmpty else { return base }
    return base
      + " * p < 0.05, ** p < 0.001: HAD-Net better than each other method that sees no T1ce "
      + "(two-sided paired t-tests, not corrected for multiple tests)."
  }

  /// HAD-Net's difference to each other method: a line a method, `+5.5 (p < 0.001)` a region, percent points.
  public var differences: [(method: String, cells: [String])] {
    methods.filter { method in tests.contains { $0.method == method } }.map { method in
      (
        method,
        Region.allCases.map { region in
          tests.first { $0.method == method && $0.region == region }.map { difference($0.test) } ?? ""
        }
      )
    }
  }

  public var markdown: String {
    // A star would start emphasis.
    func plain(_ text: String) -> String { text.replacing("*", with: "\\*") }
    var text = markdownTable(
      [""] + methods, Region.allCases.map { [$0.rawValue] + (cells[$0] ?? []).map(plain) })
    text += "\n" + plain(note) + "\n"
    if !tests.isEmpty {
      text += "\n"
      text += markdownTable(
        ["HAD-Net minus"] + Region.allCases.map(\.rawValue), differences.map { [$0.method] + $0.cells })
    }
    return text
  }

  public var csv: String {
    var lines = [(["Region"] + methods).map(csvField).joined(separator: ",")]
    for region in Region.allCases {
      lines.append(([region.rawValue] + (cells[region] ?? [])).map(csvField).joined(separator: ","))
    }
    return lines.joined(separator: "\n") + "\n"
  }
}

/// A table in Markdown, a line a row.
func markdownTable(_ header: [String], _ rows: [[String]]) -> String {
  "|" + header.map { $0.isEmpty ? " |" : " \($0) |" }.joined() + "\n|"
    + header.map { _ in " --- |" }.joined() + "\n"
    + rows.map { "|" + $0.map { " \($0) |" }.joined() + "\n" }.joined()
}

/// `66.7 ± 19.7`, percent.
func percent(_ summary: Summary) -> String {
  let mean = String(format: "%.1f", summary.mean * 100)
  return summary.sd.isNaN ? mean : mean + " ± " + String(format: "%.1f", summary.sd * 100)
}

private func difference(_ test: PairedTTest) -> String {
  let points = String(format: "%+.1f", test.meanDifference * 100)
  if test.p.isNaN { return test.n < 2 ? points : "no difference" }
  return points + (test.p < 0.001 ? " (p < 0.001)" : String(format: " (p = %.3f)", test.p))
}
