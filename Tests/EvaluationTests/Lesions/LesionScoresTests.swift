import Foundation
import Testing

@testable import Compute
@testable import Evaluation
@testable import Imaging

@Suite struct LesionScoresTests {
  @Test func goldenCases() throws {
    var regions = 0, lesions = 0
    for item in try MetricsGolden().cases {
      guard let settings = item.settings, let expected = item.expected["brats2023"] else { continue }
      for region in item.regions {
        guard let right = expected[region.name] else { continue }
        regions += 1
        let found = try #require(
          MetricSet.scores(
            truth: item.truth, prediction: item.prediction, [region], spacing: item.spacing, [.brats2023],
            .init(lesions: settings)
          ).first)
        let values = found.values(.brats2023)
        #expect(Set(values.map(\.name)) == Set(right.members.keys).subtracting(["lesions"]))
        for (name, value) in values {
          let number = try #require(right[name]?.number)
          #expect(agree(value, number, name), "\(item.id) \(region.name) \(name): \(value), not \(number)")
        }
        let own = try #require(found.lesions?.lesions)
        func sorted(_ lesions: [[Double]]) -> [[Double]] {
          lesions.sorted { $0.lexicographicallyPrecedes($1) }
        }
        let all = sorted(own.map { [$0.volume, $0.isFound ? 1 : 0, $0.dice, $0.hd95] })
        let rightOnes = sorted(
          try #require(right["lesions"]).list.map { lesion in
            ["volume", "found", "dice", "hd95"].map { lesion[$0]?.number ?? .nan }
          })
        #expect(all.count == rightOnes.count)
        for (a, b) in zip(all, rightOnes) {
          lesions += 1
          #expect(agree(a[0], b[0], "volume") && a[1] == b[1] && agree(a[2], b[2], "dice"), "\(a) \(b)")
          #expect(agree(a[3], b[3], "hd95"), "\(item.id) \(region.name): \(a), not \(b)")
        }
      }
    }
    // Ten of gliomas, one of metastases.
    #expect(regions == 33 && lesions > 30)
  }

  private let size = Size(12, 12, 24)
  private func scores(_ truth: [[Int]], _ prediction: [[Int]], _ settings: LesionSettings) -> LesionScores {
    LesionScores(MaskPair(truth: mask(size, truth), prediction: mask(size, prediction)), settings)
  }

  @Test func emptyMasksFollowTheProgram() {
    let some = block(2...5, 2...5, 2...5)
    let settings = LesionSettings(dilation: 1, volume: 0)
    let none = scores([], [], settings)
    #expect(none.lesionDice == 1 && none.lesionHD95 == 0 && none.hd95 == 0 && none.overlap.dice == 1)
    let missed = scores(some, [], settings)
    #expect(missed.lesionDice == 0 && missed.lesionHD95 == 374 && missed.hd95 == 374 && missed.fn == 1)
    let invented = scores([], some, settings)
    #expect(invented.lesionDice == 0 && invented.lesionHD95 == 374 && invented.hd95 == 374)
    #expect(invented.fp == 1 && invented.tp == 0 && invented.fn == 0)
    let equal = scores(some, some, settings)
    #expect(equal.lesionDice == 1 && equal.lesionHD95 == 0 && equal.tp == 1 && equal.fp == 0)
  }

  /// A lesion that is too small to count shields the prediction on it; missed alone it leaves a perfect score.
  @Test func smallLesionsShield() {
    let small = [[5, 5, 4]], settings = LesionSettings(dilation: 1, volume: 1)
    let shielded = scores(small, [[5, 5, 5]], settings)
    #expect(shielded.fp == 0 && shielded.tp == 0 && shielded.lesionDice == 1 && shielded.lesionHD95 == 0)
    #expect(shielded.lesions.map(\.isFound) == [true] && shielded.lesions.map(\.counts) == [false])
    #expect(scores(small, [[5, 5, 7]], settings).fp == 1)
    // Not larger than the threshold is too small.
    #expect(scores(small, [], settings).fn == 0)
    #expect(scores(small, [], LesionSettings(dilation: 1, volume: 0.999)).fn == 1)
  }

  /// Over corners a dilated voxel does not reach: they are no neighbours of the 18.
  @Test func nearnessGoesOverEdges() {
    let settings = LesionSettings(dilation: 1, volume: 0)
    #expect(scores([[5, 5, 5]], [[6, 6, 5]], settings).fp == 0)
    #expect(scores([[5, 5, 5]], [[6, 6, 6]], settings).fp == 1)
    // Without a dilation the masks themselves have to meet.
    #expect(scores([[5, 5, 5]], [[5, 5, 6]], LesionSettings(dilation: 0, volume: 0)).fp == 1)
  }

  /// Two blocks five voxels apart are one lesion at three dilations and two at one; a predicted part over both serves both,
  /// whole.
  @Test func onePartMayServeSeveralLesions() {
    let truth = block(3...6, 3...6, 2...5) + block(3...6, 3...6, 11...14), over = block(3...6, 3...6, 2...14)
    let one = scores(truth, over, LesionSettings(dilation: 3, volume: 0))
    #expect(one.lesions.count == 1 && abs(one.lesionDice - 256.0 / 336) < 1e-15)
    let two = scores(truth, over, LesionSettings(dilation: 1, volume: 0))
    #expect(two.lesions.count == 2 && two.fp == 0 && two.tp == 2)
    #expect(two.lesions.allSatisfy { abs($0.dice - 128.0 / 272) < 1e-15 })
  }

  /// Against a program as plain as can be, on volumes without any structure.
  @Test(arguments: [[1.0, 1, 1], [1.5, 0.9375, 0.9375], [3, 0.5, 2]])
  func equalsBruteForce(spacing: [Double]) {
    let size = Size(7, 6, 8)
    for trial in 0..<24 {
      let truth = randomMask(size, [0.02, 0.05, 0.2][trial % 3], spacing: spacing, trial)
      let prediction = randomMask(size, [0.05, 0.02, 0.3][trial % 3], spacing: spacing, trial + 100)
      let settings = LesionSettings(dilation: trial % 4, volume: spacing.reduce(1, *))
      let found = LesionScores(MaskPair(truth: truth, prediction: prediction), settings)
      let right = plainLesions(truth, prediction, settings)
      #expect(found.lesions == right.lesions && found.fp == right.fp, "\(spacing) \(trial)")
    }
  }

  private func plainLesions(
    _ truth: RegionMask, _ prediction: RegionMask, _ settings: LesionSettings
  ) -> (lesions: [LesionScores.Lesion], fp: Int) {
    let size = truth.size
    let groups = plainComponents(plainDilation(truth, settings.dilation), .corners)
    let parts = plainComponents(prediction, .corners), partCount = parts.max() ?? 0
    var near: Set<Int> = []
    let lesions = (1...max(groups.max() ?? 0, 1)).compactMap { group -> LesionScores.Lesion? in
      let own = RegionMask(
        size, spacing: truth.spacing, zip(groups, truth.voxels).map { $0 == group ? $1 : 0 })
      if own.count == 0 { return nil }
      let grown = plainDilation(own, settings.dilation)
      let touched = Set(zip(parts, grown.voxels).compactMap { $1 == 1 && $0 > 0 ? $0 : nil })
      near.formUnion(touched)
      let all = RegionMask(size, spacing: truth.spacing, parts.map { touched.contains($0) ? 1 : 0 })
      let pair = MaskPair(truth: own, prediction: all)
      return .init(
        volume: own.volume, isFound: !touched.isEmpty, dice: touched.isEmpty ? 0 : pair.overlap.dice,
        hd95: touched.isEmpty ? 374 : plainAreaHD95(pair), counts: own.volume > settings.volume)
    }
    return (lesions, partCount - near.count)
  }
}

