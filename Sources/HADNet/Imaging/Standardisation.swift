import Compute
import Files
import Foundation

/// How U-HeMIS and U-HVED see a case: a cropped volume with a border, grey values brought to a common scale by
/// landmarks of their histogram, then z-scores. The background isn't 0.
///
/// Source: cropping.py of U-HVED, and the padding, masking, histogram and whitening layers of NiftyNet 0.5.0.
package struct Standardisation: Codable, Equatable, Sendable {
  package var landmarks: Landmarks
  /// The least side of the box that is cropped out, voxels, where the volume is that large.
  package var leastSide: Int
  /// The padding on each of the six sides, voxels.
  package var border: Int

  /// The defaults are those of U-HVED's code.
  package init(landmarks: Landmarks = .published, leastSide: Int = 128, border: Int = 10) {
    precondition(leastSide >= 1 && border >= 0, "sides of at least \(leastSide), a border of \(border)")
    self.landmarks = landmarks
    self.leastSide = leastSide
    self.border = border
  }

  /// Crops, pads and standardises the sequences of a case that was read with this standardisation.
  func prepare(_ raw: RawCase, _ task: SegmentationTask, _ modalities: [Modality]) throws -> PreparedCase {
    let box = raw.box.widened(to: leastSide, in: raw.header.size)
    let size = Size(box.size.z + 2 * border, box.size.y + 2 * border, box.size.x + 2 * border)
    // The sequences, each also as floats and one as doubles, masks and labels.
    try AvailableMemory.check(
      (8 * task.sequences.count + 16) * size.voxels, "\(raw.files.id): a box of \(size) voxels (x, y, z)")
    let placement = Placement(raw.header, box, size)
    var padded: [(modality: Modality, values: [Float])] = []
    var mask = [UInt8](repeating: 1, count: size.voxels)
    for modality in modalities {
      guard let image = raw.images[modality] else { continue }
      var values = placement.crop(image.voxels, fill: 0)
      placement.padWithMinima(&values)
      let own = try Foreground.mask(values, size, raw.files.files[modality] ?? "")
      for i in mask.indices { mask[i] &= own[i] }
      padded.append((modality, values))
    }
    guard mask.contains(1) else {
      let names = modalities.map(\.rawValue).joined(separator: ", ")
      throw Fault(.invalid, "\(raw.files.id): no voxel is in the foreground of all of \(names)")
    }
    let images = Volume(zeros: Shape(size, task.sequences.count))
    for (modality, values) in padded {
      guard let channel = task.channel(modality) else { continue }
      standardise(values, mask, modality, into: images, channel: channel)
    }
    let labels = raw.labels.map { classes in
      var values = placement.crop(classes, fill: 0)
      placement.padWithMinima(&values)
      return LabelVolume(size, values)
    }
    return PreparedCase(id: raw.files.id, images: images, labels: labels, mask: mask, placement: placement)
  }

  /// Brings the mask's percentiles to the landmarks, then takes z-scores with the mask's mean and population sd
  /// (at least 1e-5), all over the whole volume. One sum in one order.
  private func standardise(
    _ values: [Float], _ mask: [UInt8], _ modality: Modality, into images: Volume, channel: Int
  ) {
    let inside = Percentiles(values, mask)
    let map = HistogramMap(
      from: Landmarks.percentiles.map(inside.value(at:)), to: landmarks[modality])
    let mapped = values.map { map($0) }
    var sum = 0.0, count = 0.0
    for i in mapped.indices where mask[i] != 0 {
      sum += mapped[i]
      count += 1
    }
    let mean = sum / count
    var squares = 0.0
    for i in mapped.indices where mask[i] != 0 { squares += (mapped[i] - mean) * (mapped[i] - mean) }
    let sd = max((squares / count).squareRoot(), 1e-5)
    let channels = images.channels
    var out = images.mutableValues
    for i in mapped.indices { out[i * channels + channel] = Float((mapped[i] - mean) / sd) }
  }
}

