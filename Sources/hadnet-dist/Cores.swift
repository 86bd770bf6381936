import Collective
import Foundation

/// The cores that this process may use.
enum Cores {
  /// Numbers of the cores in this process's affinity mask.
  static func mask() -> [Int] {
    // E.g. `Cpus_allowed_list:	0-3,8`; the call behind it is hidden from Swift.
    let status = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
    let line = status.split(separator: "\n").first { $0.hasPrefix("Cpus_allowed_list:") }
    let list = line?.split(separator: ":").last?.trimmingCharacters(in: .whitespaces) ?? ""
    let cores = list.split(separator: ",").flatMap { part -> [Int] in
      let ends = part.split(separator: "-").compactMap { Int($0) }
      guard let first = ends.first, let last = ends.last, first <= last else { return [] }
      return Array(first...last)
    }
    return cores.isEmpty ? Array(0..<ProcessInfo.processInfo.activeProcessorCount) : cores
  }

  /// Threads where none were asked for: what Slurm or OMP_NUM_THREADS say, else an equal share of the mask among
  /// the ranks of this host that have the same one. All ranks together.
  static func threads(_ communicator: Communicator?) throws -> Int {
    let environment = ProcessInfo.processInfo.environment
    var share = mask().count
    if let communicator {
      let mine = "\(communicator.host) \(mask())"
      let same = try communicator.allGather(mine).filter { $0 == mine }.count
      share = max(1, share / max(1, same))
    }
    for name in ["SLURM_CPUS_PER_TASK", "OMP_NUM_THREADS"] {
      // OMP_NUM_THREADS may be a list, one number a level of nesting.
      let first = environment[name]?.split(separator: ",").first.flatMap { Int($0) }
      if let first, (1...4096).contains(first) { return first }
    }
    return share
  }
}
