import Compute

/// The segmentation network of teacher (all sequences) and student (those that are there): four levels down, a centre, four up.
///
/// The network is its layers and the layout of its parameters; memory for one case lies in a `UNetPass`.
/// Source: HAD-Net, appendix A; names are those of the published checkpoints.
package struct UNet: Sendable {
  package let inputs, k, classes: Int
  package let layout: ParameterLayout
  package static let slope: Float = 0.01
  /// A side of a volume must be a multiple of this: four poolings.
  package static let multiple = 16

  /// Two units at one size.
  package struct Level: Sendable { package let first, second: ConvolutionUnit }
  /// d1…d4, then the centre c5.
  package let down: [Level]
  /// u1…u4: `first` joins skip and lower level, `second` is the unit called conv_out.
  package let up: [Level]
  let last: Convolution

  /// `inputs`: sequences. `k`: channels at full size; the paper's is 32. `classes`: the background's among them.
  package init(inputs: Int, k: Int, classes: Int) {
    self.inputs = inputs
    self.k = k
    self.classes = classes
    var layout = ParameterLayout()
    func unit(_ name: String, _ a: Int, _ b: Int) -> ConvolutionUnit {
      let convolution = Convolution("\(name).conv", a, b, in: &layout)
      return ConvolutionUnit(
        convolutions: [convolution], norm: InstanceNorm("\(name).inst", b, in: &layout), slope: UNet.slope)
    }
    var down: [Level] = []
    for level in 1...4 {
      let from = level == 1 ? inputs : k << (level - 2), to = k << (level - 1)
      down.append(
        Level(first: unit("conv_d\(level).conv1", from, to), second: unit("conv_d\(level).conv2", to, to)))
    }
    down.append(
      Level(first: unit("conv_c5.conv1", 8 * k, 16 * k), second: unit("conv_c5.conv2", 16 * k, 8 * k)))
    var up: [Level] = []
    for level in stride(from: 4, through: 1, by: -1) {
      let name = "conv_u\(level)", c = k << (level - 1)
      let left = Convolution("\(name).conv_left", c, c, bias: false, in: &layout)
      let raised = Convolution("\(name).conv_up", c, c, in: &layout)
      let join = ConvolutionUnit(
        convolutions: [left, raised], norm: InstanceNorm("\(name).inst", c, in: &layout), slope: UNet.slope)
      up.append(Level(first: join, second: unit("\(name).conv_out", c, level == 1 ? k : c / 2)))
    }
    self.down = down
    self.up = up.reversed()
    last = Convolution("conv_out", k, classes, kernel: 1, padding: 0, in: &layout)
    self.layout = layout
  }

  /// Initial parameters: weights normal with sd = √(2 / fan-in), biases 0, norm scales 1 and shifts 0.
  package func initialParameters(seed: UInt64, part: Int) -> ParameterVector {
    let p = ParameterVector(zeros: layout)
    initialise(p, seed: seed, part: part)
    return p
  }

  /// Writes initial parameters into `p`.
  package func initialise(_ p: ParameterVector, seed: UInt64, part: Int) {
    for (i, parameter) in layout.parameters.enumerated() {
      var values = p.mutableValues(of: parameter)
      if parameter.extents.count == 5 {
        let fanIn = parameter.count / parameter.extents[0]
        let sd = (2 / Float(fanIn)).squareRoot()
        var random = Philox(seed: seed, .initialWeights, part, i)
        for j in values.indices { values[j] = sd * random.normal() }
      } else if parameter.name.hasSuffix("inst.weight") {
        for j in values.indices { values[j] = 1 }
      }
    }
  }

  /// Logits [z, y, x, classes] of the pass's image, into the pass; dropout where `dropout` is given.
  package func forward(
    _ pass: UNetPass, _ p: Parameters, dropout: DropoutDraw? = nil, _ workers: Workers
  ) {
    begin(pass, p, workers)
    finish(pass, p, dropout: dropout, workers)
  }

  /// The first block, which has no dropout: a pass for sampling begins once for all samples of an image.
  package func begin(_ pass: UNetPass, _ p: Parameters, _ workers: Workers) {
    precondition(pass.image.channels == inputs, "\(pass.image.shape) for a network of \(inputs) inputs")
    encode(0, pass, p, workers)
  }

  /// From the first block's output to the logits.
  package func finish(_ pass: UNetPass, _ p: Parameters, dropout: DropoutDraw?, _ workers: Workers) {
    pass.dropout = dropout
    for level in 1..<5 { encode(level, pass, p, workers) }
    for level in stride(from: 3, through: 0, by: -1) {
      pass.normM[level] = up[level].first.forward(
        [[pass.skip(level)], [pass.lower(level)]], p, into: pass.m[level], workers)
      pass.normO[level] = up[level].second.forward([[pass.sourceM(level)]], p, into: pass.o[level], workers)
    }
    last.forward([pass.sourceO(0)], p, into: pass.logits, workers)
  }

  private func encode(_ level: Int, _ pass: UNetPass, _ p: Parameters, _ workers: Workers) {
    pass.normA[level] = down[level].first.forward([[pass.input(level)]], p, into: pass.a[level], workers)
    pass.normB[level] = down[level].second.forward([[pass.sourceA(level)]], p, into: pass.b[level], workers)
    if level < 4 { MaxPool.forward(pass.encoded(level), into: pass.pooled[level], workers) }
  }

  /// From `pass.dLogits`, and from what was written into the gradients of features, if any: adds the gradient of the parameters to `dp`. `finished` is told each range of `dp` that is final, all
  /// of it in the end.
  package func backward(
    _ pass: UNetPass, _ p: Parameters, into dp: ParameterVector, featureGradients: FeatureGradients,
    _ workers: Workers, finished: (Range<Int>) -> Void = { _ in }
  ) {
    last.addWeightGradient(pass.dLogits, [pass.sourceO(0)], into: dp, biasMatters: true, workers)
    finished(last.parameters)
    last.dataGradient(pass.dLogits, p, into: pass.dO[0], workers)
    for level in 0..<4 {
      let second = up[level].second, first = up[level].first
      second.backward(
        pass.dO[level], pass.o[level], pass.normO[level], [[pass.sourceM(level)]], p, into: dp, workers)
      finished(second.parameters)
      second.convolutions[0].dataGradient(pass.dO[level], p, into: pass.dM[level], workers)
      let skip = pass.skip(level), lower = pass.lower(level)
      first.backward(
        pass.dM[level], pass.m[level], pass.normM[level], [[skip], [lower]], p, into: dp, workers)
      finished(first.parameters)
      first.convolutions[0].dataGradient(
        pass.dM[level], p, mask: skip.mask, into: pass.dB[level],
        adding: featureGradients == .all && level > 0,
        workers)
      // The lower level is u(level + 1)'s output, or the centre's; u2's is no feature.
      first.convolutions[1].dataGradient(
        pass.dM[level], p, mask: lower.mask, upsampled: true,
        into: level < 3 ? pass.dO[level + 1] : pass.dB[4],
        adding: level == 3 ? featureGradients != .none : featureGradients == .all && level > 0, workers)
    }
    for level in stride(from: 4, through: 0, by: -1) {
      if level < 4 {
        MaxPool.addGradient(pass.dPooled[level], pass.encoded(level), into: pass.dB[level], workers)
      }
      let second = down[level].second, first = down[level].first
      second.backward(
        pass.dB[level], pass.b[level], pass.normB[level], [[pass.sourceA(level)]], p, into: dp, workers)
      finished(second.parameters)
      second.convolutions[0].dataGradient(pass.dB[level], p, into: pass.dA[level], workers)
      let input = pass.input(level)
      first.backward(pass.dA[level], pass.a[level], pass.normA[level], [[input]], p, into: dp, workers)
      finished(first.parameters)
      if level > 0 {
        first.convolutions[0].dataGradient(
          pass.dA[level], p, mask: input.mask, into: pass.dPooled[level - 1], workers)
      }
    }
  }
}

/// What, beside the loss of the logits, gives gradients of a U-Net's feature maps before its backward pass.
package enum FeatureGradients: Sendable {
  case none
  /// A loss of the centre's output.
  case centre
  /// A discriminator, of all three pairs.
  case all
}

/// Which dropout masks a pass draws: a function of seed, purpose, step and slot, so of nothing that depends on ranks.
package struct DropoutDraw: Sendable {
  let layer: ChannelDropout
  let seed: UInt64
  let purpose: Philox.Purpose
  let step, slot: Int

  /// `step` and `slot`: of training; in sampling `step` is the sample's number, `slot` one of the case.
  package init(probability: Float, seed: UInt64, _ purpose: Philox.Purpose, step: Int, slot: Int) {
    layer = ChannelDropout(probability)
    self.seed = seed
    self.purpose = purpose
    self.step = step
    self.slot = slot
  }

  func mask(_ channels: Int, part: Int) -> [Float]? {
    var random = Philox(seed: seed, purpose, step, slot, part: part)
    return layer.mask(channels, &random)
  }
}
