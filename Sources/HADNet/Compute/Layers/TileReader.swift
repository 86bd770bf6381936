import CMachine

/// Sources side by side as tile transforms read them: activated, channels that dropout zeroes left out, zeros outside
/// the volume. A voxel is `pitch` floats, of which the first `count` are channels.
final class TileReader: @unchecked Sendable {
  /// Channels that lie side by side both where they are stored and where they are read.
  private struct Run {
    let from, to, count: Int
  }

  private struct Part {
    let base: UnsafePointer<Float>
    let depth, height, width, channels: Int
    /// 1: each voxel is read twice along each axis.
    let halving: Int
    let slope: Float
    let runs: UnsafeMutableBufferPointer<Run>
    /// Per stored channel, with room to read a vector at the last one; nil: values are read as they are.
    let scale, shift: UnsafeMutablePointer<Float>?
  }

  private let parts: UnsafeMutableBufferPointer<Part>
  /// Keeps the parts' memory.
  private let volumes: [Volume]
  let size: Size
  /// Channels read, and the floats of a voxel: whole vectors.
  let count, pitch: Int
  /// Whether no run in whole vectors reaches into the next voxel.
  private let staysWithinVoxels: Bool

  /// Reads the kept channels of `sources`, or of them only those in `range` (counted over all kept channels).
  init(_ sources: [LayerInput], _ range: Range<Int>? = nil) {
    size = sources[0].size
    volumes = sources.map(\.volume)
    var parts: [Part] = [], position = 0
    let range = range ?? 0..<TileReader.kept(sources).reduce(0) { $0 + $1.count }
    for source in sources {
      var runs: [Run] = []
      for channel in TileReader.kept(source) {
        defer { position += 1 }
        guard range.contains(position) else { continue }
        let to = position - range.lowerBound
        if let last = runs.last, last.from + last.count == channel, last.to + last.count == to {
          runs[runs.count - 1] = Run(from: last.from, to: last.to, count: last.count + 1)
        } else {
          runs.append(Run(from: channel, to: to, count: 1))
        }
      }
      if runs.isEmpty { continue }
      let stored = source.volume.size
      parts.append(
        Part(
          base: UnsafePointer(source.volume.base), depth: stored.z, height: stored.y, width: stored.x,
          channels: source.channels, halving: source.upsampled ? 1 : 0, slope: source.slope,
          runs: TileReader.copy(runs), scale: source.scale.map(TileReader.padded),
          shift: source.shift.map(TileReader.padded)))
    }
    self.parts = TileReader.copy(parts)
    count = range.count
    let pitch = (range.count + lanes - 1) / lanes * lanes
    self.pitch = pitch
    staysWithinVoxels = parts.allSatisfy { part in
      part.runs.allSatisfy { $0.to + ($0.count + lanes - 1) / lanes * lanes <= pitch }
    }
  }

  deinit {
    for part in parts {
      part.runs.deallocate()
      part.scale?.deallocate()
      part.shift?.deallocate()
    }
    parts.deallocate()
  }

  private static func copy<Element>(_ values: [Element]) -> UnsafeMutableBufferPointer<Element> {
    let copy = UnsafeMutableBufferPointer<Element>.allocate(capacity: values.count)
    _ = copy.initialize(from: values)
    return copy
  }

  private static func padded(_ values: [Float]) -> UnsafeMutablePointer<Float> {
    let copy = UnsafeMutablePointer<Float>.allocate(capacity: values.count + lanes)
    copy.initialize(repeating: 0, count: values.count + lanes)
    copy.update(from: values, count: values.count)
    return copy
  }

  /// The channels of a source that dropout leaves, in order.
  static func kept(_ source: LayerInput) -> [Int] {
    guard let mask = source.mask else { return Array(0..<source.channels) }
    return mask.indices.filter { mask[$0] != 0 }
  }

  static func kept(_ sources: [LayerInput]) -> [[Int]] { sources.map { kept($0) } }

  /// Where the voxels x ..< x + width of row (z, y) lie as `write` would write them; nil if they do not.
  func stored(z: Int, y: Int, x: Int, width: Int) -> UnsafePointer<Float>? {
    guard parts.count == 1, parts[0].channels == pitch, parts[0].runs.count == 1, parts[0].scale == nil,
      parts[0].halving == 0, z >= 0, z < size.z, y >= 0, y < size.y, x >= 0, x + width <= size.x
    else { return nil }
    return parts[0].base + ((z * size.y + y) * size.x + x) * pitch
  }

