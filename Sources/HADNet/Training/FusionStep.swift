import Collective

/// One step of U-HeMIS or U-HVED: a window a slot, a random choice of its sequences fused, cross-entropy and Dice of all
/// four classes; U-HVED also makes the sequences again and holds its products of Gaussians together.
///
/// Source: U-HVED's code; Dorent et al., MICCAI 2019.
final class FusionStep {
  struct Settings: Equatable {
    /// Of ½ Σ w², the mean over the kernels.
    var decay: Double
    /// Weights of U-HVED's two own terms.
    var divergence: Double
    var reconstruction: Double
    var optimiser: Adam.Settings
  }

  /// Which sequences of a slot are fused, and its noise.
  struct Draw {
    let present: [Bool]
    /// Writes standard normal numbers into the map of a level; U-HVED only.
    let noise: (_ level: Int, Volume) -> Void
  }

  /// Means over the global batch, from before the step's update.
  struct Report: Equatable {
    /// Total, cross-entropy, Dice; U-HVED also reconstruction and divergence.
    let values: [Double]
    let stops: Bool
  }

  let network: FusionNetwork
  let p: ParameterVector
  let settings: Settings
  /// Made anew where a window has another size than the one before: those of small volumes are smaller.
  private(set) var pass: FusionPass
  var gradient: ParameterVector { reducer.gradient }
  var optimiser: Adam { reducer.optimiser }
  private let reducer: GradientReducer
  private let reduction: Reduction
  let workers: Workers
  private var cases: [SlotCase] = []
  var exposed: Double { exposure.seconds }
  private let exposure: Exposure
  private static let loss = OverlapLoss(classes: 0..<UNet.classes)

  init(
    _ network: FusionNetwork, _ p: ParameterVector, _ settings: Settings, size: Size, _ reduction: Reduction,
    _ workers: Workers
  ) {
    self.network = network
    self.p = p
    self.settings = settings
    self.reduction = reduction
    self.workers = workers
    pass = FusionPass(network, size, .training)
    exposure = Exposure(reduction)
    reducer = GradientReducer(p, settings.optimiser, reduction, workers)
  }

  /// Names of a report's values after the total.
  static func terms(_ fusion: FusionNetwork.Fusion) -> [String] {
    ["cross_entropy", "dice"] + (fusion == .gaussians ? ["reconstruction", "divergence"] : [])
  }

  /// A step over `filled` slots of the batch, of which `cases` are this rank's windows. The update may still be under way:
  /// `settle` waits for it.
  func run(
    _ cases: [SlotCase], filled: Int, rate: Double, draw: (SlotCase) -> Draw,
    wantsStop: () -> Bool = { false }
  ) throws -> Report {
    try settle()
    self.cases = cases
    reducer.begin(filled: filled)
    var rows: [[Double]] = []
    for (i, item) in cases.enumerated() {
      if i + 1 < cases.count {
        rows.append(learn(item, draw(item)).values)
        reducer.add()
      } else {
        reducer.addLast()
        rows.append(learn(item, draw(item)) { self.reducer.finished($0) }.values)
      }
    }
    // The losses are known last, so they travel behind the gradient: on all ranks.
    if cases.isEmpty { reducer.finished(0..<p.count) }
    let names = ["loss"] + FusionStep.terms(network.fusion)
    let tally = Tally(rows, width: names.count, filled: filled, stops: wantsStop(), reduction)
    let (means, stops) = try exposure.measure { try tally.wait() }
    try guardFinite(means, names, rows, cases, reduction)
    try reducer.update(rate: rate)
    return Report(values: means, stops: stops)
  }

  /// Waits until the parameters are those after the last step.
  func settle() throws {
    try reducer.settle(cases, exposure)
  }

  /// What a case gives: the report's values, and of each level the divergences (U-HVED).
  struct CaseLosses {
    var values: [Double]
    var divergences: [(inter: Double, prior: Double)]
    var decay: Double
  }

