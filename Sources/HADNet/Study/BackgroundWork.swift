import Files
import Foundation
import Synchronization

/// Something that is done on a thread of its own while training goes on.
final class BackgroundWork: Sendable {
  private enum Outcome {
    case seconds(Double)
    case failure(any Error)
  }

  private let outcome = Mutex<Outcome?>(nil)
  private let done = DispatchSemaphore(value: 0)

  init(_ body: @escaping @Sendable () throws -> Void) {
    let work: @Sendable () -> Void = { [self] in
      let start = ContinuousClock.now
      let outcome: Outcome
      do {
        try body()
        outcome = .seconds((ContinuousClock.now - start) / .seconds(1))
      } catch {
        outcome = .failure(error)
      }
      self.outcome.withLock { $0 = outcome }
      done.signal()
    }
    // Where no thread is to be had it is done here and now.
    if !detachThread(work) { work() }
  }

  var isOver: Bool { outcome.withLock { $0 != nil } }

  /// Waits for its end, once; gives the seconds it took or throws what it threw.
  func wait() throws -> Double {
    done.wait()
    switch outcome.withLock({ $0 }) {
    case .seconds(let seconds): return seconds
    case .failure(let error): throw error
    case nil: preconditionFailure("waited for twice")
    }
  }
}
