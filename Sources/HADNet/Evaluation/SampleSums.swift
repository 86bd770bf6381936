import Collective
import Compute
import Imaging

/// Sums over dropout samples of each voxel's class probabilities, and of the samples' entropies.
///
/// They are whole numbers of 2⁻²² (of more where there are many samples), so a sum has the same bits in whatever order
/// and on whatever rank its samples are added, and its memory does not grow with their number.
package struct SampleSums: Sendable {
  package let size: Size
  /// How many samples the sums are made for.
  package let samples: Int
  /// The background's among them.
  package let classes: Int
  /// [z, y, x, classes]
  private(set) var probabilities: [Int32]
  /// [z, y, x], in units of `nats` times a probability's; empty where they are not wanted.
  private(set) var entropies: [Int32]
  /// What 1 stands for.
  private let one: Float

  /// Memory for `samples` samples of a prepared case, of so many classes; with `entropies` also for the mean of their
  /// entropies.
  package init(_ size: Size, classes: Int, samples: Int, entropies: Bool) {
    precondition(samples > 0 && samples < 1 << 30, "\(samples) samples")
    self.size = size
    self.classes = classes
    self.samples = samples
    var one = 1 << 22
    while one * samples > Int(Int32.max) { one /= 2 }
    self.one = Float(one)
    probabilities = [Int32](repeating: 0, count: size.voxels * classes)
    self.entropies = [Int32](repeating: 0, count: entropies ? size.voxels : 0)
  }

  /// Adds a sample: softmax of logits [z, y, x, classes].
  package mutating func add(_ logits: Volume, _ workers: Workers) {
    precondition(logits.size == size && logits.channels == classes, "\(logits.shape) to sums of \(size)")
    if classes == 4 { addFour(logits, workers) } else { addAny(logits, workers) }
  }

  /// Of any number of classes, a voxel after the other.
  private mutating func addAny(_ logits: Volume, _ workers: Workers) {
    let n = classes, voxels = size.voxels, one = one, nats = nats, wantsEntropies = !entropies.isEmpty
    let pieces = Pieces(voxels, least: 4096, limit: 256)
    // All have `voxels` voxels, and pieces do not overlap.
    unsafe probabilities.withUnsafeMutableBufferPointer { sums in
      nonisolated(unsafe) let sums = unsafe sums
      unsafe entropies.withUnsafeMutableBufferPointer { entropies in
        nonisolated(unsafe) let entropies = unsafe entropies
        workers.forEach(pieces.count) { piece, _ in
          let x = logits.values
          var shifted = [Float](repeating: 0, count: n), e = shifted
          for voxel in pieces[piece] {
            let at = voxel * n
            var most = x[at], all: Float = 0, products: Float = 0
            for c in 1..<n { most = max(most, x[at + c]) }
            for c in 0..<n {
              shifted[c] = x[at + c] - most
              e[c] = Transcendental.exp(Lanes(repeating: shifted[c]))[0]
              all += e[c]
            }
            for c in 0..<n {
              let p = e[c] / all
              products += p * shifted[c]
              unsafe sums[at + c] &+= SampleSums.whole(Lanes(repeating: p * one))[0]
            }
            if wantsEntropies {
              let entropy = Transcendental.log(Lanes(repeating: all))[0] - products
              unsafe entropies[voxel] &+=
                SampleSums.whole(Lanes(repeating: max(entropy, 0) * (one / nats)))[0]
            }
          }
        }
      }
    }
  }

  /// Of four classes, two voxels a vector.
  private mutating func addFour(_ logits: Volume, _ workers: Workers) {
    let voxels = size.voxels, one = one, wantsEntropies = !entropies.isEmpty
    let pieces = Pieces(voxels, least: 4096, limit: 256)
    // All have `voxels` voxels, as was just checked, and pieces do not overlap. Pointers, since two voxels are read and written
    // as vectors.
    unsafe probabilities.withUnsafeMutableBufferPointer { sums in
      nonisolated(unsafe) let sums = sums.baseAddress!  // a size has voxels
      unsafe entropies.withUnsafeMutableBufferPointer { entropies in
        nonisolated(unsafe) let entropies = entropies.baseAddress
        workers.forEach(pieces.count) { piece, _ in
          for voxel in stride(from: pieces[piece].lowerBound, to: pieces[piece].upperBound, by: 2) {
            // The last of an odd number is done alone, its neighbour in the vector for nothing.
            let isPair = voxel + 1 < pieces[piece].upperBound
            let x = unsafe logits.base + voxel * 4
            let a = unsafe UnsafeRawPointer(x).loadUnaligned(as: SIMD4<Float>.self)
            let b = unsafe isPair ? UnsafeRawPointer(x + 4).loadUnaligned(as: SIMD4<Float>.self) : a
            let shifted = Lanes(lowHalf: a - a.max(), highHalf: b - b.max())
            let e = Transcendental.exp(shifted)
            let all = SIMD2(
              (e.lowHalf[0] + e.lowHalf[1]) + (e.lowHalf[2] + e.lowHalf[3]),
              (e.highHalf[0] + e.highHalf[1]) + (e.highHalf[2] + e.highHalf[3]))
            let p =
              e
              / Lanes(
                lowHalf: SIMD4(repeating: all[0]), highHalf: SIMD4(repeating: all[1]))
            let units = SampleSums.whole(p * one)
            let to = unsafe UnsafeMutableRawPointer(sums + voxel * 4)
            if isPair {
              unsafe to.storeBytes(
                of: to.loadUnaligned(as: SIMD8<Int32>.self) &+ units, as: SIMD8<Int32>.self)
            } else {
              unsafe to.storeBytes(
                of: to.loadUnaligned(as: SIMD4<Int32>.self) &+ units.lowHalf, as: SIMD4<Int32>.self)
            }
            if wantsEntropies, let entropies = unsafe entropies {
              // H = ln Σ e − Σ p · shifted, of which the second is 0 for the largest.
              var logs = Lanes(repeating: 1)
              logs[0] = all[0]
              logs[1] = all[1]
              logs = Transcendental.log(logs)
              let products = p * shifted
              let low = logs[0] - products.lowHalf.sum(), high = logs[1] - products.highHalf.sum()
              let halves = SampleSums.whole(
                Lanes(max(low, 0), max(high, 0), 0, 0, 0, 0, 0, 0) * (one / 2))
              unsafe entropies[voxel] &+= halves[0]
              if isPair { unsafe entropies[voxel + 1] &+= halves[1] }
            }
          }
        }
      }
    }
  }

  /// The nearest whole numbers of 0…2²². Added to a float that is large enough they stand in its last bits.
  @inline(__always)
  private static func whole(_ x: Lanes) -> SIMD8<Int32> {
    // Two vectors of 32 bytes, of which all bits are numbers.
    unsafe unsafeBitCast(x + Lanes(repeating: 12_582_912), to: SIMD8<Int32>.self)
      &- SIMD8(repeating: 0x4B40_0000)
  }

  /// Adds the sums of other samples of the same case.
  package mutating func add(_ other: SampleSums) {
    precondition(
      other.size == size && other.samples == samples && other.classes == classes, "sums of other samples")
    for i in probabilities.indices { probabilities[i] &+= other.probabilities[i] }
    for i in entropies.indices { entropies[i] &+= other.entropies[i] }
  }

  /// The mean over the samples of a voxel's probability of a class.
  package func probability(_ index: Int, _ voxel: Int) -> Double {
    Double(probabilities[voxel * classes + index]) / total
  }

  /// The mean of a voxel's probability of belonging to a region.
  package func probability(_ region: Region, _ voxel: Int) -> Double {
    var sum = 0
    for index in region.classes { sum += Int(probabilities[voxel * classes + Int(index)]) }
    return Double(sum) / total
  }

  /// The mean of the samples' entropies of a voxel, nats.
  package func expectedEntropy(_ voxel: Int) -> Double {
    Double(nats) * Double(entropies[voxel]) / total
  }

  /// More than the largest entropy there is, ln 4 of four classes and ln 17 at most: sums of them fit where those of
  /// probabilities do.
  private var nats: Float { classes < 8 ? 2 : 4 }

  private var total: Double { Double(one) * Double(samples) }

  /// The class with the largest mean probability; the lowest of equals.
  package var labels: LabelVolume {
    var labels = [UInt8](repeating: 0, count: size.voxels)
    for voxel in labels.indices {
      let at = voxel * classes
      var best = 0
      for c in 1..<classes where probabilities[at + c] > probabilities[at + best] { best = c }
      labels[voxel] = UInt8(best)
    }
    return LabelVolume(size, labels)
  }

  // MARK: Between ranks

  /// Sends the sums to the rank that adds them to its own by `receive`.
  package func send(to rank: Int, over communicator: Communicator) throws(MPIError) {
    try communicator.send(probabilities.span, to: rank)
    if !entropies.isEmpty { try communicator.send(entropies.span, to: rank) }
  }

  /// Adds the sums that a rank sends.
  package mutating func receive(from rank: Int, over communicator: Communicator) throws(MPIError) {
    var other = SampleSums(size, classes: classes, samples: samples, entropies: !entropies.isEmpty)
    var span = other.probabilities.mutableSpan
    try communicator.receive(into: &span, from: rank)
    if !entropies.isEmpty {
      var span = other.entropies.mutableSpan
      try communicator.receive(into: &span, from: rank)
    }
    add(other)
  }
}
