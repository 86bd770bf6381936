import Testing

@testable import HADNet

/// How far values are from what is expected, and where most.
struct Deviation: CustomStringConvertible {
  /// ‖values − expected‖ / ‖expected‖; without the denominator where that is 0.
  let relative: Double
  /// The largest |value − expected|, in units of the expected values' root mean square; of 1 where that is 0.
  let most: Double
  private let worst: (index: Int, value: Double, expected: Double)

  init(_ values: [Float], _ expected: [Double]) { self.init(values.map(Double.init), expected) }

  init(_ values: [Double], _ expected: [Double]) {
    precondition(values.count == expected.count, "\(values.count) values, \(expected.count) expected")
    var difference = 0.0, norm = 0.0, worst = (index: -1, value: 0.0, expected: 0.0), most = 0.0
    for (i, (v, e)) in zip(values, expected).enumerated() {
      let d = (v - e).magnitude
      difference += d * d
      norm += e * e
      if d.isNaN || d > most {
        most = d.isNaN ? .infinity : d
        worst = (i, v, e)
      }
    }
    relative = difference.squareRoot() / (norm > 0 ? norm.squareRoot() : 1)
    self.most = most / (norm > 0 ? (norm / Double(values.count)).squareRoot() : 1)
    self.worst = worst
  }

  func isWithin(_ bound: Bound) -> Bool { relative <= bound.relative && most <= bound.most }

  var description: String {
    """
    relative l2 error \(relative); worst at \(worst.index): \(worst.value), expected \(worst.expected), \(most) of \
    the root mean square
    """
  }
}

/// How far values may be from what is expected: see `Deviation`.
struct Bound {
  let relative, most: Double
}

/// The index of the first value whose bits differ; nil: there is none.
func firstDifference(_ a: [Float], _ b: [Float]) -> Int? {
  if a.count != b.count { return min(a.count, b.count) }
  return a.indices.first { a[$0].bitPattern != b[$0].bitPattern }
}

/// `count` standard normal numbers, others for another `part`.
func normals(_ count: Int, _ part: Int) -> [Float] {
  var random = Philox(seed: 1, .test, part, count)
  return (0..<count).map { _ in random.normal() }
}

/// A volume in the middle of a buffer that holds `surroundings` everywhere else, where no vector is aligned. Who reads
/// whole vectors sees the surroundings and must not make use of them; nobody may write there.
struct Island {
  let volume: Volume
  private let surroundings: Float
  private static let before = 83, behind = 101

  init(_ shape: Shape, _ values: [Float], surroundings: Float = .nan) {
    let buffer = Buffer(zeros: Island.before + shape.count + Island.behind)
    buffer.values.update(repeating: surroundings)
    volume = Volume(shape, in: buffer, at: Island.before)
    self.surroundings = surroundings
    for (i, value) in values.enumerated() { volume.base[i] = value }
  }

  /// All of the volume holds `filled`.
  init(_ shape: Shape, filled: Float, surroundings: Float) {
    self.init(shape, [], surroundings: surroundings)
    volume.fill(filled)
  }

  var isAlone: Bool {
    let all = volume.buffer.values, bits = surroundings.bitPattern
    return all[..<Island.before].allSatisfy { $0.bitPattern == bits }
      && all[(Island.before + volume.shape.count)...].allSatisfy { $0.bitPattern == bits }
  }
}

extension Volume {
  init(normal shape: Shape, _ part: Int) { self.init(shape, normals(shape.count, part)) }
}

extension ParameterVector {
  convenience init(normal layout: ParameterLayout, _ part: Int) {
    self.init(zeros: layout)
    for (i, value) in normals(count, part).enumerated() { values[i] = value }
  }

  var array: [Float] { Array(values) }

  /// Another vector with the same numbers.
  var duplicate: ParameterVector {
    let other = ParameterVector(zeros: layout)
    other.copy(from: self)
    return other
  }
}

extension Workers {
  /// Workers whose scratch memory is full of NaN, so that who reads what was never written is found out.
  static func poisoned(_ count: Int) -> Workers {
    let workers = Workers(count)
    workers.poison()
    return workers
  }

