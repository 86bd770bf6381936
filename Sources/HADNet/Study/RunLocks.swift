import Files
import Methods
import Synchronization

/// The locks of a job on the stages that it trains and on the evaluation of a study: all of them from its start, so that
/// a refusal comes before anything is done. Rank 0 holds them.
package final class RunLocks: Sendable {
  private let stages: Mutex<[Method: RunLock]>
  private let evaluation: RunLock?

  /// Throws `.recipe` where another job holds one of them; then none is held.
  package init(_ run: RunFolder, _ stages: [Method], evaluates: Bool) throws {
    var held: [Method: RunLock] = [:]
    do {
      for stage in stages { held[stage] = try RunLock(run.lock(stage), "trains the \(stage.rawValue)") }
      evaluation = evaluates ? try RunLock(run.evaluationLock, "evaluates this study") : nil
    } catch {
      for lock in held.values { lock.release() }
      throw error
    }
    self.stages = Mutex(held)
  }

  deinit { release() }

  /// Gives back a stage that is done.
  func release(_ stage: Method) { stages.withLock { $0.removeValue(forKey: stage) }?.release() }

  /// Gives back all that are still held.
  package func release() {
    for lock in stages.withLock({ stages in
      defer { stages = [:] }
      return stages.values.map { $0 }
    }) { lock.release() }
    evaluation?.release()
  }

  func holds(_ stage: Method) -> Bool { stages.withLock { $0[stage] != nil } }

  /// Throws where another job has taken the stage over.
  func check(_ stage: Method) throws { try stages.withLock { $0[stage] }?.check() }

  /// Throws where another job has taken the evaluation over.
  func checkEvaluation() throws { try evaluation?.check() }
}
