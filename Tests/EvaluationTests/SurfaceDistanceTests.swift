import Foundation
import TestSupport
import Testing

@testable import Compute
@testable import Evaluation
@testable import Imaging

/// HD95 as plainly as can be: each border voxel against each border voxel of the other. nil where one is empty.
private func plain(
  _ a: [Bool], _ b: [Bool], _ size: Size, _ spacing: [Double], _ direction: SurfaceDistance.Direction
) -> Double? {
  func border(_ mask: [Bool]) -> [SIMD3<Double>] {
    func holds(_ z: Int, _ y: Int, _ x: Int) -> Bool {
      (0..<size.z).contains(z) && (0..<size.y).contains(y) && (0..<size.x).contains(x)
        && mask[(z * size.y + y) * size.x + x]
    }
    var border: [SIMD3<Double>] = []
    for z in 0..<size.z {
      for y in 0..<size.y {
        for x in 0..<size.x where holds(z, y, x) {
          let isInside =
            holds(z - 1, y, x) && holds(z + 1, y, x) && holds(z, y - 1, x) && holds(z, y + 1, x)
            && holds(z, y, x - 1) && holds(z, y, x + 1)
          if !isInside { border.append(SIMD3(Double(z), Double(y), Double(x))) }
        }
      }
    }
    return border
  }
  let scale = SIMD3(spacing)
  func distances(_ from: [SIMD3<Double>], _ to: [SIMD3<Double>]) -> [Double] {
    from.map { p in
      var least = Double.infinity
      for q in to {
        let way = (p - q) * scale
        least = min(least, (way * way).sum())
      }
      return least.squareRoot()
    }
  }
  func percentile(_ values: [Double]) -> Double {
    let sorted = values.sorted(), h = 0.95 * Double(sorted.count - 1), low = Int(h)
    let high = min(low + 1, sorted.count - 1)
    return sorted[low] + (h - Double(low)) * (sorted[high] - sorted[low])
  }
  let borders = (border(a), border(b))
  if borders.0.isEmpty || borders.1.isEmpty { return nil }
  let there = distances(borders.0, borders.1), back = distances(borders.1, borders.0)
  return direction == .pooled ? percentile(there + back) : max(percentile(there), percentile(back))
}

private func region(_ region: Region, of labels: LabelVolume) -> [Bool] {
  labels.classes.map(region.contains)
}

@Suite struct SurfaceDistanceTests {
  /// A volume with a class at some places [z, y, x].
  private func volume(_ size: Size, _ places: [[Int]], _ index: UInt8 = 3) -> LabelVolume {
    var classes = [UInt8](repeating: 0, count: size.voxels)
    for place in places { classes[(place[0] * size.y + place[1]) * size.x + place[2]] = index }
    return LabelVolume(size, classes)
  }

  @Test func aHandWorkedCase() {
    let size = Size(3, 6, 9)
    let truth = volume(size, [[0, 1, 1], [0, 1, 2]]), prediction = volume(size, [[2, 1, 1]])
    // Two voxels of 3 mm along z, for one of them also one of 1 mm along x, and 6 mm back.
    let found = SurfaceDistance().hd95(truth: truth, prediction: prediction, spacing: [3, 2, 1])
    let expected = 6 + 0.9 * (37.0.squareRoot() - 6)
    for region in Region.allCases { #expect(abs((found[region] ?? .nan) - expected) <= 1e-14) }
    let larger = SurfaceDistance(direction: .larger)
      .hd95(truth: truth, prediction: prediction, spacing: [3, 2, 1])
    #expect(abs((larger[.et] ?? .nan) - (6 + 0.95 * (37.0.squareRoot() - 6))) <= 1e-14)
  }

  @Test func emptyRegionsFollowTheChallenge() {
    let size = Size(4, 5, 6), empty = volume(size, []), some = volume(size, [[1, 1, 1]])
    for (truth, prediction) in [(empty, some), (some, empty)] {
      for direction in SurfaceDistance.Direction.allCases {
        func found(_ empty: SurfaceDistance.Empty) -> Double? {
          SurfaceDistance(direction: direction, empty: empty)
            .hd95(truth: truth, prediction: prediction, spacing: [1, 1, 2])[.et]
        }
        #expect(found(.constant) == 139_225.0.squareRoot())
        // In voxels: the spacing has no part in it.
        #expect(found(.diagonal) == 77.0.squareRoot())
        #expect(
          SurfaceDistance(direction: direction, empty: .diagonal)
            .hd95(truth: empty, prediction: empty, spacing: [1, 1, 1]) == [.wt: 0, .tc: 0, .et: 0])
      }
    }
    // ET is missing, WT isn't.
    let oedema = volume(size, [[1, 1, 1]], 2)
    let found = SurfaceDistance().hd95(truth: some, prediction: oedema, spacing: [1, 1, 1])
    #expect(found[.wt] == 0 && found[.et] == 139_225.0.squareRoot())
  }

