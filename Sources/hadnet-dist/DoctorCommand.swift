import ArgumentParser
import Checks
import Collective
import Compute
import Files
import Foundation

struct DoctorCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "doctor",
    abstract: "Check MPI, BLAS, CPU, threads and file system; recompute golden values.",
    discussion: """
      Exit code 70 if a check fails or a golden value is beyond its bound.

      Example: hadnet-dist doctor --golden Tests/Fixtures/parity/step_k2.safetensors
      """)

  @Option(help: "A file of golden values; one line a group with its largest error.", completion: .file())
  var golden: String?
  @Option(help: "Folder whose file system is checked.", completion: .directory)
  var folder = "."
  @OptionGroup var log: LogOption
  @OptionGroup var threads: ThreadOptions

  func run() throws {
    runInWorld { communicator in
      let workers = try threads.workers(communicator)
      let good: Bool
      if let golden {
        // Every rank would find the same.
        good = communicator.rank == 0 ? try checkGolden(golden, workers) : true
      } else {
        good = try checkMachine(communicator, workers)
      }
      let isGood = try communicator.all(good)
      try communicator.rootFirst {
        if !isGood {
          throw Fault(.check, golden == nil ? "a check failed" : "values beyond their bounds: see above")
        }
      }
    }
  }

  private func checkGolden(_ path: String, _ workers: Workers) throws -> Bool {
    let groups = try Golden(path: path, workers).groups()
    for group in groups {
      Output.print(
        (group.passes ? "ok    " : "FAIL  ") + group.name.padding(toLength: 40, withPad: " ", startingAt: 0)
          + String(format: "largest error %.2e, bound %.0e", group.error, group.bound) + "  (\(group.worst))")
    }
    return groups.allSatisfy(\.passes)
  }

  private func checkMachine(_ communicator: Communicator, _ workers: Workers) throws -> Bool {
    var lines: [(level: Level, text: String)] = []
    func say(_ level: Level, _ text: String) { lines.append((level, text)) }
    let cpu = CPU.current
    say(.fact, "host       \(communicator.host), rank \(communicator.rank) of \(communicator.size)")
    say(.fact, "cpu        \(cpu.name): \(cpu.features.joined(separator: " "))")
    let mask = Cores.mask()
    say(
      workers.count > mask.count ? .warning : .ok,
      "threads    \(workers.count) on \(mask.count) core(s) that this rank may use")
    say(.ok, "mpi        \(mpiLibrary())")
    let error = BLAS.selfTest(workers)
    say(
      error < 1e-5 ? .ok : .failure,
      "blas       \(BLAS.name); concurrent products against plain ones: "
        + String(format: "largest error %.1e", error))
    if let choice = Startup.kernelChoice { say(.fact, "blas       \(choice)") }
    if let warning = Startup.kernelWarning { say(.warning, "blas       \(warning)") }
    let benchmark = ConvolutionBenchmark(size: Size(160, 192, 160), k: 32, repeats: 1)
    for (method, layers) in try benchmark.methods() {
      say(.fact, "kernels    \(method): \(layers.joined(separator: ", "))")
    }
    let memory = Double(ProcessInfo.processInfo.physicalMemory) / 1_073_741_824
    say(.fact, String(format: "memory     %.1f GiB, %d rank(s) here", memory, communicator.localSize))
    do {
      try OutputFile.probe(folder)
      say(.ok, "files      \(folder) can be written, synced and renamed in")
    } catch let fault as Fault {
      say(.failure, "files      \(fault.description)")
    }
    // Ranks one after the other.
    let text = lines.map { "\($0.level.rawValue) \($0.text)" }.joined(separator: "\n")
    for part in try communicator.gather(text) { Output.print(part) }
    for text in try Cores.warnings(threads: workers.count, communicator) {
      Output.print("\(Level.warning.rawValue) \(text)")
    }
    let cores = try communicator.gather(BLAS.core)
    if Set(cores).count > 1 {
      Output.print(
        "\(Level.failure.rawValue) ranks have different OpenBLAS kernels (\(Set(cores).sorted())): bits will differ"
      )
    }
    return !lines.contains { $0.level == .failure } && Set(cores).count <= 1
  }

  private enum Level: String {
    case ok = "ok     "
    case fact = "       "
    case warning = "warning"
    case failure = "FAIL   "
  }
}

/// What the machine says of its processor.
struct CPU {
  let name: String
  /// Those that matter to the kernels.
  let features: [String]

  static var current: CPU {
    let text = (try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8)) ?? ""
    func field(_ name: String) -> String? {
      text.split(separator: "\n").first { $0.hasPrefix(name) }?
        .split(separator: ":", maxSplits: 1).last.map { $0.trimmingCharacters(in: .whitespaces) }
    }
    let flags = Set((field("flags") ?? field("Features") ?? "").split(separator: " ").map(String.init))
    let known = ["avx2", "fma", "avx512f", "avx512_bf16", "amx_tile", "asimd", "sve"]
    return CPU(name: field("model name") ?? "unknown", features: known.filter(flags.contains))
  }
}
