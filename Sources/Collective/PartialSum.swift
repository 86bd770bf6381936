/// The sum of some neighbouring slots' vectors: a node of the tree.
///
/// The reduction that takes it may change the vector.
package struct SumNode<Scalar: Summand> {
  /// Which slots' vectors it is the sum of.
  package let slots: Range<Int>
  let view: VectorView<Scalar>

  /// Of a vector that is borrowed: the memory stays until the reduction that takes the node is over.
  package init(slots: Range<Int>, values: UnsafeMutableBufferPointer<Scalar>) {
    // The caller's promise, above.
    self.init(slots: slots, unsafe VectorView(values))
  }

  init(slots: Range<Int>, _ view: VectorView<Scalar>) {
    self.slots = slots
    self.view = view
  }

  /// The vector's memory, for as long as the node's maker keeps it.
  package var values: UnsafeMutableBufferPointer<Scalar> {
    // Nothing is accessed here.
    unsafe view.memory
  }

  /// The same node of a part of the vector, such as one bucket.
  package subscript(range: Range<Int>) -> SumNode {
    SumNode(slots: slots, view[range])
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
  private var stack: [SumNode<Scalar>] = []
  private var next = 0
  /// Additions that the last slot's vector still needs.
  private var merges: [(source: VectorView<Scalar>, target: VectorView<Scalar>)] = []
  private var memory: [VectorMemory<Scalar>] = []

  /// For vectors of `count` numbers.
  package init(count: Int) { self.count = count }

  /// Begins a batch of which this rank holds the slots `run`. The nodes of the batch before are gone.
  package func begin(_ tree: SumTree, run: Range<Int>) {
    precondition(run.isEmpty || 0..<tree.slots ~= run.upperBound - 1, "run \(run) of \(tree.slots) slots")
    self.tree = tree
    self.run = run
    next = run.lowerBound
    merges.removeAll(keepingCapacity: true)
    stack.removeAll(keepingCapacity: true)
  }

  /// Takes the next slot's vector, `[count]`, which may be used for the slot after it at once. Only the last slot's is
  /// not copied: it stays in use until the reduction is over.
  package func add(_ vector: UnsafeMutableBufferPointer<Scalar>) {
    // The caller keeps it while this runs; the last slot's until the reduction is over.
    push(unsafe VectorView(vector))
    merge(0..<count)
  }

  /// Takes the last slot's vector, `[count]`, before its numbers are there; `merge` takes them part by part.
  package func addLast(_ vector: UnsafeMutableBufferPointer<Scalar>) {
    // The caller keeps it until the reduction is over.
    push(unsafe VectorView(vector))
    precondition(next == run.upperBound, "slot \(next - 1) is not the last of \(run)")
  }

  /// The numbers in `range` of the vector that was added last are there.
  package func merge(_ range: Range<Int>) {
    if range.isEmpty { return }
    for (source, target) in merges { target[range].add(source[range]) }
  }

  private func push(_ vector: VectorView<Scalar>) {
    precondition(vector.count == count, "a vector of \(vector.count) numbers in a sum of \(count)")
    precondition(next < run.upperBound, "more vectors than the \(run.count) slots of the run")
    var slots = next..<next + 1
    var view = vector
    merges.removeAll(keepingCapacity: true)
    next += 1
    while let top = stack.last, tree.areSiblings(top.slots, slots) {
      merges.append((view, top.view))
      slots = top.slots.lowerBound..<slots.upperBound
      view = top.view
      stack.removeLast()
    }
    if merges.isEmpty && next < run.upperBound {
      view = free()
      view.copy(vector)
    }
    stack.append(SumNode(slots: slots, view))
  }

  /// The run's nodes, from left to right, once all its slots are there.
  package var nodes: [SumNode<Scalar>] {
    precondition(next == run.upperBound, "slot \(next) of \(run) is missing")
    return stack
  }

  /// A vector that no node on the stack uses.
  private func free() -> VectorView<Scalar> {
    for vector in memory.map(\.view) where !stack.contains(where: { $0.view.begins(with: vector) }) {
      return vector
    }
    let vector = VectorMemory<Scalar>(count, of: .zero)
    memory.append(vector)
    return vector.view
  }
}
