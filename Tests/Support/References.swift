import Foundation
import Testing

@testable import Compute

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

extension Double {
  /// All its bits, as two floats: for comparisons of bits.
  var halves: [Float] {
    [UInt32(truncatingIfNeeded: bitPattern), UInt32(bitPattern >> 32)].map(Float.init(bitPattern:))
  }
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
}

extension Parameters {
  var array: [Float] { Array(self[0..<count]) }

  /// The same numbers, frozen.
  var frozen: FrozenParameters { FrozenParameters(layout) { $0.copy(from: self) } }
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
  let source: LayerInput
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
      source = LayerInput(
        volume, Norm(scale: scale, shift: shift, mean: shift, rstd: scale), slope: slope, mask: mask,
        upsampled: look.isUpsampled)
    } else {
      source = LayerInput(volume, mask: mask)
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

  /// A network's convolution without bias, found by its weights' name, and a vector that holds them alone.
  static func named(
    _ name: String, size: Size, _ p: ParameterVector
  ) -> (PlainConvolution, ParameterVector) {
    guard let weight = p.layout[name] else { preconditionFailure("no parameter \(name)") }
    var layout = ParameterLayout()
    let layer = Convolution(
      weight: name, weight.extents[1], weight.extents[0], kernel: weight.extents[2], in: &layout)
    let alone = ParameterVector(zeros: layout)
    _ = alone.values.update(fromContentsOf: p[weight])
    return (PlainConvolution(layer: layer, channels: 0..<layer.inputs, size: size), alone)
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

/// An instance norm and the leaky ReLU behind it as their definition says, in Float64.
struct PlainNorm {
  let slope: Double, gamma, beta: [Double]
  var epsilon = 1e-5

  /// leaky(γ · (x − mean)/√(variance + ε) + β).
  func forward(_ x: [Double]) -> [Double] {
    let channels = gamma.count, n = Double(x.count / channels)
    var y = x
    for c in 0..<channels {
      let places = stride(from: c, to: x.count, by: channels)
      let mean = places.reduce(0) { $0 + x[$1] } / n
      let variance = places.reduce(0) { $0 + (x[$1] - mean) * (x[$1] - mean) } / n
      for i in places {
        let v = gamma[c] * (x[i] - mean) / (variance + epsilon).squareRoot() + beta[c]
        y[i] = v > 0 ? v : slope * v
      }
    }
    return y
  }

  /// The gradients of x, γ and β from that of y.
  func backward(_ x: [Double], _ gradient: [Double]) -> (x: [Double], gamma: [Double], beta: [Double]) {
    let channels = gamma.count, n = Double(x.count / channels)
    var dx = x, dGamma = gamma, dBeta = beta
    for c in 0..<channels {
      let places = stride(from: c, to: x.count, by: channels)
      let mean = places.reduce(0) { $0 + x[$1] } / n
      let variance = places.reduce(0) { $0 + (x[$1] - mean) * (x[$1] - mean) } / n
      let rstd = 1 / (variance + epsilon).squareRoot()
      func normed(_ i: Int) -> Double { (x[i] - mean) * rstd }
      func inner(_ i: Int) -> Double {
        gamma[c] * normed(i) + beta[c] > 0 ? gradient[i] : slope * gradient[i]
      }
      dGamma[c] = places.reduce(0) { $0 + inner($1) * normed($1) }
      dBeta[c] = places.reduce(0) { $0 + inner($1) }
      for i in places { dx[i] = gamma[c] * rstd * (inner(i) - dBeta[c] / n - normed(i) * dGamma[c] / n) }
    }
    return (dx, dGamma, dBeta)
  }
}

/// A block of U-HeMIS and U-HVED, its parameters found by their names, in Float64.
struct PlainBlock {
  private let name: String
  private let size: Size

  init(_ name: String, size: Size) {
    self.name = name
    self.size = size
  }

  private func values(_ part: String, _ p: ParameterVector) -> [Double] {
    guard let parameter = p.layout["\(name)/\(part)"] else { return [] }
    return p[parameter].map(Double.init)
  }

  private func norm(_ half: Int, _ p: ParameterVector) -> PlainNorm {
    PlainNorm(
      slope: Double(Float(0.02)), gamma: values("in_\(half)/InstanceNorm/gamma", p),
      beta: values("in_\(half)/InstanceNorm/beta", p), epsilon: 1e-6)
  }

  private func convolution(_ half: Int, _ p: ParameterVector) -> (PlainConvolution, ParameterVector) {
    PlainConvolution.named("\(name)/conv_\(half)/w", size: size, p)
  }

  /// From [voxel, channel] of all inputs side by side.
  func forward(_ x: [Double], _ p: ParameterVector) -> [Double] {
    let (first, v) = convolution(0, p), (second, w) = convolution(1, p)
    return second.forward(norm(1, p).forward(first.forward(norm(0, p).forward(x), v)), w)
  }

  /// The gradients of x and of the block's parameters in their order.
  func backward(_ x: [Double], _ dy: [Double], _ p: ParameterVector) -> (x: [Double], p: [Double]) {
    let (first, v) = convolution(0, p), (second, w) = convolution(1, p)
    let a = norm(0, p).forward(x), inner = first.forward(a, v), b = norm(1, p).forward(inner)
    let behind = norm(1, p).backward(inner, second.dataGradient(dy, w, nil, upsampled: false))
    let before = norm(0, p).backward(x, first.dataGradient(behind.x, v, nil, upsampled: false))
    return (
      before.x,
      before.gamma + before.beta + first.weightGradient(behind.x, a) + behind.gamma + behind.beta
        + second.weightGradient(dy, b)
    )
  }
}

/// Linear resizing anchored at the corner as its definition says, in Float64: each output voxel, the eight voxels it
/// reads and their weights.
struct PlainLinearResize {
  let from, to: Size
  let channels: Int

  private func eachWeight(_ body: (_ output: Int, _ input: Int, _ weight: Double) -> Void) {
    func places(_ from: Int, _ to: Int) -> [[(place: Int, weight: Double)]] {
      (0..<to).map { i in
        let position = Double(i * from) / Double(to), lower = Int(position.rounded(.down))
        let share = position - Double(lower)
        return [(lower, 1 - share), (min(lower + 1, from - 1), share)]
      }
    }
    let zs = places(from.z, to.z), ys = places(from.y, to.y), xs = places(from.x, to.x)
    for z in 0..<to.z {
      for y in 0..<to.y {
        for x in 0..<to.x {
          for a in zs[z] {
            for b in ys[y] {
              for c in xs[x] {
                body(
                  (z * to.y + y) * to.x + x, (a.place * from.y + b.place) * from.x + c.place,
                  a.weight * b.weight * c.weight)
              }
            }
          }
        }
      }
    }
  }

  func forward(_ x: [Double]) -> [Double] {
    var y = [Double](repeating: 0, count: to.voxels * channels)
    eachWeight { output, input, weight in
      for c in 0..<channels { y[output * channels + c] += weight * x[input * channels + c] }
    }
    return y
  }

  func backward(_ dy: [Double]) -> [Double] {
    var dx = [Double](repeating: 0, count: from.voxels * channels)
    eachWeight { output, input, weight in
      for c in 0..<channels { dx[input * channels + c] += weight * dy[output * channels + c] }
    }
    return dx
  }
}

/// One voxel's channel of four sequences' Gaussians, by the formulas in Float64.
struct PlainGaussians {
  var means, logVariances: [Double]
  private static let epsilon = 1e-7

  /// The 15 choices of some of four sequences.
  static let subsets: [[Bool]] = (1..<16).map { bits in (0..<4).map { bits >> $0 & 1 == 1 } }

  /// Mean and log variance of the product with a standard normal prior.
  func product(_ present: [Bool]) -> (mean: Double, logVariance: Double) {
    var precision = 1.0, sum = 0.0
    for i in 0..<4 where present[i] {
      let t = 1 / (exp(min(max(logVariances[i], -50), 50)) + PlainGaussians.epsilon)
      precision += t
      sum += means[i] * t
    }
    return (sum / precision, log(1 / precision + PlainGaussians.epsilon))
  }

  func sample(_ present: [Bool], noise: Double) -> Double {
    let (mean, logVariance) = product(present)
    return mean + exp(0.5 * logVariance) * noise
  }

  private static func divergence(
    _ a: (mean: Double, logVariance: Double), _ b: (mean: Double, logVariance: Double)
  ) -> Double {
    let distance = (a.mean - b.mean) * (a.mean - b.mean)
    return 0.5
      * (-1 + b.logVariance - a.logVariance + (exp(a.logVariance) + distance) / (exp(b.logVariance) + epsilon))
  }

  /// Of this number alone; the means over all numbers are those that count.
  func divergences(_ present: [Bool]) -> (inter: Double, prior: Double) {
    let own = product(present), subsets = PlainGaussians.subsets.map(product)
    return (
      subsets.reduce(0) { $0 + PlainGaussians.divergence(own, $1) } / 14,
      subsets.reduce(0) { $0 + PlainGaussians.divergence($1, (0, 0)) } / 15
    )
  }
}
