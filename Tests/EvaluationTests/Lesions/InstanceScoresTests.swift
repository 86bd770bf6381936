import Foundation
import Testing

@testable import Compute
@testable import Evaluation
@testable import Imaging

@Suite struct InstanceScoresTests {
  @Test func goldenCases() throws {
    var regions = 0, lesions = 0
    for item in try MetricsGolden().cases {
      for region in item.regions {
        let right = try #require(item.expected["brats2026"]?[region.name])
        regions += 1
        let found = try #require(
          MetricSet.scores(
            truth: item.truth, prediction: item.prediction, [region], spacing: item.spacing, [.brats2026]
          ).first)
        let values = found.values(.brats2026)
        #expect(Set(values.map(\.name)) == Set(right.members.keys).subtracting(["lesions"]))
        for (name, value) in values {
          let number = try #require(right[name]?.number)
          #expect(agree(value, number, name), "\(item.id) \(region.name) \(name): \(value), not \(number)")
        }
        let own = try #require(found.instances?.lesions)
        func sorted(_ lesions: [[Double]]) -> [[Double]] {
          lesions.sorted { $0.lexicographicallyPrecedes($1) }
        }
        let all = sorted(
          own.map {
            [
              Double($0.voxels), $0.volume, $0.match == nil ? 0 : 1, $0.match?.dsc ?? -1, $0.match?.nsd ?? -1,
              $0.match?.hd95 ?? -1,
            ]
          })
        let names = ["voxels", "volume", "matched", "dsc", "nsd", "hd95"]
        let rightOnes = sorted(
          try #require(right["lesions"]).list.map { lesion in names.map { lesion[$0]?.number ?? -1 } })
        #expect(all.count == rightOnes.count)
        for (a, b) in zip(all, rightOnes) {
          lesions += 1
          for (i, name) in names.enumerated() {
            #expect(agree(a[i], b[i], name), "\(item.id) \(region.name) \(name): \(a), not \(b)")
          }
        }
      }
    }
    #expect(regions == 70 && lesions > 100)
  }

  @Test(arguments: ["gli", "ped", "met"]) func tablesEqualTheProgram(task: String) throws {
    let golden = try MetricsGolden(), right = try #require(golden.root["official_tables"]?[task])
    let cases = golden.cases.filter { $0.id.lowercased().contains("-\(task)-") }
    var table: ScoreTable?
    for item in cases {
      var row: [ScoreTable.Value] = []
      for region in item.regions {
        let own = InstanceScores(item.pair(region))
        row += task == "met" ? own.official(region.name, MetastasisScores(own)) : own.official(region.name)
      }
      if table == nil { table = ScoreTable(columns: row.map(\.name)) }
      table?.add(item.id, row)
    }
    let found = try #require(table), rows = found.rows + found.summary
    #expect(Set(rows.map(\.name)) == Set(right.members.keys))
    for row in rows {
      let expected = try #require(right[row.name])
      #expect(Set(found.columns) == Set(expected.members.keys))
      for (name, value) in zip(found.columns, row.values) {
        let number = try #require(expected[name]?.number)
        #expect(agree(value, number, name), "\(row.name) \(name): \(value), not \(number)")
      }
    }
  }

  private let size = Size(10, 12, 20)
  private func scores(_ truth: [[Int]], _ prediction: [[Int]], spacing: [Double] = [1, 1, 1])
    -> InstanceScores
  {
    InstanceScores(
      MaskPair(
        truth: mask(size, truth, spacing: spacing), prediction: mask(size, prediction, spacing: spacing)))
  }

