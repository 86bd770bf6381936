import Foundation
import Testing

@testable import Evaluation
@testable import Imaging
@testable import Report
@testable import TestSupport

/// Where the validation cases are scored nothing calls them test cases, and everything says that the scores are optimistic.
@Suite struct EvaluatedSetTests {
  private func evaluations(_ set: EvaluatedSet?) -> [MethodEvaluation] {
    [evaluation("Student", [0.3, 0.2, 0.4]), evaluation("HAD-Net", [0.5, 0.41, 0.6])].map {
      MethodEvaluation(
        method: $0.method, settings: MetricSettings(distance: SurfaceDistance(), set: set), cases: $0.cases)
    }
  }

  /// All that is written of evaluations for people.
  private func texts(_ set: EvaluatedSet?) throws -> [String: String] {
    let all = evaluations(set), table = try MethodTable(.dice, all)
    let seeds = try SeedTable(.dice, [(1, all), (2, all)]), statistics = try StatisticsTable(all)
    let comparison = try Comparison(all[1], [all[0]])
    func html(_ blocks: [ReportContents.Block]) throws -> String {
      try ReportContents(title: "t", sections: [.init("s", blocks)]).html()
    }
    return [
      "table": table.markdown, "seeds": seeds.markdown, "statistics": statistics.markdown,
      "comparison": comparison.text, "evaluation": all[0].text,
      "HTML table": try html([.table(ReportContents.Table(table))]),
      "HTML seeds": try html([.table(ReportContents.Table(seeds))]),
      "HTML statistics": try html(ReportContents.blocks(statistics)),
    ]
  }

  @Test func validationCasesAreCalledSoAndOptimistic() throws {
    for (name, text) in try texts(.validation) {
      #expect(text.contains("3 validation cases") && text.contains("is optimistic"), "\(name): \(text)")
      #expect(text.contains("the p values too") && !text.contains("3 test cases"), "\(name): \(text)")
    }
    for (name, text) in try texts(.training) {
      #expect(text.contains("3 training cases") && text.contains("far too good"), "\(name): \(text)")
    }
    let tests = try StatisticsTable(evaluations(.validation)).tables.filter { $0.title.contains("minus") }
    #expect(!tests.isEmpty && tests.allSatisfy { $0.note.contains("validation cases: optimistic") })
  }

  @Test func testCasesAreCalledSo() throws {
    for (name, text) in try texts(.test) {
      #expect(text.contains("3 test cases") && !text.contains("optimistic"), "\(name): \(text)")
    }
    for (name, text) in try texts(nil) {
      #expect(text.contains("3 cases") && !text.contains("optimistic"), "\(name): \(text)")
    }
  }

  @Test func csvTablesNameValidationCases() throws {
    func headers(_ set: EvaluatedSet?) throws -> [String] {
      let all = evaluations(set)
      return try [
        MethodTable(.dice, all).csv, SeedTable(.dice, [(1, all), (2, all)]).csv, StatisticsTable(all).csv,
      ].map { String($0.prefix { $0 != "\n" }) }
    }
    for header in try headers(.validation) { #expect(header.contains("Region (validation cases)")) }
    for header in try headers(.test) { #expect(!header.contains("validation")) }
  }

  @Test(arguments: [EvaluatedSet.validation, .test]) func jsonKeepsIt(set: EvaluatedSet) throws {
    let json = evaluations(set)[0].json
    #expect(json.contains("\"set\": \"\(set.rawValue)\""))
    #expect(
      try MethodEvaluation(json: Data(json.utf8), file: "f", method: "m").settings?.set == set)
    let all = evaluations(set)
    let others = [SeedTable.json([try SeedTable(.dice, [(1, all)])]), try Comparison(all[1], [all[0]]).json]
    for json in others { #expect(json.contains("\"set\": \"\(set.rawValue)\""), "\(json)") }
  }
}
