import Collective
import Compute
import Files
import Imaging
import Learning
import Methods

/// The memory that one rank needs to train a stage, in bytes, counted from what the stage allocates; nothing is
/// allocated to find it.
///
/// Exact are networks, gradients, moments, the step's volumes (its own `WorkspacePlan`), the frozen teacher's
/// transformed weights and sums of several slots. Scratch and what ranks exchange are bounds; `program`, `threadScratch`
/// and `margin` are measured. On one rank with two threads and k = 32, in GiB, estimated : measured: a step of 80×96×80
/// voxels 3.3 : 2.80, of 160×192×160 8.9 : 7.96. A checkpoint's files are streamed.
package struct RankMemory: Equatable, Sendable {
  /// Parameters, gradients and this rank's part of the moments.
  package private(set) var vectors = 0
  /// Volumes of the step.
  package private(set) var volumes = 0
  /// Transformed weights that are kept, and scratch of all threads.
  package private(set) var transforms = 0
  /// Sums of slots, and what other ranks have sent.
  package private(set) var sums = 0
  /// The case under way and the next one, which is read meanwhile; of methods with windows, what each slot keeps.
  package private(set) var cases = 0

  /// Code, libraries and small pieces.
  static let program = 128 << 20
  /// A thread's scratch at k = 32, of which 20 MiB were measured; it grows with the channels.
  static let threadScratch = 32 << 20
  /// For pages that allocators hold back, in percent.
  static let margin = 12

  /// Bytes of any rank while it trains.
  package var training: Int {
    let counted = vectors + volumes + transforms + sums + cases + RankMemory.program
    return counted + counted / 100 * RankMemory.margin
  }

  /// Bytes that are taken for certain, and all at once.
  package var least: Int { vectors + volumes }

  /// Refuses a stage that this machine cannot train, before its memory is taken: `left` bytes for each of the `ranks` on it.
  func check(_ stage: Method, size: Size, k: Int, ranks: Int, left: Int?) throws(Fault) {
    guard let left, least > left else { return }
    throw Fault(
      .recipe,
      "\(stage.title): a step takes \(AvailableMemory.shown(least)) a rank for \(size) voxels (x, y, z) and k = \(k), but "
        + "\(AvailableMemory.shown(left)) are left for it\(ranks > 1 ? " with \(ranks) ranks on this machine" : ""): take "
        + "\(ranks > 1 ? "fewer ranks a machine, " : "")a machine with more, or a smaller network.k")
  }

  /// For cases of `size` voxels, on the rank that has most to do.
  package init(
    _ method: Method, _ recipe: Recipe, _ task: SegmentationTask, size: Size, slots: Slots, threads: Int
  ) {
    let k = recipe.network.k, ranks = slots.ranks, run = (slots.count + ranks - 1) / ranks
    let step = method.memory(MemoryRequest(settings: recipe.settings(method), task, k: k, size: size))
    vectors = 4 * (step.frozen + 2 * step.trained + 2 * ((step.trained + ranks - 1) / ranks))
    volumes = 4 * step.volumes
    transforms =
      4 * (step.kept + (step.layers.max() ?? 0)) + threads * RankMemory.threadScratch * max(k, 4) / 32
    // Nodes of the sum's tree on the way, and the pieces of them that other ranks send.
    let nodes = run > 1 ? Int.bitWidth - (run - 1).leadingZeroBitCount : 0
    sums = 4 * nodes * step.trained + (ranks > 1 ? 2 * max(64 << 20, slots.count << 18) : 0)
    cases = step.waiting.map { run * $0 } ?? 2 * PreparedCase.bytes(size, sequences: task.sequences.count)
  }
}
