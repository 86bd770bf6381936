import Foundation
import Testing

extension Commands {
  /// `evaluate` on the golden evaluation: what the challenge's own program and MedPy give.
  @Suite struct EvaluateGoldenTests {
    private static let folder = "\(Program.fixtures)/parity/evaluation"
    private static let truth = "\(folder)/truth", submission = "\(folder)/submission"

    private struct Expected: Decodable {
      struct Case: Decodable { let regions: [String: Region] }
      struct Region: Decodable {
        let tp, fp, fn, tn: Int
        let dice, sensitivity, specificity, hd95: Double
        let hd95LargerDirection, hd95VolumeDiagonal: Double?
        let areas40, areas100, areas4: [String: Double]
        let filteredDice: [String: Double]
      }
      let cases: [String: Case]
      let summary: [String: [String: [String: Double]]]
      let tolerances: [String: Double]

      /// Of a key of the JSON.
      func tolerance(_ key: String) throws -> Double {
        let name =
          switch key {
          case "hd95": "hd95"
          case "score", "auc": "challenge values (it computes in float32)"
          default: "dice, sensitivity, specificity"
          }
        return try #require(tolerances[name])
      }
    }

    private func expected() throws -> Expected {
      let decoder = JSONDecoder()
      decoder.keyDecodingStrategy = .convertFromSnakeCase
      return try decoder.decode(Expected.self, from: bytes("\(EvaluateGoldenTests.folder)/expected.json"))
    }

    /// The text of the JSON that `evaluate` writes.
    private func evaluate(_ more: String..., uncertainty: String? = submission, ranks: Int? = nil) throws
      -> String
    {
      let folder = try Scratch()
      let outcome = try Program.start(
        ["evaluate", "--truth", EvaluateGoldenTests.truth, "--predictions", EvaluateGoldenTests.submission]
          + (uncertainty.map { ["--uncertainty", $0] } ?? []) + ["--json", folder / "scores.json", "--quiet"]
          + more,
        ranks: ranks
      ).outcome()
      try #require(outcome.code == 0 && outcome.errors == "", "\(outcome.errors)")
      #expect(outcome.output.hasPrefix("16 cases"), "\(outcome.output)")
      return try text(folder / "scores.json")
    }

    private typealias Values = [String: Any]

    private func regions(_ scores: Values) throws -> [String: [String: Values]] {
      try #require(scores["cases"] as? [String: [String: Values]])
    }

