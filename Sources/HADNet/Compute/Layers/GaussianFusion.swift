// Pointers, since vectors reach across voxels. Each `unsafe` here stays within the voxels and channels of maps
// whose shapes are those of the fusion. Types that hold a pointer are `@safe`: whoever follows it writes `unsafe`.

/// U-HVED's fusion: each sequence's map holds the mean µ and the log variance ℓ of a Gaussian a voxel and channel; those
/// of the sequences that are there are multiplied with a standard normal prior, and a sample of the product goes on.
///
/// With precisions tᵢ = 1 / (exp(ℓᵢ) + ε), ℓ clipped to ±50 and ε = 1e-7: T = 1 + Σ tᵢ, mean = Σ µᵢtᵢ / T, variance
/// a = 1 / T + ε, sample = mean + √a · noise.
///
/// Source: Dorent et al., MICCAI 2019, in its code's form.
package struct GaussianFusion {
  /// [z, y, x, 2C] of each sequence: C means, C log variances. nil: a sequence that was not computed.
  let maps: [Volume?]
  /// Which sequences are multiplied; their maps are there.
  let present: [Bool]

  /// Both in the task's order, one entry a sequence.
  package init(maps: [Volume?], present: [Bool]) {
    self.maps = maps
    self.present = present
  }

  private static let epsilon: Float = 1e-7
  private static let limit: Float = 50

  private var first: Volume {
    guard let map = maps.compactMap({ $0 }).first else { preconditionFailure("a fusion of nothing") }
    return map
  }
  private var channels: Int { first.channels / 2 }

  /// Writes the sample z, [z, y, x, C], for standard normal `noise` of that shape, or the mean where there is none.
  package func sample(noise: Volume?, into z: Volume, _ workers: Workers) {
    forEach(z, workers) { block, _ in
      let gaussian = block.product(present)
      var value = gaussian.mean
      if let noise { value += squareRoot(gaussian.variance) * block.values(noise) }
      block.put(value, into: z)
    }
  }

  /// Writes mean and log variance of the product, [z, y, x, C] each.
  package func posterior(mean: Volume, logVariance: Volume, _ workers: Workers) {
    forEach(mean, workers) { block, _ in
      let gaussian = block.product(present)
      block.put(gaussian.mean, into: mean)
      block.put(Transcendental.log(gaussian.variance), into: logVariance)
    }
  }

  /// The divergences of the products: with Q of the sequences present and Q_S of each of the m = 2ⁿ − 1 subsets S of all n,
  /// `inter` is Σ KL(Q ‖ Q_S) / (m − 1), `prior` is Σ KL(Q_S ‖ N(0, 1)) / m; means over voxels and channels.
  /// KL((µ₁, ℓ₁) ‖ (µ₂, ℓ₂)) = ½ (−1 + ℓ₂ − ℓ₁ + (exp ℓ₁ + (µ₁ − µ₂)²) / (exp ℓ₂ + ε)).
  ///
  /// With `gradients`, writes into each map's, [z, y, x, 2C], what comes through the sample, from `dz` and `noise`, and
  /// `weight` times the gradient of inter + prior. All maps are there.
  package func divergences(
    _ dz: Volume?, noise: Volume?, weight: Float, into gradients: [Volume]?, _ workers: Workers
  ) -> (inter: Double, prior: Double) {
    precondition(maps.allSatisfy { $0 != nil }, "divergences need all sequences")
    // Memory for the subsets is of a size that the compiler knows.
    func of<let size: Int>(_ zeros: InlineArray<size, Lanes>) -> (inter: Double, prior: Double) {
      divergences(dz, noise: noise, weight: weight, into: gradients, zeros, workers)
    }
    switch maps.count {
    case 2: return of(InlineArray<4, Lanes>(repeating: .zero))
    case 3: return of(InlineArray<8, Lanes>(repeating: .zero))
    case 4: return of(InlineArray<16, Lanes>(repeating: .zero))
    case 5: return of(InlineArray<32, Lanes>(repeating: .zero))
    case 6: return of(InlineArray<64, Lanes>(repeating: .zero))
    case 7: return of(InlineArray<128, Lanes>(repeating: .zero))
    case 8: return of(InlineArray<256, Lanes>(repeating: .zero))
    default: preconditionFailure("a fusion of \(maps.count) sequences")
    }
  }

  @inline(__always)
  private func divergences<let size: Int>(
    _ dz: Volume?, noise: Volume?, weight: Float, into gradients: [Volume]?,
    _ zeros: InlineArray<size, Lanes>,
    _ workers: Workers
  ) -> (inter: Double, prior: Double) {
    let all = first.shape.voxels * channels, mask = GaussianFusion.mask(present)
    let e = Lanes(repeating: GaussianFusion.epsilon), one = Lanes(repeating: 1)
    let subsets = size - 1, sequences = size.trailingZeroBitCount
    let perPrior = weight / Float(subsets * all), perInter = weight / Float((subsets - 1) * all)
    let pieces = pieces
    var partial = [Double](repeating: 0, count: 2 * pieces.count)
    unsafe partial.withUnsafeMutableBufferPointer { partial in
      nonisolated(unsafe) let partial = unsafe partial
      // A long body, since sums and gradients share all that is made of the subsets.
      forEach(first, workers) { block, piece in
        let (t, u) = block.precisions()
        var inverse = InlineArray<size, Lanes>(repeating: one), mean = zeros
        var variance = inverse
        for s in 1..<size {
          var sum = one, product = Lanes.zero
          for i in 0..<sequences where s >> i & 1 == 1 {
            sum += t[i]
            product = product.addingProduct(u[i], t[i])
          }
          inverse[s] = one / sum
          mean[s] = product * inverse[s]
          variance[s] = inverse[s] + e
        }
        // Σ ln a_S, five at a time: each is between 1e-7 and a little above 1, so that their product is a normal number.
        var logs = Lanes.zero
        for start in stride(from: 1, to: size, by: 5) {
          var product = one
          for s in start..<min(start + 5, size) { product *= variance[s] }
          logs += Transcendental.log(product)
        }
        let aQ = variance[mask], mQ = mean[mask]
        var inter = logs - Lanes(repeating: Float(subsets)) * (Transcendental.log(aQ) + one)
        var prior = -logs - Lanes(repeating: Float(subsets))
        let rest = one / (one + e)
        for s in 1..<size {
          let d = mQ - mean[s]
          inter += (aQ + d * d) / (variance[s] + e)
          prior += (variance[s] + mean[s] * mean[s]) * rest
        }
        let lanes = block.filled
        for lane in 0..<lanes {
          unsafe partial[2 * piece] += Double(inter[lane])
          unsafe partial[2 * piece + 1] += Double(prior[lane])
        }
        guard let gradients else { return }

        var dMean = zeros, dVariance = zeros
        let half = Lanes(repeating: 0.5), i2 = Lanes(repeating: perInter), p2 = Lanes(repeating: perPrior)
        for s in 1..<size {
          let steep = one / variance[s], behind = one / (variance[s] + e), d = mQ - mean[s]
          let pull = d * behind
          dMean[mask] += i2 * pull
          dVariance[mask] += i2 * half * (behind - one / aQ)
          dMean[s] += p2 * mean[s] * rest - i2 * pull
          let ofInter = steep - (aQ + d * d) * behind * behind
          dVariance[s] += half * i2 * ofInter
          dVariance[s] += half * p2 * (rest - steep)
        }
        if let dz {
          let g = block.values(dz)
          dMean[mask] += g
          if let noise { dVariance[mask] += g * block.values(noise) * half / squareRoot(aQ) }
        }
        var dU = InlineArray<8, Lanes>(repeating: .zero), dT = dU
        for s in 1..<size {
          // Of Σ µᵢtᵢ, and of T.
          let ofProduct = dMean[s] * inverse[s]
          let ofSum = -(ofProduct * mean[s]) - dVariance[s] * inverse[s] * inverse[s]
          for i in 0..<sequences where s >> i & 1 == 1 {
            dU[i] += ofProduct
            dT[i] += ofSum
          }
        }
        for i in 0..<sequences {
          block.put(
            means: dU[i] * t[i], logVariances: block.slope(i, t[i]) * (dU[i] * u[i] + dT[i]),
            into: gradients[i])
        }
      }
    }
    var inter = 0.0, prior = 0.0
    for piece in 0..<pieces.count {
      inter += partial[2 * piece]
      prior += partial[2 * piece + 1]
    }
    return (inter / Double(2 * (subsets - 1) * all), prior / Double(2 * subsets * all))
  }

  private static func mask(_ present: [Bool]) -> Int {
    present.indices.reduce(0) { $0 | (present[$1] ? 1 << $1 : 0) }
  }

  // MARK: Blocks

  /// Groups of eight numbers, from the shape alone.
  private var pieces: Pieces {
    Pieces((first.shape.voxels * channels + lanes - 1) / lanes, least: 256, limit: 256)
  }

  /// Calls `body` for each eight neighbouring numbers of the maps.
  @inline(__always)
  private func forEach(_ target: Volume, _ workers: Workers, _ body: (Block, _ piece: Int) -> Void) {
    let channels = channels, all = first.shape.voxels * channels, pieces = pieces, count = maps.count
    var bases = unsafe InlineArray<8, UnsafeMutablePointer<Float>?>(repeating: nil)
    for i in maps.indices { unsafe bases[i] = maps[i]?.base }
    nonisolated(unsafe) let sources = unsafe bases
    workers.measure(.fusion) {
      workers.forEach(pieces.count) { piece, _ in
        for group in pieces[piece] {
          let start = group * lanes
          unsafe body(
            Block(
              bases: sources, count: count, start: start, filled: min(lanes, all - start), channels: channels),
            piece)
        }
      }
    }
  }

  /// Eight neighbouring numbers of maps of C channels, seen across voxels where C is below eight.
  @safe private struct Block {
    let bases: InlineArray<8, UnsafeMutablePointer<Float>?>
    /// How many of them there are, and the place of the numbers.
    let count, start, filled, channels: Int

    /// Of a volume [z, y, x, C].
    @inline(__always)
    func values(_ volume: Volume) -> Lanes {
      if filled == lanes { return unsafe load(volume.base + start) }
      var value = Lanes.zero
      for lane in 0..<filled { value[lane] = unsafe volume.base[start + lane] }
      return value
    }

    @inline(__always)
    func put(_ value: Lanes, into volume: Volume) {
      if filled == lanes { return unsafe store(value, volume.base + start) }
      for lane in 0..<filled { unsafe volume.base[start + lane] = value[lane] }
    }

    /// Of a half of a map [z, y, x, 2C]: 0 means, 1 log variances.
    @inline(__always)
    private func values(_ base: UnsafePointer<Float>, half: Int) -> Lanes {
      if channels % lanes == 0 {
        let voxel = start / channels, c = start % channels
        return unsafe load(base + voxel * 2 * channels + half * channels + c)
      }
      if channels == 4 && filled == lanes {
        // Two voxels.
        let a = unsafe load(base + 2 * start), b = unsafe load(base + 2 * start + lanes)
        return half == 0
          ? Lanes(lowHalf: a.lowHalf, highHalf: b.lowHalf) : Lanes(lowHalf: a.highHalf, highHalf: b.highHalf)
      }
      var value = Lanes.zero
      for lane in 0..<filled {
        let voxel = (start + lane) / channels, c = (start + lane) % channels
        value[lane] = unsafe base[voxel * 2 * channels + half * channels + c]
      }
      return value
    }

    /// Into a map [z, y, x, 2C].
    @inline(__always)
    func put(means: Lanes, logVariances: Lanes, into map: Volume) {
      if channels % lanes == 0 {
        let voxel = start / channels, to = unsafe map.base + voxel * 2 * channels + start % channels
        unsafe store(means, to)
        return unsafe store(logVariances, to + channels)
      }
      if channels == 4 && filled == lanes {
        // Two voxels.
        unsafe store(Lanes(lowHalf: means.lowHalf, highHalf: logVariances.lowHalf), map.base + 2 * start)
        return unsafe store(
          Lanes(lowHalf: means.highHalf, highHalf: logVariances.highHalf), map.base + 2 * start + lanes)
      }
      for lane in 0..<filled {
        let voxel = (start + lane) / channels, c = (start + lane) % channels
        unsafe map.base[voxel * 2 * channels + c] = means[lane]
        unsafe map.base[voxel * 2 * channels + channels + c] = logVariances[lane]
      }
    }

    /// Of one sequence: its precision and mean; 0 where it was not computed.
    @inline(__always)
    private func precision(_ i: Int) -> (t: Lanes, mean: Lanes) {
      guard let base = unsafe bases[i] else { return (.zero, .zero) }
      let l = unsafe clamped(values(base, half: 1), GaussianFusion.limit)
      let t = Lanes(repeating: 1) / (Transcendental.exp(l) + Lanes(repeating: GaussianFusion.epsilon))
      return unsafe (t, values(base, half: 0))
    }

    @inline(__always)
    func precisions() -> (t: InlineArray<8, Lanes>, means: InlineArray<8, Lanes>) {
      var t = InlineArray<8, Lanes>(repeating: .zero), means = t
      for i in 0..<count { (t[i], means[i]) = precision(i) }
      return (t, means)
    }

    @inline(__always)
    func product(_ present: [Bool]) -> (mean: Lanes, variance: Lanes) {
      var sum = Lanes(repeating: 1), product = Lanes.zero
      for i in 0..<count where present[i] {
        let (t, mean) = precision(i)
        sum += t
        product = product.addingProduct(mean, t)
      }
      let inverse = Lanes(repeating: 1) / sum
      return (product * inverse, inverse + Lanes(repeating: GaussianFusion.epsilon))
    }

    /// ∂t/∂ℓ = −exp(ℓ) t² within the clip, 0 beyond.
    @inline(__always)
    func slope(_ i: Int, _ t: Lanes) -> Lanes {
      guard let base = unsafe bases[i] else { return .zero }
      let l = unsafe values(base, half: 1), limit = Lanes(repeating: GaussianFusion.limit)
      let slope = -(Transcendental.exp(l) * t * t)
      return slope.replacing(with: Lanes.zero, where: (l .< -limit) .| (l .> limit))
    }
  }
}
