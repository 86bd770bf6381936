import Collective

/// What all ranks have to know of a step before it ends: means over the batch, and whether any rank wants to stop.
/// The numbers travel while the step goes on.
final class BatchMeans {
  private final class Result: @unchecked Sendable {
    var means: [Double] = []
    var stops = false
  }

  private let terms: [Term]
  private let result = Result()
  private let work: Courier.Work?

  /// `rows`: one for each of this rank's slots; `filled` slots of the batch hold a case.
  init(_ rows: [StepValues], _ terms: [Term], filled: Int, stops: Bool, _ layout: BatchLayout) {
    self.terms = terms
    let rows = rows.flatMap(\.all), width = 1 + terms.count, slots = layout.slots, result = result
    guard let communicator = layout.communicator else {
      result.means = SumTree(slots: filled).sum(rows, width: width).map { $0 / Double(filled) }
      result.stops = stops
      work = nil
      return
    }
    work = communicator.start { () throws(MPIError) in
      result.means = try communicator.sumBySlot(rows, width: width, slots: slots, filled: filled)
        .map { $0 / Double(filled) }
      result.stops = try communicator.any(stops)
    }
  }

  func wait() throws -> (means: StepValues, stops: Bool) {
    try work?.wait()
    return (StepValues(terms, all: result.means), result.stops)
  }
}

/// Seconds that a step has spent waiting for other ranks, or for what is exchanged with them.
final class WaitingTime {
  private(set) var seconds = 0.0
  private let counts: Bool

  init(_ layout: BatchLayout) { counts = layout.ranks > 1 }

  func measure<Result>(_ body: () throws -> Result) rethrows -> Result {
    let start = ContinuousClock.now
    defer { if counts { seconds += (ContinuousClock.now - start) / .seconds(1) } }
    return try body()
  }
}
