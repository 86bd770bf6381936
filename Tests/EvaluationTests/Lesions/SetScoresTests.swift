import Foundation
import Testing

@testable import Compute
@testable import Evaluation
@testable import Imaging

@Suite struct SetScoresTests {
  private static let folder = URL(fileURLWithPath: #filePath).appending(path: "../../../Fixtures/metrics")
    .standardized.path

  private func evaluation(_ golden: MetricsGolden, _ task: String, _ preset: TaskPreset) throws
    -> MethodEvaluation
  {
    let asked = AskedSets(MetricSet.allCases, preset.task)
    var evaluator = Evaluator(preset.task)
    evaluator.asked = asked
    var all = MethodEvaluation(method: "m", regions: preset.task.regions, asked: asked)
    // As from several ranks: numbers and sets travel apart.
    for id in golden.cases.map(\.id) where id.contains("-\(task)-") {
      let scores = try evaluator.scores(
        .init(
          id: id, truth: "\(SetScoresTests.folder)/truth/\(id)-seg.nii.gz",
          prediction: "\(SetScoresTests.folder)/predictions/\(id).nii.gz",
          values: preset.task.values(caseName: id)))
      let sets = try CaseSets.cases(json: CaseSets.json([id: try #require(scores.sets)]))
      all.cases[id] = scores
      all.cases[id]?.sets = sets[id]
    }
    return all
  }

  /// What `evaluate --json --metrics` writes of each golden pair, key for key: NaN as null, an infinite distance as 373.
  @Test(arguments: [("GLI", TaskPreset.brats2024), ("PED", .pediatric), ("MET", .metastases)])
  func theJSONHasTheGoldenValues(task: String, preset: TaskPreset) throws {
    let golden = try MetricsGolden(), all = try evaluation(golden, task, preset)
    let root = try #require(JSONSerialization.jsonObject(with: Data(all.json.utf8)) as? [String: Any])
    let cases = try #require(root["cases"] as? [String: [String: Any]])
    #expect(cases.count == golden.cases.count { $0.id.contains("-\(task)-") })
    var compared = 0
    for item in golden.cases where item.id.contains("-\(task)-") {
      for region in item.regions {
        // The classes have other names there.
        guard let name = preset.task.scored.first(where: { $0.classes == region.classes })?.name,
          let own = cases[item.id]?[name] as? [String: Any]
        else { continue }
        for set in ["brats2020", "brats2023", "brats2026"] {
          for (key, right) in item.expected[set]?[region.name]?.members ?? [:] where key != "lesions" {
            // Counts of whole regions have nnU-Net's names there.
            if set == "brats2020", ["tp", "fp", "fn", "tn"].contains(key) { continue }
            // Children's tumours have no scores of 2023 there.
            let values = set == "brats2020" ? own : own[set] as? [String: Any] ?? [:]
            let found = (values[key] as? NSNumber)?.doubleValue ?? .nan
            let number = try #require(right.number), expected = number == .infinity ? 373 : number
            #expect(
              agree(found, expected, key),
              "\(item.id) \(region.name) \(set) \(key): \(found), not \(expected)")
            compared += 1
          }
          let lesions = (own[set] as? [String: Any])?["lesions"] as? [Any]
          if set != "brats2020", let right = item.expected[set]?[region.name]?["lesions"]?.list {
            #expect(lesions?.count == right.count, "\(item.id) \(region.name) \(set)")
          }
        }
      }
    }
    #expect(compared > 100)
    #expect((root["detection"] as? [String: Any])?["region"] as? String == preset.task.detect.name)
    #expect((root["volumes"] as? [String: Any])?["bias_ml"] != nil)
    #expect(all.setsText.contains("brats2026") && all.setsText.contains("ET in mL: bias"))
  }

  @Test func nothingIsAddedWhereNoSetIsAskedFor() throws {
    var all = try evaluation(MetricsGolden(), "MET", .metastases)
    all.asked = nil
    for id in all.ids { all.cases[id]?.sets = nil }
    #expect(!all.json.contains("brats20") && !all.json.contains("detection") && all.setsText.isEmpty)
  }
}
