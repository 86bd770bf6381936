import Compute
import Imaging

/// Voxels as runs along x, in memory order: what is sparse costs little, in a volume of any size.
struct Runs: Equatable, Sendable {
  /// Voxels from `first` to before `end` of row z · size.y + y.
  struct Run: Equatable, Sendable { let row, first, end: Int32 }

  let size: Size
  private(set) var runs: [Run] = []
  /// [rows + 1]: where the runs of row z · size.y + y begin.
  private var starts: [Int32]

  private init(_ size: Size) {
    self.size = size
    starts = [0]
    starts.reserveCapacity(size.z * size.y + 1)
  }

  /// The voxels that are not 0, [z, y, x].
  init(_ voxels: [UInt8], _ size: Size) {
    precondition(voxels.count == size.voxels, "\(voxels.count) voxels of \(size)")
    self.init(size)
    let all = voxels.span
    for row in 0..<size.z * size.y {
      let values = all.extracting(row * size.x..<(row + 1) * size.x)
      var x = 0
      while x < values.count {
        if values[x] == 0 {
          x += 1
          continue
        }
        let first = x
        while x < values.count && values[x] != 0 { x += 1 }
        runs.append(Run(row: Int32(row), first: Int32(first), end: Int32(x)))
      }
      starts.append(Int32(runs.count))
    }
  }

  init(_ mask: RegionMask) { self.init(mask.voxels, mask.size) }

  var rows: Int { starts.count - 1 }

  /// Which runs are in a row.
  func indices(ofRow row: Int) -> Range<Int> { Int(starts[row])..<Int(starts[row + 1]) }

  /// The pairs of a run of `own` and one of `others` of which some voxels lie at most `reach` apart along x; both are of
  /// one row each.
  func forEachTouching(
    _ own: Range<Int>, _ others: Range<Int>, _ reach: Int32, _ body: (_ own: Int, _ other: Int) -> Void
  ) {
    var next = others.lowerBound
    for i in own {
      while next < others.upperBound && runs[next].end + reach <= runs[i].first { next += 1 }
      var other = next
      while other < others.upperBound && runs[other].first < runs[i].end + reach {
        body(i, other)
        other += 1
      }
    }
  }

  /// Every voxel with its 18 neighbours, `times` times: those that share a face or an edge with it. What would lie
  /// outside of the volume is lost.
  ///
  /// Source: SciPy's `binary_dilation` with `generate_binary_structure(3, 2)`.
  func dilated(_ times: Int) -> Runs { (0..<times).reduce(self) { runs, _ in runs.dilated() } }

  private func dilated() -> Runs {
    var result = Runs(size)
    // How many more runs begin than end at x.
    var steps = [Int32](repeating: 0, count: size.x + 1)
    for z in 0..<size.z {
      for y in 0..<size.y {
        var isEmpty = true
        for dz in -1...1 where (0..<size.z).contains(z + dz) {
          for dy in -1...1 where (0..<size.y).contains(y + dy) {
            // Over an edge only the voxel right there, else its neighbours along x too.
            let reach: Int32 = dz != 0 && dy != 0 ? 0 : 1
            for i in indices(ofRow: (z + dz) * size.y + y + dy) {
              steps[Int(max(runs[i].first - reach, 0))] += 1
              steps[Int(min(runs[i].end + reach, Int32(size.x)))] -= 1
              isEmpty = false
            }
          }
        }
        if !isEmpty { result.appendRuns(&steps, row: z * size.y + y) }
        result.starts.append(Int32(result.runs.count))
      }
    }
    return result
  }

  /// Adds where the sum of steps is above 0, and sets them back to 0.
  private mutating func appendRuns(_ steps: inout [Int32], row: Int) {
    var depth: Int32 = 0, first: Int32 = 0
    for x in steps.indices where steps[x] != 0 {
      let next = depth + steps[x]
      if depth == 0 {
        first = Int32(x)
      } else if next == 0 {
        runs.append(Run(row: Int32(row), first: first, end: Int32(x)))
      }
      depth = next
      steps[x] = 0
    }
  }
}

/// Which voxels touch.
package enum Neighbourhood: Int, CaseIterable, Sendable {
  /// Over faces: 6 neighbours.
  case faces = 6
  /// Over faces and edges.
  case edges = 18
  /// Over faces, edges and corners.
  case corners = 26

  /// How far along x voxels of two rows may lie apart that are `rows` apart in z and y together; nil: they never touch.
  func reach(rows: Int) -> Int32? {
    switch self {
    case .faces: rows == 1 ? 0 : nil
    case .edges: rows == 1 ? 1 : 0
    case .corners: 1
    }
  }
}
