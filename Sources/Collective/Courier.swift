import CMPI
import CMachine
import Dispatch
import Glibc
import Synchronization

/// The communication thread of a rank: all MPI calls of a job of several ranks are made here, one piece of work after the
/// other, in the same order on all ranks. So computing goes on meanwhile, and MPI_THREAD_SERIALIZED is enough.
///
/// MPI makes no progress by itself: the thread tests what is under way and sleeps in between, since one that spins
/// takes a core from computing. It also sees who keeps the others waiting: every rank tells rank 0 now and then where
/// it is, and rank 0 says so after `warning` seconds of waiting and ends the job after `limit`.
///
/// Unchecked: what several threads touch has a lock or is atomic, but `thread`, which is set before any of them knows this
/// object.
package final class Courier: @unchecked Sendable {
  /// Seconds of waiting for another rank: until it is said (`--stall-warning`), and until the job ends (`--stall-limit`).
  package struct StallLimits: Sendable {
    package var warning, limit: Double

    /// A minute, and half an hour.
    package init(warning: Double = 60, limit: Double = 1800) {
      self.warning = warning
      self.limit = limit
    }
  }

  /// What the thread was given to do, under way: `Work` as in PyTorch's distributed package.
  ///
  /// Unchecked: `body` and `failure` are the communication thread's until it signals `done`, and then of the one that waits.
  package final class Work: @unchecked Sendable {
    /// nil once it is done, so that nothing of the caller's is held any more.
    fileprivate var body: (() throws(MPIError) -> Void)?
    fileprivate let done = DispatchSemaphore(value: 0)
    fileprivate var failure: MPIError?
    private var isOver = false
    private let courier: Courier?

    fileprivate init(_ body: @escaping () throws(MPIError) -> Void, _ courier: Courier) {
      self.body = body
      self.courier = courier
    }

    /// One that is over.
    fileprivate init(_ failure: MPIError?) {
      self.failure = failure
      isOver = true
      courier = nil
    }

    /// Waits for its end, and throws what it threw. Only one thread waits.
    package func wait() throws(MPIError) {
      if !isOver {
        courier?.waiters.wrappingAdd(1, ordering: .relaxed)
        done.wait()
        courier?.waiters.wrappingSubtract(1, ordering: .relaxed)
      }
      isOver = true
      if let failure { throw failure }
    }
  }

  /// Tells of stalls; on its own thread.
  private let watch: StallWatch
  private let queue = Mutex<[Work?]>([])
  private let queued = DispatchSemaphore(value: 0)
  /// Set before any work is handed over.
  private var thread: JoinableThread?
  private let sent = Atomic<Int>(0)
  /// How many threads wait for their work.
  private let waiters = Atomic<Int>(0)
  /// The code with which the job is to end at once.
  private let abortCode = Mutex<Int32?>(nil)

  /// The communication thread of one of `world`'s ranks, which all make one; throws where the system has no more threads.
  package init(_ world: Communicator, _ stallLimits: StallLimits) throws(MPIError) {
    watch = try StallWatch(world, stallLimits)
    thread = try JoinableThread { self.runQueue() }
  }

  /// Ends the thread once all work is done. MPI may then be called from any thread.
  func finish() throws(MPIError) {
    push(nil)
    thread?.join()
    try watch.finish()
  }

  /// Ends all ranks at once; mpirun returns `code`. The thread does it: two threads in MPI at a time may crash.
  func abort(code: Int32) -> Never {
    if !isCurrent {
      abortCode.withLock { $0 = code }
      queued.signal()
      // Within this time it looks, unless it is stuck or has much to compute.
      sleep(5)
    }
    World.abort(code: code)
  }

  private func abortIfAsked() { if let code = abortCode.withLock({ $0 }) { World.abort(code: code) } }

  /// Bytes that this rank has sent in messages to one other; what MPI's own collectives send is not counted.
  package var bytesSent: Int { sent.load(ordering: .relaxed) }
  func count(bytes: Int) { sent.wrappingAdd(bytes, ordering: .relaxed) }

  /// How long ranks wait for each other.
  package var stallLimits: StallLimits {
    get { watch.stallLimits.withLock { $0 } }
    set { watch.stallLimits.withLock { $0 = newValue } }
  }

  /// What this rank is doing, for whoever waits for it: phase, epoch, step, case.
  package func note(_ activity: String) { watch.activity.withLock { $0 = activity } }

  /// What it was noted to be doing; nil: nothing yet.
  package var activity: String? { watch.activity.withLock { $0 == StallWatch.start ? nil : $0 } }

  /// Hands work over, and returns at once. All ranks start the same work in the same order.
  package func start(_ body: @escaping () throws(MPIError) -> Void) -> Work {
    let work = Work(body, self)
    push(work)
    return work
  }

  /// Runs `body` on the communication thread and waits for it.
  func run<Result>(_ body: () throws(MPIError) -> Result) throws(MPIError) -> Result {
    if isCurrent { return try body() }
    var result: Result?
    try withoutActuallyEscaping(body) { body throws(MPIError) in
      // The work has ended when this returns.
      try start { () throws(MPIError) in result = try body() }.wait()
    }
    return result!  // the work ended without an error
  }

  private var isCurrent: Bool { thread?.isCurrent ?? false }

  private func push(_ work: Work?) {
    queue.withLock { $0.append(work) }
    queued.signal()
  }

  private func runQueue() {
    // It adds gradients, as the computing threads do on one rank.
    cmachine_flush_denormals()
    while true {
      guard queued.wait(timeout: .now() + StallWatch.interval) == .success else {
        watch.look(waiting: false)
        continue
      }
      abortIfAsked()
      guard let work = queue.withLock({ $0.removeFirst() }) else { break }
      watch.begin()
      do throws(MPIError) {
        try work.body?()
      } catch {
        work.failure = error
      }
      work.body = nil
      watch.end()
      work.done.signal()
      watch.look(waiting: false)
    }
  }

  /// Waits until all of `requests` are done, asleep between tests while this rank computes. Where it waits too, its core
  /// is free for a while of testing without sleep, which moves more.
  func complete(_ requests: inout [cmpi_request]) throws(MPIError) {
    let start = ContinuousClock.now
    var tests = 0, looked = start
    while true {
      if try testAll(&requests) { return }
      abortIfAsked()
      tests += 1
      if tests < 50 { continue }
      let now = ContinuousClock.now, waited = now - start
      if waiters.load(ordering: .relaxed) > 0, waited < .milliseconds(50) {
        sched_yield()
      } else {
        usleep(waited < .milliseconds(10) ? 50 : 200)
      }
      if now - looked > .milliseconds(10) {
        looked = now
        watch.look(waiting: true)
      }
    }
  }
}

extension Communicator {
  /// Hands work to the communication thread, where there is one, else runs it at once; an error waits in the `Work`.
  package func start(_ body: @escaping () throws(MPIError) -> Void) -> Courier.Work {
    if let courier { return courier.start(body) }
    do throws(MPIError) {
      try body()
      return Courier.Work(nil)
    } catch {
      return Courier.Work(error)
    }
  }

  /// Waits for what was started.
  func complete(_ requests: inout [cmpi_request]) throws(MPIError) {
    // One rank has none, and may have no MPI.
    if requests.isEmpty { return }
    if let courier { return try courier.complete(&requests) }
    try waitAll(&requests)
  }

  /// Waits for one operation that was started.
  func complete(_ call: StaticString, _ started: cmpi_started) throws(MPIError) {
    try check(call, started.code)
    var requests = [started.request]
    try complete(&requests)
  }

  /// Runs `body` on the communication thread, if there is one.
  func perform<Result>(_ body: () throws(MPIError) -> Result) throws(MPIError) -> Result {
    guard let courier else { return try body() }
    return try courier.run(body)
  }
}
