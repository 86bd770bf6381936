import Foundation

/// Two methods on the same cases: a paired t-test for each region and metric that both have.
public struct Comparison: Sendable {
  /// One test.
  public struct Row: Equatable, Sendable {
    public let region: Region
    public let metric: Metric
    public let test: PairedTTest
  }

  public let a, b: String
  public let cases: Int
  public let rows: [Row]

  /// Throws where a case is missing on one side.
  public init(_ a: MethodEvaluation, _ b: MethodEvaluation) throws(Fault) {
    for (one, other) in [(a, b), (b, a)] {
      if let id = one.ids.first(where: { other.cases[$0] == nil }) {
        throw Fault(.missing, "case \(id) is in \(one.method) but not in \(other.method)")
      }
    }
    self.a = a.method
    self.b = b.method
    cases = a.cases.count
    let both = a.metrics.filter { b.metrics.contains($0) }
    rows = both.flatMap { metric in
      Region.allCases.map { region in
        Row(
          region: region, metric: metric,
          test: PairedTTest(a.values(region, metric), b.values(region, metric)))
      }
    }
  }

  /// A table for the terminal. HD95 in mm, all else as fractions.
  public var text: String {
    var lines = ["\(a) − \(b), \(cases) cases, two-sided paired t-tests", ""]
    let header = ["metric", "region", "n", "mean difference", "sd", "t", "df", "p"]
    let cells = rows.map { row in
      let test = row.test
      return [
        row.metric.rawValue, row.region.rawValue, "\(test.n)", signed(test.meanDifference, "%+.4f"),
        signed(test.sdDifference, "%.4f"), signed(test.t, "%.3f"), "\(test.degreesOfFreedom)",
        test.meanDifference == 0 && test.sdDifference == 0 ? "no difference" : pText(test.p),
      ]
    }
    let widths = header.indices.map { i in ([header] + cells).map { $0[i].count }.max() ?? 0 }
    for row in [header] + cells {
      let padded = row.indices.map { i in
        let space = String(repeating: " ", count: widths[i] - row[i].count)
        // Words to the left, numbers to the right.
        return i < 2 ? row[i] + space : space + row[i]
      }
      lines.append(padded.joined(separator: "  "))
    }
    return lines.joined(separator: "\n") + "\n"
  }
}

private func signed(_ value: Double, _ format: String) -> String {
  value.isFinite ? String(format: format, value) : "\(value)"
}

/// A probability in three digits.
private func pText(_ p: Double) -> String {
  if p.isNaN { return "nan" }
  return p != 0 && p < 1e-4 ? String(format: "%.2e", p) : String(format: "%.4f", p)
}
