import Compute

/// The hierarchical discriminator (HAD-Net), which sees a network's logits, the student's sequences and three pairs
/// of feature maps, or the plain one (AD-Net), which sees logits and sequences only. Its output is a grid of patch
/// scores, one channel: 1 real (teacher), 0 fake (student).
///
/// Source: HAD-Net, appendix A; widths 4k, 8k, 16k, 32k as in the published code (the paper's k·(2n + 1) fits no
/// shape).
package struct Discriminator: Sendable {
  package let k: Int
  package let hierarchical: Bool
  package let layout: ParameterLayout
  package let blocks: [ConvolutionUnit]
  let last: Convolution
  static let slope: Float = 0.2
  /// Of the networks that it judges, and sequences of the student's.
  package let classes, sequences: Int
  /// A side of a volume must have this many voxels: the last convolution needs two at a sixteenth of the size.
  package static let leastSide = 32

  /// `k`: channels at full size of the networks that it judges, `classes` theirs with the background, `sequences` the
  /// student's. `hierarchical`: HAD-Net's; else AD-Net's.
  package init(k: Int, classes: Int, sequences: Int, hierarchical: Bool = true) {
    self.k = k
    self.classes = classes
    self.sequences = sequences
    self.hierarchical = hierarchical
    var layout = ParameterLayout()
    var blocks: [ConvolutionUnit] = []
    for i in 0..<4 {
      // Previous block, then encoder and decoder features of equal width.
      let features = hierarchical && i > 0 ? 2 * (k << i) : 0
      let inputs = i == 0 ? classes + sequences : (4 * k << (i - 1)) + features
      let convolution = Convolution(
        "disc_\(i + 1).0", inputs, 4 * k << i, kernel: 4, stride: 2, padding: 1, in: &layout)
      let norm = i == 0 ? nil : InstanceNorm("", 4 * k << i, affine: false, in: &layout)
      blocks.append(ConvolutionUnit(convolutions: [convolution], norm: norm, slope: Discriminator.slope))
    }
    self.blocks = blocks
    last = Convolution("disc_5", 32 * k, 1, kernel: 4, padding: 1, bias: false, in: &layout)
    self.layout = layout
  }

  /// Initial parameters: weights and biases uniform in ±√(1 / fan-in), PyTorch's default.
  package func initialParameters(seed: UInt64, part: Int) -> ParameterVector {
    let p = ParameterVector(zeros: layout)
    var bound: Float = 0
    for (i, parameter) in layout.parameters.enumerated() {
      // A bias follows its weight and has its fan-in.
      if parameter.extents.count == 5 {
        bound = (1 / Float(parameter.count / parameter.extents[0])).squareRoot()
      }
      var random = Philox(seed: seed, .initialWeights, part, i)
      var values = p.mutableValues(of: parameter)
      for j in values.indices { values[j] = random.uniform(-bound, bound) }
    }
    return p
  }

  /// What is judged: a network's outputs, with a place for what the judgement needs and gives.
  package struct Sample {
    let pass: DiscriminatorPass
    let network: UNetPass

    /// `network`: planned so that its features outlive its forward pass.
    package init(_ pass: DiscriminatorPass, of network: UNetPass) {
      self.pass = pass
      self.network = network
    }
  }

  /// Scores networks' outputs, with the student's `sequences` [z, y, x, n], into their passes. Samples share the work
  /// on the weights; each is judged by itself.
  package func forward(_ samples: [Sample], sequences: Volume, _ p: Parameters, _ workers: Workers) {
    for i in 0..<4 {
      let norms = blocks[i].forward(
        samples.map { ([sources($0.pass, i, $0.network, sequences)], $0.pass.y[i]) }, p, workers)
      for (sample, norm) in zip(samples, norms) { sample.pass.norms[i] = norm }
    }
    for sample in samples { last.forward([sample.pass.source(3)], p, into: sample.pass.scores, workers) }
  }

  /// From the passes' `dScores`: adds the gradient of the discriminator's parameters, summed over the samples, to
  /// `dp`, if given; `finished` is told each range of it that is final. With `intoNetwork`, adds ∂L/∂logits to the networks' `dLogits` and writes the features' gradients.
  package func backward(
    _ samples: [Sample], sequences: Volume, _ p: Parameters, into dp: ParameterVector?,
    intoNetwork: Bool, _ workers: Workers, finished: (Range<Int>) -> Void = { _ in }
  ) {
    for sample in samples {
      if let dp {
        last.addWeightGradient(
          sample.pass.dScores, [sample.pass.source(3)], into: dp, biasMatters: false, workers)
      }
      last.dataGradient(sample.pass.dScores, p, into: sample.pass.dY[3], workers)
    }
    finished(last.parameters)
    for i in stride(from: 3, through: 0, by: -1) {
      let convolution = blocks[i].convolutions[0]
      blocks[i].backward(
        samples.map {
          ($0.pass.dY[i], $0.pass.y[i], $0.pass.norms[i], [sources($0.pass, i, $0.network, sequences)])
        },
        p, into: dp, workers)
      finished(blocks[i].parameters)
      if i > 0 { convolution.dataGradient(samples.map { ($0.pass.dY[i], $0.pass.dY[i - 1]) }, p, workers) }
      guard intoNetwork else { continue }
      if i == 0 {
        convolution.dataGradient(
          samples.map { ($0.pass.dY[0], $0.network.dLogits) }, p, adding: true, workers)
      } else if hierarchical {
        let first = 4 * k << (i - 1), features = k << i
        convolution.dataGradient(
          samples.map { ($0.pass.dY[i], $0.network.encoderFeatureGradient(i - 1)) }, p, first: first, workers)
        convolution.dataGradient(
          samples.map { ($0.pass.dY[i], $0.network.decoderFeatureGradient(i - 1)) }, p,
          first: first + features,
          upsampled: true, workers)
      }
    }
  }

  private func sources(
    _ pass: DiscriminatorPass, _ block: Int, _ network: UNetPass, _ sequences: Volume
  ) -> [LayerInput] {
    if block == 0 { return [LayerInput(network.logits), LayerInput(sequences)] }
    let before = pass.source(block - 1)
    guard hierarchical else { return [before] }
    return [before, network.encoderFeature(block - 1), network.decoderFeature(block - 1, upsampled: true)]
  }
}

