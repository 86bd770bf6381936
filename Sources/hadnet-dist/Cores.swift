import Collective
import Files
import Foundation
import Terminal

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
  /// the ranks of this host that have the same one. A value that is no number of threads is told to `warn` and ignored.
  /// All ranks together.
  static func threads(_ communicator: Communicator?, warn: (String) -> Void) throws -> Int {
    let environment = ProcessInfo.processInfo.environment
    var share = mask().count
    if let communicator {
      let mine = "\(communicator.host) \(mask())"
      let same = try communicator.allGather(mine).filter { $0 == mine }.count
      share = max(1, share / max(1, same))
    }
    var threads: Int?, wrong: [String] = []
    for name in ["SLURM_CPUS_PER_TASK", "OMP_NUM_THREADS"] {
      guard threads == nil, let text = environment[name], !text.isEmpty else { continue }
      // OMP_NUM_THREADS may be a list, one number a level of nesting.
      threads = text.split(separator: ",").first.flatMap { Int($0) }.flatMap {
        (1...4096).contains($0) ? $0 : nil
      }
      if threads == nil { wrong.append("\(name)=\(excerpt(text))") }
    }
    for text in wrong {
      warn(
        "\(text) is no number of threads from 1 to 4096: it is ignored, and a rank has "
          + "\((threads ?? share).named("thread")); --threads sets them")
    }
    return threads ?? share
  }

  /// Where threads share cores, and the option of the launcher that cures it, a line each; on rank 0, while the
  /// others get none. All ranks together.
  static func warnings(threads: Int, _ communicator: Communicator) throws -> [String] {
    let mine = Rank(host: communicator.host, cores: mask(), threads: threads)
    let places = try communicator.gather(String(decoding: try JSONEncoder().encode(mine), as: UTF8.self))
      .map { try JSONDecoder().decode(Rank.self, from: Data($0.utf8)) }
    // One line for all ranks, or hosts, of which the same is true.
    var short: [[Int]: [Int]] = [:], crowded: [[Int]: [String]] = [:]
    for (rank, place) in places.enumerated() where place.threads > place.cores.count {
      short[[place.threads, place.cores.count], default: []].append(rank)
    }
    for (host, here) in Dictionary(grouping: places, by: \.host) {
      let asked = here.reduce(0) { $0 + $1.threads }, cores = Set(here.flatMap(\.cores)).count
      if asked > cores, here.allSatisfy({ $0.threads <= $0.cores.count }) {
        crowded[[here.count, asked, cores, here.map(\.threads).max() ?? 1], default: []].append(host)
      }
    }
    return short.sorted { $0.value[0] < $1.value[0] }.map { facts, ranks in
      "\(Disagreement.list(ranks)) \(facts[0].named("thread")) on \(facts[1].named("core")): "
        + cure(threads: facts[0], cores: facts[1])
    }
      + crowded.sorted { $0.value[0] < $1.value[0] }.map { facts, hosts in
        let others = hosts.count > 1 ? " and of \((hosts.count - 1).named("other node"))" : ""
        return "the \(facts[0]) ranks of \(hosts.sorted()[0])\(others) have \(facts[1].named("thread")) on "
          + "\(facts[2].named("core")): start "
          + (facts[0] <= facts[2]
            ? "fewer ranks there, or with --threads \(facts[2] / facts[0])"
            : "at most \(facts[2].named("rank")) there" + (facts[3] > 1 ? ", with --threads 1" : ""))
      }
  }

  private struct Rank: Codable {
    let host: String
    let cores: [Int]
    let threads: Int
  }

  /// What to start the program with, so that a rank has a core for each of its threads.
  private static func cure(threads: Int, cores: Int) -> String {
    func isSet(_ name: String) -> Bool { ProcessInfo.processInfo.environment[name] != nil }
    let way =
      // An mpirun inside a job comes first: its daemons are a step too, whose variables its ranks inherit.
      if isSet("OMPI_COMM_WORLD_SIZE") {
        "mpirun --bind-to none, or --map-by slot:PE=\(threads)"
      } else if isSet("SLURM_STEP_ID") {
        "srun --cpus-per-task=\(threads), or --cpu-bind=none"
      } else if isSet("PMI_SIZE") {
        "mpirun -bind-to none"
      } else if isSet("SLURM_JOB_ID") {
        "sbatch --cpus-per-task=\(threads)"
      } else {
        "taskset -c and a list of \(threads) cores"
      }
    // More than the machine has no launcher can give.
    return (threads > ProcessInfo.processInfo.processorCount ? "start with " : "start with \(way), or with ")
      + "--threads \(cores)"
  }
}
