import Compute
import Imaging

/// The modality-agnostic networks: an encoder for each sequence, fusion of those that are there at four levels, and
/// decoders. U-HeMIS fuses by mean and variance and has one decoder; U-HVED fuses by a product of Gaussians, and four
/// more decoders make the sequences again.
///
/// The network is its layers and the layout of its parameters; memory for one case lies in a `FusionPass`.
/// Source: Dorent et al., MICCAI 2019, in its code's form; names are those of the published checkpoints.
package struct FusionNetwork: Sendable {
  /// How the maps of several sequences become one.
  package enum Fusion: String, Sendable {
    /// Mean and variance: U-HeMIS.
    case moments
    /// Product of Gaussians: U-HVED.
    case gaussians
  }

  package let fusion: Fusion
  /// Channels of the first convolution; all others are multiples of half of it. Even.
  package let width: Int
  package let layout: ParameterLayout
  package static let levels = 4

  /// The layers that one sequence goes through by itself.
  package struct Encoder: Sendable {
    /// 1³ convolution of the sequence; a leaky ReLU follows.
    let first: Convolution
    package let blocks: [PreactivatedBlock]

    var parameters: Range<Int> {
      first.weight.range.lowerBound..<(blocks.last ?? blocks[0]).parameters.upperBound
    }
  }

  /// The layers of one output: the segmentation, or a sequence.
  package struct Decoder: Sendable {
    /// The decoder's blocks, by level from the third to the first.
    package let blocks: [PreactivatedBlock]
    package let last: Convolution

    package var parameters: Range<Int> { blocks[0].parameters.lowerBound..<last.weight.range.upperBound }
  }

  /// In the order of the task's sequences.
  package let encoders: [Encoder]
  /// The segmentation's, then, for U-HVED, those of the sequences in the task's order.
  package let decoders: [Decoder]

  /// The number of classes, the background's among them.
  package let classes: Int

  /// `width`: even; the published code's is 8. `sequences`: in the task's order. `classes`: the background's among them.
  package init(_ fusion: Fusion, width: Int = 8, sequences: [Modality], classes: Int) {
    precondition(width > 0 && width % 2 == 0, "a width of \(width)")
    self.fusion = fusion
    self.width = width
    self.classes = classes
    let w = width, outputs = fusion == .moments ? w / 2 : w
    var layout = ParameterLayout()
    encoders = sequences.map { modality in
      let name = FusionNetwork.name(modality)
      let first = Convolution(
        weight: "VAE/ConvEncoder/conv_0_\(name)_leakyrelu/conv_/w", 1, w, kernel: 1, in: &layout)
      let blocks = (0..<FusionNetwork.levels).map { level in
        PreactivatedBlock(
          "VAE/ConvEncoder/block_\(level + 1)_\(name)", level == 0 ? w : outputs << (level - 1), w << level,
          outputs << level, in: &layout)
      }
      return Encoder(first: first, blocks: blocks)
    }
    // Of the fused maps by level, and of the decoder's own.
    let fused = fusion == .moments ? 2 * outputs : outputs / 2
    var targets: [(name: String, last: String, outputs: Int)] = [
      ("seg", fusion == .moments ? "final_conv_seg" : "final_conv_seg_\(sequences.count)", classes)
    ]
    if fusion == .gaussians {
      // The published checkpoints number the last convolutions in their own order of sequences; others follow.
      let published: [Modality] = [.t1, .t1ce, .t2, .flair]
      let order = published.filter(sequences.contains) + sequences.filter { !published.contains($0) }
      for modality in sequences {
        let place = order.firstIndex(of: modality) ?? 0
        targets.append(
          (FusionNetwork.name(modality), place == 0 ? "final_conv_seg" : "final_conv_seg_\(place)", 1))
      }
    }
    decoders = targets.map { target in
      var before = fused << 3
      let blocks = (1...3).map { i in
        let level = 3 - i, inner = w << level
        let block = PreactivatedBlock(
          "VAE/ConvDecoderImg/block_\(i)_\(target.name)", before + fused << level, inner, inner / 2,
          in: &layout)
        before = inner / 2
        return block
      }
      let last = Convolution(
        weight: "VAE/ConvDecoderImg/\(target.last)/conv_/w", before, target.outputs, kernel: 1, in: &layout)
      return Decoder(blocks: blocks, last: last)
    }
    self.layout = layout
  }

  /// A sequence's name in the published checkpoints; others keep their own.
  package static func name(_ modality: Modality) -> String {
    switch modality {
    case .flair: "Flair"
    case .t1ce: "T1c"
    case .t1: "T1"
    case .t2: "T2"
    default: modality.rawValue
    }
  }

  /// Channels of the fused maps at a level from 0.
  package func fusedChannels(_ level: Int) -> Int { (fusion == .moments ? width : width / 2) << level }

  /// The convolutions' weights, which alone decay.
  package var kernels: [Parameter] { layout.parameters.filter { $0.extents.count == 5 } }

  /// Initial parameters: weights truncated normal (cut at two standard deviations) with sd = √(2 / fan-in) after the cut,
  /// norm scales 1 and shifts 0. Every layer draws its own; the original's encoders may have begun alike.
  package func initialParameters(seed: UInt64, part: Int) -> ParameterVector {
    let p = ParameterVector(zeros: layout)
    // The standard deviation of a normal number that is cut at two of its own.
    let cut: Float = 0.879_625_66
    for (i, parameter) in layout.parameters.enumerated() {
      var values = p.mutableValues(of: parameter)
      if parameter.extents.count == 5 {
        let fanIn = parameter.count / parameter.extents[0]
        let sd = (2 / Float(fanIn)).squareRoot() / cut
        var random = Philox(seed: seed, .initialWeights, part, i)
        for j in values.indices {
          var value = random.normal()
          while value.magnitude > 2 { value = random.normal() }
          values[j] = sd * value
        }
      } else if parameter.name.hasSuffix("gamma") {
        for j in values.indices { values[j] = 1 }
      }
    }
    return p
  }

  // MARK: Forward

  /// Encodes the pass's images and fuses those of the sequences `present`. U-HVED: a sample by the pass's noise if
  /// `samples`, else the means; with `encodesAll` the others are encoded too.
  package func encode(
    _ pass: FusionPass, _ p: Parameters, present: [Bool], samples: Bool = true, encodesAll: Bool = false,
    _ workers: Workers
  ) {
    precondition(present.count == encoders.count && present.contains(true), "sequences \(present)")
    precondition(!encodesAll || fusion == .gaussians, "U-HeMIS has no use for a sequence that is not fused")
    pass.present = present
    // Decoders add to them.
    for gradient in pass.dFused { gradient.fill(0) }
    pass.encoded = encodesAll ? [Bool](repeating: true, count: encoders.count) : present
    for (i, encoder) in encoders.enumerated() where pass.encoded[i] {
      encoder.first.forward([LayerInput(pass.images[i])], p, into: pass.first[i], workers)
      LeakyReLU.forward(pass.first[i], slope: PreactivatedBlock.slope, workers)
      for level in 0..<FusionNetwork.levels {
        if level > 0 {
          MaxPool.forward(LayerInput(pass.maps[i][level - 1]), into: pass.pooled[i][level - 1], workers)
        }
        pass.encoderSaved[i][level] = encoder.blocks[level].forward(
          [pass.input(i, level)], p, inner: pass.inner[i][level], into: pass.maps[i][level], workers)
      }
    }
    for level in 0..<FusionNetwork.levels {
      switch fusion {
      case .moments: MomentFusion.forward(pass.presentMaps(level), into: pass.fused[level], workers)
      case .gaussians:
        pass.gaussians(level).sample(
          noise: samples ? pass.noise[level] : nil, into: pass.fused[level], workers)
      }
    }
  }

  /// Decodes what `encode` left: the segmentation's logits [z, y, x, classes] (0) or a sequence [z, y, x, 1] (1, 2, …) into the
  /// decoder's output.
  package func decode(_ index: Int, _ pass: FusionPass, _ p: Parameters, _ workers: Workers) {
    let decoder = decoders[index]
    for i in 0..<3 {
      let level = 2 - i
      LinearResize.forward(i == 0 ? pass.fused[3] : pass.decoded[i - 1], into: pass.stretched[i], workers)
      pass.decoderSaved[i] = decoder.blocks[i].forward(
        [pass.stretched[i], pass.fused[level]], p, inner: pass.decoderInner[i], into: pass.decoded[i],
        workers)
    }
    decoder.last.forward([LayerInput(pass.decoded[2])], p, into: pass.output(index), workers)
  }

  // MARK: Backward

  /// After `decode` of the same decoder, from the gradient of its output: adds the parameters' gradients to `dp` and
  /// those of the fused maps to the pass's.
  package func decodeBackward(
    _ index: Int, _ pass: FusionPass, _ p: Parameters, into dp: ParameterVector, _ workers: Workers
  ) {
    let decoder = decoders[index], dOutput = pass.outputGradient(index)
    decoder.last.addWeightGradient(
      dOutput, [LayerInput(pass.decoded[2])], into: dp, biasMatters: false, workers)
    decoder.last.dataGradient(dOutput, p, into: pass.dDecoded[2], workers)
    for i in stride(from: 2, through: 0, by: -1) {
      let level = 2 - i
      decoder.blocks[i].backward(
        pass.dDecoded[i], [pass.stretched[i], pass.fused[level]], inner: pass.decoderInner[i],
        pass.decoderSaved[i], p, into: dp, dInner: pass.dDecoderInner[i],
        dInputs: [pass.dStretched[i], pass.dSkip[i]], workers)
      FusionNetwork.add(pass.dSkip[i], to: pass.dFused[level], workers)
      LinearResize.backward(
        pass.dStretched[i], into: i == 0 ? pass.dFused[3] : pass.dDecoded[i - 1], adding: i == 0, workers)
    }
  }

  /// After all decoders' backward passes: adds the encoders' gradients to `dp`; `finished` is told each range that is
  /// final. U-HVED: with `divergenceWeight` times the gradient of the divergences, of which it gives the values by level.
  package func encodeBackward(
    _ pass: FusionPass, _ p: Parameters, into dp: ParameterVector, divergenceWeight: Float,
    _ workers: Workers, finished: (Range<Int>) -> Void = { _ in }
  ) -> [(inter: Double, prior: Double)] {
    var divergences: [(inter: Double, prior: Double)] = []
    for level in 0..<FusionNetwork.levels {
      switch fusion {
      case .moments:
        MomentFusion.backward(
          pass.dFused[level], pass.fused[level], pass.presentMaps(level),
          into: encoders.indices.filter { pass.encoded[$0] }.map { pass.dMaps[$0][level] }, workers)
      case .gaussians:
        divergences.append(
          pass.gaussians(level).divergences(
            pass.dFused[level], noise: pass.noise[level], weight: divergenceWeight,
            into: pass.dMaps.map { $0[level] }, workers))
      }
    }
    for (i, encoder) in encoders.enumerated().reversed() {
      defer { finished(encoder.parameters) }
      guard pass.encoded[i] else { continue }
      for level in stride(from: FusionNetwork.levels - 1, through: 0, by: -1) {
        let dInput = level > 0 ? pass.dPooled[i][level - 1] : pass.dFirst[i]
        encoder.blocks[level].backward(
          pass.dMaps[i][level], [pass.input(i, level)], inner: pass.inner[i][level],
          pass.encoderSaved[i][level], p, into: dp, dInner: pass.dInner[i][level], dInputs: [dInput], workers)
        if level > 0 {
          MaxPool.addGradient(
            dInput, LayerInput(pass.maps[i][level - 1]), into: pass.dMaps[i][level - 1], workers)
        }
      }
      LeakyReLU.backward(pass.dFirst[i], pass.first[i], slope: PreactivatedBlock.slope, workers)
      encoder.first.addWeightGradient(
        pass.dFirst[i], [LayerInput(pass.images[i])], into: dp, biasMatters: false, workers)
    }
    return divergences
  }

  private static func add(_ x: Volume, to y: Volume, _ workers: Workers) {
    let pieces = Pieces(x.shape.count, least: 1 << 14, limit: 256)
    workers.forEach(pieces.count) { piece, _ in
      let x = x.values.extracting(pieces[piece])
      var y = y.mutableValues(pieces[piece])
      for i in x.indices { y[i] += x[i] }
    }
  }
}
