import Compute

/// The memory of a modality-agnostic network for one case, planned from the size and from what the pass is for, and what
/// forward leaves for backward. Decoders take turns in the same memory; a pass for inference decodes the segmentation
/// only, once.
package final class FusionPass {
  /// What a pass is for: one for inference has no gradients.
  package enum Purpose: Sendable { case training, inference }

  package let size: Size
  /// The sequences, [z, y, x, 1] each, in the task's order; filled by the caller, those that are encoded.
  package let images: [Volume]
  /// U-HVED: standard normal numbers of each level, [z, y, x, C]; filled by the caller where a sample is asked for.
  package let noise: [Volume]
  /// Which sequences are fused, and which are encoded.
  var present: [Bool] = [], encoded: [Bool] = []

  // By sequence, or sequence and level.
  let first: [Volume]
  let inner, maps, pooled: [[Volume]]
  // By level from the finest.
  package let fused: [Volume]
  // By the decoder's block, from the third level to the first.
  let stretched, decoderInner, decoded: [Volume]
  private let outputs: [Int: Volume]
  private let classes: Int
  let dFirst: [Volume]
  let dInner, dMaps, dPooled: [[Volume]]
  let dFused: [Volume]
  let dStretched, dSkip, dDecoderInner, dDecoded: [Volume]
  private let dOutputs: [Int: Volume]
  var encoderSaved: [[PreactivatedBlock.Saved]]
  var decoderSaved: [PreactivatedBlock.Saved]

  /// The places of a pass's volumes in a plan.
  package struct VolumePlan {
    let size: Size
    fileprivate var images: [Int] = [], noise: [Int] = [], first: [Int] = [], fused: [Int] = []
    fileprivate var inner: [[Int]] = [], maps: [[Int]] = [], pooled: [[Int]] = []
    fileprivate var stretched: [Int] = [], decoderInner: [Int] = [], decoded: [Int] = []
    fileprivate let classes: Int
    /// By the number of channels: the segmentation's classes, a sequence's 1.
    fileprivate var outputs: [Int: Int] = [:], dOutputs: [Int: Int] = [:]
    fileprivate var dFirst: [Int] = [], dFused: [Int] = []
    fileprivate var dInner: [[Int]] = [], dMaps: [[Int]] = [], dPooled: [[Int]] = []
    fileprivate var dStretched: [Int] = [], dSkip: [Int] = [], dDecoderInner: [Int] = []
    fileprivate var dDecoded: [Int] = []

    /// Reserves the volumes of a pass, from the moment 0 on.
    package init(_ network: FusionNetwork, _ size: Size, _ purpose: Purpose, in plan: inout WorkspacePlan) {
      self.size = size
      classes = network.classes
      var sizes = [size]
      for _ in 1..<FusionNetwork.levels { sizes.append(sizes[sizes.count - 1].halvedUp) }
      let at = Moments(encoders: network.encoders.count), trains = purpose == .training
      reserveForward(network, sizes, at, trains: trains, in: &plan)
      if trains { reserveBackward(network, sizes, at, in: &plan) }
    }

    private mutating func reserveForward(
      _ network: FusionNetwork, _ sizes: [Size], _ at: Moments, trains: Bool, in plan: inout WorkspacePlan
    ) {
      for i in network.encoders.indices {
        let encoder = network.encoders[i]
        images.append(plan.reserve(Shape(sizes[0], 1), 0...(trains ? at.end : at.fusing)))
        first.append(
          plan.reserve(
            Shape(sizes[0], network.width), at.down(i, 0)...(trains ? at.downBack(i, 0) + 2 : at.down(i, 0))))
        var inner: [Int] = [], maps: [Int] = [], pooled: [Int] = []
        for (level, block) in encoder.blocks.enumerated() {
          let now = at.down(i, level)
          inner.append(
            plan.reserve(Shape(sizes[level], block.inner), now...(trains ? at.downBack(i, level) + 1 : now)))
          maps.append(
            plan.reserve(
              Shape(sizes[level], block.outputs),
              now...(trains ? max(at.fusing, at.downBack(i, level)) : at.fusing)))
          if level + 1 < sizes.count {
            pooled.append(
              plan.reserve(
                Shape(sizes[level + 1], block.outputs),
                now...(trains ? at.downBack(i, level + 1) + 1 : at.down(i, level + 1))))
          }
        }
        self.inner.append(inner)
        self.maps.append(maps)
        self.pooled.append(pooled)
      }
      for level in sizes.indices {
        let shape = Shape(sizes[level], network.fusedChannels(level))
        let last = trains ? at.judged + 6 : at.up(max(0, 2 - level))
        fused.append(plan.reserve(shape, at.fusing...last))
        if network.fusion == .gaussians {
          noise.append(plan.reserve(shape, 0...(trains ? at.judged + 6 : at.fusing)))
        }
      }
      let decoder = network.decoders[0]
      for (i, block) in decoder.blocks.enumerated() {
        let level = 2 - i, now = at.up(i), until = trains ? at.upBack(i) : now
        let before = i == 0 ? network.fusedChannels(3) : decoder.blocks[i - 1].outputs
        stretched.append(plan.reserve(Shape(sizes[level], before), now...until))
        decoderInner.append(plan.reserve(Shape(sizes[level], block.inner), now...until))
        decoded.append(
          plan.reserve(Shape(sizes[level], block.outputs), now...(trains && i == 2 ? at.judged + 1 : now + 1))
        )
      }
      for channels in Set(network.decoders.map(\.last.outputs)).sorted() {
        outputs[channels] = plan.reserve(Shape(sizes[0], channels), at.up(3)...at.judged)
      }
    }

    private mutating func reserveBackward(
      _ network: FusionNetwork, _ sizes: [Size], _ at: Moments, in plan: inout WorkspacePlan
    ) {
      for channels in Set(network.decoders.map(\.last.outputs)).sorted() {
        dOutputs[channels] = plan.reserve(Shape(sizes[0], channels), at.judged...at.upBack(2))
      }
      for level in sizes.indices {
        // Sums over the decoders.
        dFused.append(
          plan.reserve(Shape(sizes[level], network.fusedChannels(level)), at.fusing...at.judged + 6))
      }
      for (i, block) in network.decoders[0].blocks.enumerated() {
        let level = 2 - i, now = at.upBack(i)
        let before = i == 0 ? network.fusedChannels(3) : network.decoders[0].blocks[i - 1].outputs
        dDecoded.append(
          plan.reserve(Shape(sizes[level], block.outputs), (i == 2 ? at.judged : at.upBack(i + 1))...now))
        dDecoderInner.append(plan.reserve(Shape(sizes[level], block.inner), now...now))
        dStretched.append(plan.reserve(Shape(sizes[level], before), now...now))
        dSkip.append(plan.reserve(Shape(sizes[level], network.fusedChannels(level)), now...now))
      }
      for i in network.encoders.indices {
        let encoder = network.encoders[i]
        var dInner: [Int] = [], dMaps: [Int] = [], dPooled: [Int] = []
        for (level, block) in encoder.blocks.enumerated() {
          let now = at.downBack(i, level)
          dInner.append(plan.reserve(Shape(sizes[level], block.inner), now...now + 1))
          dMaps.append(plan.reserve(Shape(sizes[level], block.outputs), at.judged + 6...now))
          if level + 1 < sizes.count {
            let written = at.downBack(i, level + 1)
            dPooled.append(plan.reserve(Shape(sizes[level + 1], block.outputs), written...written + 1))
          }
        }
        self.dInner.append(dInner)
        self.dMaps.append(dMaps)
        self.dPooled.append(dPooled)
        dFirst.append(plan.reserve(Shape(sizes[0], network.width), at.downBack(i, 0)...at.downBack(i, 0) + 2))
      }
    }
  }

  /// When what of a pass is computed: each block of each encoder, the fusion, a decoder forward in five and backward in
  /// six, encoders backward, two for each block.
  private struct Moments {
    let encoders: Int
    private let levels = FusionNetwork.levels

    init(encoders: Int) { self.encoders = encoders }

    var fusing: Int { (levels + 1) * encoders }
    var judged: Int { up(4) }
    var end: Int { judged + 7 + (2 * levels + 1) * encoders }
    func down(_ i: Int, _ level: Int) -> Int { (levels + 1) * i + level }
    func up(_ i: Int) -> Int { fusing + 1 + i }
    func upBack(_ i: Int) -> Int { judged + 3 - i + 1 }
    func downBack(_ i: Int, _ level: Int) -> Int {
      judged + 6 + (2 * levels + 1) * (encoders - 1 - i) + 2 * (levels - 1 - level)
    }
  }

  /// A pass with memory of its own.
  package convenience init(_ network: FusionNetwork, _ size: Size, _ purpose: Purpose) {
    var plan = WorkspacePlan()
    let places = VolumePlan(network, size, purpose, in: &plan)
    self.init(places, plan.volumes())
  }

  /// `volumes`: all those of the plan that the places are in.
  package init(_ places: VolumePlan, _ volumes: [Volume]) {
    func all(_ places: [Int]) -> [Volume] { places.map { volumes[$0] } }
    func nested(_ places: [[Int]]) -> [[Volume]] { places.map(all) }
    size = places.size
    images = all(places.images)
    noise = all(places.noise)
    first = all(places.first)
    inner = nested(places.inner)
    maps = nested(places.maps)
    pooled = nested(places.pooled)
    fused = all(places.fused)
    stretched = all(places.stretched)
    decoderInner = all(places.decoderInner)
    decoded = all(places.decoded)
    outputs = places.outputs.mapValues { volumes[$0] }
    classes = places.classes
    dFirst = all(places.dFirst)
    dInner = nested(places.dInner)
    dMaps = nested(places.dMaps)
    dPooled = nested(places.dPooled)
    dFused = all(places.dFused)
    dStretched = all(places.dStretched)
    dSkip = all(places.dSkip)
    dDecoderInner = all(places.dDecoderInner)
    dDecoded = all(places.dDecoded)
    dOutputs = places.dOutputs.mapValues { volumes[$0] }
    encoderSaved = inner.map { $0.map { _ in PreactivatedBlock.Saved() } }
    decoderSaved = decoded.map { _ in PreactivatedBlock.Saved() }
  }

  /// What a decoder writes: the segmentation's logits (0) or a sequence.
  package func output(_ decoder: Int) -> Volume { volume(outputs, decoder) }
  /// ∂L/∂output; filled by the caller after `decode`. Training only.
  package func outputGradient(_ decoder: Int) -> Volume { volume(dOutputs, decoder) }

  private func volume(_ volumes: [Int: Volume], _ decoder: Int) -> Volume {
    guard let volume = volumes[decoder == 0 ? classes : 1] else {
      preconditionFailure("no such output in this pass: \(decoder)")
    }
    return volume
  }

  /// What a block of an encoder reads.
  func input(_ sequence: Int, _ level: Int) -> Volume {
    level == 0 ? first[sequence] : pooled[sequence][level - 1]
  }

  func presentMaps(_ level: Int) -> [Volume] {
    maps.indices.filter { present[$0] }.map { maps[$0][level] }
  }

  /// The fusion of a level's maps, 0 the finest. U-HVED only.
  package func gaussians(_ level: Int) -> GaussianFusion {
    GaussianFusion(
      maps: maps.indices.map { encoded[$0] ? maps[$0][level] : nil }, present: present)
  }
}
