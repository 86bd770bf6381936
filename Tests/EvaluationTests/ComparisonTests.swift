import Foundation
import Testing

@testable import Evaluation
@testable import Files
@testable import TestSupport
@testable import Imaging

@Suite struct ComparisonTests {
  let one = evaluation("one", [0.5, 0.75, 0.5])
  let two = evaluation("two", [0.25, 0.25, 0.5])

  @Test func aCaseOnOneSideOnlyIsMissing() {
    #expect(throws: Fault(.missing, "case C is in two but not in one")) {
      try Comparison(evaluation("one", [0, 1]), [evaluation("two", [0, 1, 1])])
    }
    #expect(throws: Fault(.missing, "case C is in one but not in three")) {
      try Comparison(one, [two, evaluation("three", [0, 1])])
    }
  }

  @Test func textIsATable() throws {
    #expect(
      try Comparison(one, [two]).text == """
        one − two, 3 cases, two-sided paired t-tests and Wilcoxon's signed-rank tests

        metric  region  n     mean       95 % interval   median      sd      t       p  p Holm  Wilcoxon p  p Holm
        dice    WT      3  +0.2500  [+0.0000, +0.5000]  +0.2500  0.2500  1.732  0.2254  0.6762      0.5000  1.0000
        dice    TC      3  +0.2500  [+0.0000, +0.5000]  +0.2500  0.2500  1.732  0.2254  0.6762      0.5000  1.0000
        dice    ET      3  +0.2500  [+0.0000, +0.5000]  +0.2500  0.2500  1.732  0.2254  0.6762      0.5000  1.0000

        95 % interval: of the mean, by the bootstrap over the cases (percentiles of 10000 resamples).
        p Holm: corrected for the 3 tests above, each kind of test by itself.

        """)
    let same = try Comparison(evaluation("one", [0.5, 1]), [evaluation("two", [0.5, 1])]).text
    #expect(same.contains("0.0000  nan  no difference     nan         nan     nan\n"), "\(same)")
  }

  @Test func everyOtherMethodHasATableAndAllAreOneFamily() throws {
    let three = evaluation("three", [0.125, 0.5, 0.25])
    let comparison = try Comparison(one, [two, three])
    #expect(comparison.others == ["two", "three"] && comparison.rows.count == 6)
    for (i, row) in comparison.rows.enumerated() {
      let other = i < 3 ? two : three
      #expect(row.other == other.method && row.region == Region.allCases[i % 3])
      #expect(row.test == PairedTTest(one.values(.wt, .dice), other.values(.wt, .dice)))
    }
    #expect(comparison.rows.map(\.adjusted) == holm(comparison.rows.map(\.test.p)))
    #expect(comparison.rows.map(\.adjustedSignedRank) == holm(comparison.rows.map(\.signedRank.p)))
    #expect(comparison.rows[3].test.p < 0.1 && comparison.rows[3].adjusted == 6 * comparison.rows[3].test.p)
    let tables = comparison.text.components(separatedBy: "\n\n")
    #expect(tables.count == 5)
    #expect(tables[2].hasPrefix("one − three, 3 cases"), "\(comparison.text)")
    #expect(tables[4].contains("corrected for the 6 tests"))
  }

  @Test func metricsOfOneSideAreLeftOut() throws {
    var more = one
    for id in more.ids { for region in Region.allCases { more.cases[id]?[region, .sensitivity] = 1 } }
    #expect(try Comparison(more, [two]).rows.map(\.metric) == [.dice, .dice, .dice])
    #expect(try Comparison(more, [more], metrics: [.sensitivity]).rows.map(\.metric).count == 3)
  }

  @Test func linesFitATerminal() throws {
    var a = MethodEvaluation(method: "a"), b = MethodEvaluation(method: "b")
    for i in 0..<20 {
      var (x, y) = (CaseScores(), CaseScores())
      for region in Region.allCases {
        for metric in Metric.allCases {
          let scale = metric == .hd95 ? 373.128664 : 1
          (x[region, metric], y[region, metric]) = (Double(i * i) / 400 * scale, i % 3 == 0 ? scale : 0)
        }
      }
      (a.cases["case \(i)"], b.cases["case \(i)"]) = (x, y)
    }
    let lines = try Comparison(a, [b]).text.split(separator: "\n")
    #expect(lines.count == 4 + 3 * Metric.allCases.count)
    #expect(lines.allSatisfy { $0.count <= 132 }, "\(lines.map(\.count))")
  }

  @Test func jsonHasAllNumbers() throws {
    let comparison = try Comparison(one, [two])
    #expect(
      comparison.json == """
        {
          "method": "one",
          "cases": 3,
          "resamples": 10000,
          "family": 3,
          "against": {
            "two": {
              "WT": {
                "dice": {"mean": 0.25, "sd": 0.25, "median": 0.25, "q25": 0.125, "q75": 0.375, "ci95": [0.0, 0.5], \
        "t_test": {"t": 1.732050807568877, "df": 2, "p": 0.22540333075851657, "p_holm": 0.6762099922755497}, \
        "wilcoxon": {"n": 2, "statistic": 0.0, "exact": true, "p": 0.5, "p_holm": 1.0}}
              },
              "TC": {
                "dice": {"mean": 0.25, "sd": 0.25, "median": 0.25, "q25": 0.125, "q75": 0.375, "ci95": [0.0, 0.5], \
        "t_test": {"t": 1.732050807568877, "df": 2, "p": 0.22540333075851657, "p_holm": 0.6762099922755497}, \
        "wilcoxon": {"n": 2, "statistic": 0.0, "exact": true, "p": 0.5, "p_holm": 1.0}}
              },
              "ET": {
                "dice": {"mean": 0.25, "sd": 0.25, "median": 0.25, "q25": 0.125, "q75": 0.375, "ci95": [0.0, 0.5], \
        "t_test": {"t": 1.732050807568877, "df": 2, "p": 0.22540333075851657, "p_holm": 0.6762099922755497}, \
        "wilcoxon": {"n": 2, "statistic": 0.0, "exact": true, "p": 0.5, "p_holm": 1.0}}
              }
            }
          }
        }

        """)
    let same = try Comparison(one, [evaluation("same", [0.5, 0.75, 0.5])]).json
    #expect(same.contains("\"t\": null, \"df\": 2, \"p\": null, \"p_holm\": null}"), "\(same)")
    #expect((try JSONSerialization.jsonObject(with: Data(same.utf8)) as? [String: Any])?.count == 5)
  }

  @Test func namesAreTheFilesOrTheirFolders() {
    #expect(MethodEvaluation.names(["x/one.json", "y/two.json"]) == ["one", "two"])
    #expect(
      MethodEvaluation.names(["run/HAD-Net/summary.json", "run/Student/summary.json"]) == [
        "HAD-Net", "Student",
      ])
    let runs = ["run1/Student/summary.json", "run2/Student/summary.json"]
    #expect(MethodEvaluation.names(runs) == runs)
  }
}