/// To which values the percentiles of each sequence's foreground are brought: a common scale of grey values,
/// 0...100.
///
/// Source: Nyúl, Udupa and Zhang, "New variants of a method of MRI scale standardization", IEEE TMI 19 (2000).
package struct Landmarks: Equatable, Sendable {
  /// The percentiles that have landmarks, percent.
  package static let percentiles: [Double] = [0.1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 99.9]

  /// Those of the authors' BraTS 2018 training set, which an unaltered run on other data reads too.
  ///
  /// Source: models/u_hemis/hist.txt of U-HVED.
  package static let published = Landmarks([
    .flair: [
      0, 15.476687, 32.21012, 38.026333, 40.970592, 43.22647, 45.37804, 47.771545, 50.96312, 57.086826, 100,
    ],
    .t1ce: [
      0, 18.623861, 31.1369, 35.604713, 38.38648, 40.679466, 42.840008, 44.997036, 47.292706, 50.285065, 100,
    ],
    .t1: [
      0, 29.567295, 46.963665, 54.814796, 59.724537, 63.607014, 67.198555, 70.844765, 74.704384, 79.08507,
      100,
    ],
    .t2: [
      0, 20.626154, 26.824974, 29.186394, 31.342985, 33.70432, 36.45566, 39.93386, 45.29694, 56.169777, 100,
    ],
  ])

  private let values: [Modality: [Double]]

  /// One list for each sequence, a value for each of `percentiles`.
  init(_ values: [Modality: [Double]]) {
    precondition(Landmarks.problem(values) == nil, "landmarks: \(Landmarks.problem(values) ?? "")")
    self.values = values
  }

  /// The landmarks of a sequence, one for each of `percentiles`.
  package subscript(modality: Modality) -> [Double] {
    guard let values = values[modality] else { preconditionFailure("no landmarks of \(modality.rawValue)") }
    return values
  }

  /// Whether each of the sequences has landmarks.
  package func cover(_ modalities: [Modality]) -> Bool { modalities.allSatisfy { values[$0] != nil } }

  /// What keeps lists from being landmarks.
  private static func problem(_ values: [Modality: [Double]]) -> String? {
    if values.isEmpty { return "there are none" }
    for (modality, list) in values.sorted(by: { $0.key < $1.key }) {
      guard list.count == percentiles.count else {
        return "\(list.count) values for \(modality.rawValue), expected \(percentiles.count)"
      }
      guard list.allSatisfy(\.isFinite), zip(list, list.dropFirst()).allSatisfy({ $0 <= $1 }) else {
        return "the values for \(modality.rawValue) don't ascend"
      }
    }
    return nil
  }

  /// What one training case says of the landmarks. Small and Codable, so that cases can be dealt over ranks; its
  /// numbers survive JSON to the last bit.
  package struct Sample: Codable, Equatable, Sendable {
    /// The percentiles of a sample, percent; the quartiles have no landmark but stand in the published files.
    package static let percentiles: [Double] = [0.1, 10, 20, 25, 30, 40, 50, 60, 70, 75, 80, 90, 99.9]

    package let id: String
    /// For each sequence the values of `percentiles`, mapped linearly so that the first is 0 and the last 100.
    package let values: [Modality: [Double]]

    /// Throws `.invalid` where a sequence's first percentile is its last one.
    init(id: String, _ foregrounds: [(modality: Modality, path: String, percentiles: [Double])]) throws {
      var values: [Modality: [Double]] = [:]
      for (modality, path, percentiles) in foregrounds {
        let low = percentiles[0], range = percentiles[percentiles.count - 1] - low
        guard range > 0 else {
          throw Fault(.invalid, "\(path): all voxels of the foreground have the same value")
        }
        values[modality] = percentiles.map { 100 * (($0 - low) / range) }
      }
      self.id = id
      self.values = values
    }
  }

  /// The mean of samples, summed in the order of their IDs.
  ///
  /// Throws `.missing` where there is no sample or one lacks a sequence.
  package static func mean(_ samples: [Sample], of modalities: [Modality]) throws -> Landmarks {
    guard !samples.isEmpty else { throw Fault(.missing, "landmarks: no case to take them from") }
    let samples = samples.sorted { $0.id < $1.id }
    let chosen = percentiles.compactMap(Sample.percentiles.firstIndex(of:))
    var means: [Modality: [Double]] = [:]
    for modality in modalities {
      var sums = [Double](repeating: 0, count: chosen.count)
      for sample in samples {
        guard let values = sample.values[modality], values.count == Sample.percentiles.count else {
          throw Fault(.missing, "\(sample.id): no percentiles of \(modality.rawValue) for the landmarks")
        }
        for (i, index) in chosen.enumerated() { sums[i] += values[index] }
      }
      means[modality] = sums.map { $0 / Double(samples.count) }
    }
    return Landmarks(means)
  }
}