  /// Fills scratch memory with NaN again: at least so many values for each worker, and for all.
  func poison(_ own: Int = 1 << 18, shared: Int = 1 << 18) {
    for memory in scratch(own) { memory.update(repeating: .nan, count: own) }
    for place in 0..<3 { sharedScratch(shared, place: place).update(repeating: .nan, count: shared) }
  }
}

/// Expects the same bits of `results` from 1, 2 and 3 threads, in whatever order items are handed out.
func expectSameBits(
  _ names: [String], sourceLocation: SourceLocation = #_sourceLocation, _ results: (Workers) -> [[Float]]
) {
  let plain = results(Workers(1))
  let deals: [(String, ((_ turn: Int, _ items: Int) -> Int)?)] = [
    ("in order", nil), ("reversed", { $1 - 1 - $0 }), ("rotated", { ($0 + 1 + $1 / 3) % $1 }),
    (
      "shuffled",
      { turn, items in
        var random = Philox(seed: 1, .test, items)
        return random.permutation(items)[turn]
      }
    ),
  ]
  for count in 1...3 {
    for (order, deal) in deals where count > 1 || deal != nil {
      let workers = Workers(count)
      workers.deal = deal
      for (name, (a, b)) in zip(names, zip(plain, results(workers))) {
        #expect(
          firstDifference(a, b) == nil, "\(name), \(count) workers, items \(order)",
          sourceLocation: sourceLocation)
      }
    }
  }
}

/// How a layer may see a stored volume.
enum Look: CaseIterable, Sendable {
  case plain, masked, activated, activatedMasked, upsampled, upsampledMasked
  /// With a dropout that leaves all channels, or none.
  case undropped, dropped

  var isUpsampled: Bool { self == .upsampled || self == .upsampledMasked }
}

/// A source, and beside it what it should read as, made plainly in Float64.
struct Input {
  let source: Source
  /// [z, y, x, channels] of the size as it is read.
  let read: [Double]
  let mask: [Float]?

  /// `size` is the size as it is read.
  init(_ size: Size, _ channels: Int, _ look: Look, _ part: Int, slope: Float = 0.01) {
    let stored = look.isUpsampled ? Size(size.z / 2, size.y / 2, size.x / 2) : size
    let shape = Shape(stored, channels), volume = Island(shape, normals(shape.count, part)).volume
    let scale = normals(channels, part + 1), shift = normals(channels, part + 2)
    let mask: [Float]? =
      switch look {
      case .plain, .activated, .upsampled: nil
      case .masked, .activatedMasked, .upsampledMasked: (0..<channels).map { ($0 + part) % 3 == 0 ? 0 : 1.25 }
      case .undropped: Array(repeating: 1.25, count: channels)
      case .dropped: Array(repeating: 0, count: channels)
      }
    let isActivated = look != .plain && look != .masked
    if isActivated {
      source = Source(
        volume, Norm(scale: scale, shift: shift, mean: shift, rstd: scale), slope: slope, mask: mask,
        upsampled: look.isUpsampled)
    } else {
      source = Source(volume, mask: mask)
    }
    self.mask = mask
    var read = [Double](repeating: 0, count: size.voxels * channels)
    for z in 0..<size.z {
      for y in 0..<size.y {
        for x in 0..<size.x {
          let from =
            look.isUpsampled ? ((z / 2) * stored.y + y / 2) * stored.x + x / 2 : (z * size.y + y) * size.x + x
          for c in 0..<channels {
            var v = Double(volume.base[from * channels + c])
            if isActivated {
              v = Double(scale[c]) * v + Double(shift[c])
              if v < 0 { v *= Double(slope) }
            }
            read[((z * size.y + y) * size.x + x) * channels + c] = v * Double(mask?[c] ?? 1)
          }
        }
      }
    }
    self.read = read
  }
}

/// Some input channels of a convolution as its definition says, in Float64: one loop over output voxels and taps.
struct PlainConvolution {
  let layer: Convolution
  /// The input channels that are meant.
  let channels: Range<Int>
  let size: Size

  private var taps: Int { layer.kernel * layer.kernel * layer.kernel }