    @Test(arguments: [40, 100, 4]) func everyValueIsWithinItsTolerance(points: Int) throws {
      let expected = try expected()
      let scores = try json(points == 40 ? evaluate() : evaluate("--points", "\(points)"))
      let cases = try regions(scores)
      #expect(cases.keys.sorted() == expected.cases.keys.sorted() && cases.count == 16)
      for (id, right) in expected.cases {
        for (region, right) in right.regions {
          let found = try #require(cases[id]?[region])
          func compare(_ found: Any?, _ value: Double, _ key: String) throws {
            let found = try #require(found as? Double, "\(id) \(region) \(key)")
            #expect(
              try abs(found - value) <= expected.tolerance(key),
              "\(id) \(region) \(key): \(found), expected \(value)")
          }
          try compare(found["dice"], right.dice, "dice")
          try compare(found["sensitivity"], right.sensitivity, "sensitivity")
          try compare(found["specificity"], right.specificity, "specificity")
          try compare(found["hd95"], right.hd95, "hd95")
          for (name, count) in [
            ("TP", right.tp), ("FP", right.fp), ("FN", right.fn), ("TN", right.tn),
            ("n_pred", right.tp + right.fp), ("n_ref", right.tp + right.fn),
          ] { #expect(found[name] as? Int == count, "\(id) \(region) \(name)") }
          let uncertainty = try #require(found["uncertainty"] as? Values)
          #expect(uncertainty.keys.sorted() == ["auc", "certain", "filtered_dice", "score"])
          let areas = [40: right.areas40, 100: right.areas100, 4: right.areas4][points] ?? [:]
          let auc = try #require(uncertainty["auc"] as? Values)
          #expect(auc.keys.sorted() == ["dice", "ftn", "ftp"])
          for name in auc.keys { try compare(auc[name], #require(areas[name]), "auc") }
          try compare(uncertainty["score"], #require(areas["score"]), "score")
          try compare(uncertainty["certain"], (right.dice + 2) / 3, "certain")
          let filtered = try #require(uncertainty["filtered_dice"] as? Values)
          #expect(filtered.keys.sorted() == ["100", "25", "50", "75"])
          for name in filtered.keys {
            try compare(filtered[name], #require(right.filteredDice[name]), "filtered_dice")
          }
        }
      }
      guard points == 40 else { return }
      let summary = try #require(scores["summary"] as? [String: [String: Values]])
      for (region, right) in expected.summary {
        #expect(summary[region]?.keys.sorted() == right.keys.sorted())
        for (metric, right) in right {
          for (name, value) in right {
            let found = try #require(summary[region]?[metric]?[name] as? Double)
            #expect(
              try abs(found - value) <= expected.tolerance(metric), "\(region) \(metric) \(name): \(found)")
          }
          for name in ["q25", "q75"] { #expect(summary[region]?[metric]?[name] is Double) }
        }
      }
    }

    @Test func otherDefinitionsOfHD95() throws {
      let expected = try expected(), tolerance = try expected.tolerance("hd95")
      let cases = try regions(
        json(evaluate("--hd95-direction", "larger", "--hd95-empty", "diagonal", uncertainty: nil)))
      for (id, right) in expected.cases {
        for (region, right) in right.regions {
          let found = try #require(cases[id]?[region]?["hd95"] as? Double)
          let value = try #require(right.hd95LargerDirection ?? right.hd95VolumeDiagonal)
          #expect(abs(found - value) <= tolerance, "\(id) \(region): \(found), expected \(value)")
          #expect(cases[id]?[region]?["uncertainty"] == nil)
        }
      }
    }

    @Test func otherFilters() throws {
      let scores = try evaluate("--filters", "12.5,100")
      let filtered = try regions(json(scores)).values.compactMap {
        ($0["ET"]?["uncertainty"] as? Values)?["filtered_dice"] as? Values
      }
      #expect(filtered.count == 16 && filtered.allSatisfy { $0.keys.sorted() == ["100", "12.5"] })
    }

    @Test func sameBytesForAnyNumberOfRanks() throws {
      let one = try evaluate()
      #expect(try evaluate(ranks: 2) == one)
      #expect(try evaluate(ranks: 3) == one)
    }

    @Test func aMapOutsideItsRangeIsNamedOnce() throws {
      let folder = try Scratch(), submission = try folder.copy(EvaluateGoldenTests.submission, "submission")
      let map = "\(submission)/BraTS19_FX11_002_1_unc_core.nii.gz"
      // The first voxel of a file of uint8.
      try edit(map) { $0[352] = 101 }
      for ranks in [nil, 2] {
        expectFault(
          try Program.run(
            "evaluate", "--truth", EvaluateGoldenTests.truth, "--predictions", submission, "--uncertainty",
            submission, "--quiet", ranks: ranks), 65,
          ["\(map): uncertainties from 0 to 101; they must lie in 0…100"])
      }
      try FileManager.default.removeItem(atPath: map)
      expectFault(
        try Program.run(
          "evaluate", "--truth", EvaluateGoldenTests.truth, "--predictions", submission, "--uncertainty",
          submission), 66, ["no BraTS19_FX11_002_1_unc_core.nii.gz"])
    }

    @Test(arguments: [
      (["--points", "0"], "--points is 0"), (["--points", "10001"], "--points is 10001"),
      (["--filters", "50,101"], "50,101"), (["--hd95-empty", "nan"], "nan"),
    ]) func optionsThatMakeNoSense(options: [String], words: String) throws {
      let outcome = try Program.start(
        [
          "evaluate", "--truth", EvaluateGoldenTests.truth, "--predictions", EvaluateGoldenTests.submission,
        ]
          + options
      ).outcome()
      #expect(outcome.code == 64 && outcome.errors.contains(words), "\(outcome.errors)")
    }
  }
}
