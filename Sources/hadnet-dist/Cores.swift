import Collective
import Foundation

#if canImport(Glibc)
  import Glibc
#endif

/// The cores that this process may use.
enum Cores {
  /// Numbers of the cores in this process's affinity mask.
  static func mask() -> [Int] {
    var set = cpu_set_t()
    guard sched_getaffinity(0, MemoryLayout<cpu_set_t>.size, &set) == 0 else {
      return Array(0..<ProcessInfo.processInfo.activeProcessorCount)
    }
    return withUnsafeBytes(of: &set) { bytes in
      (0..<bytes.count * 8).filter { bytes[$0 / 8] >> ($0 % 8) & 1 == 1 }
    }
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
