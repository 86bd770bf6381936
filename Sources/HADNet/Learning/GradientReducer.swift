import Collective
import Compute
import Synchronization

/// Sums a network's gradient over the slots of a batch, along the tree that makes the bits independent of ranks, and
/// updates its parameters: every rank its shards, which are then gathered.
///
/// A step calls `begin`, `add` for each of its slots but the last, `addLast` and `finished` for that, and `update`.
/// What the ranks exchange, and with several ranks the update, goes on behind the caller's back until `settle`.
// Vectors are pointers where exchanges need them while the caller goes on: they belong to `gradient`, `partial` and `p`, which
// this object or, in another thread, `owners` keeps, and all have the layout's length. So the `unsafe` of this type.
final class GradientReducer {
  let gradient: ParameterVector
  let optimiser: Adam
  private let p: ParameterVector
  private let layout: BatchLayout
  private let workers: Workers
  private let shards: Shards
  private let partial: PartialSum<Float>
  private let tree: TreeReducer<Float>?
  private var filled = 0
  /// Numbers of each bucket that are not there yet, and the next bucket to go.
  private var missing: [Int] = [], nextBucket = 0
  private var underWay: [Courier.Work] = []
  /// What became of the last update; written by the communication thread, read once it has ended.
  private final class Outcome: @unchecked Sendable { var isFinite = true }
  private let outcome = Outcome()
  /// For the update behind other work.
  private let lone = Workers(1)

  init(
    _ p: ParameterVector, _ settings: Adam.Settings, _ layout: BatchLayout, _ workers: Workers,
    bucketLength: Int = Shards.bucketLength
  ) {
    self.p = p
    self.layout = layout
    self.workers = workers
    shards = Shards(p.count, over: layout.ranks, bucketLength: bucketLength)
    gradient = ParameterVector(zeros: p.layout)
    optimiser = Adam(p.layout, settings, shards, rank: layout.rank)
    partial = PartialSum(count: p.count)
    tree = layout.ranks > 1 ? layout.communicator.map { TreeReducer(layout.slots, over: $0) } : nil
  }

  /// Starts a batch of which `filled` slots hold a case.
  func begin(filled: Int) {
    self.filled = filled
    partial.begin(SumTree(slots: filled), run: layout.run(filled: filled))
    missing = shards.buckets.map(\.count)
    nextBucket = 0
  }

  /// Takes `gradient` of one of this rank's slots; it may be made anew at once.
  func add() { unsafe partial.add(gradient.values) }

  /// `gradient` becomes that of this rank's last slot; `finished` says part by part that it is there.
  func addLast() { unsafe partial.addLast(gradient.values) }

  /// The last slot's gradient of a range of parameters is final. Buckets go as soon as they are whole.
  func finished(_ range: Range<Int>) {
    partial.merge(range)
    for (i, bucket) in shards.buckets.enumerated() { missing[i] -= bucket.clamped(to: range).count }
    sendBuckets()
  }

  /// Always in the same order, since all ranks exchange them in turn.
  private func sendBuckets() {
    guard let tree else { return }
    while nextBucket < shards.buckets.count, missing[nextBucket] == 0 {
      let bucket = shards.buckets[nextBucket], own = shards.shard(of: bucket, rank: layout.rank)
      let nodes = partial.nodes.map { $0[bucket] }, sum = unsafe sum, filled = filled, outcome = outcome
      let method = layout.method
      nonisolated(unsafe) let tree = tree, owners = owners
      unsafe underWay.append(
        tree.communicator.start { () throws(MPIError) in
          // An error of this rank may let go of the reducer while the exchange is under way.
          defer { unsafe withExtendedLifetime(owners) {} }
          let target = unsafe UnsafeMutableBufferPointer(rebasing: sum[bucket])
          switch method {
          case .tree: try unsafe tree.reduceScatter(nodes, filled: filled, into: target)
          case .mpi: try unsafe tree.reduceScatterByLibrary(nodes, into: target)
          }
          if unsafe !allFinite(sum.baseAddress! + own.lowerBound, own.count) { outcome.isFinite = false }
        })
      nextBucket += 1
    }
  }

  /// Whose memory `sum` and the nodes are in.
  private var owners: (ParameterVector, PartialSum<Float>) { (gradient, partial) }

