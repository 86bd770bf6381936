/// Convolution, instance norm, leaky ReLU. Stored is the convolution's output; the rest is applied by its readers.
/// With two convolutions (an up block) their outputs are added before the norm.
///
/// Source: HAD-Net, appendix A and published code.
package struct ConvolutionUnit: Sendable {
  package let convolutions: [Convolution]
  let norm: InstanceNorm?
  let slope: Float

  /// `norm`: nil where there is none. `slope`: of the leaky ReLU below 0.
  package init(convolutions: [Convolution], norm: InstanceNorm?, slope: Float) {
    self.convolutions = convolutions
    self.norm = norm
    self.slope = slope
  }

  /// Where the unit's parameters lie in the vector: one after the other.
  package var parameters: Range<Int> {
    var ranges: [Range<Int>] = convolutions.map(\.parameters)
    for parameter in [norm?.weight, norm?.bias] { if let parameter { ranges.append(parameter.range) } }
    return ranges.map(\.lowerBound).min()!..<ranges.map(\.upperBound).max()!  // a unit has a convolution
  }

  /// Writes the sum of the convolutions, each of its sources, into y and gives its norm.
  package func forward(_ sources: [[LayerInput]], _ p: Parameters, into y: Volume, _ workers: Workers)
    -> Norm
  {
    forward([(sources, y)], p, workers)[0]
  }

  /// The same for several samples.
  package func forward(
    _ samples: [(sources: [[LayerInput]], y: Volume)], _ p: Parameters, _ workers: Workers
  ) -> [Norm] {
    let sums = samples.map { sample in
      Convolution.Sum(
        zip(convolutions, sample.sources).map { ConvolutionTerm(layer: $0, sources: $1) }, sample.y)
    }
    let moments = Convolution.forward(sums, p, moments: norm != nil, workers)
    return workers.measure(.norm) {
      zip(samples, moments).map { sample, moments in
        norm?.forward(sample.y, p, moments, workers) ?? Norm(identity: sample.y.channels)
      }
    }
  }

  /// Turns `gradient`, ∂L/∂(activated y), into ∂L/∂y in place and adds the parameters' gradients to `dp` (nil: none
  /// are wanted). The inputs' gradients are the caller's to ask for.
  package func backward(
    _ gradient: Volume, _ y: Volume, _ saved: Norm, _ sources: [[LayerInput]], _ p: Parameters,
    into dp: ParameterVector?, _ workers: Workers
  ) {
    backward([(gradient, y, saved, sources)], p, into: dp, workers)
  }

  /// The same, parameters' gradients summed over several samples.
  package func backward(
    _ samples: [(gradient: Volume, y: Volume, norm: Norm, sources: [[LayerInput]])], _ p: Parameters,
    into dp: ParameterVector?, _ workers: Workers
  ) {
    workers.measure(.norm) {
      for sample in samples {
        if let norm {
          norm.backward(sample.gradient, sample.y, sample.norm, slope: slope, p, into: dp, workers)
        } else {
          LeakyReLU.backward(sample.gradient, sample.y, slope: slope, workers)
        }
      }
    }
    guard let dp else { return }
    for (i, convolution) in convolutions.enumerated() {
      convolution.addWeightGradient(
        samples.map { ($0.sources[i], $0.gradient) }, into: dp, biasMatters: norm == nil, workers)
    }
  }
}

extension Norm {
  /// No norm: y = x.
  package init(identity channels: Int) {
    scale = [Float](repeating: 1, count: channels)
    shift = [Float](repeating: 0, count: channels)
    mean = shift
    rstd = scale
  }
}