  @Test func emptyMasksFollowTheProgram() {
    let some = block(2...4, 2...4, 2...4), none = scores([], [])
    #expect(none.f1.isNaN && none.precision.isNaN && none.recall.isNaN && none.lesionDSC.mean.isNaN)
    #expect(none.whole.dsc.isNaN && none.whole.hd95.isNaN && none.wholeHD95Voxels.isNaN)
    let missed = scores(some, [])
    #expect(missed.f1 == 0 && missed.recall == 0 && missed.precision.isNaN && missed.fn == 1)
    #expect(
      missed.lesionHD95.mean == .infinity && missed.lesionHD95.sd.isNaN && missed.whole.hd95 == .infinity)
    let invented = scores([], some)
    #expect(invented.f1 == 0 && invented.precision == 0 && invented.recall.isNaN && invented.fp == 1)
    // Both are there, with no voxel in common, though their borders touch.
    let beside = scores(some, block(2...4, 2...4, 5...7))
    #expect(beside.whole == .init(dsc: 0, nsd: 0, hd95: .infinity) && beside.tp == 0)
    let equal = scores(some, some)
    #expect(equal.whole == .init(dsc: 1, nsd: 1, hd95: 0) && equal.lesionDSC == .init(mean: 1, sd: 0))
  }

  /// One predicted part over two lesions is the pair of one of them: that of the larger Dice.
  @Test func pairsAreOneToOne() {
    let scores = scores(block(2...4, 2...4, 2...4) + block(2...4, 2...4, 8...12), block(2...4, 2...4, 2...12))
    #expect(scores.tp == 1 && scores.fn == 1 && scores.fp == 0)
    #expect(scores.lesions.map { $0.match != nil } == [false, true])
    // Of equal ones the first in memory.
    let equal = self.scores(
      block(2...4, 2...4, 2...4) + block(2...4, 2...4, 8...10), block(2...4, 2...4, 2...10))
    #expect(equal.lesions.map { $0.match != nil } == [true, false])
  }

  /// Lesions' borders may lie the smallest spacing apart, along an axis of that spacing; whole masks' have to be the same.
  @Test func tolerancesAreTheProgram() throws {
    let spacing = [3.0, 1.7, 0.7], truth = block(4...4, 5...5, 5...8)
    let along = scores(truth, block(4...4, 5...5, 6...9), spacing: spacing)
    #expect(along.lesions[0].match?.nsd == 1 && along.whole.nsd == 0.75)
    // Rows, each with one voxel more beside it.
    let across = scores(truth, truth + [[4, 6, 5]], spacing: spacing)
    #expect(abs(try #require(across.lesions[0].match).nsd - 0.9) <= 1e-15)
  }

  @Test(arguments: [[1.0, 1, 1], [2, 1, 0.5], [0.7, 1.3, 5]]) func hd95IsTheOneOfWholeRegions(
    spacing: [Double]
  ) {
    for trial in 0..<20 {
      let size = Size(6, 7, 8), share = [0.05, 0.3, 0.9][trial % 3]
      let truth = randomMask(size, share, spacing: spacing, trial)
      let prediction = randomMask(size, share, spacing: spacing, trial + 40)
      let pair = MaskPair(truth: truth, prediction: prediction)
      if pair.overlap.tp == 0 { continue }
      let region = Region("any", [1]), found = InstanceScores(pair)
      func right(_ spacing: [Double]) -> Double {
        SurfaceDistance().hd95(
          truth: LabelVolume(size, truth.voxels), prediction: LabelVolume(size, prediction.voxels),
          regions: [region], spacing: spacing)[region] ?? .nan
      }
      #expect(abs(found.whole.hd95 - right(spacing)) <= 1e-12 * max(1, found.whole.hd95))
      #expect(abs(found.wholeHD95Voxels - right([1, 1, 1])) <= 1e-12 * max(1, found.wholeHD95Voxels))
      #expect(found.whole.dsc == pair.overlap.dice)
    }
  }

  /// A lesion of 20 mm³ is large; a pair below a Dice of 0.1 is none of detection; false positives count in both tables.
  @Test func metastasesBySize() {
    let large = block(0...0, 0...3, 0...4), small = block(5...5, 0...0, 0...18)
    let own = scores(large + small, large + [[5, 0, 0]] + [[9, 11, 19]])
    let found = MetastasisScores(own)
    #expect(own.tp == 2 && own.fp == 1)
    #expect(found.large.tp == 1 && found.large.fn == 0 && found.large.fp == 1)
    // 2 / 20 is 0.1, which is enough.
    #expect(found.small.tp == 1)
    #expect(found.dsc == LesionSpread([1, 0]) && found.hd95 == LesionSpread([0, 373]))
    let worse = MetastasisScores(scores(small + [[5, 1, 0]], [[5, 0, 0]]))
    #expect(worse.small.tp.isNaN && worse.large.tp == 0 && worse.large.fn == 1 && worse.large.f1 == 0)
    let none = MetastasisScores(scores([], large))
    #expect(none.large.fp.isNaN && none.small.f1.isNaN && none.dsc.mean.isNaN)
  }
}
