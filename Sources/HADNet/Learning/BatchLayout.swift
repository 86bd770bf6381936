import Collective

/// How a global batch lies over ranks.
public struct BatchLayout: Sendable {
  /// The batch's slots and how they are dealt.
  public let slots: Slots
  /// nil: one rank without MPI.
  public let communicator: Communicator?
  public let method: SumMethod

  public init(_ slots: Slots, over communicator: Communicator?, method: SumMethod = .tree) {
    self.method = method
    precondition(communicator.map { $0.size == slots.ranks } ?? (slots.ranks == 1), "\(slots)")
    self.slots = slots
    self.communicator = communicator
  }

  /// A batch of `count` slots on one rank.
  public static func single(_ count: Int = 1) -> BatchLayout { BatchLayout(Slots(count, over: 1), over: nil) }

  public var rank: Int { communicator?.rank ?? 0 }
  public var ranks: Int { slots.ranks }

  /// The slots of this rank in a batch of which `filled` slots hold a case.
  func run(filled: Int) -> Range<Int> { slots.run(of: rank, filled: filled) }
}
