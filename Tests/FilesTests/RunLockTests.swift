import Foundation
import Testing

@testable import Files
@testable import TestSupport

@Suite struct RunLockTests {
  private let scratch = Scratch()
  private var path: String { scratch.file("run/teacher/lock") }

  private func take() throws -> RunLock { try RunLock(path, "trains the teacher") }

  private func put(_ owner: RunLock.Owner, age: Double = 0) throws {
    try scratch.put("run/teacher/lock", [UInt8](try JSONEncoder().encode(owner)))
    let time = Date.now.timeIntervalSince1970 - age
    var times = [timeval(tv_sec: Int(time), tv_usec: 0), timeval(tv_sec: Int(time), tv_usec: 0)]
    utimes(path, &times)
  }

  @Test func onlyOneHoldsIt() throws {
    let lock = try take()
    let found = fault { _ = try self.take() }
    #expect(found?.kind == .recipe)
    let words = [
      "\(scratch.file("run/teacher")): another job trains the teacher: process \(getpid()) on ", ", since 20",
      "last sign 0 s ago; wait for its end, or choose another --run (\(path))",
    ]
    for word in words { #expect(found?.description.contains(word) == true, "\(String(describing: found))") }
    lock.release()
    #expect(
      !FileManager.default.fileExists(atPath: scratch.file("run")), "folders made for it alone are gone")
    try take().release()
  }

  @Test func aLockOfADeadProcessIsTakenOver() throws {
    var owner = RunLock.here(path)
    // No process has this number: it is above the largest there may be.
    owner.process = 4_194_305
    try put(owner)
    let lock = try take()
    #expect(RunLock.read(path)?.process == getpid())
    // A process of that number which began at another time.
    lock.release()
    owner.process = getpid()
    owner.begin += 1
    try put(owner)
    try take().release()
  }

  @Test func aLockThatCannotBeReadIsSomeonesForAWhile() throws {
    try scratch.put("run/teacher/lock", [])
    #expect(fault { _ = try self.take() }?.description.contains("one that cannot be read") == true)
    try put(RunLock.here(path), age: 400)
    try Data().write(to: URL(fileURLWithPath: path))
    var times = [timeval(tv_sec: 1, tv_usec: 0), timeval(tv_sec: 1, tv_usec: 0)]
    utimes(path, &times)
    try take().release()
  }

  /// Whoever comes at the same time to what a dead one left: one of them has it.
  @Test(arguments: 1...20) func ofManyAtOnceOneHasIt(round: Int) throws {
    var owner = RunLock.here(path)
    owner.process = 4_194_305
    try put(owner)
    nonisolated(unsafe) var locks = [RunLock?](repeating: nil, count: 8)
    locks.withUnsafeMutableBufferPointer { locks in
      nonisolated(unsafe) let locks = locks
      DispatchQueue.concurrentPerform(iterations: 8) { i in locks[i] = try? take() }
    }
    let holders = locks.compactMap { $0 }
    #expect(holders.count == 1)
    for lock in holders { lock.release() }
  }

  @Test func whoLostItIsTold() throws {
    let lock = try take()
    try lock.check()
    var other = RunLock.here(path)
    other.process = 1
    try put(other)
    #expect(fault { try lock.check() }?.description.contains("process 1 on ") == true)
    lock.release()
    #expect(RunLock.read(path)?.process == 1, "another's lock stays")
  }

  @Test func aSignMakesItYoung() throws {
    let lock = try take()
    var times = [timeval(tv_sec: 1000, tv_usec: 0), timeval(tv_sec: 1000, tv_usec: 0)]
    utimes(path, &times)
    lock.giveSign()
    var status = stat()
    stat(path, &status)
    #expect(status.st_mtim.tv_sec > 1000)
    lock.release()
  }

  /// A run that is copied while it is trained: the copy is nobody's.
  @Test func aCopyOfALockIsNoLock() throws {
    let lock = try take()
    try FileManager.default.copyItem(atPath: scratch.file("run"), toPath: scratch.file("copy"))
    try RunLock("\(scratch.file("copy"))/teacher/lock", "trains the teacher").release()
    lock.release()
  }

  @Test func aRelativePathIsNoCopy() throws {
    try put(RunLock.here(path))
    #expect(fault { _ = try self.take() }?.kind == .recipe)
  }

  @Test func deadIsWhatCannotBeAlive() {
    let here = RunLock.here(path)
    func owner(_ change: (inout RunLock.Owner) -> Void) -> RunLock.Owner {
      var owner = here
      owner.begin = 7
      change(&owner)
      return owner
    }
    func isDead(
      _ owner: RunLock.Owner, age: Double = 10, begin: UInt64? = 7, seenBy here: RunLock.Owner? = nil
    ) -> Bool {
      owner.isDead(seenBy: here ?? self.here, age: age) { _ in begin }
    }
    // Here: as the process is, however long it sleeps.
    #expect(!isDead(owner { _ in }) && !isDead(owner { _ in }, age: 1e6))
    #expect(isDead(owner { _ in }, begin: nil) && isDead(owner { _ in }, begin: 8))
    // This host has been started anew; another one of that name may live.
    #expect(isDead(owner { $0.boot = "another" }))
    #expect(!isDead(owner { ($0.boot, $0.machine) = ("another", "another") }))
    // Elsewhere, and in another container: five minutes.
    for other in [owner { $0.host = "other" }, owner { $0.processes = "other" }] {
      #expect(!isDead(other, age: 299, begin: nil) && isDead(other, age: 301, begin: 7))
    }
    // A Slurm job that was put back into the queue.
    var job = here
    (job.job, job.jobStart) = ("12", "1 ")
    #expect(isDead(owner { ($0.host, $0.job, $0.jobStart) = ("other", "12", "0 ") }, seenBy: job))
    #expect(!isDead(owner { ($0.host, $0.job, $0.jobStart) = ("other", "12", "1 ") }, seenBy: job))
    #expect(!isDead(owner { ($0.host, $0.job, $0.jobStart) = ("other", "13", "0 ") }, seenBy: job))
  }

  private var here: RunLock.Owner { RunLock.here(path) }
}
