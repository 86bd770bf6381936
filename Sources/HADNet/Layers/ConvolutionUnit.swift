/// Convolution, instance norm, leaky ReLU. Stored is the convolution's output; the rest is applied by its readers.
/// With two convolutions (an up block) their outputs are added before the norm.
public struct ConvolutionUnit: Sendable {
  let convolutions: [Convolution]
  let norm: InstanceNorm?
  let slope: Float

  /// Writes the sum of the convolutions, each of its sources, into y and gives its norm.
  func forward(_ sources: [[Source]], _ p: ParameterVector, into y: Volume, _ workers: Workers) -> Norm {
    let terms = zip(convolutions, sources).map { ConvolutionTerm(layer: $0, sources: $1) }
    let moments = Convolution.forward(terms, p, into: y, moments: norm != nil, workers)
    return workers.measure(.norm) { norm?.forward(y, p, moments, workers) } ?? Norm(identity: y.channels)
  }

  /// Turns `gradient`, ∂L/∂(activated y), into ∂L/∂y in place and adds the parameters' gradients to `dp` (nil: none
  /// are wanted). The inputs' gradients are the caller's to ask for.
  func backward(
    _ gradient: Volume, _ y: Volume, _ saved: Norm, _ sources: [[Source]], _ p: ParameterVector,
    into dp: ParameterVector?, _ workers: Workers
  ) {
    workers.measure(.norm) {
      if let norm {
        norm.backward(gradient, y, saved, slope: slope, p, into: dp, workers)
      } else {
        LeakyReLU.backward(gradient, y, slope: slope, workers)
      }
    }
    guard let dp else { return }
    for (i, convolution) in convolutions.enumerated() {
      convolution.addWeightGradient(
        gradient, sources[i], into: dp, biasMatters: norm == nil, workers)
    }
  }
}

extension Norm {
  /// No norm: y = x.
  init(identity channels: Int) {
    scale = [Float](repeating: 1, count: channels)
    shift = [Float](repeating: 0, count: channels)
    mean = shift
    rstd = scale
  }
}