  /// Where the sum stands at last: in a node's memory, for a rank without a slot in its gradient's.
  private var sum: UnsafeMutableBufferPointer<Float> { unsafe partial.nodes.first?.values ?? gradient.values }

  /// Updates the parameters with the batch's mean gradient; `settle` waits for it.
  func update(rate: Double) throws {
    let scale = 1 / Float(filled)
    guard let tree else {
      let sum = unsafe sum, pieces = Pieces(sum.count, least: 1 << 16, limit: 64)
      let isFinite = Atomic(true)
      workers.forEach(pieces.count) { piece, _ in
        if unsafe !allFinite(sum.baseAddress! + pieces[piece].lowerBound, pieces[piece].count) {
          isFinite.store(false, ordering: .relaxed)
        }
      }
      outcome.isFinite = isFinite.load(ordering: .relaxed)
      if outcome.isFinite { unsafe optimiser.update(p, gradient: sum, scale: scale, rate: rate, workers) }
      return
    }
    // A rank without a slot has nothing to wait for.
    if partial.nodes.isEmpty, nextBucket < shards.buckets.count { finished(0..<p.count) }
    precondition(nextBucket == shards.buckets.count, "an update before the gradient is there")
    let communicator = tree.communicator, sum = unsafe sum, outcome = outcome
    let p = p, shards = shards, lone = lone
    nonisolated(unsafe) let optimiser = optimiser, owners = owners
    underWay.append(
      communicator.start { () throws(MPIError) in
        defer { unsafe withExtendedLifetime(owners) {} }
        outcome.isFinite = try communicator.all(outcome.isFinite)
        guard outcome.isFinite else { return }
        unsafe optimiser.update(p, gradient: sum, scale: scale, rate: rate, lone)
        for bucket in shards.buckets {
          try unsafe communicator.allGather(
            UnsafeMutableBufferPointer(rebasing: p.values[bucket]),
            parts: (0..<shards.ranks).map { rank in
              let shard = shards.shard(of: bucket, rank: rank)
              return shard.lowerBound - bucket.lowerBound..<shard.upperBound - bucket.lowerBound
            })
        }
      })
  }

  /// Waits until the parameters are those after the last update. Throws where a gradient was not finite: nothing was
  /// updated then.
  func settle() throws {
    for work in underWay { try work.wait() }
    underWay.removeAll(keepingCapacity: true)
    guard outcome.isFinite else { throw NotFinite() }
  }

  /// The same for a step over `cases`, the time counted as waiting: where a gradient was not finite, throws what a person
  /// should read on the rank that brought it, and the others wait for their end.
  func settle(_ cases: [CaseName], _ waiting: WaitingTime) throws {
    try waiting.measure {
      do {
        try settle()
      } catch is NotFinite {
        if let communicator = layout.communicator, communicator.size > 1 {
          let isMine = isToBlame
          // Where none is to blame alone, rank 0 speaks for all.
          let isAnyones = try communicator.any(isMine)
          if !(isMine || (!isAnyones && communicator.rank == 0)) { try communicator.barrier() }
        }
        throw notFinite("a gradient is not a finite number", cases)
      }
    }
  }

  /// A gradient of the last batch is not a number.
  struct NotFinite: Error {}

  /// Whether what this rank brought to the last batch's sum has numbers that are none; after `NotFinite`.
  var isToBlame: Bool {
    // Where ranks are several, this one's shards hold the sum with the others' numbers.
    let own = tree == nil ? [] : shards.owned(by: layout.rank)
    var start = 0, others: [Range<Int>] = []
    for range in own {
      others.append(start..<range.lowerBound)
      start = range.upperBound
    }
    others.append(start..<p.count)
    return partial.nodes.contains { node in
      others.contains { unsafe !allFinite(node.values.baseAddress! + $0.lowerBound, $0.count) }
    }
  }
}

/// Whether all of `count` numbers are finite.
// Whoever has the pointer says how many there are; none after them is read.
func allFinite(_ x: UnsafePointer<Float>, _ count: Int) -> Bool {
  var sum = Lanes.zero, i = 0
  while i + lanes <= count {
    // 0 for finite numbers, else NaN.
    let value = unsafe load(x + i)
    sum += value - value
    i += lanes
  }
  var rest: Float = 0
  while i < count {
    unsafe rest += x[i] - x[i]
    i += 1
  }
  return sum.sum() + rest == 0
}
