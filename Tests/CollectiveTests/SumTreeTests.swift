import Testing

@testable import Collective

/// The nodes of the tree over a..<b, by the definition in words.
private func nodes(of range: Range<Int>) -> [Range<Int>] {
  if range.count < 2 { return range.isEmpty ? [] : [range] }
  var half = 1
  while half * 2 < range.count { half *= 2 }
  let middle = range.lowerBound + half
  return [range] + nodes(of: range.lowerBound..<middle) + nodes(of: middle..<range.upperBound)
}

struct SumTreeTests {
  @Test func splitsAtTheLargestPowerOfTwoBelowTheLength() {
    let splits = [0..<2, 0..<3, 0..<4, 0..<5, 0..<8, 0..<9, 4..<7, 8..<16].map(SumTree.split)
    #expect(splits == [1, 2, 2, 4, 4, 8, 6, 12])
  }

  @Test(arguments: 0...17)
  func nodesWithinARunAreTheLargestOnes(slots: Int) {
    let all = nodes(of: 0..<slots)
    for lower in 0...slots {
      for upper in lower...slots {
        let inside = all.filter { $0.lowerBound >= lower && $0.upperBound <= upper }
        // Those that lie in no other node inside the run.
        let largest = inside.filter { node in
          !inside.contains {
            $0 != node && $0.lowerBound <= node.lowerBound && node.upperBound <= $0.upperBound
          }
        }
        let found = SumTree(slots: slots).nodes(within: lower..<upper)
        #expect(found == largest.sorted { $0.lowerBound < $1.lowerBound })
        #expect(found.flatMap { Array($0) } == Array(lower..<upper))
      }
    }
  }

  @Test(arguments: 1...17)
  func siblingsAreTheHalvesOfOneNode(slots: Int) {
    let tree = SumTree(slots: slots)
    let all = nodes(of: 0..<slots)
    for left in all {
      for right in all where left.upperBound == right.lowerBound {
        #expect(tree.areSiblings(left, right) == all.contains(left.lowerBound..<right.upperBound))
      }
    }
  }

  /// Numbers cannot show a pairing, so the "sum" here is its own formula.
  @Test(arguments: 1...17)
  func additionsFollowTheTree(slots: Int) {
    func text(_ node: Range<Int>) -> String {
      if node.count == 1 { return "\(node.lowerBound)" }
      let middle = SumTree.split(node)
      let halves = [text(node.lowerBound..<middle), text(middle..<node.upperBound)]
      return "(" + halves.sorted().joined(separator: "+") + ")"
    }
    for ranks in 1...5 {
      let dealt = Slots(slots, over: ranks)
      let tree = SumTree(slots: slots)
      let parts = (0..<ranks).flatMap { tree.nodes(within: dealt.run(of: $0)) }
      for preferred in parts.indices {
        var values = parts.map { text($0) }
        let (steps, result) = tree.additions(from: parts, preferred: preferred)
        for step in steps {
          let halves = [values[step.target], values[step.source]]
          values[step.target] = "(" + halves.sorted().joined(separator: "+") + ")"
        }
        #expect(values[result] == text(0..<slots))
        #expect(result == preferred)
      }
    }
  }

  @Test(arguments: 1...17)
  func partialSumEndsWithTheNodesOfItsRun(slots: Int) {
    let tree = SumTree(slots: slots)
    let partial = PartialSum<Double>(count: 1)
    let vector = UnsafeMutableBufferPointer<Double>.allocate(capacity: 1)
    defer { vector.deallocate() }
    for lower in 0...slots {
      for upper in lower...slots {
        partial.begin(tree, run: lower..<upper)
        for slot in lower..<upper {
          vector[0] = Double(1 << slot)
          partial.add(vector)
        }
        #expect(partial.nodes.map(\.slots) == tree.nodes(within: lower..<upper))
        // Each slot is a binary digit.
        for node in partial.nodes {
          #expect(node.values[0] == Double(1 << node.slots.upperBound - 1 << node.slots.lowerBound))
        }
      }
    }
  }
}
