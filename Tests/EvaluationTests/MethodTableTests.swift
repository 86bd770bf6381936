import Evaluation
import Files
import Testing

@testable import Methods
@testable import TestSupport
@testable import Imaging

@Suite struct MethodTableTests {
  let teacher = evaluation("Teacher", [0.9, 0.8, 0.95, 0.85])
  let student = evaluation("Student", [0.3, 0.2, 0.4, 0.3])
  let hadnet = evaluation("HAD-Net", [0.5, 0.41, 0.6, 0.51])
  let control = evaluation("Control", [0.4, 0.3, 0.52, 0.43])

  @Test func markdownHasThePapersForm() throws {
    let table = try MethodTable(.dice, [control, hadnet, student, teacher])
    #expect(
      table.markdown == """
        | | Teacher | Student | HAD-Net | Control |
        | --- | --- | --- | --- | --- |
        | WT | 87.5 ± 6.5 | 30.0 ± 8.2 | 50.5 ± 7.8\\* | 41.2 ± 9.1 |
        | TC | 87.5 ± 6.5 | 30.0 ± 8.2 | 50.5 ± 7.8\\* | 41.2 ± 9.1 |
        | ET | 87.5 ± 6.5 | 30.0 ± 8.2 | 50.5 ± 7.8\\* | 41.2 ± 9.1 |

        Dice in percent, mean ± standard deviation over 4 cases. Control: the student trained on as long as HAD-Net, \
        without the adversarial term. \\* p < 0.05, \\*\\* p < 0.001: HAD-Net better than \
        each other method that sees no T1ce (two-sided paired t-tests, not corrected for multiple tests).

        | HAD-Net minus | WT | TC | ET |
        | --- | --- | --- | --- |
        | Teacher | -37.0 (p < 0.001) | -37.0 (p < 0.001) | -37.0 (p < 0.001) |
        | Student | +20.5 (p < 0.001) | +20.5 (p < 0.001) | +20.5 (p < 0.001) |
        | Control | +9.2 (p = 0.001) | +9.2 (p = 0.001) | +9.2 (p = 0.001) |

        """)
  }

  @Test func csvHasTheSameCells() throws {
    #expect(
      try MethodTable(.dice, [student, hadnet]).csv == """
        Region,Student,HAD-Net
        WT,30.0 ± 8.2,50.5 ± 7.8**
        TC,30.0 ± 8.2,50.5 ± 7.8**
        ET,30.0 ± 8.2,50.5 ± 7.8**

        """)
  }

  @Test func theControlIsOutsideThePapersColumns() throws {
    let names = ["Control", "U-HVED", "U-HeMIS", "KD-Net+", "AD-Net", "HAD-Net", "Student", "Teacher"]
    let table = try MethodTable(.dice, names.map { evaluation($0, [0.5, 0.25]) })
    #expect(table.methods == TableColumns.methods.order)
    #expect(table.csv.hasPrefix("Region,Teacher,Student,HAD-Net,AD-Net,KD-Net+,U-HeMIS,U-HVED,Control\n"))
  }

  @Test func oneStarIsForTheWeakestDifference() throws {
    let near = evaluation("AD-Net", [0.4, 0.4, 0.5, 0.4])
    #expect(try MethodTable(.dice, [student, hadnet, near]).cells[.et]?[1] == "50.5 ± 7.8*")
    let same = evaluation("AD-Net", [0.4, 0.5, 0.5, 0.6])
    #expect(try MethodTable(.dice, [student, hadnet, same]).cells[.et]?[1] == "50.5 ± 7.8")
  }

  @Test func noStarForBeingWorse() throws {
    let better = evaluation("KD-Net+", [0.7, 0.61, 0.8, 0.71])
    #expect(try MethodTable(.dice, [hadnet, better]).cells[.wt] == ["50.5 ± 7.8", "70.5 ± 7.8"])
  }

  @Test func withoutHADNetThereAreNoTests() throws {
    let table = try MethodTable(.dice, [student, teacher])
    #expect(table.tests.isEmpty && table.methods == ["Teacher", "Student"])
    #expect(table.note == "Dice in percent, mean ± standard deviation over 4 cases.")
  }

  @Test func aMethodWithoutDiceHasNoTest() throws {
    var other = MethodEvaluation(method: "AD-Net", cases: student.cases.mapValues { _ in CaseScores() })
    for id in other.ids { for region in Region.allCases { other.cases[id]?[region, .sensitivity] = 1 } }
    #expect(
      try MethodTable(.dice, [student, hadnet, other]).tests.map(\.method) == [
        "Student", "Student", "Student",
      ])
  }

  @Test func methodsOnOtherCasesAreRefused() {
    #expect(throws: Fault(.missing, "case D is in HAD-Net but not in Student")) {
      try MethodTable(.dice, [hadnet, evaluation("Student", [0.1, 0.2, 0.3])])
    }
  }

  /// Table 2: the methods that have scores, and what certainty would have brought them.
  @Test func table2IsOfScores() throws {
    func scored(_ method: String, _ scores: [Double]) -> MethodEvaluation {
      var result = evaluation(method, [0.5, 0.41, 0.6, 0.51])
      for (id, score) in zip(result.ids, scores) {
        for region in Region.allCases {
          result.cases[id]?.uncertainty[region] = UncertaintyScore(
            score: score, certain: 0.84, areas: .init(dice: 0, ftp: 0, ftn: 0), filteredDice: [])
        }
      }
      return result
    }
    let table = try MethodTable(
      .score,
      [
        scored("AD-Net", [0.5, 0.4, 0.52, 0.43]), scored("HAD-Net", [0.6, 0.51, 0.61, 0.53]), student,
      ])
    #expect(
      table.csv == """
        Region,HAD-Net,AD-Net
        WT,0.562 ± 0.050**,0.462 ± 0.057
        TC,0.562 ± 0.050**,0.462 ± 0.057
        ET,0.562 ± 0.050**,0.462 ± 0.057
        WT certain,0.840 ± 0.000,0.840 ± 0.000
        TC certain,0.840 ± 0.000,0.840 ± 0.000
        ET certain,0.840 ± 0.000,0.840 ± 0.000

        """)
    #expect(table.markdown.contains("| AD-Net | +0.100 (p < 0.001) |"), "\(table.markdown)")
    #expect(table.markdown.contains("Certain: the score of a map that is 0 everywhere"))
  }
}