  /// What is inside a mask has no part: a hollow cube is as far from a point in it as a full one.
  @Test func onlyTheBorderCounts() {
    let size = Size(9, 9, 9)
    var full: [[Int]] = [], hollow: [[Int]] = []
    for z in 1...7 {
      for y in 1...7 {
        for x in 1...7 {
          full.append([z, y, x])
          if [z, y, x].contains(where: { $0 == 1 || $0 == 7 }) { hollow.append([z, y, x]) }
        }
      }
    }
    let point = volume(size, [[4, 4, 4]])
    func found(_ places: [[Int]]) -> Double? {
      SurfaceDistance().hd95(truth: volume(size, places), prediction: point, spacing: [1, 1, 1])[.et]
    }
    #expect(found(full) == found(hollow))
  }

  @Test(arguments: [
    (Size(7, 8, 9), [1.0, 1, 1]), (Size(6, 9, 7), [1.5, 0.9375, 0.9375]), (Size(1, 9, 12), [5, 0.7, 1.3]),
    (Size(11, 1, 8), [0.3, 1, 2]), (Size(10, 7, 1), [1, 1, 1]), (Size(1, 1, 14), [1, 1, 0.1]),
    (Size(1, 15, 1), [1, 3, 1]), (Size(16, 1, 1), [2.5, 1, 1]), (Size(1, 1, 1), [1, 1, 1]),
  ]) func equalsBruteForce(size: Size, spacing: [Double]) throws {
    var measured = 0
    for trial in 0..<60 {
      var random = Philox(seed: UInt64(trial), .test, size.voxels)
      // From almost empty masks, of a voxel or two, to almost full ones.
      func labels() -> LabelVolume {
        let share = [0.02, 0.1, 0.5, 0.95][trial % 4]
        return LabelVolume(
          size,
          (0..<size.voxels).map { _ in Double(random.uniform()) < share ? UInt8(1 + random.below(3)) : 0 })
      }
      let truth = labels(), prediction = labels()
      for direction in SurfaceDistance.Direction.allCases {
        let found = SurfaceDistance(direction: direction)
          .hd95(truth: truth, prediction: prediction, spacing: spacing)
        for part in Region.allCases {
          let masks = (region(part, of: truth), region(part, of: prediction))
          guard let expected = plain(masks.0, masks.1, size, spacing, direction) else { continue }
          measured += 1
          #expect(
            abs(try #require(found[part]) - expected) <= 1e-12 * max(1, expected),
            "\(size) \(trial) \(part) \(direction)")
        }
      }
    }
    #expect(measured >= 20, "\(measured) of 360 have two masks")
  }

  @Test func goldenCases() throws {
    let golden = try Golden.load(), tolerance = try #require(golden.tolerances["hd95"])
    var empty = 0
    for (id, expected) in golden.cases {
      let truth = try Golden.labels(#require(expected.files["truth"]))
      let prediction = try Golden.labels(#require(expected.files["seg"]))
      let spacing = Array(expected.spacing.reversed())
      func found(_ direction: SurfaceDistance.Direction, _ empty: SurfaceDistance.Empty) -> [Region: Double] {
        SurfaceDistance(direction: direction, empty: empty)
          .hd95(truth: truth, prediction: prediction, spacing: spacing)
      }
      for part in Region.allCases {
        let right = try #require(expected.regions[part.name]), name = "\(id) (\(expected.kind)) \(part)"
        #expect(abs(try #require(found(.pooled, .constant)[part]) - right.hd95) <= tolerance, "\(name)")
        if let larger = right.hd95LargerDirection {
          #expect(abs(try #require(found(.larger, .constant)[part]) - larger) <= tolerance, "\(name)")
        } else {
          empty += 1
          let diagonal = try #require(right.hd95VolumeDiagonal)
          #expect(abs(try #require(found(.pooled, .diagonal)[part]) - diagonal) <= tolerance, "\(name)")
          #expect(right.hd95 == 0 || right.hd95 == golden.hd95Penalty, "\(name)")
        }
      }
    }
    #expect(golden.cases.count == 16 && empty > 0)
  }
}