extension Landmarks: Codable {
  package init(from decoder: any Decoder) throws {
    let values = try decoder.singleValueContainer().decode([Modality: [Double]].self)
    if let problem = Landmarks.problem(values) {
      throw DecodingError.dataCorrupted(
        .init(codingPath: decoder.codingPath, debugDescription: "landmarks: \(problem)"))
    }
    self.values = values
  }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(values)
  }

  /// `{"flair":[0,15.476687,…],"t1":…}`: one line, the same bytes for the same landmarks, for a model file's
  /// metadata.
  package var json: String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    guard let data = try? encoder.encode(self) else { preconditionFailure("landmarks are finite numbers") }
    return String(decoding: data, as: UTF8.self)
  }

  /// Reads what `json` gives. Throws `.invalid` for anything else.
  package init(json: String) throws {
    guard let values = try? JSONDecoder().decode([Modality: [Double]].self, from: Data(json.utf8)) else {
      throw Fault(.invalid, "landmarks: not JSON of lists of \(Landmarks.percentiles.count) numbers")
    }
    if let problem = Landmarks.problem(values) { throw Fault(.invalid, "landmarks: \(problem)") }
    self.values = values
  }
}

extension Preparation {
  /// What a training case says of the landmarks: percentiles inside each sequence's own foreground, in the box that
  /// `prepare` crops out with a `standardisation`, without its border.
  ///
  /// Throws what `prepare` throws, and `.invalid` where a sequence's foreground is constant.
  package func landmarkSample(_ files: CaseFiles) throws -> Landmarks.Sample {
    let standardisation = standardisation ?? Standardisation()
    var own = self
    own.standardisation = standardisation
    own.readsTruth = false
    let raw = try RawCase(files, own)
    let box = raw.box.widened(to: standardisation.leastSide, in: raw.header.size)
    return try Landmarks.Sample(
      id: files.id,
      modalities.compactMap { modality in
        guard let image = raw.images[modality] else { return nil }
        let path = files.files[modality] ?? ""
        let values = box.crop(image.voxels, of: raw.header.size)
        let inside = Percentiles(values, try Foreground.mask(values, box.size, path))
        return (modality, path, Landmarks.Sample.percentiles.map(inside.value(at:)))
      })
  }
}

/// The percentiles of the values inside a mask.
struct Percentiles {
  private let sorted: [Float]

  init(_ values: [Float], _ mask: [UInt8]) {
    precondition(mask.contains(1), "percentiles of no value")
    sorted = values.indices.filter { mask[$0] != 0 }.map { values[$0] }.sorted()
  }

  /// The value below which `percent` of the values lie, linear between neighbours: 0 is the least, 100 the largest.
  func value(at percent: Double) -> Double {
    let place = percent / 100 * Double(sorted.count - 1), below = Int(place)
    let low = Double(sorted[below]), high = Double(sorted[min(below + 1, sorted.count - 1)])
    return low + (high - low) * (place - Double(below))
  }
}

/// A map of grey values, linear between the percentiles of an image, which go to landmarks; the first and the last
/// piece go on outwards. A piece between equal percentiles has slope 0.
struct HistogramMap {
  private let from, to, slopes: [Double]

  init(from: [Double], to: [Double]) {
    precondition(
      from.count == to.count && from.count >= 2, "\(from.count) percentiles to \(to.count) landmarks")
    self.from = from
    self.to = to
    slopes = (1..<from.count).map { i in
      let range = from[i] - from[i - 1]
      return range == 0 ? 0 : (to[i] - to[i - 1]) / range
    }
  }

  func callAsFunction(_ value: Float) -> Double {
    let value = Double(value)
    // A value that is a percentile belongs to the piece above it.
    var piece = 0
    while piece < slopes.count - 1 && value >= from[piece + 1] { piece += 1 }
    return to[piece] + slopes[piece] * (value - from[piece])
  }
}

/// Which voxels of a sequence are its foreground.
enum Foreground {
  /// 1 in voxels above the mean of all and in those up to two steps from them, holes filled.
  ///
  /// Throws `.invalid` where no voxel is above the mean, naming the file at `path`.
  static func mask(_ values: [Float], _ size: Size, _ path: String) throws -> [UInt8] {
    var sum = 0.0
    for value in values { sum += Double(value) }
    let mean = sum / Double(values.count)
    var mask = values.map { UInt8(Double($0) > mean ? 1 : 0) }
    guard mask.contains(1) else {
      throw Fault(.invalid, "\(path): all voxels of the brain's box have the same value")
    }
    mask = dilated(dilated(mask, size), size)
    fillHoles(&mask, size)
    return mask
  }

