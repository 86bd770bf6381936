import Foundation
import Testing

@testable import Compute
@testable import Evaluation
@testable import Imaging

/// Parts by flooding, numbered from 1 in memory order.
func plainComponents(_ mask: RegionMask, _ neighbours: Neighbourhood) -> [Int] {
  let size = mask.size
  var labels = [Int](repeating: 0, count: size.voxels), count = 0
  let most = [Neighbourhood.faces: 1, .edges: 2, .corners: 3][neighbours] ?? 0
  for start in labels.indices where mask.voxels[start] == 1 && labels[start] == 0 {
    count += 1
    labels[start] = count
    var open = [start]
    while let voxel = open.popLast() {
      let z = voxel / (size.x * size.y), y = voxel / size.x % size.y, x = voxel % size.x
      for step in block(-1...1, -1...1, -1...1) where step.reduce(0, { $0 + abs($1) }) <= most {
        let other = [z + step[0], y + step[1], x + step[2]]
        guard zip(other, size.array).allSatisfy({ $0 >= 0 && $0 < $1 }) else { continue }
        let i = (other[0] * size.y + other[1]) * size.x + other[2]
        if mask.voxels[i] == 1 && labels[i] == 0 {
          labels[i] = count
          open.append(i)
        }
      }
    }
  }
  return labels
}

func plainDilation(_ mask: RegionMask, _ times: Int) -> RegionMask {
  (0..<times).reduce(mask) { mask, _ in
    let size = mask.size
    var voxels = mask.voxels
    for i in voxels.indices where mask.voxels[i] == 1 {
      let z = i / (size.x * size.y), y = i / size.x % size.y, x = i % size.x
      for step in block(-1...1, -1...1, -1...1) where step.reduce(0, { $0 + abs($1) }) <= 2 {
        let other = [z + step[0], y + step[1], x + step[2]]
        guard zip(other, size.array).allSatisfy({ $0 >= 0 && $0 < $1 }) else { continue }
        voxels[(other[0] * size.y + other[1]) * size.x + other[2]] = 1
      }
    }
    return RegionMask(size, spacing: mask.spacing, voxels)
  }
}

@Suite struct ComponentsTests {
  private static let sizes = [
    Size(6, 7, 8), Size(1, 9, 9), Size(9, 1, 9), Size(9, 9, 1), Size(1, 1, 17), Size(1, 1, 1), Size(12, 3, 2),
  ]

  @Test(arguments: sizes, Neighbourhood.allCases)
  func partsAndTheirNumbersEqualFlooding(size: Size, neighbours: Neighbourhood) {
    for trial in 0..<20 {
      let mask = randomMask(size, [0.05, 0.1, 0.25, 0.5, 0.9][trial % 5], trial)
      let found = Components(mask, neighbours), right = plainComponents(mask, neighbours)
      #expect(found.volume.map(Int.init) == right, "\(size) \(neighbours) \(trial)")
      #expect(found.count == right.max())
      #expect(found.voxels == (0..<found.count).map { part in right.count { $0 == part + 1 } })
      for part in 0..<found.count {
        let own = RegionMask(size, spacing: mask.spacing, right.map { $0 == part + 1 ? 1 : 0 })
        #expect(
          found.mask([part], in: found.boxes[part], spacing: mask.spacing)
            == own.cropped(to: found.boxes[part]))
        #expect(own.cropped(to: found.boxes[part]).count == own.count)
      }
    }
  }

  @Test(arguments: sizes, 0...4) func dilationEqualsThePlainOne(size: Size, times: Int) {
    for trial in 0..<8 {
      let mask = randomMask(size, [0.01, 0.05, 0.3, 0.9][trial % 4], trial)
      let right = plainDilation(mask, times)
      #expect(Runs(mask).dilated(times) == Runs(right), "\(size) \(times) \(trial)")
    }
  }

  @Test func diagonalNeighboursAreToldApart() {
    let size = Size(4, 4, 4)
    let edge = mask(size, [[1, 1, 1], [1, 2, 2]]), corner = mask(size, [[1, 1, 1], [2, 2, 2]])
    #expect(Neighbourhood.allCases.map { Components(edge, $0).count } == [2, 1, 1])
    #expect(Neighbourhood.allCases.map { Components(corner, $0).count } == [2, 2, 1])
    // Opposite sides of a volume are no neighbours.
    #expect(Components(mask(size, [[0, 0, 3], [0, 1, 0]])).count == 2)
    #expect(Components(mask(size, [[0, 3, 3], [1, 0, 0]])).count == 2)
  }

  @Test func overlapsEqualCounting() {
    for trial in 0..<20 {
      let size = Size(5, 6, 9), share = [0.05, 0.15, 0.5][trial % 3]
      let masks = (randomMask(size, share, trial), randomMask(size, share, trial + 50))
      let a = plainComponents(masks.0, .corners), b = plainComponents(masks.1, .corners)
      var right: [[Int]: Int] = [:]
      for (a, b) in zip(a, b) where a > 0 && b > 0 { right[[a - 1, b - 1], default: 0] += 1 }
      let found = Components(masks.0).overlaps(Components(masks.1))
      #expect(found.count == right.count)
      for (own, other, voxels) in found { #expect(right[[own, other]] == voxels) }
      #expect(zip(found, found.dropFirst()).allSatisfy { ($0.own, $0.other) < ($1.own, $1.other) })
    }
  }

  /// A volume of the size of 2024's in well under a second, whatever is in it: a whole head, a chequered one and noise.
  @Test func largeVolumesAreFast() {
    let size = Size(182, 218, 182)
    let chequered = RegionMask(
      size, spacing: [1, 1, 1], (0..<size.voxels).map { UInt8(($0 / size.x + $0 % size.x) & 1) })
    let full = RegionMask(size, spacing: [1, 1, 1], [UInt8](repeating: 1, count: size.voxels))
    for (name, mask) in [("full", full), ("chequered", chequered), ("noise", randomMask(size, 0.1, 3))] {
      let clock = ContinuousClock()
      var parts = 0
      let components = clock.measure { parts = Components(mask).count }
      let dilation = clock.measure { _ = Runs(mask).dilated(3).runs.count }
      // A bound for a loaded machine; alone they take a twentieth of it at most.
      let bound = Duration.seconds(20)
      #expect(components < bound && dilation < bound, "\(name): \(parts), \(components), \(dilation)")
    }
  }
}
