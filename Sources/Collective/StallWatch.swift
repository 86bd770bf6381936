import CMPI
import Glibc
import Synchronization
import Terminal

/// Who keeps the others waiting. Every rank sends rank 0 what it is doing and how much work it has begun, whenever one
/// of them has changed, at most once a second; rank 0 compares.
///
/// All is called on the communication thread but what has a lock.
final class StallWatch: @unchecked Sendable {
  /// Seconds between looks.
  static let interval = 0.25
  /// Bytes of a report: two numbers and a text.
  private static let textBytes = 240, messageBytes = 256

  /// What a rank said last.
  private struct Report: Equatable {
    var begun = 0, ended = 0
    var activity = ""
    var isWaiting: Bool { begun > ended }

    init() {}

    /// As it is sent: two numbers of 8 bytes, the lowest first, and the text with zeros after it.
    var bytes: [UInt8] {
      func bytes(_ number: Int) -> [UInt8] { (0..<8).map { UInt8(truncatingIfNeeded: number >> (8 * $0)) } }
      let text = Array(activity.utf8.prefix(StallWatch.textBytes))
      return bytes(begun) + bytes(ended) + text
        + Array(repeating: 0, count: StallWatch.textBytes - text.count)
    }

    /// From `bytes` of another rank.
    init(_ bytes: [UInt8]) {
      func number(_ bytes: ArraySlice<UInt8>) -> Int { bytes.reversed().reduce(0) { $0 << 8 | Int($1) } }
      begun = number(bytes[0..<8])
      ended = number(bytes[8..<16])
      activity = String(decoding: bytes[16...].prefix { $0 != 0 }, as: UTF8.self)
    }
  }

  let stallLimits: Mutex<Courier.StallLimits>
  /// What this rank is doing.
  let activity = Mutex(StallWatch.start)
  static let start = "starting"

  private let handle: cmpi_comm
  private let rank, size: Int
  private let hosts: [String]
  private var own = Report(), lastSent = Report()
  private var others: [Report]
  private var waitingSince = ContinuousClock.now, lastLook = ContinuousClock.now
  /// Since when others have been ahead of rank 0.
  private var behindSince: ContinuousClock.Instant?
  private var warnedAt: ContinuousClock.Instant?
  /// The report that is under way to rank 0.
  private let message = VectorMemory<UInt8>(StallWatch.messageBytes, of: 0)
  private var request = [cmpi_no_request()]

  init(_ world: Communicator, _ stallLimits: Courier.StallLimits) throws(MPIError) {
    self.stallLimits = Mutex(stallLimits)
    rank = world.rank
    size = world.size
    hosts = try world.allGather(world.host)
    handle = try answer("MPI_Comm_dup", cmpi_comm_dup(world.handle))
    others = Array(repeating: Report(), count: size)
  }

  func begin() {
    own.begun += 1
    waitingSince = .now
    warnedAt = nil
  }

  func end() { own.ended += 1 }

  /// Sends or takes reports, and judges them; `waiting` within a piece of work.
  func look(waiting: Bool) {
    let now = ContinuousClock.now
    guard now - lastLook >= .seconds(StallWatch.interval) else { return }
    lastLook = now
    own.activity = activity.withLock { $0 }
    if rank == 0 {
      receive()
      judge(now, waiting: waiting)
    } else {
      send()
      // Rank 0 ends the job; this is for the case that it is rank 0 that does not answer.
      let waited = (now - waitingSince) / .seconds(1)
      if waiting, waited > limits.limit * 1.1 + 5 {
        giveUp(
          "rank \(rank) (\(hosts[rank])) has waited \(Int(waited)) s, and rank 0 (\(hosts[0])) does not answer"
        )
      }
    }
  }

  private var limits: Courier.StallLimits { stallLimits.withLock { $0 } }

  private func send() {
    guard own != lastSent else { return }
    // One report at a time is under way.
    guard (try? testAll(&request)) == true else { return }
    lastSent = own
    message.view.copy(own.bytes)
    request = [handle.isend(message.view, to: 0, tag: 0).request]
  }

  private func receive() {
    while true {
      let arrival = cmpi_probe_any(handle)
      guard arrival.code == cmpi_success(), arrival.arrived != 0 else { return }
      let source = Int(arrival.source)
      let bytes = try? [UInt8](count: StallWatch.messageBytes) { bytes throws(MPIError) in
        try check("MPI_Recv", handle.recv(bytes, from: source, tag: 0))
      }
      guard let bytes else { return }
      others[source] = Report(bytes)
    }
  }

  /// Rank 0: says who is missing, if anyone waits too long.
  private func judge(_ now: ContinuousClock.Instant, waiting: Bool) {
    var waited = 0.0, missing: [Int] = []
    if waiting {
      behindSince = nil
      waited = (now - waitingSince) / .seconds(1)
      missing = (1..<size).filter { others[$0].begun < own.begun }
    } else {
      // Others have come to where this rank has not.
      let isBehind = (1..<size).contains { others[$0].isWaiting && others[$0].begun > own.begun }
      behindSince = isBehind ? behindSince ?? now : nil
      guard let since = behindSince else { return }
      waited = (now - since) / .seconds(1)
      missing = [0] + (1..<size).filter { others[$0].begun <= own.begun }
    }
    guard waited > limits.warning else { return }
    let isOver = waited > limits.limit
    guard isOver || warnedAt.map({ now - $0 >= .seconds(limits.warning) }) ?? true else { return }
    warnedAt = now
    let who =
      missing.isEmpty
      ? []
      : missing.map { rank -> String in
        let activity = rank == 0 ? own.activity : others[rank].activity
        return "rank \(rank) (\(hosts[rank])): \(activity.isEmpty ? StallWatch.start : activity)"
      }
    let names =
      who.isEmpty
      ? "an exchange in which all ranks take part does not end"
      : "waiting for \(who.prefix(4).joined(separator: "; "))"
        + (who.count > 4 ? " and \(who.count - 4) more" : "")
    if isOver { giveUp("no progress for \(Int(waited)) s, \(names)") }
    World.warn("no progress for \(Int(waited)) s, \(names)")
  }

  private func giveUp(_ text: String) -> Never {
    StandardError.say("\(text); the job ends (--stall-limit \(Int(limits.limit)))", event: "stall")
    World.abort(code: 1)
  }

  func finish() throws(MPIError) {
    if rank == 0 { receive() }
    try waitAll(&request)
    try check("MPI_Comm_free", cmpi_comm_free(handle))
  }
}
