import Collective

/// What all ranks have to know of a step before it ends: means over the batch, and whether any rank wants to stop.
/// The numbers travel while the step goes on.
final class Tally {
  private final class Box: @unchecked Sendable {
    var means: [Double] = []
    var stops = false
  }

  private let box = Box()
  private let work: Courier.Work?

  /// `rows`: one for each of this rank's slots, of `width` numbers; `filled` slots hold a case.
  init(_ rows: [[Double]], width: Int, filled: Int, stops: Bool, _ reduction: Reduction) {
    let rows = rows.flatMap { $0 }, slots = reduction.slots, box = box
    guard let communicator = reduction.communicator else {
      box.means = SumTree(slots: filled).sum(rows, width: width).map { $0 / Double(filled) }
      box.stops = stops
      work = nil
      return
    }
    work = communicator.start { () throws(MPIError) in
      box.means = try communicator.sumBySlot(rows, width: width, slots: slots, filled: filled)
        .map { $0 / Double(filled) }
      box.stops = try communicator.any(stops)
    }
  }

  func wait() throws -> (means: [Double], stops: Bool) {
    try work?.wait()
    return (box.means, box.stops)
  }
}

/// Seconds that a step has spent waiting for other ranks, or for what is exchanged with them.
final class Exposure {
  private(set) var seconds = 0.0
  private let counts: Bool

  init(_ reduction: Reduction) { counts = reduction.ranks > 1 }

  func measure<Result>(_ body: () throws -> Result) rethrows -> Result {
    let start = ContinuousClock.now
    defer { if counts { seconds += (ContinuousClock.now - start) / .seconds(1) } }
    return try body()
  }
}