/// The memory of a discriminator for one sample. Forward's volumes stay until the next forward, so that a sample can
/// be gone back through twice: for the student's loss and for the discriminator's own.
package final class DiscriminatorPass {
  let y: [Volume]
  package let scores: Volume
  let dY: [Volume]
  /// ∂L/∂scores; filled by the caller.
  package let dScores: Volume
  var norms: [Norm]

  /// The places of a pass's volumes in a plan.
  package struct VolumePlan {
    fileprivate var y: [Int] = [], dY: [Int] = []
    fileprivate var scores = 0, dScores = 0

    /// Moments of a backward pass: from the scores 0 down to the first block 4.
    package static let backwardMoments = 5

    /// Reserves the volumes of a pass that is scored at `forward` and gone back through from each of `backwards` on; the
    /// last of them is the latest.
    package init(
      _ network: Discriminator, _ size: Size, in plan: inout WorkspacePlan, forward: Int, backwards: [Int]
    ) {
      let end = (backwards.last ?? forward) + VolumePlan.backwardMoments
      var side = size
      for i in 0..<4 {
        side = side.halved
        let shape = Shape(side, 4 * network.k << i)
        y.append(plan.reserve(shape, forward...end))
        // Written from the block behind, read by its own.
        dY.append(plan.reserve(shape, during: backwards.map { $0 + 3 - i...$0 + 4 - i }))
      }
      let patches = network.last.outputSize(side)
      precondition(patches.z > 0 && patches.y > 0 && patches.x > 0, "a discriminator's input of \(size)")
      scores = plan.reserve(Shape(patches, 1), forward...end)
      dScores = plan.reserve(Shape(patches, 1), forward...end)
    }
  }

  /// A pass with memory of its own.
  package convenience init(_ network: Discriminator, _ size: Size) {
    var plan = WorkspacePlan()
    let places = VolumePlan(network, size, in: &plan, forward: 0, backwards: [1])
    self.init(places, plan.volumes())
  }

  /// A pass whose volumes lie in a plan with others.
  package init(_ places: VolumePlan, _ volumes: [Volume]) {
    y = places.y.map { volumes[$0] }
    dY = places.dY.map { volumes[$0] }
    scores = volumes[places.scores]
    dScores = volumes[places.dScores]
    norms = y.map { Norm(identity: $0.channels) }
  }

  func source(_ block: Int) -> LayerInput { LayerInput(y[block], norms[block], slope: Discriminator.slope) }
}

extension ParameterLayout {
  /// Whether a U-Net's or discriminator's parameter is a bias that an instance norm takes out again, so that the truth of its
  /// gradient is 0.
  package static func isBiasBeforeNorm(_ name: String) -> Bool {
    name.hasSuffix(".conv.bias") || name.hasSuffix("conv_up.bias")
      || ["disc_2.0.bias", "disc_3.0.bias", "disc_4.0.bias"].contains(name)
  }
}
