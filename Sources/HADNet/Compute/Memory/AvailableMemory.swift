// Each `unsafe` here is a call of C that writes into a variable of ours.

import Collective
import Files
import Foundation
import Terminal

/// The memory that this process may still take: the least of what the machine has left, what the process's own limits
/// (ulimit -v, -d) leave, and what its control groups (a container, a Slurm job) leave.
package struct AvailableMemory: Sendable {
  private let root: String
  private let limits: @Sendable () -> [(space: Int, ofData: Bool)]

  /// As the system tells it each time that it is asked.
  package init() {
    root = ""
    limits = {
      [(__rlimit_resource_t(RLIMIT_AS.rawValue), false), (__rlimit_resource_t(RLIMIT_DATA.rawValue), true)]
        .compactMap { resource, ofData in
          var limit = rlimit()
          guard unsafe getrlimit(resource, &limit) == 0, limit.rlim_cur < UInt.max >> 2 else { return nil }
          return (Int(limit.rlim_cur), ofData)
        }
    }
  }

  /// As `/proc` and `/sys` below `root` tell it, with limits of the process in bytes.
  init(root: String, limits: [(space: Int, ofData: Bool)]) {
    self.root = root
    self.limits = { limits }
  }

  /// nil where nothing tells it.
  package var bytes: Int? { bytes(sharedBy: 1) }

  /// Bytes for each of several ranks on this machine, which share all but what a process's own limits leave.
  package func bytes(sharedBy ranks: Int) -> Int? {
    let shared = ([machine] + groups).map { $0.map { $0 / ranks } }
    return (shared + process).compactMap { $0 }.min().map { max(0, $0) }
  }

  /// Refuses what needs more bytes than there are, before they are taken: `what` needs them.
  ///
  /// Throws `.invalid`: it is the data that are too large.
  package static func check(_ needed: Int, _ what: @autoclosure () -> String) throws(Fault) {
    // What is small is not worth a look.
    guard needed > 1 << 20, let there = AvailableMemory().bytes, needed > there else { return }
    throw Fault(
      .invalid,
      "\(what()) needs \(shown(needed)) of memory; \(shown(there)) are left for this process: take a machine with more, or "
        + "raise its limit (ulimit -v, the job's memory)")
  }

  /// Ends the job where so many bytes are not to be had: there is nothing to go on with, on no rank. What is on the disk is
  /// whole.
  package static func endForLack(of bytes: Int) -> Never {
    StandardError.say(
      "out of memory: \(shown(max(bytes, 1 << 20))) more are not to be had; take smaller volumes, a smaller network (k), "
        + "fewer threads or ranks on a node, or a machine with more, or raise its limit (ulimit -v, the job's memory)",
      event: "fault", [("code", "\(Fault.Kind.other.rawValue)")])
    World.abort(code: Fault.Kind.other.rawValue)
  }

  /// Bytes for a person: in whole MiB, from 10 GiB on in whole GiB, rounded down.
  package static func shown(_ bytes: Int) -> String {
    bytes < 10 << 30
      ? "\(bytes >> 20) MiB" : "\(bytes >> 30) GiB"
  }

  private func text(_ path: String) -> String? {
    // Such files have no size, so they are read to their end.
    (try? InputFile.prefix(root + path, 1 << 16)).map { String(decoding: $0, as: UTF8.self) }
  }

  private func number(_ path: String) -> Int? {
    text(path).flatMap { Int($0.split(whereSeparator: \.isWhitespace).first ?? "") }
  }

  /// The sum of lines `name number` (or `name: number kB`); nil where none is there.
  private static func sum(_ names: [String], in text: String?) -> Int? {
    let numbers = (text ?? "").split(separator: "\n").compactMap { line -> Int? in
      let words = line.split(whereSeparator: { $0 == " " || $0 == ":" || $0 == "\t" })
      guard words.count >= 2, names.contains(String(words[0])), let number = Int(words[1]) else { return nil }
      return number.multipliedReportingOverflow(by: words.count > 2 ? 1024 : 1).partialValue
    }
    return numbers.isEmpty ? nil : numbers.reduce(0, &+)
  }

  private var machine: Int? { AvailableMemory.sum(["MemAvailable"], in: text("/proc/meminfo")) }

  private var process: [Int?] {
    let limits = limits()
    if limits.isEmpty { return [] }
    let pages = (text("/proc/self/statm") ?? "").split(whereSeparator: \.isWhitespace).compactMap { Int($0) }
    guard pages.count > 5 else { return limits.map(\.space) }
    let page = sysconf(Int32(_SC_PAGESIZE))
    return limits.map { $0.space - pages[$0.ofData ? 5 : 0] * page }
  }

  /// Of this process's control groups and those above them; of the second version, or the first.
  private var groups: [Int?] {
    (text("/proc/self/cgroup") ?? "").split(separator: "\n").flatMap { line -> [Int?] in
      let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
      guard parts.count == 3, parts[1].isEmpty || parts[1].split(separator: ",").contains("memory") else {
        return []
      }
      let isSecond = parts[1].isEmpty, mount = isSecond ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory"
      var names = parts[2].split(separator: "/"), left: [Int?] = []
      // In a container the group's own place may be the root of what can be seen.
      while true {
        let folder = ([mount] + names.map(String.init)).joined(separator: "/")
        left.append(isSecond ? second(folder) : first(folder))
        guard names.popLast() != nil else { return left }
      }
    }
  }

  /// Pages of files go when memory is wanted.
  private func second(_ folder: String) -> Int? {
    guard let limit = number("\(folder)/memory.max"), let used = number("\(folder)/memory.current") else {
      return nil
    }
    let files = AvailableMemory.sum(["inactive_file", "active_file"], in: text("\(folder)/memory.stat"))
    return limit &- used &+ (files ?? 0)
  }

  private func first(_ folder: String) -> Int? {
    guard let limit = number("\(folder)/memory.limit_in_bytes"), limit < Int.max >> 2,
      let used = number("\(folder)/memory.usage_in_bytes")
    else { return nil }
    let files = AvailableMemory.sum(
      ["total_inactive_file", "total_active_file"], in: text("\(folder)/memory.stat"))
    return limit &- used &+ (files ?? 0)
  }
}
