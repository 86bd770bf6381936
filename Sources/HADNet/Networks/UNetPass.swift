/// The memory of a U-Net for one case: all volumes of one workspace, planned from the size and from what the pass
/// is for, and what forward leaves for backward.
///
/// Stored are the convolutions' outputs; norm, ReLU and dropout are applied by whoever reads them.
public final class UNetPass {
  public enum Purpose: Sendable {
    /// Forward and backward; `features`: a discriminator reads logits and features, also after backward, and
    /// writes gradients of both before it.
    case training(features: Bool)
    /// Forward alone; `features`: they outlive it.
    case inference(features: Bool)
  }

  public let size: Size
  /// The network's input, [z, y, x, inputs]; filled by the caller before each forward: in a pass for inference without
  /// features later volumes take its memory.
  public let image: Volume
  public let logits: Volume
  /// ∂L/∂logits; filled by the caller. Training only.
  public var dLogits: Volume { gradient(dLogitsVolume) }

  let a, b, m, o, pooled: [Volume]
  private let dAVolumes, dBVolumes, dMVolumes, dOVolumes, dPooledVolumes: [Volume]
  private let dLogitsVolume: Volume?
  var normA, normB, normM, normO: [Norm]
  var dropout: DropoutDraw? { didSet { drawMasks() } }
  /// Masks by block: the inputs of d1…d4 and c5; of u1…u4 the skip and the lower input.
  private var downMasks: [[Float]?] = Array(repeating: nil, count: 5)
  private var skipMasks: [[Float]?] = Array(repeating: nil, count: 4)
  private var lowerMasks: [[Float]?] = Array(repeating: nil, count: 4)

  public init(_ network: UNet, _ size: Size, _ purpose: Purpose) {
    precondition(
      [size.z, size.y, size.x].allSatisfy { $0 % UNet.multiple == 0 && $0 > 0 }, "a U-Net's input of \(size)")
    self.size = size
    let k = network.k
    let training: Bool, features: Bool
    switch purpose {
    case .training(let f): (training, features) = (true, f)
    case .inference(let f): (training, features) = (false, f)
    }
    // The moments of a step: d1…c5 are 1…5, u4…u1 6…9, the logits 10, losses 11, then backward from the logits 12
    // through u1…u4 13…16, c5…d1 17…21; the discriminator's turn is the end.
    let losses = 11, end = 22
    func up(_ level: Int) -> Int { 9 - level }
    func upBack(_ level: Int) -> Int { 13 + level }
    func downBack(_ level: Int) -> Int { 21 - level }
    var plan = WorkspacePlan()
    var sizes = [size]
    for _ in 0..<4 { sizes.append(sizes[sizes.count - 1].halved) }
    func channels(_ level: Int) -> Int { level == 4 ? 8 * k : k << level }
    func outChannels(_ level: Int) -> Int { level == 0 ? k : channels(level) / 2 }
    func encoderFeature(_ level: Int) -> Bool { features && level > 0 }
    func decoderFeature(_ level: Int) -> Bool { features && level > 1 }

    let image = plan.reserve(Shape(size, network.inputs), 0...(training || features ? end : 1))
    var a: [Int] = [], b: [Int] = [], pooled: [Int] = [], m: [Int] = [], o: [Int] = []
    for level in 0..<5 {
      let now = level + 1, shape = Shape(sizes[level], channels(level))
      let wide = Shape(sizes[level], level == 4 ? 16 * k : channels(level))
      a.append(plan.reserve(wide, now...(training ? downBack(level) : now)))
      let read = level < 4 ? up(level) : up(3)
      b.append(
        plan.reserve(shape, now...(encoderFeature(level) ? end : training ? downBack(level) : read)))
      if level < 4 {
        pooled.append(
          plan.reserve(
            Shape(sizes[level + 1], channels(level)), now...(training ? downBack(level + 1) : now + 1)))
      }
    }
    for level in 0..<4 {
      let now = up(level)
      m.append(
        plan.reserve(Shape(sizes[level], channels(level)), now...(training ? upBack(level) : now)))
      o.append(
        plan.reserve(
          Shape(sizes[level], outChannels(level)),
          now...(decoderFeature(level) ? end : training ? upBack(level) : now + 1)))
    }
    let logits = plan.reserve(Shape(size, UNet.classes), 10...end)
    var dA: [Int] = [], dB: [Int] = [], dM: [Int] = [], dO: [Int] = [], dPooled: [Int] = []
    var dLogits: Int?
    if training {
      dLogits = plan.reserve(Shape(size, UNet.classes), losses...12)
      for level in 0..<5 {
        let shape = Shape(sizes[level], channels(level))
        let wide = Shape(sizes[level], level == 4 ? 16 * k : channels(level))
        dA.append(plan.reserve(wide, downBack(level)...downBack(level)))
        let first = encoderFeature(level) ? losses : upBack(min(level, 3))
        dB.append(plan.reserve(shape, first...downBack(level)))
        if level < 4 {
          dPooled.append(
            plan.reserve(
              Shape(sizes[level + 1], channels(level)), downBack(level + 1)...downBack(level)))
          dM.append(plan.reserve(shape, upBack(level)...upBack(level)))
          let written = decoderFeature(level) ? losses : level == 0 ? 12 : upBack(level - 1)
          dO.append(plan.reserve(Shape(sizes[level], outChannels(level)), written...upBack(level)))
        }
      }
    }
    let volumes = plan.volumes()
    self.image = volumes[image]
    self.logits = volumes[logits]
    dLogitsVolume = dLogits.map { volumes[$0] }
    self.a = a.map { volumes[$0] }
    self.b = b.map { volumes[$0] }
    self.m = m.map { volumes[$0] }
    self.o = o.map { volumes[$0] }
    self.pooled = pooled.map { volumes[$0] }
    dAVolumes = dA.map { volumes[$0] }
    dBVolumes = dB.map { volumes[$0] }
    dMVolumes = dM.map { volumes[$0] }
    dOVolumes = dO.map { volumes[$0] }
    dPooledVolumes = dPooled.map { volumes[$0] }
    normA = a.map { Norm(identity: volumes[$0].channels) }
    normB = b.map { Norm(identity: volumes[$0].channels) }
    normM = m.map { Norm(identity: volumes[$0].channels) }
    normO = o.map { Norm(identity: volumes[$0].channels) }
  }