  /// Writes the voxels x ..< x + width of row (z, y); `row` has room for a vector more.
  func write(z: Int, y: Int, x: Int, width: Int, into row: UnsafeMutablePointer<Float>) {
    let first = max(x, 0), end = min(x + width, size.x)
    guard z >= 0, z < size.z, y >= 0, y < size.y, first < end else {
      row.update(repeating: 0, count: width * pitch)
      return
    }
    row.update(repeating: 0, count: (first - x) * pitch)
    if parts.count == 1, parts[0].runs.count == 1, parts[0].runs[0].count % (2 * lanes) == 0 {
      writeWhole(z: z, y: y, first, end, into: row + (first - x) * pitch)
      (row + (end - x) * pitch).update(repeating: 0, count: (x + width - end) * pitch)
      return
    }
    if staysWithinVoxels {
      writeRuns(z: z, y: y, first, end, into: row + (first - x) * pitch)
      (row + (end - x) * pitch).update(repeating: 0, count: (x + width - end) * pitch)
      return
    }
    // A run is written in whole vectors: what it writes too much, the next run or voxel writes over.
    for voxel in first..<end {
      let to = row + (voxel - x) * pitch
      for part in parts {
        let line = (z >> part.halving &* part.height &+ y >> part.halving) &* part.width
        let from = part.base + (line &+ voxel >> part.halving) &* part.channels
        if let scale = part.scale, let shift = part.shift {
          let slope = Lanes(repeating: part.slope)
          for run in part.runs {
            let v = from + run.from, a = scale + run.from, b = shift + run.from, w = to + run.to
            var c = 0
            while c < run.count {
              let n = load(b + c).addingProduct(load(v + c), load(a + c)), m = n * slope
              store(n.replacing(with: m, where: n .< m), w + c)
              c &+= lanes
            }
          }
        } else {
          for run in part.runs {
            var c = 0
            while c < run.count {
              store(load(from + run.from + c), to + run.to + c)
              c &+= lanes
            }
          }
        }
      }
    }
    (row + (end - x) * pitch).update(repeating: 0, count: (x + width - end) * pitch)
  }

  /// Vector by vector along the row, whose factors are then loaded once. What a run writes too much the next one writes
  /// over.
  @inline(__always)
  private func writeRuns(z: Int, y: Int, _ first: Int, _ end: Int, into row: UnsafeMutablePointer<Float>) {
    for part in parts {
      let halving = part.halving, channels = part.channels, slope = Lanes(repeating: part.slope)
      let line = (z >> halving &* part.height &+ y >> halving) &* part.width
      for run in part.runs {
        for c in stride(from: 0, to: run.count, by: lanes) {
          let from = part.base + line &* channels + run.from + c
          var to = row + run.to + c, voxel = first
          if let scale = part.scale, let shift = part.shift {
            let a = load(scale + run.from + c), b = load(shift + run.from + c)
            while voxel < end {
              let n = b.addingProduct(load(from + (voxel >> halving) &* channels), a), m = n * slope
              store(n.replacing(with: m, where: n .< m), to)
              to += pitch
              voxel &+= 1
            }
          } else {
            while voxel < end {
              store(load(from + (voxel >> halving) &* channels), to)
              to += pitch
              voxel &+= 1
            }
          }
        }
      }
    }
  }

  /// The common case: one source without dropout, channels in pairs of vectors.
  @inline(__always)
  private func writeWhole(z: Int, y: Int, _ first: Int, _ end: Int, into row: UnsafeMutablePointer<Float>) {
    let part = parts[0], run = part.runs[0], halving = part.halving, channels = part.channels
    let line = (z >> halving &* part.height &+ y >> halving) &* part.width
    let from = part.base + line &* channels + run.from, slope = Lanes(repeating: part.slope)
    // The row below is what will be read next.
    let next = part.width &* channels
    for c in stride(from: 0, to: run.count, by: 2 * lanes) {
      var to = row + c, voxel = first
      if let scale = part.scale, let shift = part.shift {
        let a0 = load(scale + run.from + c), a1 = load(scale + run.from + c + lanes)
        let b0 = load(shift + run.from + c), b1 = load(shift + run.from + c + lanes)
        while voxel < end {
          let v = from + ((voxel >> halving) &* channels &+ c)
          cmachine_prefetch(v + next)
          let n0 = b0.addingProduct(load(v), a0), n1 = b1.addingProduct(load(v + lanes), a1)
          let m0 = n0 * slope, m1 = n1 * slope
          store(n0.replacing(with: m0, where: n0 .< m0), to)
          store(n1.replacing(with: m1, where: n1 .< m1), to + lanes)
          to += pitch
          voxel &+= 1
        }
      } else {
        while voxel < end {
          let v = from + ((voxel >> halving) &* channels &+ c)
          store(load(v), to)
          store(load(v + lanes), to + lanes)
          to += pitch
          voxel &+= 1
        }
      }
    }
  }
}