/// HD95 by area, each corner against each.
func plainAreaHD95(_ pair: MaskPair) -> Double {
  let spacing = pair.truth.spacing, areas = SurfaceAreas(spacing: spacing).table
  func surface(_ mask: RegionMask) -> [(place: [Int], area: Double)] {
    let size = mask.size
    var all: [(place: [Int], area: Double)] = []
    for place in block(0...size.z, 0...size.y, 0...size.x) {
      var code = 0
      for bit in 0..<8 {
        let z = place[0] - 1 + bit >> 2, y = place[1] - 1 + bit >> 1 & 1, x = place[2] - 1 + bit & 1
        if (0..<size.z).contains(z), (0..<size.y).contains(y), (0..<size.x).contains(x),
          mask.voxels[(z * size.y + y) * size.x + x] == 1
        {
          code |= 1 << bit
        }
      }
      if code != 0 && code != 255 { all.append((place, areas[code])) }
    }
    return all
  }
  let a = surface(pair.truth), b = surface(pair.prediction)
  typealias Element = (place: [Int], area: Double)
  func nearest(_ here: Element, _ all: [Element]) -> Double {
    var least = Double.infinity
    for there in all {
      var squares = 0.0
      for axis in [2, 1, 0] {
        let steps = here.place[axis] - there.place[axis], way = Double(steps) * spacing[axis]
        squares += way * way
      }
      least = min(least, squares)
    }
    return least.squareRoot()
  }
  func percentile(_ from: [Element], _ to: [Element]) -> Double {
    var all: [SIMD2<Double>] = from.map { SIMD2(nearest($0, to), $0.area) }
    all.sort { $0.x != $1.x ? $0.x < $1.x : $0.y < $1.y }
    let total = all.reduce(0) { $0 + $1.y }
    var sum = 0.0
    for element in all {
      sum += element.y
      if sum / total >= 0.95 { return element.x }
    }
    return .nan
  }
  return max(percentile(a, b), percentile(b, a))
}
