import Evaluation
import Files
import Foundation
import Testing

@testable import TestSupport
@testable import Imaging

@Suite struct SeedTableTests {
  let runs: [(seed: UInt64, evaluations: [MethodEvaluation])] = [
    (
      3,
      [
        evaluation("Control", [0.4, 0.6]), evaluation("Student", [0.2, 0.6]),
        evaluation("HAD-Net", [0.5, 0.7]),
      ]
    ),
    (
      4,
      [
        evaluation("Control", [0.8, 0.9]), evaluation("Student", [0.4, 0.8]),
        evaluation("HAD-Net", [0.6, 0.8]),
      ]
    ),
  ]

  @Test func meansAndDeviationsOverSeeds() throws {
    let table = try SeedTable(.dice, runs)
    #expect(table.seeds == [3, 4] && table.cases == 2 && table.methods == ["Student", "HAD-Net", "Control"])
    let student = try #require(table.cells[.et]?[0])
    #expect(student.means.values.map { ($0 * 1e9).rounded() } == [0.4e9, 0.6e9])
    #expect(abs(student.means.mean - 0.5) < 1e-12 && abs(student.means.sd - 0.02.squareRoot()) < 1e-12)
    #expect(abs(student.deviations.mean - 0.08.squareRoot()) < 1e-12)
    #expect(table.differences.map { $0.better(.tc) } == [2, 1])
  }

  @Test func markdownNamesEachNumber() throws {
    #expect(
      try SeedTable(.dice, runs).markdown == """
        | | Student | HAD-Net | Control |
        | --- | --- | --- | --- |
        | WT | 50.0 ± 14.1 (28.3) | 65.0 ± 7.1 (14.1) | 67.5 ± 24.7 (10.6) |
        | TC | 50.0 ± 14.1 (28.3) | 65.0 ± 7.1 (14.1) | 67.5 ± 24.7 (10.6) |
        | ET | 50.0 ± 14.1 (28.3) | 65.0 ± 7.1 (14.1) | 67.5 ± 24.7 (10.6) |

        Dice in percent, mean ± standard deviation over 2 seeds (3, 4) of each seed's mean over 2 cases; in brackets \
        the standard deviation over the cases, as a mean over the seeds. All seeds have the same split: their spread \
        is that of training, not of the choice of cases. Control: the student trained on as long as HAD-Net, without \
        the adversarial term.

        | HAD-Net minus | WT | TC | ET |
        | --- | --- | --- | --- |
        | Student | +15.0 ± 7.1 (2 of 2) | +15.0 ± 7.1 (2 of 2) | +15.0 ± 7.1 (2 of 2) |
        | Control | -2.5 ± 17.7 (1 of 2) | -2.5 ± 17.7 (1 of 2) | -2.5 ± 17.7 (1 of 2) |

        Percent points, mean ± standard deviation over the seeds of the difference of a seed's means; in brackets in \
        how many seeds HAD-Net was better.

        """)
  }

  @Test func csvHasTheSameCells() throws {
    let csv = try SeedTable(.dice, runs).csv.split(separator: "\n")
    #expect(csv[0] == "Region,Student,HAD-Net,Control" && csv.count == 4)
    #expect(csv[3] == "ET,50.0 ± 14.1 (28.3),65.0 ± 7.1 (14.1),67.5 ± 24.7 (10.6)")
  }

  @Test func jsonHasEachSeed() throws {
    struct File: Decodable {
      struct Dice: Decodable {
        let means, sdCases: [Double]
        let mean, sd: Double
      }
      struct Minus: Decodable {
        let differences: [Double]
        let mean, sd: Double
        let better: Int
      }
      let seeds: [UInt64]
      let cases: Int
      let dice: [String: [String: Dice]]
      let hadnetMinus: [String: [String: Minus]]
    }
    let table = try SeedTable(.dice, runs)
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    let file = try decoder.decode(File.self, from: Data(SeedTable.json([table]).utf8))
    #expect(file.seeds == [3, 4] && file.cases == 2 && file.dice.keys.sorted() == table.methods.sorted())
    let cell = try #require(file.dice["HAD-Net"]?["WT"]), expected = try #require(table.cells[.wt]?[1])
    #expect(cell.means == expected.means.values && cell.sdCases == expected.deviations.values)
    #expect(cell.mean == expected.means.mean && cell.sd == expected.means.sd)
    #expect(file.hadnetMinus.keys.sorted() == ["Control", "Student"])
    #expect(file.hadnetMinus["Student"]?["ET"]?.better == 2)
    #expect(file.hadnetMinus["Control"]?["ET"]?.differences.count == 2)
  }

  @Test func oneSeedHasNoSpread() throws {
    let table = try SeedTable(.dice, [(1, [evaluation("HAD-Net", [0.5])])])
    #expect(table.rows[0] == ["WT", "50.0"] && table.differences.isEmpty)
    #expect(
      table.note.hasPrefix(
        "Dice in percent, mean ± standard deviation over 1 seed (1) of each seed's mean over 1 case;"))
    #expect(!table.markdown.contains("minus") && SeedTable.json([table]).contains("\"sd\": null"))
    #expect(SeedTable.json([table]).hasSuffix("\"hadnet_minus\": {}\n}\n"))
  }

  @Test func aMethodThatASeedLacksIsNamed() throws {
    var some = runs
    some[0].evaluations.removeFirst()
    let table = try SeedTable(.dice, some)
    #expect(table.methods == ["Student", "HAD-Net"] && table.note.hasSuffix(" Not in every seed: Control."))
  }

  @Test func seedsOnOtherCasesAreRefused() {
    #expect(throws: Fault(.missing, "case C is in Student of seed 2 but not in Student of seed 1")) {
      try SeedTable(.dice, [(1, [evaluation("Student", [0, 1])]), (2, [evaluation("Student", [0, 1, 1])])])
    }
  }

  @Test func scoresHaveATableOfTheirOwn() throws {
    var scored = runs
    for seed in scored.indices {
      for (method, score) in [(1, 0.5), (2, 0.625)] {
        for id in scored[seed].evaluations[method].ids {
          for region in Region.allCases {
            scored[seed].evaluations[method].cases[id]?[region, .score] = score
          }
        }
      }
    }
    let table = try SeedTable(.score, scored)
    #expect(table.methods == ["Student", "HAD-Net"] && table.content.name == "table2")
    #expect(table.rows[2] == ["ET", "0.500 ± 0.000 (0.000)", "0.625 ± 0.000 (0.000)"])
    #expect(table.differenceRows == [["Student"] + Array(repeating: "+0.125 ± 0.000 (2 of 2)", count: 3)])
    #expect(
      table.note.hasPrefix("Score of the uncertainties (0 to 1), mean ± standard deviation over 2 seeds"))
    let json = SeedTable.json([try SeedTable(.dice, scored), table])
    #expect(json.contains("\"score\": {\n    \"Student\"") && json.contains("\"hadnet_minus_score\": {"))
    #expect(json.contains("\"dice\": {\n    \"Student\""))
  }
}
