// Pointers, since vectors reach across voxels. Each `unsafe` here stays within a volume's periods and rest, a
// pattern's period, or a worker's lines of one period each. Types that hold a pointer are `@safe`: whoever follows
// it writes `unsafe`.

/// What a norm makes of one case: y = scale · x + shift per channel, with the moments that backward needs.
package struct Norm: Sendable {
  let scale, shift: [Float]
  let mean, rstd: [Float]
}

/// Σ x and Σ x² of each channel of a volume.
package struct Moments {
  let sums, squares: [Double]
}

/// Instance normalisation, C channels, followed by a leaky ReLU:
/// y = leaky(γ · (x − mean) / √(variance + ε) + β), variance biased, over the voxels of one case.
///
/// Forward gives factors, not a volume: who reads x applies them (`LayerInput`).
///
/// Source: Ulyanov et al. 2016; ε = 1e-5 and the biased variance as in PyTorch's `InstanceNorm3d`.
package struct InstanceNorm: Sendable {
  /// nil: without affine, γ = 1, β = 0.
  let weight, bias: Parameter?  // [C]
  let epsilon: Double

  /// Adds γ and β, [C] each, to the layout as NAME.weight and NAME.bias; none where it is not `affine`.
  package init(_ name: String, _ channels: Int, affine: Bool = true, in layout: inout ParameterLayout) {
    weight = affine ? layout.add("\(name).weight", channels) : nil
    bias = affine ? layout.add("\(name).bias", channels) : nil
    epsilon = 1e-5
  }

  /// With names of their own for γ and β.
  init(gamma: String, beta: String, _ channels: Int, epsilon: Double, in layout: inout ParameterLayout) {
    weight = layout.add(gamma, channels)
    bias = layout.add(beta, channels)
    self.epsilon = epsilon
  }

  /// The factors for x, [z, y, x, C]; `moments`, if its kernel has summed them up on the way. Of several volumes side by
  /// side, x may be the one whose channels begin at `first`.
  func forward(
    _ x: Volume, first: Int = 0, _ p: Parameters, _ moments: Moments? = nil, _ workers: Workers
  ) -> Norm {
    let n = Double(x.shape.voxels), channels = x.channels
    let known = moments ?? self.moments(x, workers), sums = known.sums, squares = known.squares
    var scale = [Float](), shift = [Float](), means = [Float](), rstds = [Float]()
    for c in 0..<channels {
      let mean = sums[c] / n
      let variance = max(0, squares[c] / n - mean * mean)
      let rstd = 1 / (variance + epsilon).squareRoot()
      let gamma = weight.map { unsafe Double(p[$0][first + c]) } ?? 1
      let beta = bias.map { unsafe Double(p[$0][first + c]) } ?? 0
      scale.append(Float(gamma * rstd))
      shift.append(Float(beta - mean * gamma * rstd))
      means.append(Float(mean))
      rstds.append(Float(rstd))
    }
    return Norm(scale: scale, shift: shift, mean: means, rstd: rstds)
  }

  /// Σ x and Σ x² per channel.
  private func moments(_ x: Volume, _ workers: Workers) -> Moments {
    let row = PeriodicRow(x, workers)
    let (sums, squares) = row.sums(x, x, workers) { value, _, _ in (value, value * value) }
    return Moments(sums: sums, squares: squares)
  }

  /// Turns `gradient`, ∂L/∂y as it comes from the readers, into ∂L/∂x in place; adds ∂L/∂γ and ∂L/∂β to `dp`.
  package func backward(
    _ gradient: Volume, _ x: Volume, first: Int = 0, _ norm: Norm, slope: Float, _ p: Parameters,
    into dp: ParameterVector?, _ workers: Workers
  ) {
    precondition(gradient.shape == x.shape, "instance norm: gradient \(gradient.shape) of \(x.shape)")
    let n = Float(x.shape.voxels), channels = x.channels, row = PeriodicRow(x, workers),
      leak = Lanes(repeating: slope)
    let scale = unsafe row.pattern(0, norm.scale), shift = unsafe row.pattern(1, norm.shift)
    let mean = unsafe row.pattern(2, norm.mean), rstd = unsafe row.pattern(3, norm.rstd)
    @inline(__always) func normGradient(_ g: Lanes, _ v: Lanes, _ i: Int) -> Lanes {
      let y = unsafe load(shift + i).addingProduct(load(scale + i), v)
      return (g * leak).replacing(with: g, where: y .> 0)
    }
    let (products, totals) = row.sums(gradient, x, workers) { g, v, i in
      let dn = normGradient(g, v, i)
      return unsafe (dn * ((v - load(mean + i)) * load(rstd + i)), dn)
    }
    if let dp, let weight, let bias {
      for c in 0..<channels {
        unsafe dp[weight][first + c] += Float(products[c])
        unsafe dp[bias][first + c] += Float(totals[c])
      }
    }
    let a = unsafe row.pattern(4, (0..<channels).map { norm.rstd[$0] * Float(products[$0]) / n })
    let b = unsafe row.pattern(5, totals.map { Float($0) / n })
    row.update(gradient, x, workers) { g, v, i in
      unsafe load(scale + i) * (normGradient(g, v, i) - load(b + i) - (v - load(mean + i)) * load(a + i))
    }
  }
}

