import Dispatch
import Synchronization

/// Something that is on its way from another thread, and its outcome once there.
package final class Promise<Value: Sendable>: Sendable {
  private let group = DispatchGroup()
  private let outcome = Mutex<Result<Value, any Error>?>(nil)

  /// Until `finish`, whoever asks for the value waits.
  package init() { group.enter() }

  package var isThere: Bool { outcome.withLock { $0 != nil } }

  /// Called once.
  package func finish(_ result: Result<Value, any Error>) {
    outcome.withLock { $0 = result }
    group.leave()
  }

  /// Waits for it. Throws what it ended with, if that was an error.
  package func value() throws -> Value {
    group.wait()
    guard let result = outcome.withLock({ $0 }) else { preconditionFailure("a promise without an outcome") }
    return try result.get()
  }
}
