/// What a norm makes of one case: y = scale · x + shift per channel, with the moments that backward needs.
public struct Norm: Sendable {
  let scale, shift: [Float]
  let mean, rstd: [Float]
}

/// Σ x and Σ x² of each channel of a volume.
struct Moments {
  let sums, squares: [Double]
}

/// Instance normalisation, C channels, followed by a leaky ReLU:
/// y = leaky(γ · (x − mean) / √(variance + ε) + β), variance biased, over the voxels of one case.
///
/// Forward gives factors, not a volume: who reads x applies them (`Source`).
///
/// Source: Ulyanov et al. 2016; ε = 1e-5 and the biased variance as in PyTorch's `InstanceNorm3d`.
public struct InstanceNorm: Sendable {
  /// nil: without affine, γ = 1, β = 0.
  let weight, bias: Parameter?  // [C]
  let channels: Int
  static let epsilon = 1e-5

  public init(_ name: String, _ channels: Int, affine: Bool = true, in layout: inout ParameterLayout) {
    self.channels = channels
    weight = affine ? layout.add("\(name).weight", channels) : nil
    bias = affine ? layout.add("\(name).bias", channels) : nil
  }

  /// The factors for x, [z, y, x, C]; `moments`, if its kernel has summed them up on the way.
  func forward(_ x: Volume, _ p: ParameterVector, _ moments: Moments? = nil, _ workers: Workers) -> Norm {
    let n = Double(x.shape.voxels)
    let known = moments ?? self.moments(x, workers), sums = known.sums, squares = known.squares
    var scale = [Float](), shift = [Float](), means = [Float](), rstds = [Float]()
    for c in 0..<channels {
      let mean = sums[c] / n
      let variance = max(0, squares[c] / n - mean * mean)
      let rstd = 1 / (variance + InstanceNorm.epsilon).squareRoot()
      let gamma = weight.map { Double(p[$0][c]) } ?? 1, beta = bias.map { Double(p[$0][c]) } ?? 0
      scale.append(Float(gamma * rstd))
      shift.append(Float(beta - mean * gamma * rstd))
      means.append(Float(mean))
      rstds.append(Float(rstd))
    }
    return Norm(scale: scale, shift: shift, mean: means, rstd: rstds)
  }

  /// Σ x and Σ x² per channel: floats along a row, rows in Double (running float sums drift).
  private func moments(_ x: Volume, _ workers: Workers) -> Moments {
    let (sums, squares) = rowSums(x, workers) { v, _, i in
      let value = v[i]
      return (value, value * value)
    }
    return Moments(sums: sums, squares: squares)
  }

  /// Turns `gradient`, ∂L/∂y as it comes from the readers, into ∂L/∂x in place; adds ∂L/∂γ and ∂L/∂β to `dp`.
  public func backward(
    _ gradient: Volume, _ x: Volume, _ norm: Norm, slope: Float, _ p: ParameterVector,
    into dp: ParameterVector?, _ workers: Workers
  ) {
    precondition(gradient.shape == x.shape, "instance norm: gradient \(gradient.shape) of \(x.shape)")
    let width = x.size.x, length = width * channels, n = Float(x.shape.voxels)
    let pattern = workers.sharedScratch(6 * length, place: 1)
    func fill(_ place: Int, _ values: [Float]) -> UnsafeMutablePointer<Float> {
      let row = pattern + place * length
      for i in 0..<length { row[i] = values[i % channels] }
      return row
    }
    let scale = fill(0, norm.scale), shift = fill(1, norm.shift)
    let mean = fill(2, norm.mean), rstd = fill(3, norm.rstd)
    let (products, totals) = rowSums(gradient, reading: x, workers) { g, v, i in
      let dn = scale[i] * v[i] + shift[i] > 0 ? g[i] : slope * g[i]
      return (dn * ((v[i] - mean[i]) * rstd[i]), dn)
    }
    if let dp, let weight, let bias {
      for c in 0..<channels {
        dp[weight][c] += Float(products[c])
        dp[bias][c] += Float(totals[c])
      }
    }
    let a = fill(4, products.map { Float($0) / n }), b = fill(5, totals.map { Float($0) / n })
    let pieces = Pieces(x.size.z * x.size.y, least: 16, limit: 64)
    workers.forEach(pieces.count) { piece, _ in
      for row in pieces[piece] {
        let g = gradient.base + row * length, v = x.base + row * length
        for i in 0..<length {
          let dn = scale[i] * v[i] + shift[i] > 0 ? g[i] : slope * g[i]
          g[i] = scale[i] * (dn - b[i] - (v[i] - mean[i]) * rstd[i] * a[i])
        }
      }
    }
  }

  /// Two sums per channel over all voxels of `term(x, y, i)`, i within a row: floats along a row, rows in Double,
  /// pieces from the shape.
  @inline(__always)
  private func rowSums(
    _ x: Volume, reading other: Volume? = nil, _ workers: Workers,
    _ term: (_ x: UnsafePointer<Float>, _ y: UnsafePointer<Float>, _ i: Int) -> (Float, Float)
  ) -> ([Double], [Double]) {
    let rows = x.size.z * x.size.y, width = x.size.x, length = width * channels
    let pieces = Pieces(rows, least: 16, limit: 64)
    let lines = workers.scratch(2 * channels)
    let y = other ?? x
    var partial = [Double](repeating: 0, count: pieces.count * 2 * channels)
    partial.withUnsafeMutableBufferPointer { partial in
      let partial = partial.baseAddress!  // there is at least one piece of at least one channel
      workers.forEach(pieces.count) { piece, worker in
        let first = lines[worker], second = first + channels
        let sums = partial + piece * 2 * channels
        for row in pieces[piece] {
          let v = UnsafePointer(x.base + row * length), w = UnsafePointer(y.base + row * length)
          first.update(repeating: 0, count: 2 * channels)
          var i = 0
          for _ in 0..<width {
            for c in 0..<channels {
              let (one, two) = term(v, w, i)
              first[c] += one
              second[c] += two
              i += 1
            }
          }
          for c in 0..<channels {
            sums[c] += Double(first[c])
            sums[channels + c] += Double(second[c])
          }
        }
      }
    }
    var sums = [Double](repeating: 0, count: channels), more = sums
    for piece in 0..<pieces.count {
      for c in 0..<channels {
        sums[c] += partial[piece * 2 * channels + c]
        more[c] += partial[piece * 2 * channels + channels + c]
      }
    }
    return (sums, more)
  }
}