  /// The losses of a case and their gradient, decay included; `finished` is told each range of it that is final.
  func learn(_ item: SlotCase, _ draw: Draw, finished: (Range<Int>) -> Void = { _ in }) -> CaseLosses {
    if pass.size != item.images.size { pass = FusionPass(network, item.images.size, .training) }
    let decay = startWithDecay(), samples = network.fusion == .gaussians
    workers.phase(.encoders) {
      for (i, image) in pass.images.enumerated() {
        FusionStep.copy(item.images, channel: i, into: image, workers)
      }
      if samples { for (level, volume) in pass.noise.enumerated() { draw.noise(level, volume) } }
      // A dropped sequence's map takes part in the divergences.
      network.encode(pass, p, present: draw.present, encodesAll: samples, workers)
    }
    var overlap = (crossEntropy: 0.0, dice: 0.0), reconstruction = 0.0
    workers.phase(.decoders) {
      for index in network.decoders.indices {
        network.decode(index, pass, p, workers)
        if index == 0 {
          overlap = FusionStep.loss.losses(
            pass.output(0), .classes(item.truth), gradient: pass.outputGradient(0), workers)
        } else {
          reconstruction += reconstructionLoss(index)
        }
        network.decodeBackward(index, pass, p, into: gradient, workers)
        finished(network.decoders[index].parameters)
      }
    }
    let weight = Float(settings.divergence / Double(FusionNetwork.levels))
    let divergences = workers.phase(.encodersBackward) {
      network.encodeBackward(pass, p, into: gradient, divergenceWeight: weight, workers, finished: finished)
    }
    let divergence =
      divergences.reduce(0) { $0 + $1.inter + $1.prior } / Double(FusionNetwork.levels)
    var total = overlap.crossEntropy + overlap.dice + decay
    var values = [0, overlap.crossEntropy, overlap.dice]
    if samples {
      total += settings.reconstruction * reconstruction + settings.divergence * divergence
      values += [reconstruction, divergence]
    }
    values[0] = total
    return CaseLosses(values: values, divergences: divergences, decay: decay)
  }

  /// The decay of the kernels; sets the gradient to that of it.
  private func startWithDecay() -> Double {
    let kernels = network.kernels, factor = settings.decay / Double(kernels.count)
    gradient.fill(0, workers)
    var sum = 0.0
    for kernel in kernels {
      let w = p[kernel], g = gradient[kernel]
      for i in 0..<kernel.count {
        sum += Double(w[i]) * Double(w[i])
        g[i] = Float(factor) * w[i]
      }
    }
    return factor * sum / 2
  }

  /// A sequence's share of the mean over voxels and sequences of (reconstruction − sequence)², and its gradient.
  private func reconstructionLoss(_ index: Int) -> Double {
    let made = pass.output(index), gradient = pass.outputGradient(index), truth = pass.images[index - 1]
    let count = made.shape.voxels * (network.decoders.count - 1)
    let factor = Float(2 * settings.reconstruction / Double(count))
    let pieces = Pieces(made.shape.voxels, least: 1 << 14, limit: 256)
    var partial = [Double](repeating: 0, count: pieces.count)
    partial.withUnsafeMutableBufferPointer { partial in
      nonisolated(unsafe) let partial = partial
      workers.forEach(pieces.count) { piece, _ in
        var sum = 0.0
        for i in pieces[piece] {
          let difference = made.base[i] - truth.base[i]
          sum += Double(difference) * Double(difference)
          gradient.base[i] = factor * difference
        }
        partial[piece] = sum
      }
    }
    return partial.reduce(0, +) / Double(count)
  }

  /// A channel of [z, y, x, 4] by itself.
  static func copy(_ images: Volume, channel: Int, into image: Volume, _ workers: Workers) {
    precondition(images.size == image.size, "\(images.shape) into \(image.shape)")
    let pieces = Pieces(image.shape.voxels, least: 1 << 14, limit: 64), channels = images.channels
    workers.forEach(pieces.count) { piece, _ in
      for i in pieces[piece] { image.base[i] = images.base[i * channels + channel] }
    }
  }
}
