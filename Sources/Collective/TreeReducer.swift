/// The sum of a batch's vectors over all ranks, along the tree of the slots: the same bits for any number of
/// ranks.
///
/// A reduce-scatter: the vector is cut into one shard a rank, and each shard's sum ends with its owner. Direct: every
/// rank sends its nodes of a shard to the owner, who adds along the tree; with one node a rank each sends and receives
/// (N − 1)/N of the vector in N − 1 messages. By recursive halving: ranks 1, 2, 4, … apart exchange half of what they
/// still have and add, which is the tree's own order; as many bytes in log2 N messages. Between `reduceScatter` and
/// `allGather` an optimiser can work on its shard alone.
package final class TreeReducer<Scalar: Summand> {
  /// Whose ranks' vectors are added.
  package let communicator: Communicator
  /// How the batch is dealt to the ranks.
  package let slots: Slots
  /// From this many ranks on short shards go by recursive halving, where ranks and slots allow it.
  private let halvingRanks: Int
  /// What the other ranks sent for one piece of the shard, kept from call to call.
  private var memory = VectorMemory<Scalar>(0, of: .zero)

  /// All ranks of `communicator` make one, with the same `halvingRanks`; of each, one sum goes on at a time.
  package init(
    _ slots: Slots, over communicator: Communicator, halvingRanks: Int = TreeReducer.defaultHalvingRanks
  ) {
    precondition(slots.ranks == communicator.size, "slots for \(slots.ranks) of \(communicator.size) ranks")
    self.halvingRanks = halvingRanks
    self.slots = slots
    self.communicator = communicator
  }

  /// The part of a vector of `count` numbers that `rank` owns.
  package func shard(of count: Int, rank: Int) -> Range<Int> {
    BlockDistribution(count, over: slots.ranks)[rank]
  }

  /// The tree of a batch of the first `filled` slots.
  package func tree(filled: Int) -> SumTree { SumTree(slots: filled) }

  /// Writes this rank's shard of the sum into the shard's place in `sum`, and nothing else of it.
  ///
  /// - `nodes`: the largest nodes of the tree inside this rank's run of slots, of `sum.count` numbers each;
  ///   none for a rank without a slot. What they hold is used up.
  /// - `filled`: slots that there are in this batch, 0…slots.count. The sum of no slot is 0.
  /// - `sum`: may be the memory of one of the nodes. It stays until this returns.
  package func reduceScatter(
    _ nodes: [SumNode<Scalar>], filled: Int, into sum: UnsafeMutableBufferPointer<Scalar>
  ) throws(MPIError) {
    // The caller's promise, above.
    try reduceScatter(nodes, filled: filled, into: unsafe VectorView(sum))
  }

  private func reduceScatter(
    _ nodes: [SumNode<Scalar>], filled: Int, into sum: VectorView<Scalar>
  ) throws(MPIError) {
    let rank = communicator.rank, size = communicator.size
    let tree = tree(filled: filled)
    let nodesOfRank = (0..<size).map { tree.nodes(within: slots.run(of: $0, filled: filled)) }
    precondition(
      nodes.map(\.slots) == nodesOfRank[rank] && nodes.allSatisfy { $0.view.count == sum.count },
      "nodes \(nodes.map(\.slots)) of \(nodes.map(\.view.count)) numbers, a sum of \(sum.count)")
    let shards = (0..<size).map { shard(of: sum.count, rank: $0) }
    let own = shards[rank]
    guard filled > 0 else { return sum[own].fill(.zero) }

    let all = nodesOfRank.flatMap { $0 }
    /// Where each rank's nodes begin among all nodes.
    let first = nodesOfRank.indices.map { nodesOfRank[..<$0].reduce(0) { $0 + $1.count } }
    let (additions, result) = tree.additions(from: all, preferred: nodes.isEmpty ? nil : first[rank])
    if size >= halvingRanks, sum.bytes < size << 16, canHalve(tree, nodesOfRank) {
      return try reduceScatterByHalving(nodes[0].view, shards, into: sum)
    }
    let length = pieceLength(nodes: all.count)
    let pieces = (shards.map(\.count).max()! + length - 1) / length  // there is a rank
    let scratch = scratch(all.count * min(length, own.count))
    for piece in 0..<pieces {
      let parts = shards.map { shard in
        let start = shard.lowerBound + piece * length
        return (start..<start + length).clamped(to: shard)
      }
      let part = parts[rank]
      // Node by node: this rank's part of this piece of the vector, its own or what others send.
      let views = all.indices.map { index in
        nodes.indices ~= index - first[rank]
          ? nodes[index - first[rank]].view[part] : scratch[index * part.count..<(index + 1) * part.count]
      }
      try exchange(
        nodes, parts, into: (0..<size).map { views[first[$0]..<first[$0] + nodesOfRank[$0].count] })
      for addition in additions { views[addition.target].add(views[addition.source]) }
      sum[part].copy(views[result])
    }
  }

  /// Sends every rank its part of `nodes`, and receives this rank's part of the others' nodes into `views`, of all ranks.
  private func exchange(
    _ nodes: [SumNode<Scalar>], _ parts: [Range<Int>], into views: [ArraySlice<VectorView<Scalar>>]
  ) throws(MPIError) {
    let rank = communicator.rank, size = communicator.size
    try communicator.perform { () throws(MPIError) in
      var messages = Messages(communicator)
      for distance in 1..<size {
        let source = (rank + size - distance) % size
        for view in views[source] { try messages.receive(into: view, from: source) }
      }
      for distance in 1..<size {
        let target = (rank + distance) % size
        for node in nodes { try messages.send(node.view[parts[target]], to: target) }
      }
      try messages.complete()
    }
  }

  /// Whether ranks 1, 2, 4, … apart hold the halves of the tree's nodes: a power of two of them, with a node each.
  private func canHalve(_ tree: SumTree, _ nodesOfRank: [[Range<Int>]]) -> Bool {
    guard nodesOfRank.count > 2, nodesOfRank.allSatisfy({ $0.count == 1 }) else { return false }
    var level = nodesOfRank.map { $0[0] }
    while level.count > 1 {
      guard level.count % 2 == 0 else { return false }
      let pairs = stride(from: 0, to: level.count, by: 2).map { (level[$0], level[$0 + 1]) }
      guard pairs.allSatisfy({ tree.areSiblings($0, $1) }) else { return false }
      level = pairs.map { $0.lowerBound..<$1.upperBound }
    }
    return true
  }

  private func reduceScatterByHalving(
    _ values: VectorView<Scalar>, _ shards: [Range<Int>], into sum: VectorView<Scalar>
  ) throws(MPIError) {
    let rank = communicator.rank, size = communicator.size
    let scratch = scratch(sum.count)
    var distance = 1
    while distance < size {
      let partner = rank ^ distance
      /// The shards whose owners are `rank` or as far from it as what is still to be halved.
      func shardsTowards(_ rank: Int) -> [Range<Int>] {
        stride(from: rank % (2 * distance), to: size, by: 2 * distance).map { shards[$0] }
      }
      let given = shardsTowards(partner), kept = shardsTowards(rank)
      let givenCount = given.reduce(0) { $0 + $1.count }, keptCount = kept.reduce(0) { $0 + $1.count }
      let outbox = scratch[0..<givenCount], inbox = scratch[givenCount..<givenCount + keptCount]
      var end = 0
      for shard in given {
        outbox[end..<end + shard.count].copy(values[shard])
        end += shard.count
      }
      try communicator.perform { () throws(MPIError) in
        var messages = Messages(communicator)
        try messages.receive(into: inbox, from: partner)
        try messages.send(outbox, to: partner)
        try messages.complete()
      }
      end = 0
      for shard in kept {
        values[shard].add(inbox[end..<end + shard.count])
        end += shard.count
      }
      distance *= 2
    }
    sum[shards[rank]].copy(values[shards[rank]])
  }

  /// As `reduceScatter`, but summed by the MPI library in its own order; of `sum`, this rank's shard is the result and the rest
  /// is used up.
  package func reduceScatterByLibrary(
    _ nodes: [SumNode<Float>], into sum: UnsafeMutableBufferPointer<Float>
  ) throws(MPIError) where Scalar == Float {
    // The caller keeps it until this returns.
    let sum = unsafe VectorView(sum)
    if let first = nodes.first {
      for node in nodes.dropFirst() { first.view.add(node.view) }
      sum.copy(first.view)
    } else {
      sum.fill(0)
    }
    try communicator.reduceScatter(
      sum, parts: (0..<communicator.size).map { shard(of: sum.count, rank: $0) })
  }

  /// Fills `vector`, which stays until this returns, on every rank from the shards of all ranks.
  package func allGather(_ vector: UnsafeMutableBufferPointer<Scalar>) throws(MPIError) {
    // The caller's promise, above.
    try allGather(unsafe VectorView(vector))
  }

  private func allGather(_ vector: VectorView<Scalar>) throws(MPIError) {
    try communicator.allGather(
      vector, parts: (0..<communicator.size).map { shard(of: vector.count, rank: $0) })
  }

  /// Writes the whole sum into `sum` on every rank, an allreduce: `reduceScatter`, then `allGather`.
  package func reduce(
    _ nodes: [SumNode<Scalar>], filled: Int, into sum: UnsafeMutableBufferPointer<Scalar>
  ) throws(MPIError) {
    // The caller keeps it until this returns, as `reduceScatter` wants it.
    let sum = unsafe VectorView(sum)
    try reduceScatter(nodes, filled: filled, into: sum)
    try allGather(sum)
  }

  /// A message of many at once costs some microseconds, a round of waiting 0.2 ms since the communication thread sleeps
  /// between its tests: N − 1 of the one against log2 N of the other. With 4, 8 and 16 ranks halving was slower at
  /// every length (`bench allreduce`).
  package static var defaultHalvingRanks: Int { 512 }

  /// Numbers in a piece: at most 4 MiB, and 64 MiB of scratch memory for all nodes as long as pieces stay
  /// above 256 KiB.
  private func pieceLength(nodes: Int) -> Int {
    min(max(64 << 20 / nodes, 256 << 10), 4 << 20) / MemoryLayout<Scalar>.stride
  }

  /// Memory for `count` numbers.
  private func scratch(_ count: Int) -> VectorView<Scalar> {
    if count > memory.view.count {
      // Before there is more, so that the two are never both there.
      memory = VectorMemory(0, of: .zero)
      memory = VectorMemory(count, of: .zero)
    }
    return memory.view
  }
}

