/// When a run has to stop: a signal has come, or the time that it was given is nearly over.
package final class StopWatch {
  private let isSignalled: () -> Bool
  private let end: ContinuousClock.Instant?
  /// The longest times so far, in seconds: of a step, of an epoch's end, and of a checkpoint's files and
  /// their way to the disk.
  private var step = 0.0, epochEnd = 0.0, checkpoint = 0.0, sealing = 0.0

  /// `limit`: seconds from now; nil for ever, as are more than a hundred years.
  package init(limit: Double? = nil, isSignalled: @escaping () -> Bool = { false }) {
    self.isSignalled = isSignalled
    end = limit.flatMap { $0 < 3.2e9 ? ContinuousClock.now + .seconds(max($0, -3.2e9)) : nil }
  }

  func noteStep(_ seconds: Double) { step = max(step, seconds) }
  func noteEpochEnd(_ seconds: Double) { epochEnd = max(epochEnd, seconds) }
  func noteCheckpoint(_ seconds: Double) { checkpoint = max(checkpoint, seconds) }
  func noteSealing(_ seconds: Double) { sealing = max(sealing, seconds) }

  /// Whether to stop after this step: the one after it, and at an epoch's last step the epoch's end, would leave no time
  /// for a checkpoint. Times are doubled: machines are not even.
  func wantsStop(atEpochEnd: Bool = false) -> Bool {
    if isSignalled() { return true }
    guard let end else { return false }
    return ContinuousClock.now
      + .seconds(2 * (2 * step + (atEpochEnd ? epochEnd : 0) + checkpoint + sealing) + 1)
      >= end
  }
}

/// A run has stopped before its end, with a checkpoint; all ranks throw it.
package struct Unfinished: Error {
  /// Where it stopped.
  package let place: String
}
