import Collective

/// How a global batch lies over ranks.
package struct BatchLayout: Sendable {
  /// The batch's slots and how they are dealt.
  package let slots: Slots
  /// nil: one rank without MPI.
  package let communicator: Communicator?
  package let method: SumMethod

  /// `slots` are dealt to as many ranks as the communicator has.
  package init(_ slots: Slots, over communicator: Communicator?, method: SumMethod = .tree) {
    self.method = method
    precondition(communicator.map { $0.size == slots.ranks } ?? (slots.ranks == 1), "\(slots)")
    self.slots = slots
    self.communicator = communicator
  }

  /// A batch of `count` slots on one rank.
  package static func single(_ count: Int = 1) -> BatchLayout {
    BatchLayout(Slots(count, over: 1), over: nil)
  }

  package var rank: Int { communicator?.rank ?? 0 }
  package var ranks: Int { slots.ranks }

  /// The slots of this rank in a batch of which `filled` slots hold a case.
  func run(filled: Int) -> Range<Int> { slots.run(of: rank, filled: filled) }
}