extension Communicator {
  /// The values of all slots, in slot order, on every rank: `[filled, width]`.
  ///
  /// - `values`: this rank's, `width` of them for each filled slot of its run: `[its filled slots, width]`.
  /// - `filled`: slots that there are in this batch, 0…slots.count.
  package func gatherBySlot<Scalar: MPIScalar>(
    _ values: [Scalar], width: Int, slots: Slots, filled: Int
  ) throws(MPIError) -> [Scalar] {
    let parts = (0..<size).map { rank in
      let run = slots.run(of: rank, filled: filled)
      return run.lowerBound * width..<run.upperBound * width
    }
    precondition(
      values.count == parts[rank].count,
      "\(values.count) numbers for \(parts[rank].count / Swift.max(width, 1)) slots")
    return try concatenation(of: values, parts: parts)
  }

  /// The sum of all slots' values along the tree, on every rank: for losses and scores, of which a slot has few.
  /// `[its filled slots, width]` to `[width]`.
  package func sumBySlot<Scalar: Summand>(
    _ values: [Scalar], width: Int, slots: Slots, filled: Int
  ) throws(MPIError) -> [Scalar] {
    SumTree(slots: filled).sum(
      try gatherBySlot(values, width: width, slots: slots, filled: filled), width: width)
  }
}

extension SumTree {
  /// The sum of `values`, `width` of them a slot, along the tree: `[slots, width]` to `[width]`.
  package func sum<Scalar: Summand>(_ values: [Scalar], width: Int) -> [Scalar] {
    precondition(values.count == slots * width, "\(values.count) numbers for \(slots) slots of \(width)")
    guard slots > 0 && width > 0 else { return [Scalar](repeating: .zero, count: width) }
    var all = values
    let steps = additions(from: (0..<slots).map { $0..<$0 + 1 }).steps
    all.withView { all in
      func slot(_ index: Int) -> VectorView<Scalar> { all[index * width..<(index + 1) * width] }
      for step in steps { slot(step.target).add(slot(step.source)) }
    }
    return Array(all[0..<width])
  }
}