/// A volume as one long row of vectors, for passes whose factors differ by channel: factors repeat with a period of
/// whole voxels and whole vectors.
@safe private struct PeriodicRow {
  private let channels, period: Int
  private let periods, rest: Int
  private let pieces: Pieces
  private let patterns: UnsafeMutablePointer<Float>

  init(_ x: Volume, _ workers: Workers) {
    channels = x.channels
    var voxels = 1
    while voxels * channels % lanes != 0 { voxels += 1 }
    period = voxels * channels
    periods = x.shape.count / period
    rest = x.shape.count % period
    pieces = Pieces(periods, least: max(1, 4096 / period), limit: 64)
    unsafe patterns = workers.sharedScratch(6 * period, place: 1)
  }

  /// `values`, one a channel, repeated along a period.
  func pattern(_ place: Int, _ values: [Float]) -> UnsafePointer<Float> {
    let pattern = unsafe patterns + place * period
    for i in 0..<period { unsafe pattern[i] = values[i % channels] }
    return unsafe UnsafePointer(pattern)
  }

  /// Two sums per channel over all voxels of `term(x, y, i)`, i the place in the period; 0 for x = y = 0. Short sums of
  /// floats are added up in Double; pieces are from the shape.
  @inline(__always)
  func sums(
    _ x: Volume, _ y: Volume, _ workers: Workers, _ term: (Lanes, Lanes, _ i: Int) -> (Lanes, Lanes)
  ) -> ([Double], [Double]) {
    let scratch = unsafe workers.scratch(4 * period), long = pieces.count + 1
    var partial = [Double](repeating: 0, count: long * 2 * channels)
    unsafe partial.withUnsafeMutableBufferPointer { partial in
      // There is at least one piece of at least one channel.
      nonisolated(unsafe) let partial = partial.baseAddress!
      func collect(_ line: UnsafeMutablePointer<Float>, into sums: UnsafeMutablePointer<Double>) {
        for i in 0..<period {
          unsafe sums[i % channels] += Double(line[i])
          unsafe sums[channels + i % channels] += Double(line[period + i])
        }
        unsafe line.update(repeating: 0, count: 2 * period)
      }
      func add(_ v: UnsafePointer<Float>, _ w: UnsafePointer<Float>, to line: UnsafeMutablePointer<Float>) {
        var i = 0
        while i < period {
          let (one, two) = unsafe term(load(v + i), load(w + i), i)
          unsafe store(load(line + i) + one, line + i)
          unsafe store(load(line + period + i) + two, line + period + i)
          i &+= lanes
        }
      }
      workers.forEach(pieces.count) { piece, worker in
        let line = unsafe scratch[worker], sums = unsafe partial + piece * 2 * channels
        unsafe line.update(repeating: 0, count: 2 * period)
        for (n, index) in pieces[piece].enumerated() {
          unsafe add(x.base + index * period, y.base + index * period, to: line)
          if n % 64 == 63 { unsafe collect(line, into: sums) }
        }
        unsafe collect(line, into: sums)
      }
      // The last voxels that fill no period, with zeros behind.
      let line = unsafe scratch[0], v = unsafe line + 2 * period, w = unsafe v + period
      unsafe line.update(repeating: 0, count: 4 * period)
      unsafe v.update(from: x.base + periods * period, count: rest)
      unsafe w.update(from: y.base + periods * period, count: rest)
      unsafe add(v, w, to: line)
      unsafe collect(line, into: partial + pieces.count * 2 * channels)
    }
    var sums = [Double](repeating: 0, count: channels), more = sums
    for piece in 0..<long {
      for c in 0..<channels {
        sums[c] += partial[piece * 2 * channels + c]
        more[c] += partial[piece * 2 * channels + channels + c]
      }
    }
    return (sums, more)
  }

  /// x = `term(x, y, i)`.
  @inline(__always)
  func update(_ x: Volume, _ y: Volume, _ workers: Workers, _ term: (Lanes, Lanes, _ i: Int) -> Lanes) {
    let scratch = unsafe workers.scratch(2 * period)
    func write(_ v: UnsafeMutablePointer<Float>, _ w: UnsafePointer<Float>) {
      var i = 0
      while i < period {
        unsafe store(term(load(v + i), load(w + i), i), v + i)
        i &+= lanes
      }
    }
    workers.forEach(pieces.count) { piece, _ in
      for index in pieces[piece] { unsafe write(x.base + index * period, y.base + index * period) }
    }
    let v = unsafe scratch[0], w = unsafe v + period
    unsafe v.update(from: x.base + periods * period, count: rest)
    unsafe w.update(from: y.base + periods * period, count: rest)
    unsafe (v + rest).update(repeating: 0, count: period - rest)
    unsafe (w + rest).update(repeating: 0, count: period - rest)
    unsafe write(v, w)
    unsafe (x.base + periods * period).update(from: v, count: rest)
  }
}
