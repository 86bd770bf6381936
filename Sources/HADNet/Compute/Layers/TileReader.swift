// Pointers, since rows are read in whole vectors and written where a transform wants them. Each `unsafe` here stays
// within a row of a stored volume, or within `width` voxels of `pitch` floats and a vector behind them. Types that
// hold a pointer are `@safe`: whoever follows it writes `unsafe`.

import CMachine

/// Sources side by side as tile transforms read them: activated, channels that dropout zeroes left out, zeros outside
/// the volume. A voxel is `pitch` floats, of which the first `count` are channels.
@safe final class TileReader: @unchecked Sendable {
  /// Channels that lie side by side both where they are stored and where they are read.
  private struct Run {
    let from, to, count: Int
  }

  @safe private struct Part {
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
      unsafe parts.append(
        Part(
          base: UnsafePointer(source.volume.base), depth: stored.z, height: stored.y, width: stored.x,
          channels: source.channels, halving: source.upsampled ? 1 : 0, slope: source.slope,
          runs: TileReader.copy(runs), scale: source.scale.map(TileReader.padded),
          shift: source.shift.map(TileReader.padded)))
    }
    unsafe self.parts = TileReader.copy(parts)
    count = range.count
    let pitch = (range.count + lanes - 1) / lanes * lanes
    self.pitch = pitch
    staysWithinVoxels = parts.allSatisfy { part in
      unsafe part.runs.allSatisfy { $0.to + ($0.count + lanes - 1) / lanes * lanes <= pitch }
    }
  }

  deinit {
    for i in unsafe parts.indices {
      let part = unsafe parts[i]
      unsafe part.runs.deallocate()
      unsafe part.scale?.deallocate()
      unsafe part.shift?.deallocate()
    }
    unsafe parts.deallocate()
  }

  private static func copy<Element>(_ values: [Element]) -> UnsafeMutableBufferPointer<Element> {
    let copy = UnsafeMutableBufferPointer<Element>.allocate(capacity: values.count)
    _ = unsafe copy.initialize(from: values)
    return unsafe copy
  }

  private static func padded(_ values: [Float]) -> UnsafeMutablePointer<Float> {
    let copy = UnsafeMutablePointer<Float>.allocate(capacity: values.count + lanes)
    unsafe copy.initialize(repeating: 0, count: values.count + lanes)
    unsafe copy.update(from: values, count: values.count)
    return unsafe copy
  }

  /// The channels of a source that dropout leaves, in order.
  static func kept(_ source: LayerInput) -> [Int] {
    guard let mask = source.mask else { return Array(0..<source.channels) }
    return mask.indices.filter { mask[$0] != 0 }
  }

  static func kept(_ sources: [LayerInput]) -> [[Int]] { sources.map { kept($0) } }

  /// Where the voxels x ..< x + width of row (z, y) lie as `write` would write them; nil if they do not.
  func stored(z: Int, y: Int, x: Int, width: Int) -> UnsafePointer<Float>? {
    guard unsafe parts.count == 1, unsafe parts[0].channels == pitch, unsafe parts[0].runs.count == 1,
      unsafe parts[0].scale == nil, unsafe parts[0].halving == 0, z >= 0, z < size.z, y >= 0, y < size.y,
      x >= 0, x + width <= size.x
    else { return nil }
    return unsafe parts[0].base + ((z * size.y + y) * size.x + x) * pitch
  }

  /// Writes the voxels x ..< x + width of row (z, y); `row` has room for a vector more.
  func write(z: Int, y: Int, x: Int, width: Int, into row: UnsafeMutablePointer<Float>) {
    let first = max(x, 0), end = min(x + width, size.x)
    guard z >= 0, z < size.z, y >= 0, y < size.y, first < end else {
      unsafe row.update(repeating: 0, count: width * pitch)
      return
    }
    unsafe row.update(repeating: 0, count: (first - x) * pitch)
    if unsafe parts.count == 1, unsafe parts[0].runs.count == 1,
      unsafe parts[0].runs[0].count % (2 * lanes) == 0
    {
      unsafe writeWhole(z: z, y: y, first, end, into: row + (first - x) * pitch)
      unsafe (row + (end - x) * pitch).update(repeating: 0, count: (x + width - end) * pitch)
      return
    }
    if staysWithinVoxels {
      unsafe writeRuns(z: z, y: y, first, end, into: row + (first - x) * pitch)
      unsafe (row + (end - x) * pitch).update(repeating: 0, count: (x + width - end) * pitch)
      return
    }
    // A run is written in whole vectors: what it writes too much, the next run or voxel writes over.
    for voxel in first..<end {
      let to = unsafe row + (voxel - x) * pitch
      for i in unsafe parts.indices {
        let part = unsafe parts[i]
        let line = (z >> part.halving &* part.height &+ y >> part.halving) &* part.width
        let from = unsafe part.base + (line &+ voxel >> part.halving) &* part.channels
        if let scale = unsafe part.scale, let shift = unsafe part.shift {
          let slope = Lanes(repeating: part.slope)
          for j in unsafe part.runs.indices {
            let run = unsafe part.runs[j]
            let v = unsafe from + run.from, a = unsafe scale + run.from, b = unsafe shift + run.from,
              w = unsafe to + run.to
            var c = 0
            while c < run.count {
              let n = unsafe load(b + c).addingProduct(load(v + c), load(a + c)), m = n * slope
              unsafe store(n.replacing(with: m, where: n .< m), w + c)
              c &+= lanes
            }
          }
        } else {
          for j in unsafe part.runs.indices {
            let run = unsafe part.runs[j]
            var c = 0
            while c < run.count {
              unsafe store(load(from + run.from + c), to + run.to + c)
              c &+= lanes
            }
          }
        }
      }
    }
    unsafe (row + (end - x) * pitch).update(repeating: 0, count: (x + width - end) * pitch)
  }

  /// Vector by vector along the row, whose factors are then loaded once. What a run writes too much the next one writes
  /// over.
  @inline(__always)
  private func writeRuns(z: Int, y: Int, _ first: Int, _ end: Int, into row: UnsafeMutablePointer<Float>) {
    for i in unsafe parts.indices {
      let part = unsafe parts[i]
      let halving = part.halving, channels = part.channels, slope = Lanes(repeating: part.slope)
      let line = (z >> halving &* part.height &+ y >> halving) &* part.width
      for j in unsafe part.runs.indices {
        let run = unsafe part.runs[j]
        for c in stride(from: 0, to: run.count, by: lanes) {
          let from = unsafe part.base + line &* channels + run.from + c
          var to = unsafe row + run.to + c, voxel = first
          if let scale = unsafe part.scale, let shift = unsafe part.shift {
            let a = unsafe load(scale + run.from + c), b = unsafe load(shift + run.from + c)
            while voxel < end {
              let n = unsafe b.addingProduct(load(from + (voxel >> halving) &* channels), a), m = n * slope
              unsafe store(n.replacing(with: m, where: n .< m), to)
              unsafe to += pitch
              voxel &+= 1
            }
          } else {
            while voxel < end {
              unsafe store(load(from + (voxel >> halving) &* channels), to)
              unsafe to += pitch
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
    let part = unsafe parts[0], run = unsafe part.runs[0], halving = part.halving, channels = part.channels
    let line = (z >> halving &* part.height &+ y >> halving) &* part.width
    let from = unsafe part.base + line &* channels + run.from, slope = Lanes(repeating: part.slope)
    // The row below is what will be read next.
    let next = part.width &* channels
    for c in stride(from: 0, to: run.count, by: 2 * lanes) {
      var to = unsafe row + c, voxel = first
      if let scale = unsafe part.scale, let shift = unsafe part.shift {
        let a0 = unsafe load(scale + run.from + c), a1 = unsafe load(scale + run.from + c + lanes)
        let b0 = unsafe load(shift + run.from + c), b1 = unsafe load(shift + run.from + c + lanes)
        while voxel < end {
          let v = unsafe from + ((voxel >> halving) &* channels &+ c)
          unsafe cmachine_prefetch(v + next)
          let n0 = unsafe b0.addingProduct(load(v), a0), n1 = unsafe b1.addingProduct(load(v + lanes), a1)
          let m0 = n0 * slope, m1 = n1 * slope
          unsafe store(n0.replacing(with: m0, where: n0 .< m0), to)
          unsafe store(n1.replacing(with: m1, where: n1 .< m1), to + lanes)
          unsafe to += pitch
          voxel &+= 1
        }
      } else {
        while voxel < end {
          let v = unsafe from + ((voxel >> halving) &* channels &+ c)
          unsafe store(load(v), to)
          unsafe store(load(v + lanes), to + lanes)
          unsafe to += pitch
          voxel &+= 1
        }
      }
    }
  }
}
