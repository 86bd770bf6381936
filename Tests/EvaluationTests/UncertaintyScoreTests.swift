import Foundation
import TestSupport
import Testing

@testable import Compute
@testable import Evaluation
@testable import Imaging

private func row(_ classes: [UInt8]) -> LabelVolume { LabelVolume(Size(1, 1, classes.count), classes) }

@Suite struct UncertaintyScoreTests {
  /// One voxel of each kind, in the brain, and a false positive outside of it.
  private let truth = row([3, 3, 0, 3, 0, 0, 0])
  private let prediction = row([3, 3, 3, 0, 0, 0, 3])
  private let brain: [UInt8] = [1, 1, 1, 1, 1, 1, 0]

  @Test func aHandWorkedCase() {
    let curves = UncertaintyCurves(
      .et, truth: truth, prediction: prediction, brain: brain, map: [50, 50.5, 100, 25, 0, 75, 75.5],
      .init(points: 4, filters: [50, 10]))
    #expect(curves.thresholds == [0, 25, 50, 75, 100])
    // At 0 a true negative is left; then come FN; TP; TP and TN; both FP.
    let dice: [Double] = [1, 0, 2.0 / 3, 4.0 / 5, 4.0 / 7]
    #expect(curves.dice == dice)
    #expect(curves.ftp == [1, 1, 0.5, 0, 0])
    #expect(curves.ftn == [0.5, 0.5, 0.5, 0, 0])
    #expect(curves.filteredDice == [.init(threshold: 50, dice: dice[2]), .init(threshold: 10, dice: 1)])
    let score = UncertaintyScore(curves)
    let area: Double = (11.0 / 14 + 22.0 / 15) / 4
    #expect(abs(score.areas.dice - area) <= 1e-15)
    #expect(score.areas.ftp == 0.5 && score.areas.ftn == 0.3125)
    #expect(abs(score.score - (area + 0.5 + 0.6875) / 3) <= 1e-15)
    let certain: Double = (dice[4] + 2) / 3
    #expect(score.certain == certain)
  }

  @Test(arguments: [1, 3, 4, 40, 49, 100, 997]) func certaintyGivesTheReferenceScore(points: Int) {
    let score = UncertaintyScore(
      UncertaintyCurves(
        .wt, truth: truth, prediction: prediction, brain: brain, map: [Double](repeating: 0, count: 7),
        .init(points: points)))
    // As many sums are rounded as there are points.
    #expect(abs(score.score - score.certain) <= Double(points + 4) * 0x1p-53)
    #expect(score.areas.ftp == 0 && score.areas.ftn == 0)
  }

  /// Uncertainties of 100 stay at the last threshold, though 49 · (100/49) is a little less.
  @Test(arguments: [1, 4, 40, 49, 100]) func fullUncertaintyIsFilteredBelow100(points: Int) {
    let curves = UncertaintyCurves(
      .wt, truth: truth, prediction: prediction, brain: brain, map: [Double](repeating: 100, count: 7),
      .init(points: points))
    #expect(curves.thresholds.count == points + 1 && curves.thresholds.last == 100)
    let whole = 4.0 / 7, ones = [Double](repeating: 1, count: points)
    #expect(curves.dice == ones + [whole])
    #expect(curves.ftp == ones + [0] && curves.ftp == curves.ftn)
    #expect(curves.filteredDice.map(\.dice) == [whole, 1, 1, 1])
  }

  @Test func withoutABrainNothingIsLost() {
    let curves = UncertaintyCurves(
      .wt, truth: truth, prediction: prediction, brain: [UInt8](repeating: 0, count: 7),
      map: [Double](repeating: 100, count: 7))
    #expect(curves.ftp.allSatisfy { $0 == 0 } && curves.ftn.allSatisfy { $0 == 0 })
    #expect(curves.dice.last == 4.0 / 7)
  }

  @Test func filtersComeOnceFromHighToLow() {
    #expect(UncertaintyThresholds(filters: [25, 100, 25, 0.5]).filters == [100, 25, 0.5])
    #expect(UncertaintyThresholds(points: 40).curve[1] == 2.5)
  }

