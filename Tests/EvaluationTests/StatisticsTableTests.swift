import Foundation
import Testing

@testable import Evaluation
@testable import Files
@testable import TestSupport
@testable import Imaging

@Suite struct StatisticsTableTests {
  let teacher = evaluation("Teacher", [0.9, 0.8, 0.95, 0.85])
  let student = evaluation("Student", [0.3, 0.2, 0.4, 0.3])
  let hadnet = evaluation("HAD-Net", [0.5, 0.41, 0.6, 0.51])

  @Test func markdownHasMethodsAndDifferences() throws {
    #expect(
      try StatisticsTable([hadnet, student, teacher]).markdown == """
        # Statistics

        Over 4 cases; sd with n − 1. 95 % intervals are of the mean, by the bootstrap over the cases (percentiles of 10000 resamples).

        ## Dice, percent

        | Region | Method | mean | sd | median | quartiles | 95 % interval |
        | --- | --- | --- | --- | --- | --- | --- |
        | WT | Teacher | 87.50 | 6.45 | 87.50 | 83.75 to 91.25 | 82.50 to 92.50 |
        | WT | Student | 30.00 | 8.16 | 30.00 | 27.50 to 32.50 | 22.50 to 37.50 |
        | WT | HAD-Net | 50.50 | 7.77 | 50.50 | 47.75 to 53.25 | 43.50 to 57.50 |
        | TC | Teacher | 87.50 | 6.45 | 87.50 | 83.75 to 91.25 | 82.50 to 92.50 |
        | TC | Student | 30.00 | 8.16 | 30.00 | 27.50 to 32.50 | 22.50 to 37.50 |
        | TC | HAD-Net | 50.50 | 7.77 | 50.50 | 47.75 to 53.25 | 43.50 to 57.50 |
        | ET | Teacher | 87.50 | 6.45 | 87.50 | 83.75 to 91.25 | 82.50 to 92.50 |
        | ET | Student | 30.00 | 8.16 | 30.00 | 27.50 to 32.50 | 22.50 to 37.50 |
        | ET | HAD-Net | 50.50 | 7.77 | 50.50 | 47.75 to 53.25 | 43.50 to 57.50 |

        ## Dice, percent: HAD-Net minus each other method

        | Region | Minus | mean | 95 % interval | median | t | p | p Holm | Wilcoxon p | p Holm |
        | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
        | WT | Teacher | -37.00 | -39.50 to -34.50 | -37.00 | -25.14 | < 0.001 | < 0.001 | 0.125 | 0.750 |
        | WT | Student | +20.50 | +20.00 to +21.00 | +20.50 | 71.01 | < 0.001 | < 0.001 | 0.125 | 0.750 |
        | TC | Teacher | -37.00 | -39.50 to -34.50 | -37.00 | -25.14 | < 0.001 | < 0.001 | 0.125 | 0.750 |
        | TC | Student | +20.50 | +20.00 to +21.00 | +20.50 | 71.01 | < 0.001 | < 0.001 | 0.125 | 0.750 |
        | ET | Teacher | -37.00 | -39.50 to -34.50 | -37.00 | -25.14 | < 0.001 | < 0.001 | 0.125 | 0.750 |
        | ET | Student | +20.50 | +20.00 to +21.00 | +20.50 | 71.01 | < 0.001 | < 0.001 | 0.125 | 0.750 |

        Two-sided paired t-tests and Wilcoxon's signed-rank tests; p Holm is corrected for the 6 tests of the table, each kind of test by itself.

        """)
  }

  @Test func csvHasAllDigits() throws {
    let lines = try StatisticsTable([student, hadnet]).csv.split(separator: "\n").map {
      $0.split(separator: ",", omittingEmptySubsequences: false)
    }
    #expect(lines.count == 10 && lines.allSatisfy { $0.count == 18 })
    #expect(
      lines[0].joined(separator: ",")
        == "Metric,Region,Method,Minus,Mean,StdDev,Median,25quantile,75quantile,Lower95,Upper95,"
        + "t,df,p,pHolm,W,pWilcoxon,pWilcoxonHolm")
    #expect(lines[1].prefix(5) == ["Dice", "WT", "Student", "", "0.3"])
    #expect(lines[2].prefix(4) == ["Dice", "WT", "HAD-Net", ""])
    let row = try Comparison(hadnet, [student]).rows[2]
    #expect(lines[9].prefix(4) == ["Dice", "ET", "HAD-Net", "Student"])
    #expect(
      lines[9].dropFirst(4).map { Double($0) } == [
        row.differences.mean, row.differences.sd, row.differences.median, row.differences.q25,
        row.differences.q75, row.interval.lower, row.interval.upper, row.test.t, 3, row.test.p, row.adjusted,
        row.signedRank.statistic, row.signedRank.p, row.adjustedSignedRank,
      ])
  }

  @Test func aMetricIsAFamilyOfTests() throws {
    func with(_ metric: Metric, _ evaluation: MethodEvaluation) -> MethodEvaluation {
      var result = evaluation
      for (i, id) in result.ids.enumerated() {
        for region in Region.allCases {
          result.cases[id]?[region, metric] = Double(i) * (evaluation.method == "HAD-Net" ? 2 : 1)
        }
      }
      return result
    }
    // The teacher has no distances.
    let table = try StatisticsTable([teacher, with(.hd95, student), with(.hd95, hadnet)])
    #expect(table.comparisons.map(\.metric) == [.dice, .hd95])
    #expect(table.comparisons.map(\.comparison.rows.count) == [6, 3])
    for (_, comparison) in table.comparisons {
      #expect(comparison.rows.map(\.adjusted) == holm(comparison.rows.map(\.test.p)))
    }
    #expect(
      table.rows.filter { $0.metric == .hd95 }.map(\.method) == ["Student", "HAD-Net"] + [
        "Student", "HAD-Net",
      ] + ["Student", "HAD-Net"])
    #expect(
      table.markdown.contains("\n## Hausdorff95, mm\n") && table.markdown.contains("| WT | HAD-Net | 3.00 |"))
  }

  @Test func intervalsAreThoseOfEachMethodAlone() throws {
    for row in try StatisticsTable([hadnet, student]).rows {
      let alone = row.method == "Student" ? student : hadnet
      #expect(row.summary == alone.summary(row.region, .dice) && row.interval == row.summary.interval)
    }
  }

  @Test func withoutHADNetThereAreNoDifferences() throws {
    #expect(try StatisticsTable([student, teacher]).tables.map(\.title) == ["Dice, percent"])
    #expect(try StatisticsTable([hadnet]).comparisons.isEmpty)
  }

  @Test func methodsOnOtherCasesAreRefused() {
    #expect(throws: Fault(.missing, "case D is in Student but not in AD-Net")) {
      try StatisticsTable([evaluation("AD-Net", [0.1, 0.2, 0.3]), student])
    }
  }
}