  private func eachTap(_ body: (_ output: Int, _ tap: Int, _ input: Int) -> Void) {
    let out = layer.outputSize(size), k = layer.kernel
    for z in 0..<out.z {
      for y in 0..<out.y {
        for x in 0..<out.x {
          for tap in 0..<taps {
            let iz = z * layer.stride - layer.padding + tap / (k * k)
            let iy = y * layer.stride - layer.padding + tap / k % k
            let ix = x * layer.stride - layer.padding + tap % k
            guard iz >= 0, iz < size.z, iy >= 0, iy < size.y, ix >= 0, ix < size.x else { continue }
            body((z * out.y + y) * out.x + x, tap, (iz * size.y + iy) * size.x + ix)
          }
        }
      }
    }
  }

  /// The weights of the channels as [tap, in, out].
  private func weights(_ p: ParameterVector) -> [Double] {
    let w = p[layer.weight]
    var turned = [Double](repeating: 0, count: taps * channels.count * layer.outputs)
    for tap in 0..<taps {
      for c in 0..<channels.count {
        for o in 0..<layer.outputs {
          turned[(tap * channels.count + c) * layer.outputs + o] = Double(
            w[(o * layer.inputs + channels.lowerBound + c) * taps + tap])
        }
      }
    }
    return turned
  }

  /// Without bias.
  func forward(_ x: [Double], _ p: ParameterVector) -> [Double] {
    let n = channels.count, m = layer.outputs
    var y = [Double](repeating: 0, count: layer.outputSize(size).voxels * m)
    y.withUnsafeMutableBufferPointer { y in
      weights(p).withUnsafeBufferPointer { w in
        x.withUnsafeBufferPointer { x in
          eachTap { output, tap, input in
            for c in 0..<n {
              let v = x[input * n + c], from = (tap * n + c) * m
              for o in 0..<m { y[output * m + o] += v * w[from + o] }
            }
          }
        }
      }
    }
    return y
  }

  /// Of the whole weight, [out, in, z, y, x]; 0 for other channels.
  func weightGradient(_ dy: [Double], _ x: [Double]) -> [Double] {
    let n = channels.count, m = layer.outputs
    var turned = [Double](repeating: 0, count: taps * n * m)
    turned.withUnsafeMutableBufferPointer { turned in
      dy.withUnsafeBufferPointer { dy in
        x.withUnsafeBufferPointer { x in
          eachTap { output, tap, input in
            for c in 0..<n {
              let v = x[input * n + c], to = (tap * n + c) * m
              for o in 0..<m { turned[to + o] += v * dy[output * m + o] }
            }
          }
        }
      }
    }
    var dw = [Double](repeating: 0, count: layer.weight.count)
    for o in 0..<m {
      for c in 0..<n {
        for tap in 0..<taps {
          dw[(o * layer.inputs + channels.lowerBound + c) * taps + tap] = turned[(tap * n + c) * m + o]
        }
      }
    }
    return dw
  }

  /// Of the stored values before mask and upsampling.
  func dataGradient(_ dy: [Double], _ p: ParameterVector, _ mask: [Float]?, upsampled: Bool) -> [Double] {
    let n = channels.count, m = layer.outputs, turned = weights(p)
    // [tap, out, in]
    var w = turned
    for tap in 0..<taps {
      for c in 0..<n {
        for o in 0..<m {
          w[(tap * m + o) * n + c] = turned[(tap * n + c) * m + o] * Double(mask?[c] ?? 1)
        }
      }
    }
    let half = Size(size.z / 2, size.y / 2, size.x / 2), target = upsampled ? half : size
    var dx = [Double](repeating: 0, count: target.voxels * n)
    dx.withUnsafeMutableBufferPointer { dx in
      dy.withUnsafeBufferPointer { dy in
        w.withUnsafeBufferPointer { w in
          eachTap { output, tap, input in
            let z = input / (size.y * size.x), y = input / size.x % size.y, x = input % size.x
            let to = (upsampled ? ((z / 2) * half.y + y / 2) * half.x + x / 2 : input) * n
            for o in 0..<m {
              let g = dy[output * m + o], from = (tap * m + o) * n
              for c in 0..<n { dx[to + c] += g * w[from + c] }
            }
          }
        }
      }
    }
    return dx
  }
}

extension ShardedVector {
  var array: [Float] { Array(values) }
}