  /// Counted anew at each threshold, for uncertainties at, just above and just below thresholds.
  @Test(arguments: [1, 3, 7, 40, 49, 1000]) func equalsAFilterAtEachThreshold(points: Int) throws {
    let cuts = UncertaintyThresholds(points: points, filters: [33.3, 12.5, 0])
    var random = Philox(seed: 5, .test, points)
    let count = 4000
    let truth = row((0..<count).map { _ in UInt8(random.below(4)) })
    let prediction = row(truth.classes.map { random.below(3) > 0 ? $0 : UInt8(random.below(4)) })
    let brain = (0..<count).map { _ in UInt8(random.below(2)) }
    let marks = cuts.curve + cuts.filters
    let map = (0..<count).map { _ in
      let mark = marks[random.below(marks.count)]
      let near = [mark, mark.nextUp, mark.nextDown, Double(random.uniform(0, 100))][random.below(4)]
      return min(max(near, 0), 100)
    }
    for region in Region.allCases {
      let curves = UncertaintyCurves(
        region, truth: truth, prediction: prediction, brain: brain, map: map, cuts)
      let voxels = (0..<count).map { i in
        (t: region.contains(truth.classes[i]), p: region.contains(prediction.classes[i]), u: map[i])
      }
      func dice(_ threshold: Double) -> Double {
        let kept = voxels.filter { $0.u <= threshold }
        let both = kept.count { $0.t && $0.p }, sum = kept.count(where: \.t) + kept.count(where: \.p)
        return sum == 0 ? 1 : Double(2 * both) / Double(sum)
      }
      func lost(_ threshold: Double, _ isOf: (Int) -> Bool) -> Double {
        let all = (0..<count).filter { brain[$0] == 1 && isOf($0) }
        return Double(all.count { voxels[$0].u > threshold }) / Double(all.count)
      }
      for (i, threshold) in cuts.curve.enumerated() where points < 100 || i % 97 == 0 {
        #expect(curves.dice[i] == dice(threshold), "\(region) \(threshold)")
        #expect(curves.ftp[i] == lost(threshold) { voxels[$0].t && voxels[$0].p }, "\(region) \(threshold)")
        #expect(curves.ftn[i] == lost(threshold) { !voxels[$0].t && !voxels[$0].p }, "\(region) \(threshold)")
      }
      #expect(curves.filteredDice.map(\.threshold) == [33.3, 12.5, 0])
      for filtered in curves.filteredDice { #expect(filtered.dice == dice(filtered.threshold)) }
    }
  }

  @Test func goldenCases() throws {
    let golden = try Golden.load()
    // Curves and areas are those of a program in float32; filtered Dice is exact.
    let tolerance = try #require(golden.tolerances["challenge values (it computes in float32)"])
    let exact = try #require(golden.tolerances["dice, sensitivity, specificity"])
    #expect(golden.thresholds40 == UncertaintyThresholds().curve.reversed())
    for (id, expected) in golden.cases {
      func path(_ file: String) throws -> String {
        Golden.folder.appending(path: try #require(expected.files[file])).path
      }
      let truth = try Golden.labels(#require(expected.files["truth"]))
      let prediction = try Golden.labels(#require(expected.files["seg"]))
      let brain = try NIfTIImage.read(path("t1")).voxels.map { UInt8($0 > 0 ? 1 : 0) }
      for region in Region.allCases {
        let right = try #require(expected.regions[region.name]),
          name = "\(id) (\(expected.kind)) \(region)"
        let map = try NIfTIImage.doubles(path(region.name)).values
        func curves(_ points: Int) -> UncertaintyCurves {
          UncertaintyCurves(
            region, truth: truth, prediction: prediction, brain: brain, map: map, .init(points: points))
        }
        for (found, key) in [
          (curves(40).dice, "DICE"), (curves(40).ftp, "FTP_RATIO"), (curves(40).ftn, "FTN_RATIO"),
        ] {
          let values = try #require(right.curve[key])
          #expect(values.count == 41)
          for (a, b) in zip(found.reversed(), values) {
            #expect(abs(a - b) <= tolerance, "\(name) \(key): \(a), expected \(b)")
          }
        }
        for (points, areas) in [(40, right.areas40), (100, right.areas100), (4, right.areas4)] {
          let score = UncertaintyScore(curves(points))
          for (a, b) in [
            (score.areas.dice, areas.dice), (score.areas.ftp, areas.ftp), (score.areas.ftn, areas.ftn),
            (score.score, areas.score),
          ] { #expect(abs(a - b) <= tolerance, "\(name) at \(points): \(a), expected \(b)") }
          #expect(abs(score.certain - (right.dice + 2) / 3) <= exact, "\(name)")
          #expect(score.filteredDice.count == 4 && right.filteredDice.count == 4)
          for filtered in score.filteredDice {
            let dice = try #require(right.filteredDice["\(Int(filtered.threshold))"])
            #expect(abs(filtered.dice - dice) <= exact, "\(name): \(filtered), expected \(dice)")
          }
        }
      }
    }
  }
}
