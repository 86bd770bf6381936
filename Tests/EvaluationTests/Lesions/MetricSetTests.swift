import Files
import Foundation
import Testing

@testable import Compute
@testable import Evaluation
@testable import Imaging

@Suite struct MetricSetTests {
  @Test func wholeRegionsEqualTheGoldenOnes() throws {
    for item in try MetricsGolden().cases {
      let all = try MetricSet.scores(
        truth: item.truth, prediction: item.prediction, item.regions, spacing: item.spacing, [.brats2020])
      for (region, found) in zip(item.regions, all) {
        let right = try #require(item.expected["brats2020"]?[region.name])
        #expect(Set(found.values(.brats2020).map(\.name)) == Set(right.members.keys))
        for (name, value) in found.values(.brats2020) {
          let number = try #require(right[name]?.number)
          #expect(agree(value, number, name), "\(item.id) \(region.name) \(name): \(value), not \(number)")
        }
        #expect(found.lesions == nil && found.values(.brats2023).isEmpty && found.values(.brats2026).isEmpty)
      }
    }
  }

  /// The voxels that the truth leaves out are of no region, on either side, and of no count.
  @Test func ignoredVoxelsAreLeftOut() throws {
    let item = try #require(MetricsGolden().cases.first), size = item.truth.size
    var truth = item.truth, background = item.truth, prediction = item.prediction
    for i in 0..<size.voxels where i % size.x < size.x / 2 {
      truth.classes[i] = LabelVolume.ignored
      background.classes[i] = 0
      prediction.classes[i] = 0
    }
    let settings = MetricSetSettings(lesions: .gliomas)
    func scores(_ truth: LabelVolume, _ prediction: LabelVolume) throws -> [RegionScores] {
      try MetricSet.scores(
        truth: truth, prediction: prediction, item.regions, spacing: item.spacing, Set(MetricSet.allCases),
        settings)
    }
    let found = try scores(truth, item.prediction), right = try scores(background, prediction)
    let ignored = truth.classes.count { $0 == LabelVolume.ignored }
    for (found, right) in zip(found, right) {
      #expect(found.overlap.tn == right.overlap.tn - ignored && found.overlap.tp == right.overlap.tp)
      #expect(found.lesions?.lesions == right.lesions?.lesions && found.lesions?.hd95 == right.lesions?.hd95)
      #expect(found.instances?.lesions == right.instances?.lesions && found.hd95 == right.hd95)
      #expect(found.truthVolume == right.truthVolume && found.predictionVolume == right.predictionVolume)
    }
    // A prediction may have such a voxel too: it is background.
    var undecided = item.prediction
    undecided.classes = undecided.classes.map { $0 == 0 ? LabelVolume.ignored : $0 }
    let same = try scores(item.truth, undecided), plain = try scores(item.truth, item.prediction)
    #expect(same.map(\.overlap) == plain.map(\.overlap) && same.map(\.lesions) == plain.map(\.lesions))
  }

  @Test func lesionsHaveToBeSaid() {
    let volume = LabelVolume(Size(1, 1, 1), [0])
    #expect(
      throws: Fault(
        .recipe,
        "brats2023 needs to be told what a lesion of this task is: --lesions DILATION,VOLUME in voxels and mm³ "
          + "(gliomas have 3,50, metastases 1,2)")
    ) {
      try MetricSet.scores(truth: volume, prediction: volume, [.et], spacing: [1, 1, 1], [.brats2023])
    }
    #expect(LesionSettings(.metastases) == .init(dilation: 1, volume: 2))
    #expect(LesionSettings(.pediatric) == .init(dilation: 3, volume: 50))
  }

  @Test func tablesLeaveNaNOut() {
    var table = ScoreTable(columns: ["global_hd95_et", "lesionwise_hd95_std_et", "f1"])
    table.add("a", [("f1", 0.5), ("global_hd95_et", .infinity), ("unknown", 3)])
    table.add("b", [("f1", .nan), ("global_hd95_et", 1)])
    #expect(table.summary.map { $0.values[2] }[0] == 0.5 && table.summary[1].values[2].isNaN)
    #expect(table.summary[0].values[0] == .infinity && table.summary[1].values[0].isNaN)
    #expect(table.summary[2].values[0] == .infinity && table.summary[0].values[1].isNaN)
    #expect(table.bounded().summary[0].values[0] == 187)
    #expect(
      table.bounded().csv
        == "subject_id,global_hd95_et,lesionwise_hd95_std_et,f1\na,373.0,,0.5\nb,1.0,,\n"
        + "mean,187.0,,0.5\nstd,\(69_192.0.squareRoot()),,\nmedian,187.0,,0.5\n")
    table.addMissing("c")
    #expect(table.rows[2].values == [373, 0, 0] && table.summary[2].values[2] == 0.25)
    #expect(RegionScores.jsonText(.nan) == "null" && RegionScores.jsonText(.infinity) == "373.0")
    #expect(ScoreTable(columns: ["x"]).summary.allSatisfy { $0.values[0].isNaN })
  }

  @Test func classesStandBesideRegions() {
    #expect(TaskPreset.brats2024.task.scored.map(\.name) == ["WT", "TC", "ET", "RC", "NETC", "SNFH"])
    #expect(
      TaskPreset.pediatric.task.scored.map(\.classes) == [[1, 2, 3, 4], [1, 2, 3], [1], [2], [3], [4]])
  }

  /// Large masks with far outliers, all sets at once.
  @Test func aLargeCaseIsFast() throws {
    let size = Size(182, 218, 182)
    var truth = [UInt8](repeating: 0, count: size.voxels), prediction = truth
    for z in 0..<size.z {
      for y in 0..<size.y {
        for x in 0..<size.x {
          let a = (z - 90) * (z - 90) + (y - 100) * (y - 100) + (x - 90) * (x - 90)
          let b = (z - 86) * (z - 86) + (y - 104) * (y - 104) + (x - 93) * (x - 93)
          let i = (z * size.y + y) * size.x + x
          if a < 2500 { truth[i] = a < 900 ? 3 : 2 }
          if b < 2300 { prediction[i] = b < 800 ? 3 : 2 }
        }
      }
    }
    var random = Philox(seed: 1, .test, 0)
    for _ in 0..<2000 { prediction[random.below(size.voxels)] = 3 }
    let clock = ContinuousClock()
    for set in MetricSet.allCases {
      let took = try clock.measure {
        _ = try MetricSet.scores(
          truth: LabelVolume(size, truth), prediction: LabelVolume(size, prediction), [.wt, .tc, .et],
          spacing: [1, 1, 1], [set], .init(lesions: .gliomas))
      }
      // A bound for a loaded machine; alone they take a second or two.
      #expect(took < .seconds(60), "\(set)")
    }
  }
}