  var dA: [Volume] { dAVolumes }
  var dB: [Volume] { dBVolumes }
  var dM: [Volume] { dMVolumes }
  var dO: [Volume] { dOVolumes }
  var dPooled: [Volume] { dPooledVolumes }

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
  func input(_ level: Int) -> Source {
    level == 0 ? Source(image) : Source(pooled[level - 1], mask: downMasks[level])
  }
  func sourceA(_ level: Int) -> Source { Source(a[level], normA[level], slope: UNet.slope) }
  func encoded(_ level: Int) -> Source { Source(b[level], normB[level], slope: UNet.slope) }
  func skip(_ level: Int) -> Source {
    Source(b[level], normB[level], slope: UNet.slope, mask: skipMasks[level])
  }
  func lower(_ level: Int) -> Source {
    Source(
      lowerVolume(level), level < 3 ? normO[level + 1] : normB[4], slope: UNet.slope, mask: lowerMasks[level],
      upsampled: true)
  }
  func sourceM(_ level: Int) -> Source { Source(m[level], normM[level], slope: UNet.slope) }
  func sourceO(_ level: Int) -> Source { Source(o[level], normO[level], slope: UNet.slope) }

  /// The three pairs of feature maps that the discriminator reads: (d2, u3), (d3, u4), (d4, c5), encoder at full and
  /// decoder at half its size.
  func encoderFeature(_ pair: Int) -> Source { encoded(pair + 1) }
  func decoderFeature(_ pair: Int, upsampled: Bool) -> Source {
    pair < 2
      ? Source(o[pair + 2], normO[pair + 2], slope: UNet.slope, upsampled: upsampled)
      : Source(b[4], normB[4], slope: UNet.slope, upsampled: upsampled)
  }
  func encoderFeatureGradient(_ pair: Int) -> Volume { dB[pair + 1] }
  func decoderFeatureGradient(_ pair: Int) -> Volume { pair < 2 ? dO[pair + 2] : dB[4] }
}
