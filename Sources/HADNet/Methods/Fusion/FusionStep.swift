import Collective
import Compute
import Imaging
import Learning
import Networks

/// One step of U-HeMIS or U-HVED: a window a slot, a random choice of its sequences fused, cross-entropy and Dice of all
/// four classes; U-HVED also makes the sequences again and holds its products of Gaussians together.
///
/// Source: U-HVED's code; Dorent et al., MICCAI 2019.
package final class FusionStep: TrainingProgram {
  /// Weights of the loss's terms, and what the optimiser is set to.
  package struct Settings: Equatable {
    /// Of ½ Σ w², the mean over the kernels.
    var decay: Double
    /// Weights of U-HVED's two own terms.
    var divergence: Double
    var reconstruction: Double
    var optimiser: Adam.Settings

    package init(decay: Double, divergence: Double, reconstruction: Double, optimiser: Adam.Settings) {
      self.decay = decay
      self.divergence = divergence
      self.reconstruction = reconstruction
      self.optimiser = optimiser
    }
  }

  /// Which sequences of a slot are fused, and its noise.
  package struct Draw {
    let present: [Bool]
    /// Writes standard normal numbers into the map of a level; U-HVED only.
    let noise: (_ level: Int, Volume) -> Void

    /// `present`: in the task's order, at least one. `noise` fills [z, y, x, C] of a level, 0 the finest.
    package init(present: [Bool], noise: @escaping (_ level: Int, Volume) -> Void) {
      self.present = present
      self.noise = noise
    }

    /// Which of `count` sequences one step of training sees; the others are dropped: a number of them uniform in
    /// 1...count, then that many at random without replacement. Of four each is there in 62.5 % of the steps.
    ///
    /// Source: U-HVED's application.py, `set_iteration_update`.
    package static func present(of count: Int, random: inout Philox) -> [Bool] {
      let some = 1 + random.below(count)
      let chosen = Set(random.permutation(count).prefix(some))
      return (0..<count).map(chosen.contains)
    }
  }

  /// Draws for the slots of a batch.
  package struct Draws {
    let draw: (SlotCase, Batch, Workers) -> Draw

    /// `draw` must follow from seed, step and slot alone.
    package init(draw: @escaping (SlotCase, Batch, Workers) -> Draw) {
      self.draw = draw
    }

    /// Of so many sequences: a function of seed, step and slot.
    static func random(_ sequences: Int, seed: UInt64) -> Draws {
      Draws { item, batch, workers in
        var random = Philox(seed: seed, .sequences, batch.step, item.slot)
        return Draw(present: Draw.present(of: sequences, random: &random)) { level, noise in
          // All of the volume, and no more.
          unsafe Philox(seed: seed, .noise, batch.step, item.slot, part: level)
            .fillNormal(noise.base, count: noise.shape.count, workers)
        }
      }
    }
  }

  package let terms: [Term]
  package let learners: [Learner]
  package let workers: Workers
  let fusion: FusionNetwork
  let settings: Settings
  /// Made anew where a window has another size than the one before: those of small volumes are smaller.
  private(set) package var pass: FusionPass
  private let draws: Draws
  private let overlapLoss: OverlapLoss

  package var p: ParameterVector { learners[0].p }
  package var gradient: ParameterVector { learners[0].gradient }
  package var network: Model.Network { .fusion(fusion) }
  /// The losses of decoders are computed in turn with their gradients.
  package var lossesComeLate: Bool { true }

  /// `size`: of a window, for which memory is made.
  package init(
    _ network: FusionNetwork, _ p: ParameterVector, _ settings: Settings, size: Size, draw: Draws,
    _ layout: BatchLayout, _ workers: Workers
  ) {
    fusion = network
    overlapLoss = OverlapLoss(classes: 0..<network.classes)
    terms = FusionStep.terms(network.fusion)
    self.settings = settings
    draws = draw
    self.workers = workers
    pass = FusionPass(network, size, .training)
    learners = [Learner("network", p, settings.optimiser, layout, workers)]
  }

  package func losses(_ item: SlotCase, _ batch: Batch) -> StepValues? { nil }

  package func backward(
    _ learner: Int, _ item: SlotCase, _ batch: Batch, finished: (Range<Int>) -> Void
  ) -> StepValues? {
    learn(item, draws.draw(item, batch, workers), finished: finished).values
  }

  package func judge(_ item: SlotCase) -> (labels: LabelVolume, loss: Double?) {
    preconditionFailure("U-HeMIS and U-HVED are not validated")
  }

  /// What a case gives, and of each level the divergences (U-HVED).
  package struct CaseLosses {
    package var values: StepValues
    package var divergences: [(inter: Double, prior: Double)]
    package var decay: Double
  }

  /// The losses of a case and their gradient, decay included; `finished` is told each range of it that is final.
  package func learn(_ item: SlotCase, _ draw: Draw, finished: (Range<Int>) -> Void = { _ in }) -> CaseLosses
  {
    if pass.size != item.images.size { pass = FusionPass(fusion, item.images.size, .training) }
    let decay = startWithDecay(), samples = fusion.fusion == .gaussians
    workers.phase(.encoders) {
      for (i, image) in pass.images.enumerated() {
        FusionStep.copy(item.images, channel: i, into: image, workers)
      }
      if samples { for (level, volume) in pass.noise.enumerated() { draw.noise(level, volume) } }
      // A dropped sequence's map takes part in the divergences.
      fusion.encode(pass, p, present: draw.present, encodesAll: samples, workers)
    }
    var overlap = (crossEntropy: 0.0, dice: 0.0), reconstruction = 0.0
    workers.phase(.decoders) {
      for index in fusion.decoders.indices {
        fusion.decode(index, pass, p, workers)
        if index == 0 {
          overlap = overlapLoss.losses(
            pass.output(0), .classes(item.truth), gradient: pass.outputGradient(0), workers)
        } else {
          reconstruction += reconstructionLoss(index)
        }
        fusion.decodeBackward(index, pass, p, into: gradient, workers)
        finished(fusion.decoders[index].parameters)
      }
    }
    let weight = Float(settings.divergence / Double(FusionNetwork.levels))
    let divergences = workers.phase(.encodersBackward) {
      fusion.encodeBackward(pass, p, into: gradient, divergenceWeight: weight, workers, finished: finished)
    }
    let divergence =
      divergences.reduce(0) { $0 + $1.inter + $1.prior } / Double(FusionNetwork.levels)
    var loss = overlap.crossEntropy + overlap.dice + decay
    var known: [Term: Double] = [.crossEntropyOfClasses: overlap.crossEntropy, .dice: overlap.dice]
    if samples {
      loss += settings.reconstruction * reconstruction + settings.divergence * divergence
      known[.reconstruction] = reconstruction
      known[.divergence] = divergence
    }
    let values = StepValues(terms, loss: loss, known)
    return CaseLosses(values: values, divergences: divergences, decay: decay)
  }

  /// The decay of the kernels; sets the gradient to that of it.
  private func startWithDecay() -> Double {
    let kernels = fusion.kernels, factor = settings.decay / Double(kernels.count), p = p, gradient = gradient
    gradient.fill(0, workers)
    var sum = 0.0
    for kernel in kernels {
      let w = p.values(of: kernel)
      var g = gradient.mutableValues(of: kernel)
      for i in w.indices {
        sum += Double(w[i]) * Double(w[i])
        g[i] = Float(factor) * w[i]
      }
    }
    return factor * sum / 2
  }

  /// A sequence's share of the mean over voxels and sequences of (reconstruction − sequence)², and its gradient.
  private func reconstructionLoss(_ index: Int) -> Double {
    let made = pass.output(index), gradient = pass.outputGradient(index), truth = pass.images[index - 1]
    let count = made.shape.voxels * (fusion.decoders.count - 1)
    let factor = Float(2 * settings.reconstruction / Double(count))
    let pieces = Pieces(made.shape.voxels, least: 1 << 14, limit: 256)
    let partial = workers.sums(pieces.count) { piece, sum in
      let made = made.values.extracting(pieces[piece]), truth = truth.values.extracting(pieces[piece])
      var gradient = gradient.mutableValues(pieces[piece])
      for i in made.indices {
        let difference = made[i] - truth[i]
        sum[0] += Double(difference) * Double(difference)
        gradient[i] = factor * difference
      }
    }
    return partial.reduce(0, +) / Double(count)
  }

  /// A channel of [z, y, x, sequences] by itself.
  package static func copy(_ images: Volume, channel: Int, into image: Volume, _ workers: Workers) {
    precondition(images.size == image.size, "\(images.shape) into \(image.shape)")
    let pieces = Pieces(image.shape.voxels, least: 1 << 14, limit: 64), channels = images.channels
    workers.forEach(pieces.count) { piece, _ in
      let from = images.values
      var to = image.mutableValues
      for i in pieces[piece] { to[i] = from[i * channels + channel] }
    }
  }

  static func memory(
    _ fusion: FusionNetwork.Fusion, _ settings: WindowTraining, _ request: MemoryRequest
  ) -> StepMemory {
    let task = request.task
    let network = FusionNetwork(
      fusion, width: settings.width, sequences: task.sequences, classes: task.classCount)
    var plan = WorkspacePlan()
    _ = FusionPass.VolumePlan(
      network, Size(settings.patch, settings.patch, settings.patch), .training, in: &plan)
    // Cases whose windows wait in the queue, and the next one; scaled up and with a border.
    let waiting = 2 + (3 * settings.queue + settings.windowsPerCase - 1) / settings.windowsPerCase
    let factor = 1 + Double(settings.scale)
    func side(_ side: Int) -> Int { Int(factor * Double(max(side, settings.leastSide) + 20)) }
    let augmented = Size(side(request.size.z), side(request.size.y), side(request.size.x))
    return StepMemory(
      trained: network.layout.count, volumes: plan.count,
      waiting: waiting * PreparedCase.bytes(augmented, sequences: task.sequences.count))
  }
}

extension Term {
  package static let crossEntropyOfClasses = Term("cross_entropy", .loss, unit: "nat")
  package static let dice = Term("dice", .loss)
  package static let reconstruction = Term("reconstruction", .loss)
  package static let divergence = Term("divergence", .loss, unit: "nat")
}

extension FusionStep {
  /// What its steps tell beside their loss.
  package static func terms(_ fusion: FusionNetwork.Fusion) -> [Term] {
    [.crossEntropyOfClasses, .dice] + (fusion == .gaussians ? [.reconstruction, .divergence] : [])
  }
}

extension Profile.Phase {
  fileprivate static let encoders = Self(rawValue: "encoders and fusion")
  fileprivate static let decoders = Self(rawValue: "decoders, forward and back")
  fileprivate static let encodersBackward = Self(rawValue: "encoders backward")
}
