import Compute

/// The memory of a U-Net for one case: all volumes of one workspace, planned from the size and from what the pass
/// is for, and what forward leaves for backward.
///
/// Stored are the convolutions' outputs; norm, ReLU and dropout are applied by whoever reads them.
package final class UNetPass {
  /// What a pass is for: its volumes share memory as far as that allows.
  package enum Purpose: Sendable {
    /// Forward and backward. With features `all` a discriminator reads logits and features, also after backward, and
    /// writes gradients of both before it.
    case training(features: FeatureGradients)
    /// Forward alone; `features`: they outlive it.
    case inference(features: Bool)
    /// Forward alone, of one image with other dropout masks each time: what the first block, which has no dropout,
    /// makes of the image outlives them.
    case sampling
  }

  package let size: Size
  /// The network's input, [z, y, x, inputs]; filled by the caller before each forward: in a pass for inference without
  /// features later volumes take its memory.
  package let image: Volume
  package let logits: Volume
  /// ∂L/∂logits; filled by the caller. Training only.
  package var dLogits: Volume { gradient(dLogitsVolume) }

  let a, b, m, o, pooled: [Volume]
  let dA, dB, dM, dO, dPooled: [Volume]
  private let dLogitsVolume: Volume?
  var normA, normB, normM, normO: [Norm]
  var dropout: DropoutDraw? { didSet { drawMasks() } }
  /// Masks by block: the inputs of d1…d4 and c5; of u1…u4 the skip and the lower input.
  private var downMasks: [[Float]?] = Array(repeating: nil, count: 5)
  private var skipMasks: [[Float]?] = Array(repeating: nil, count: 4)
  private var lowerMasks: [[Float]?] = Array(repeating: nil, count: 4)

  /// The places of a pass's volumes in a plan.
  package struct VolumePlan {
    let size: Size
    fileprivate var image = 0, logits = 0
    fileprivate var dLogits: Int?
    fileprivate var a: [Int] = [], b: [Int] = [], m: [Int] = [], o: [Int] = [], pooled: [Int] = []
    fileprivate var dA: [Int] = [], dB: [Int] = [], dM: [Int] = [], dO: [Int] = [], dPooled: [Int] = []

    /// Moments of a forward pass: d1…c5 are 1…5, u4…u1 6…9, the logits 10.
    package static let forwardMoments = 11
    /// Moments of a backward pass: the losses 0, the logits 1, five for each level up, and five for each down.
    package static let backwardMoments = 2 + 4 * 5 + 5 * 5

    /// Reserves the volumes of a pass by itself.
    package init(_ network: UNet, _ size: Size, _ purpose: Purpose, in plan: inout WorkspacePlan) {
      // A discriminator's turn lies between forward and backward, and after it.
      let judged = VolumePlan.forwardMoments, backward = judged + 1,
        end = backward + VolumePlan.backwardMoments + 1
      switch purpose {
      case .training(let features):
        self.init(
          network, size, in: &plan, forward: 0, backward: backward,
          features: features == .all ? (end, judged) : nil, centre: features == .centre ? backward : nil)
      case .inference(let features):
        self.init(network, size, in: &plan, forward: 0, features: features ? (end, judged) : nil)
      case .sampling:
        self.init(network, size, in: &plan, forward: 0, keepsFirst: true)
      }
    }

    /// Reserves the volumes of a pass whose forward starts at `forward`; `backward`: when its backward starts.
    /// `features`: a discriminator reads logits and features until that moment, and writes features' gradients from
    /// `gradients` on. `centre`: logits and the centre's output are read until that moment, and the gradient of the
    /// latter is written before backward. `keepsFirst`: the first block's output is still there when the logits are.
    package init(
      _ network: UNet, _ size: Size, in plan: inout WorkspacePlan, forward: Int, backward: Int? = nil,
      features: (until: Int, gradients: Int)? = nil, centre: Int? = nil, keepsFirst: Bool = false
    ) {
      precondition(
        [size.z, size.y, size.x].allSatisfy { $0 % UNet.multiple == 0 && $0 > 0 },
        "a U-Net's input of \(size)")
      self.size = size
      let k = network.k, logitsDone = forward + 10
      let end = features?.until ?? backward.map { $0 + VolumePlan.backwardMoments } ?? centre ?? logitsDone
      func down(_ level: Int) -> Int { forward + level + 1 }
      func up(_ level: Int) -> Int { forward + 9 - level }
      // Within a level up: 0 the unit conv_out backward, 1 its data gradient, 2 the join backward, 3 the gradient of
      // the skip, 4 of the lower input. Within a level down: 0 pooling, 1 the second unit backward, 2 its data gradient,
      // 3 the first unit backward, 4 its data gradient.
      func upBack(_ level: Int, _ part: Int) -> Int { (backward ?? 0) + 2 + 5 * level + part }
      func downBack(_ level: Int, _ part: Int) -> Int { (backward ?? 0) + 22 + 5 * (4 - level) + part }
      var sizes = [size]
      for _ in 0..<4 { sizes.append(sizes[sizes.count - 1].halved) }
      func channels(_ level: Int) -> Int { level == 4 ? 8 * k : k << level }
      func outChannels(_ level: Int) -> Int { level == 0 ? k : channels(level) / 2 }
      func wide(_ level: Int) -> Shape { Shape(sizes[level], level == 4 ? 16 * k : channels(level)) }
      func encoderFeature(_ level: Int) -> Bool { features != nil && level > 0 }
      func decoderFeature(_ level: Int) -> Bool { features != nil && level > 1 }
      let trains = backward != nil

      image = plan.reserve(
        Shape(size, network.inputs), forward...(trains || features != nil ? end : down(0)))
      for level in 0..<5 {
        let now = down(level)
        a.append(plan.reserve(wide(level), now...(trains ? downBack(level, 3) : now)))
        let isKept = keepsFirst && level == 0, read = isKept ? logitsDone : level < 4 ? up(level) : up(3)
        b.append(
          plan.reserve(
            Shape(sizes[level], channels(level)),
            now...(encoderFeature(level) || (level == 4 && centre != nil)
              ? end : trains ? downBack(level, 1) : read)))
        if level < 4 {
          pooled.append(
            plan.reserve(
              Shape(sizes[level + 1], channels(level)),
              now...(trains ? downBack(level + 1, 3) : isKept ? logitsDone : now + 1)))
        }
      }
      for level in 0..<4 {
        let now = up(level)
        m.append(plan.reserve(Shape(sizes[level], channels(level)), now...(trains ? upBack(level, 2) : now)))
        o.append(
          plan.reserve(
            Shape(sizes[level], outChannels(level)),
            now...(decoderFeature(level) ? end : trains ? upBack(level, 0) : now + 1)))
      }
      logits = plan.reserve(Shape(size, network.classes), logitsDone...max(end, logitsDone))
      guard let backward else { return }
      let losses = features?.gradients ?? backward
      dLogits = plan.reserve(Shape(size, network.classes), losses...backward + 1)
      for level in 0..<5 {
        dA.append(plan.reserve(wide(level), downBack(level, 2)...downBack(level, 4)))
        let first = level < 4 ? upBack(level, 3) : centre != nil ? backward : upBack(3, 4)
        dB.append(
          plan.reserve(
            Shape(sizes[level], channels(level)),
            (encoderFeature(level) ? losses : first)...downBack(level, 2)))
        if level < 4 {
          dPooled.append(
            plan.reserve(
              Shape(sizes[level + 1], channels(level)), downBack(level + 1, 4)...downBack(level, 0)))
          dM.append(plan.reserve(Shape(sizes[level], channels(level)), upBack(level, 1)...upBack(level, 4)))
          let written = decoderFeature(level) ? losses : level == 0 ? backward + 1 : upBack(level - 1, 4)
          dO.append(plan.reserve(Shape(sizes[level], outChannels(level)), written...upBack(level, 1)))
        }
      }
    }
  }

  /// A pass with memory of its own.
  package convenience init(_ network: UNet, _ size: Size, _ purpose: Purpose) {
    var plan = WorkspacePlan()
    let places = VolumePlan(network, size, purpose, in: &plan)
    self.init(places, plan.volumes())
  }

  /// A pass whose volumes lie in a plan with others.
  package init(_ places: VolumePlan, _ volumes: [Volume]) {
    size = places.size
    image = volumes[places.image]
    logits = volumes[places.logits]
    dLogitsVolume = places.dLogits.map { volumes[$0] }
    a = places.a.map { volumes[$0] }
    b = places.b.map { volumes[$0] }
    m = places.m.map { volumes[$0] }
    o = places.o.map { volumes[$0] }
    pooled = places.pooled.map { volumes[$0] }
    dA = places.dA.map { volumes[$0] }
    dB = places.dB.map { volumes[$0] }
    dM = places.dM.map { volumes[$0] }
    dO = places.dO.map { volumes[$0] }
    dPooled = places.dPooled.map { volumes[$0] }
    normA = a.map { Norm(identity: $0.channels) }
    normB = b.map { Norm(identity: $0.channels) }
    normM = m.map { Norm(identity: $0.channels) }
    normO = o.map { Norm(identity: $0.channels) }
  }

  private func gradient(_ volume: Volume?) -> Volume {
    guard let volume else { preconditionFailure("a pass for inference has no gradients") }
    return volume
  }

  private func drawMasks() {
    for level in 1..<5 { downMasks[level] = dropout?.mask(pooled[level - 1].channels, part: level) }
    for level in 0..<4 {
      skipMasks[level] = dropout?.mask(b[level].channels, part: 8 + 2 * level)
      lowerMasks[level] = dropout?.mask(lowerVolume(level).channels, part: 9 + 2 * level)
    }
  }

  private func lowerVolume(_ level: Int) -> Volume { level < 3 ? o[level + 1] : b[4] }

  // What each layer reads.
  func input(_ level: Int) -> LayerInput {
    level == 0 ? LayerInput(image) : LayerInput(pooled[level - 1], mask: downMasks[level])
  }
  func sourceA(_ level: Int) -> LayerInput { LayerInput(a[level], normA[level], slope: UNet.slope) }
  func encoded(_ level: Int) -> LayerInput { LayerInput(b[level], normB[level], slope: UNet.slope) }
  func skip(_ level: Int) -> LayerInput {
    LayerInput(b[level], normB[level], slope: UNet.slope, mask: skipMasks[level])
  }
  func lower(_ level: Int) -> LayerInput {
    LayerInput(
      lowerVolume(level), level < 3 ? normO[level + 1] : normB[4], slope: UNet.slope, mask: lowerMasks[level],
      upsampled: true)
  }
  func sourceM(_ level: Int) -> LayerInput { LayerInput(m[level], normM[level], slope: UNet.slope) }
  func sourceO(_ level: Int) -> LayerInput { LayerInput(o[level], normO[level], slope: UNet.slope) }

  /// The three pairs of feature maps that the discriminator reads: (d2, u3), (d3, u4), (d4, c5), encoder at full and
  /// decoder at half its size.
  package func encoderFeature(_ pair: Int) -> LayerInput { encoded(pair + 1) }
  /// The pair's other map; `upsampled`: as the discriminator reads it, at the encoder's size.
  package func decoderFeature(_ pair: Int, upsampled: Bool) -> LayerInput {
    pair < 2
      ? LayerInput(o[pair + 2], normO[pair + 2], slope: UNet.slope, upsampled: upsampled)
      : LayerInput(b[4], normB[4], slope: UNet.slope, upsampled: upsampled)
  }
  /// The centre's output, and the gradient of what is read of it.
  package var centre: LayerInput { encoded(4) }
  package var centreGradient: Volume { dB[4] }
  func encoderFeatureGradient(_ pair: Int) -> Volume { dB[pair + 1] }
  func decoderFeatureGradient(_ pair: Int) -> Volume { pair < 2 ? dO[pair + 2] : dB[4] }
}
