/// A block of U-HeMIS and U-HVED: instance norm, leaky ReLU, 3³ convolution, twice. It ends in a bare convolution, and
/// its convolutions have no bias.
///
/// Source: U-HVED's code (its residual sum is commented out there).
package struct PreactivatedBlock: Sendable {
  private let norms: [InstanceNorm]
  private let convolutions: [Convolution]
  package let inputs, inner, outputs: Int
  package static let slope: Float = 0.02
  private static let epsilon = 1e-6

  /// Adds its parameters to the layout, under names that begin with `name`: channels go from `inputs` over `inner` to
  /// `outputs`.
  package init(_ name: String, _ inputs: Int, _ inner: Int, _ outputs: Int, in layout: inout ParameterLayout)
  {
    self.inputs = inputs
    self.inner = inner
    self.outputs = outputs
    var norms: [InstanceNorm] = [], convolutions: [Convolution] = []
    for (i, (from, to)) in [(inputs, inner), (inner, outputs)].enumerated() {
      let norm = "\(name)/in_\(i)/InstanceNorm"
      norms.append(
        InstanceNorm(
          gamma: "\(norm)/gamma", beta: "\(norm)/beta", from, epsilon: PreactivatedBlock.epsilon, in: &layout)
      )
      convolutions.append(Convolution(weight: "\(name)/conv_\(i)/w", from, to, kernel: 3, in: &layout))
    }
    self.norms = norms
    self.convolutions = convolutions
  }

  /// Where its parameters lie in the vector: one after the other.
  package var parameters: Range<Int> {
    // Its norms have both.
    (norms[0].weight?.range.lowerBound ?? 0)..<convolutions[1].weight.range.upperBound
  }

  /// What forward leaves for backward beside the volumes.
  package struct Saved {
    var inputs: [Norm] = []
    var inner = Norm(identity: 0)

    package init() {}
  }

  /// Writes y, [z, y, x, outputs], of `inputs` side by side; `inner` takes the first convolution's output.
  package func forward(
    _ inputs: [Volume], _ p: Parameters, inner: Volume, into y: Volume, _ workers: Workers
  ) -> Saved {
    var saved = Saved(), first = 0
    for input in inputs {
      saved.inputs.append(workers.measure(.norm) { norms[0].forward(input, first: first, p, nil, workers) })
      first += input.channels
    }
    let moments = Convolution.forward(
      [.init([ConvolutionTerm(layer: convolutions[0], sources: sources(inputs, saved))], inner)], p,
      moments: true, workers)
    saved.inner = workers.measure(.norm) { norms[1].forward(inner, p, moments[0], workers) }
    convolutions[1].forward([innerSource(inner, saved)], p, into: y, workers)
    return saved
  }

  /// From `dy`, ∂L/∂y: writes ∂L/∂inputs into `dInputs` and adds the parameters' gradients to `dp`; `dInner` is
  /// memory for the first convolution's.
  package func backward(
    _ dy: Volume, _ inputs: [Volume], inner: Volume, _ saved: Saved, _ p: Parameters,
    into dp: ParameterVector, dInner: Volume, dInputs: [Volume], _ workers: Workers
  ) {
    convolutions[1].addWeightGradient(
      dy, [innerSource(inner, saved)], into: dp, biasMatters: false, workers)
    convolutions[1].dataGradient(dy, p, into: dInner, workers)
    workers.measure(.norm) {
      norms[1].backward(
        dInner, inner, saved.inner, slope: PreactivatedBlock.slope, p, into: dp, workers)
    }
    convolutions[0].addWeightGradient(
      dInner, sources(inputs, saved), into: dp, biasMatters: false, workers)
    var first = 0
    for (i, input) in inputs.enumerated() {
      convolutions[0].dataGradient(dInner, p, first: first, into: dInputs[i], workers)
      workers.measure(.norm) {
        norms[0].backward(
          dInputs[i], input, first: first, saved.inputs[i], slope: PreactivatedBlock.slope, p, into: dp,
          workers)
      }
      first += input.channels
    }
  }

  private func sources(_ inputs: [Volume], _ saved: Saved) -> [LayerInput] {
    zip(inputs, saved.inputs).map { LayerInput($0, $1, slope: PreactivatedBlock.slope) }
  }

  private func innerSource(_ inner: Volume, _ saved: Saved) -> LayerInput {
    LayerInput(inner, saved.inner, slope: PreactivatedBlock.slope)
  }
}