  /// The mask and all that shares a face with it.
  static func dilated(_ mask: [UInt8], _ size: Size) -> [UInt8] {
    var result = mask
    forEachVoxel(size) { voxel, z, y, x in
      if mask[voxel] != 0 { forEachNeighbour(voxel, z, y, x, size) { result[$0] = 1 } }
    }
    return result
  }

  /// Sets what the mask encloses: voxels from which no path over faces leads round the mask to the volume's edge.
  static func fillHoles(_ mask: inout [UInt8], _ size: Size) {
    let outside: UInt8 = 2
    var reached: [Int] = []
    forEachVoxel(size) { voxel, z, y, x in
      let isEdge =
        z == 0 || z == size.z - 1 || y == 0 || y == size.y - 1 || x == 0 || x == size.x - 1
      if isEdge && mask[voxel] == 0 {
        mask[voxel] = outside
        reached.append(voxel)
      }
    }
    while let voxel = reached.popLast() {
      let x = voxel % size.x, y = voxel / size.x % size.y, z = voxel / (size.x * size.y)
      forEachNeighbour(voxel, z, y, x, size) { next in
        if mask[next] == 0 {
          mask[next] = outside
          reached.append(next)
        }
      }
    }
    for i in mask.indices { mask[i] = mask[i] == outside ? 0 : 1 }
  }

  @inline(__always)
  private static func forEachVoxel(_ size: Size, _ body: (_ voxel: Int, _ z: Int, _ y: Int, _ x: Int) -> Void)
  {
    var voxel = 0
    for z in 0..<size.z {
      for y in 0..<size.y {
        for x in 0..<size.x {
          body(voxel, z, y, x)
          voxel += 1
        }
      }
    }
  }

  /// The up to six voxels that share a face with this one.
  @inline(__always)
  private static func forEachNeighbour(
    _ voxel: Int, _ z: Int, _ y: Int, _ x: Int, _ size: Size, _ body: (Int) -> Void
  ) {
    let plane = size.y * size.x
    if z > 0 { body(voxel - plane) }
    if z + 1 < size.z { body(voxel + plane) }
    if y > 0 { body(voxel - size.x) }
    if y + 1 < size.y { body(voxel + size.x) }
    if x > 0 { body(voxel - 1) }
    if x + 1 < size.x { body(voxel + 1) }
  }
}

extension VoxelBox {
  /// A side shorter than `least` grows by half of what it lacks at each end, rounded down, and one voxel more at the
  /// high end; where that leaves the grid, the box is shifted, and where the grid itself is shorter, all of it is
  /// taken.
  ///
  /// The original cuts what leaves the grid at the high end, so that a side can stay too short for a window.
  func widened(to least: Int, in grid: Size) -> VoxelBox {
    func widened(_ origin: Int, _ side: Int, _ whole: Int) -> (origin: Int, side: Int) {
      if side >= least { return (origin, side) }
      let half = (least - side) / 2, wide = min(side + 2 * half + 1, whole)
      return (min(max(origin - half, 0), whole - wide), wide)
    }
    let z = widened(origin.z, size.z, grid.z), y = widened(origin.y, size.y, grid.y)
    let x = widened(origin.x, size.x, grid.x)
    return VoxelBox(origin: Size(z.origin, y.origin, x.origin), size: Size(z.side, y.side, x.side))
  }
}

extension Placement {
  /// Fills the padding of a prepared volume: each line of voxels goes on with its own least value, first along x,
  /// then y, then z, padding included. Any other order gives the same, for the least of the least is the least.
  func padWithMinima<Value: Comparable>(_ values: inout [Value]) {
    precondition(values.count == size.voxels, "\(values.count) values for a prepared volume \(size)")
    let inner = box.size, plane = size.y * size.x
    let zs = before.z..<(before.z + inner.z), ys = before.y..<(before.y + inner.y)
    let xs = before.x..<(before.x + inner.x)
    /// A line of voxels `step` apart from `first` on, of which `inside` are known.
    func pad(_ first: Int, _ step: Int, _ side: Int, _ inside: Range<Int>) {
      var least = values[first + inside.lowerBound * step]
      for i in inside { least = min(least, values[first + i * step]) }
      for i in 0..<inside.lowerBound { values[first + i * step] = least }
      for i in inside.upperBound..<side { values[first + i * step] = least }
    }
    for z in zs {
      for y in ys { pad(z * plane + y * size.x, 1, size.x, xs) }
      for x in 0..<size.x { pad(z * plane + x, size.x, size.y, ys) }
    }
    for line in 0..<plane { pad(line, plane, size.z, zs) }
  }
}
