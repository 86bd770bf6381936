import Compute
import Evaluation
import Files
import Imaging
import Networks

/// Draws Monte-Carlo samples of a case: forward passes with dropout on and nothing else random.
///
/// Source: Gal and Ghahramani 2016; HAD-Net, section 3.5.
package final class DropoutSampler {
  private let model: Model
  private let network: UNet
  private let workers: Workers
  private let seed: UInt64
  private var pass: UNetPass

  /// Throws `.usage` where the network has no dropout.
  package init(_ model: Model, seed: UInt64, _ workers: Workers) throws(Fault) {
    guard case .unet(let network) = model.network, model.metadata.dropout > 0 else {
      throw Fault(
        .usage, "\(model.metadata.method) has no dropout to draw samples with; leave its uncertainty out")
    }
    self.model = model
    self.network = network
    self.workers = workers
    self.seed = seed
    pass = UNetPass(network, model.metadata.size, .sampling)
  }

  /// Refuses a case that is too large for the memory there is.
  func checkMemory(for prepared: PreparedCase) throws(Fault) {
    if pass.size != prepared.size {
      try UNetPass.checkMemory(network, prepared.size, .sampling, "\(prepared.id): the network's pass")
    }
  }

  /// Adds the samples of these numbers. A sample's masks are a function of seed, case and number.
  package func add(_ samples: Range<Int>, of prepared: PreparedCase, to sums: inout SampleSums) {
    if pass.size != prepared.size { pass = UNetPass(network, prepared.size, .sampling) }
    model.metadata.inputs.copy(prepared.images, into: pass.image)
    let name = ContentHash.number(of: prepared.id)
    network.begin(pass, model.p, workers)
    for sample in samples {
      let draw = DropoutDraw(
        probability: model.metadata.dropout, seed: seed, .monteCarlo, step: sample, slot: name)
      network.finish(pass, model.p, dropout: draw, workers)
      sums.add(pass.logits, workers)
    }
  }
}

/// Which rank draws which samples: blocks of each case's samples, dealt out in order, as many to every rank.
enum SampleDeal {
  struct Share: Equatable {
    /// Which of the cases.
    let item: Int
    let samples: Range<Int>
  }

  /// What a rank draws of a case in one go: the first block of the network is computed once for it.
  static let block = 10

  /// Each rank's shares. A rank has at most two cases if there are at most as many cases as ranks.
  static func shares(cases: Int, samples: Int, ranks: Int) -> [[Share]] {
    let blocks = (samples + block - 1) / block, all = cases * blocks
    return (0..<ranks).map { rank in
      let mine = all * rank / ranks..<all * (rank + 1) / ranks
      return (0..<cases).compactMap { item in
        let own = mine.clamped(to: item * blocks..<(item + 1) * blocks)
        if own.isEmpty { return nil }
        let first = (own.lowerBound - item * blocks) * block
        return Share(item: item, samples: first..<min(samples, (own.upperBound - item * blocks) * block))
      }
    }
  }
}
