/// The fixed binary tree along which the slots of a batch are added: leaf i is slot i, and the node over
/// a..<b splits at a + the largest power of two below b − a.
///
/// x + y and y + x have the same bits, so only the pairing counts: whoever adds along this tree gets the same
/// bits, however the slots are dealt to ranks.
package struct SumTree: Equatable, Sendable {
  /// The slots that are filled, the leaves.
  package let slots: Int

  /// The tree of a batch of which the first `slots` slots, 0…, are filled.
  package init(slots: Int) {
    precondition(slots >= 0, "a tree over \(slots) slots")
    self.slots = slots
  }

  /// Where `node`, of two slots or more, splits.
  static func split(_ node: Range<Int>) -> Int {
    precondition(node.count > 1, "\(node) is a leaf")
    return node.lowerBound + 1 << (Int.bitWidth - 1 - (node.count - 1).leadingZeroBitCount)
  }

  /// The largest nodes that lie wholly inside `run`, as ranges of slots from left to right: what a rank adds up alone.
  package func nodes(within run: Range<Int>) -> [Range<Int>] {
    var nodes: [Range<Int>] = []
    func visit(_ node: Range<Int>) {
      if node.isEmpty || !node.overlaps(run) { return }
      if run.lowerBound <= node.lowerBound && node.upperBound <= run.upperBound {
        nodes.append(node)
        return
      }
      let middle = Self.split(node)
      visit(node.lowerBound..<middle)
      visit(middle..<node.upperBound)
    }
    visit(0..<slots)
    return nodes
  }

  /// True if `left` and `right` are the two halves of one node.
  func areSiblings(_ left: Range<Int>, _ right: Range<Int>) -> Bool {
    guard left.upperBound == right.lowerBound, right.upperBound <= slots else { return false }
    var node = 0..<slots
    while node.count > 1 {
      let middle = Self.split(node)
      if middle == left.upperBound {
        return node.lowerBound == left.lowerBound && node.upperBound == right.upperBound
      }
      node = left.upperBound < middle ? node.lowerBound..<middle : middle..<node.upperBound
    }
    return false
  }

  /// One addition: what stands at `target` becomes target + source. Both are indices into a list of nodes.
  struct Addition: Equatable { let target, source: Int }

  /// The additions that lead from `nodes`, which cover the tree from left to right, to the sum, and the index
  /// where the sum stands in the end. If `preferred` is the index of one of the nodes, it is that one.
  func additions(from nodes: [Range<Int>], preferred: Int? = nil) -> (steps: [Addition], result: Int) {
    var steps: [Addition] = []
    var next = 0
    func visit(_ node: Range<Int>) -> Int {
      precondition(
        next < nodes.count && nodes[next].lowerBound == node.lowerBound, "no node starts at \(node)")
      if nodes[next] == node {
        next += 1
        return next - 1
      }
      let middle = Self.split(node)
      let left = visit(node.lowerBound..<middle)
      let right = visit(middle..<node.upperBound)
      let target = right == preferred ? right : left
      steps.append(Addition(target: target, source: target == left ? right : left))
      return target
    }
    precondition(slots > 0, "no slot to add up")
    let result = visit(0..<slots)
    precondition(next == nodes.count, "\(nodes.count - next) nodes beyond the tree's end")
    return (steps, result)
  }
}
