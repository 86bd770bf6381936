import Compute
import Imaging

/// The parts of a mask that hang together, in the order of their first voxels in memory.
package struct Components: Sendable {
  let runs: Runs
  /// The component of each run.
  let labels: [Int32]
  /// Voxels of each component.
  package let voxels: [Int]
  /// The smallest box around each.
  let boxes: [VoxelBox]
  /// The runs of all components, one after the other, in memory order each.
  private let members: [Int32]
  /// [components + 1]: where those of a component begin.
  private let starts: [Int]

  package var count: Int { voxels.count }

  /// In time that grows with rows and runs alone.
  package init(_ mask: RegionMask, _ neighbours: Neighbourhood = .corners) {
    self.init(Runs(mask), neighbours)
  }

  init(_ runs: Runs, _ neighbours: Neighbourhood = .corners) {
    var sets = DisjointSets(runs.runs.count)
    let size = runs.size
    for z in 0..<size.z {
      for y in 0..<size.y {
        let own = runs.indices(ofRow: z * size.y + y)
        if own.isEmpty { continue }
        // The rows before this one: all others come to it themselves.
        for (dz, dy) in [(-1, -1), (-1, 0), (-1, 1), (0, -1)] {
          guard z + dz >= 0, (0..<size.y).contains(y + dy),
            let reach = neighbours.reach(rows: abs(dz) + abs(dy))
          else { continue }
          let others = runs.indices(ofRow: (z + dz) * size.y + y + dy)
          runs.forEachTouching(own, others, reach) { sets.join($0, $1) }
        }
      }
    }
    let (numbers, count) = sets.numbers()
    self.init(runs, numbers, count: count)
  }

  /// The parts of a mask whose voxels hang together in a larger one, as it is after a dilation.
  init(_ runs: Runs, within larger: Components) {
    var labels: [Int32] = []
    labels.reserveCapacity(runs.runs.count)
    for row in 0..<runs.rows {
      let around = larger.runs.indices(ofRow: row)
      var next = around.lowerBound
      for i in runs.indices(ofRow: row) {
        while next < around.upperBound && larger.runs.runs[next].end < runs.runs[i].end { next += 1 }
        precondition(next < around.upperBound, "row \(row) has a run that the larger mask lacks")
        labels.append(larger.labels[next])
      }
    }
    self.init(runs, labels, count: larger.count)
  }

  /// Each of `count` components has a run.
  private init(_ runs: Runs, _ labels: [Int32], count: Int) {
    var voxels = [Int](repeating: 0, count: count), starts = [Int](repeating: 0, count: count + 1)
    var low = [SIMD3<Int32>](repeating: .init(repeating: .max), count: count)
    var high = [SIMD3<Int32>](repeating: .init(repeating: -1), count: count)
    for (i, run) in runs.runs.enumerated() {
      let label = Int(labels[i])
      let (z, y) = Int(run.row).quotientAndRemainder(dividingBy: runs.size.y)
      voxels[label] += Int(run.end - run.first)
      starts[label + 1] += 1
      low[label] = pointwiseMin(low[label], SIMD3(Int32(z), Int32(y), run.first))
      high[label] = pointwiseMax(high[label], SIMD3(Int32(z), Int32(y), run.end - 1))
    }
    for label in 0..<count { starts[label + 1] += starts[label] }
    var members = [Int32](repeating: 0, count: labels.count), next = starts
    for (i, label) in labels.enumerated() {
      members[next[Int(label)]] = Int32(i)
      next[Int(label)] += 1
    }
    self.runs = runs
    self.labels = labels
    self.voxels = voxels
    self.starts = starts
    self.members = members
    boxes = zip(low, high).map { low, high in
      let sides = high &- low &+ 1
      return VoxelBox(
        origin: Size(Int(low.x), Int(low.y), Int(low.z)), size: Size(Int(sides.x), Int(sides.y), Int(sides.z))
      )
    }
  }

  /// [z, y, x]: 0 where no component is, else 1 + its number.
  package var volume: [Int32] {
    var volume = [Int32](repeating: 0, count: runs.size.voxels)
    for (i, run) in runs.runs.enumerated() {
      let row = Int(run.row) * runs.size.x
      for x in run.first..<run.end { volume[row + Int(x)] = labels[i] + 1 }
    }
    return volume
  }

  /// The smallest box that holds all, of which there are some.
  static func box(around all: [Components]) -> VoxelBox {
    let boxes = all.flatMap(\.boxes)
    return boxes.dropFirst().reduce(boxes[0]) { $0.union($1) }
  }

  /// Some components as a mask of a box that holds them. `spacing` along z, y, x, mm.
  func mask(_ components: [Int], in box: VoxelBox, spacing: [Double]) -> RegionMask {
    var voxels = [UInt8](repeating: 0, count: box.size.voxels)
    for component in components {
      for i in members[starts[component]..<starts[component + 1]] {
        let run = runs.runs[Int(i)]
        let (z, y) = Int(run.row).quotientAndRemainder(dividingBy: runs.size.y)
        let row = ((z - box.origin.z) * box.size.y + y - box.origin.y) * box.size.x - box.origin.x
        for x in Int(run.first)..<Int(run.end) { voxels[row + x] = 1 }
      }
    }
    return RegionMask(box.size, spacing: spacing, voxels)
  }

  /// The components that have a voxel in common with another mask, ascending. `origin`: where that mask's first voxel lies.
  func meeting(_ other: Runs, at origin: Size) -> [Int] {
    var found: Set<Int32> = []
    for run in other.runs {
      let (z, y) = Int(run.row).quotientAndRemainder(dividingBy: other.size.y)
      let first = run.first + Int32(origin.x), end = run.end + Int32(origin.x)
      for i in runs.indices(ofRow: (z + origin.z) * runs.size.y + y + origin.y)
      where runs.runs[i].first < end && first < runs.runs[i].end {
        found.insert(labels[i])
      }
    }
    return found.map(Int.init).sorted()
  }

  /// How many voxels each of these has in common with each of another mask of the same size, where there are some; ascending.
  func overlaps(_ other: Components) -> [(own: Int, other: Int, voxels: Int)] {
    precondition(runs.size == other.runs.size, "\(runs.size) over \(other.runs.size)")
    var common: [UInt64: Int] = [:]
    for row in 0..<runs.rows {
      var next = runs.indices(ofRow: row), others = other.runs.indices(ofRow: row)
      while let i = next.first, let j = others.first {
        let a = runs.runs[i], b = other.runs.runs[j]
        let voxels = min(a.end, b.end) - max(a.first, b.first)
        if voxels > 0 {
          common[UInt64(labels[i]) << 32 | UInt64(other.labels[j]), default: 0] += Int(voxels)
        }
        if a.end < b.end { next.removeFirst() } else { others.removeFirst() }
      }
    }
    return common.sorted { $0.key < $1.key }.map {
      (own: Int($0.key >> 32), other: Int($0.key & 0xffff_ffff), voxels: $0.value)
    }
  }
}

/// Which of n things belong together.
private struct DisjointSets {
  /// Each one's way to the first of its set.
  private var parents: [Int32]

  init(_ count: Int) { parents = (0..<Int32(count)).map { $0 } }

  private mutating func first(_ element: Int32) -> Int32 {
    var element = element
    while parents[Int(element)] != element {
      parents[Int(element)] = parents[Int(parents[Int(element)])]
      element = parents[Int(element)]
    }
    return element
  }

  mutating func join(_ a: Int, _ b: Int) {
    let a = first(Int32(a)), b = first(Int32(b))
    parents[Int(max(a, b))] = min(a, b)
  }

  /// The number of each one's set, in the order of their first elements, and how many there are.
  mutating func numbers() -> (numbers: [Int32], count: Int) {
    var numbers: [Int32] = [], count: Int32 = 0
    numbers.reserveCapacity(parents.count)
    for element in parents.indices {
      let first = first(Int32(element))
      if first == element {
        numbers.append(count)
        count += 1
      } else {
        numbers.append(numbers[Int(first)])
      }
    }
    return (numbers, Int(count))
  }
}
