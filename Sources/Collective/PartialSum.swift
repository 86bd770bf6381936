/// The sum of some neighbouring slots' vectors: a node of the tree.
///
/// The vector is borrowed: whoever makes a node keeps the memory until the reduction that takes it is over.
/// The reduction may change it.
package struct SumNode<Scalar: Summand> {
  package let slots: Range<Int>
  package let values: UnsafeMutableBufferPointer<Scalar>

  package init(slots: Range<Int>, values: UnsafeMutableBufferPointer<Scalar>) {
    self.slots = slots
    self.values = values
  }

  /// The same node of a part of the vector, such as one bucket.
  package subscript(range: Range<Int>) -> SumNode {
    SumNode(slots: slots, values: UnsafeMutableBufferPointer(rebasing: values[range]))
  }
}

/// Adds up a rank's own slots: takes their vectors in slot order and adds two halves of a node as soon as both
/// are there. Ends with the largest nodes of the run.
///
/// Holds at most one vector for each node on the way, log2 of the run's length or so; memory is kept for the
/// next batch. A run of one slot needs none.
package final class PartialSum<Scalar: Summand> {
  /// Numbers in a vector.
  package let count: Int
  private var tree = SumTree(slots: 0)
  private var run = 0..<0
  private var stack: [(slots: Range<Int>, values: UnsafeMutableBufferPointer<Scalar>)] = []
  private var next = 0
  /// Additions that the last slot's vector still needs.
  private var merges:
    [(source: UnsafeMutableBufferPointer<Scalar>, target: UnsafeMutableBufferPointer<Scalar>)] = []
  private var memory: [UnsafeMutableBufferPointer<Scalar>] = []

  /// For vectors of `count` numbers.
  package init(count: Int) { self.count = count }

  deinit { for vector in memory { vector.deallocate() } }

  /// Begins a batch of which this rank holds the slots `run`. The nodes of the batch before are gone.
  package func begin(_ tree: SumTree, run: Range<Int>) {
    precondition(run.isEmpty || 0..<tree.slots ~= run.upperBound - 1, "run \(run) of \(tree.slots) slots")
    self.tree = tree
    self.run = run
    next = run.lowerBound
    merges.removeAll(keepingCapacity: true)
    stack.removeAll(keepingCapacity: true)
  }

  /// Takes the next slot's vector, which may be used for the slot after it at once. Only the last slot's is
  /// not copied: it stays in use until the reduction is over.
  package func add(_ vector: UnsafeMutableBufferPointer<Scalar>) {
    push(vector)
    merge(0..<count)
  }

  /// Takes the last slot's vector before its numbers are there; `merge` takes them part by part.
  package func addLast(_ vector: UnsafeMutableBufferPointer<Scalar>) {
    push(vector)
    precondition(next == run.upperBound, "slot \(next - 1) is not the last of \(run)")
  }

  /// The numbers in `range` of the vector that was added last are there.
  package func merge(_ range: Range<Int>) {
    if range.isEmpty { return }
    for (source, target) in merges {
      Scalar.add(
        source.baseAddress! + range.lowerBound, to: target.baseAddress! + range.lowerBound, count: range.count
      )
    }
  }

  private func push(_ vector: UnsafeMutableBufferPointer<Scalar>) {
    precondition(vector.count == count, "a vector of \(vector.count) numbers in a sum of \(count)")
    precondition(next < run.upperBound, "more vectors than the \(run.count) slots of the run")
    var slots = next..<next + 1
    var values = vector
    merges.removeAll(keepingCapacity: true)
    next += 1
    while let top = stack.last, tree.areSiblings(top.slots, slots) {
      merges.append((values, top.values))
      slots = top.slots.lowerBound..<slots.upperBound
      values = top.values
      stack.removeLast()
    }
    if merges.isEmpty && next < run.upperBound {
      values = free()
      _ = values.update(fromContentsOf: vector)
    }
    stack.append((slots, values))
  }

  /// The run's nodes, from left to right, once all its slots are there.
  package var nodes: [SumNode<Scalar>] {
    precondition(next == run.upperBound, "slot \(next) of \(run) is missing")
    return stack.map { SumNode(slots: $0.slots, values: $0.values) }
  }

  /// A vector that no node on the stack uses.
  private func free() -> UnsafeMutableBufferPointer<Scalar> {
    if let vector = memory.first(where: { vector in
      !stack.contains { $0.values.baseAddress == vector.baseAddress }
    }) {
      return vector
    }
    // At least one number, so that each vector has an address of its own.
    let vector = UnsafeMutableBufferPointer<Scalar>.allocate(capacity: max(count, 1))
    vector.initialize(repeating: .zero)
    memory.append(UnsafeMutableBufferPointer(rebasing: vector[0..<count]))
    return memory.last!
  }
}
