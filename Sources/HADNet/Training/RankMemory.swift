import Collective

/// The memory that one rank needs to train a stage, in bytes, counted from what the stage allocates; nothing is
/// allocated to find it.
///
/// Exact are networks, gradients, moments, the step's volumes (its own `WorkspacePlan`), the frozen teacher's
/// transformed weights and sums of several slots. Scratch and what ranks exchange are bounds; `program`, `threadScratch`
/// and `margin` are measured. On one rank with two threads and k = 32, in GiB, estimated : measured: a step of 80×96×80
/// voxels 3.3 : 2.80, of 160×192×160 8.9 : 7.96. A checkpoint's files are streamed.
public struct RankMemory: Equatable, Sendable {
  /// Parameters, gradients and this rank's part of the moments.
  public private(set) var vectors = 0
  /// Volumes of the step.
  public private(set) var volumes = 0
  /// Transformed weights that are kept, and scratch of all threads.
  public private(set) var transforms = 0
  /// Sums of slots, and what other ranks have sent.
  public private(set) var sums = 0
  /// Cases of two steps: this one's and the next one's, which are read meanwhile.
  public private(set) var cases = 0

  /// Code, libraries and small pieces.
  static let program = 128 << 20
  /// A thread's scratch at k = 32, of which 20 MiB were measured; it grows with the channels.
  static let threadScratch = 32 << 20
  /// For pages that allocators hold back, in percent.
  static let margin = 12

  /// Bytes of any rank while it trains.
  public var training: Int {
    let counted = vectors + volumes + transforms + sums + cases + RankMemory.program
    return counted + counted / 100 * RankMemory.margin
  }

  /// Bytes that are taken for certain, and all at once.
  public var least: Int { vectors + volumes }

  /// Refuses a stage that this machine cannot train, before its memory is taken: `left` bytes for each of the `ranks` on it.
  func check(_ stage: Stage, size: Size, k: Int, ranks: Int, left: Int?) throws(Fault) {
    guard let left, least > left else { return }
    throw Fault(
      .recipe,
      "\(stage.method): a step takes \(AvailableMemory.shown(least)) a rank for \(size) voxels (x, y, z) and k = \(k), but "
        + "\(AvailableMemory.shown(left)) are left for it\(ranks > 1 ? " with \(ranks) ranks on this machine" : ""): take "
        + "\(ranks > 1 ? "fewer ranks a machine, " : "")a machine with more, or a smaller network.k")
  }

  /// For cases of `size` voxels, on the rank that has most to do.
  public init(_ stage: Stage, _ recipe: Recipe, size: Size, slots: Slots, threads: Int) {
    let k = recipe.network.k, student = UNet(inputs: Sight.withoutContrast.channels.count, k: k)
    let teacher = UNet(inputs: Sight.all.channels.count, k: k)
    let trained: Int, frozen: Int, floats: Int, kept: Int, layers: [Int]
    switch stage {
    case .teacher, .student, .control:
      let network = stage == .teacher ? teacher : student
      var plan = WorkspacePlan()
      _ = UNetPass.Places(network, size, .training(features: .none), in: &plan)
      (trained, frozen, floats, kept) = (network.layout.count, 0, plan.count, 0)
      layers = network.transforms(size)
    case .hadnet, .adnet:
      let discriminator = Discriminator(k: k, hierarchical: stage == .hadnet)
      (trained, frozen) = (student.layout.count + discriminator.layout.count, teacher.layout.count)
      floats = DistillationStep.Places(student, teacher, discriminator, size).plan.count
      kept = teacher.transforms(size).reduce(0, +)
      layers = student.transforms(size) + discriminator.transforms(size)
    case .kdnet:
      (trained, frozen) = (student.layout.count, teacher.layout.count)
      floats = KnowledgeStep.Places(student, teacher, size).plan.count
      kept = teacher.transforms(size).reduce(0, +)
      layers = student.transforms(size)
    case .uhemis, .uhved:
      let settings = stage == .uhemis ? recipe.uhemis : recipe.uhved.training
      let network = FusionNetwork(stage == .uhemis ? .moments : .gaussians, width: settings.width)
      var plan = WorkspacePlan()
      let side = settings.patch
      _ = FusionPass.Places(network, Size(side, side, side), .training, in: &plan)
      (trained, frozen, floats, kept) = (network.layout.count, 0, plan.count, 0)
      layers = []
    }
    let ranks = slots.ranks, run = (slots.count + ranks - 1) / ranks
    vectors = 4 * (frozen + 2 * trained + 2 * ((trained + ranks - 1) / ranks))
    volumes = 4 * floats
    transforms = 4 * (kept + (layers.max() ?? 0)) + threads * RankMemory.threadScratch * max(k, 4) / 32
    // Nodes of the sum's tree on the way, and the pieces of them that other ranks send.
    let nodes = run > 1 ? Int.bitWidth - (run - 1).leadingZeroBitCount : 0
    sums = 4 * nodes * trained + (ranks > 1 ? 2 * max(64 << 20, slots.count << 18) : 0)
    guard let windows = stage.windows(recipe) else {
      cases = 2 * run * PreparedCase.bytes(size)
      return
    }
    // Cases whose windows wait in the queue, and the next one; scaled up and with a border.
    let waiting = 2 + (3 * windows.queue + windows.windowsPerCase - 1) / windows.windowsPerCase
    let factor = 1 + Double(windows.scale)
    func side(_ side: Int) -> Int { Int(factor * Double(max(side, windows.leastSide) + 20)) }
    let augmented = Size(side(size.z), side(size.y), side(size.x))
    cases = run * waiting * PreparedCase.bytes(augmented)
  }
}

extension UNet {
  /// Floats of the transformed weights of each sum that Winograd computes, for an input of `size`.
  fileprivate func transforms(_ size: Size) -> [Int] {
    var counts: [Int] = [], size = size
    for level in 0..<5 {
      var units = [down[level].first, down[level].second]
      if level < 4 { units += [up[level].first, up[level].second] }
      for unit in units {
        let rows = unit.convolutions.filter { layer in
          layer.method(layer.inputs, layer.outputs, width: size.x, tiled: size, upsampled: false) == .winograd
        }.reduce(0) { $0 + $1.inputs }
        counts.append(
          WinogradConvolution.Weights.count(rows: rows, columns: unit.convolutions[0].outputs))
      }
      if level < 4 { size = size.halved }
    }
    return counts
  }
}

extension Discriminator {
  /// Floats that the workers share for each block, for networks' outputs of `size`: decoder features, which are read
  /// upsampled, are computed as 3³ by Winograd, the rest by parities.
  fileprivate func transforms(_ size: Size) -> [Int] {
    blocks.enumerated().flatMap { i, block in
      let layer = block.convolutions[0], features = hierarchical && i > 0 ? k << i : 0
      return [
        WinogradConvolution.Weights.count(rows: features, columns: layer.outputs),
        StridedConvolution.sharedScratch(layer),
      ]
    }
  }
}
