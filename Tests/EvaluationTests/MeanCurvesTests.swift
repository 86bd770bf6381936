import Foundation
import TestSupport
import Testing

@testable import Compute
@testable import Evaluation
@testable import Files
@testable import Imaging

@Suite struct EvaluationMeanCurvesTests {
  private let cuts = UncertaintyThresholds(points: 4)

  private func curves(_ seed: UInt64) -> [Region: UncertaintyCurves] {
    var random = Philox(seed: seed, .test)
    let size = Size(2, 3, 10), n = size.voxels
    let truth = LabelVolume(size, (0..<n).map { _ in UInt8(random.below(4)) })
    let prediction = LabelVolume(size, (0..<n).map { _ in UInt8(random.below(4)) })
    let brain = (0..<n).map { _ in UInt8(random.below(3)) }
    return Dictionary(
      uniqueKeysWithValues: Region.allCases.map { region in
        let map = (0..<n).map { _ in Double(random.below(101)) }
        return (
          region,
          UncertaintyCurves(region, truth: truth, prediction: prediction, brain: brain, map: map, cuts)
        )
      })
  }

  @Test func aBinHoldsTheBrainsVoxelsUpToItsThreshold() {
    let size = Size(1, 1, 6)
    let curves = UncertaintyCurves(
      .et, truth: LabelVolume(size, [3, 3, 0, 0, 3, 0]), prediction: LabelVolume(size, [3, 0, 3, 0, 3, 0]),
      brain: [1, 1, 1, 1, 1, 0], map: [0, 25, 25.5, 50, 100, 0], cuts)
    #expect(curves.thresholds == [0, 25, 50, 75, 100])
    #expect(curves.voxels == [1, 1, 2, 0, 1])
    #expect(curves.errors == [0, 1, 1, 0, 0])
  }

  @Test(arguments: [1, 2, 3, 5]) func meansDoNotDependOnWhoHasWhichCase(ranks: Int) throws {
    let cases = (0..<5).map { curves(UInt64($0)) }
    let dealt = (0..<ranks).map { rank in
      stride(from: rank, to: 5, by: ranks).flatMap { MeanCurves.numbers(cases[$0]) }
    }
    let mean = try #require(MeanCurves(dealt: dealt, cases: 5, cuts.curve))
    #expect(mean == MeanCurves(dealt: [cases.flatMap { MeanCurves.numbers($0) }], cases: 5, cuts.curve))
    for region in Region.allCases {
      let found = try #require(mean.regions[region])
      for i in mean.thresholds.indices {
        let dice = cases.reduce(0) { $0 + ($1[region]?.dice[i] ?? 0) } / 5
        let ftn = cases.reduce(0) { $0 + ($1[region]?.ftn[i] ?? 0) } / 5
        let errors = cases.reduce(0) { $0 + ($1[region]?.errors[i] ?? 0) }
        #expect(found.dice[i] == dice && found.ftn[i] == ftn && found.errors[i] == Double(errors))
      }
      #expect(zip(found.errors, found.voxels).allSatisfy { $0 <= $1 })
    }
  }

  @Test func csvReadsBackAsTheSame() throws {
    let mean = try #require(MeanCurves(dealt: [MeanCurves.numbers(curves(1))], cases: 1, cuts.curve))
    let path = FileManager.default.temporaryDirectory.appending(path: "curves-\(UUID().uuidString).csv").path
    defer { try? FileManager.default.removeItem(atPath: path) }
    try Data(mean.csv.utf8).write(to: URL(fileURLWithPath: path))
    #expect(try MeanCurves.load(path) == mean)
    try Data("threshold\n1,2\n".utf8).write(to: URL(fileURLWithPath: path))
    #expect(throws: Fault(.invalid, "\(path): no curves of uncertainty; write them again with study")) {
      try MeanCurves.load(path)
    }
  }

  @Test func withoutMapsThereAreNoCurves() {
    #expect(MeanCurves(dealt: [[], []], cases: 3, cuts.curve) == nil)
  }

  @Test(arguments: [0.01, 0.1, 0.25, 0.4999])
  func theSmallerProbabilityHasItsEntropy(probability: Double) {
    let share = Entropy.binary(probability) / Entropy.ln2
    #expect(abs(Entropy.smallerProbability(of: share) - probability) < 1e-7)
    #expect(Entropy.smallerProbability(of: 0) < 1e-12)
    #expect(abs(Entropy.smallerProbability(of: 1) - 0.5) < 1e-7)
  }
}
