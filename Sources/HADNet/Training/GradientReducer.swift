import Collective

/// How a global batch lies over ranks.
public struct Reduction: Sendable {
  /// The batch's slots and how they are dealt.
  public let slots: Slots
  /// nil: one rank without MPI.
  public let communicator: Communicator?

  public init(_ slots: Slots, over communicator: Communicator?) {
    precondition(communicator.map { $0.size == slots.ranks } ?? (slots.ranks == 1), "\(slots)")
    self.slots = slots
    self.communicator = communicator
  }

  /// A batch of `count` slots on one rank.
  public static func single(_ count: Int = 1) -> Reduction { Reduction(Slots(count, over: 1), over: nil) }

  public var rank: Int { communicator?.rank ?? 0 }
  public var ranks: Int { slots.ranks }
}

/// Sums a gradient vector over the slots of a batch, along the tree that makes the bits independent of ranks.
///
/// A step calls `begin`, `add` for each of its slots in order, and `finish`.
final class GradientReducer {
  private let reduction: Reduction
  private let partial: PartialSum<Float>
  private let tree: TreeSum<Float>?
  /// What the tree leaves on every rank; one rank alone has no need of it.
  private let sum: ParameterVector?
  private var filled = 0

  init(_ layout: ParameterLayout, _ reduction: Reduction) {
    self.reduction = reduction
    partial = PartialSum(count: layout.count)
    let communicator = reduction.ranks > 1 ? reduction.communicator : nil
    tree = communicator.map { TreeSum(reduction.slots, over: $0) }
    sum = communicator.map { _ in ParameterVector(zeros: layout) }
  }

  /// Starts a batch of which `filled` slots hold a case.
  func begin(filled: Int) {
    self.filled = filled
    partial.begin(SumTree(slots: filled), run: reduction.slots.run(of: reduction.rank, filled: filled))
  }

  /// The most slots that a rank holds.
  func largestRun() throws -> Int {
    (0..<reduction.ranks).map { reduction.slots.run(of: $0, filled: filled).count }.max() ?? 0
  }

  func add(_ gradient: ParameterVector) { partial.add(gradient.values) }

  /// The sum over the batch, on every rank; valid until the next `begin`.
  func finish() throws -> UnsafeMutableBufferPointer<Float> {
    if let tree, let sum {
      try tree.reduce(partial.nodes, filled: filled, into: sum.values)
      return sum.values
    }
    return partial.nodes[0].values
  }

  /// The mean over the batch of `count` numbers a slot, along the same tree, on every rank.
  func mean(_ rows: [[Double]], count: Int = 1) throws -> [Double] {
    let total: [Double]
    if let communicator = reduction.communicator {
      total = try communicator.sumBySlot(
        rows.flatMap { $0 }, width: count, slots: reduction.slots, filled: filled)
    } else {
      let run = PartialSum<Double>(count: count)
      run.begin(SumTree(slots: filled), run: 0..<filled)
      var all = rows.flatMap { $0 }
      // The nodes are views of `all` or of the partial sum's memory.
      total = all.withUnsafeMutableBufferPointer { all in
        for row in rows.indices {
          run.add(UnsafeMutableBufferPointer(rebasing: all[row * count..<(row + 1) * count]))
        }
        return withExtendedLifetime(run) { Array(run.nodes[0].values) }
      }
    }
    return total.map { $0 / Double(filled) }
  }
}
