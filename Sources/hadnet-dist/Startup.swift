import CMachine
import Compute
import Files
import Foundation

/// What comes before everything else, MPI included.
enum Startup {
  /// Ends the program if it was built for a newer CPU: an illegal instruction would end it without a word.
  ///
  /// Nothing before may compute with vectors, this neither.
  static func checkProcessor() {
    guard cmachine_cpu_runs_v3() == 0 else { return }
    let message: StaticString =
      "hadnet-dist was built for CPUs with AVX2, FMA and BMI2 (x86-64-v3); this one lacks some: use a newer machine\n"
    // A text of the program itself, which is always there.
    _ = unsafe write(2, message.utf8Start, message.utf8CodeUnitCount)
    _exit(Fault.Kind.check.rawValue)
  }

  /// Volumes come and go with each case. glibc would soon keep those below 32 MiB in its heap, where what stays of each
  /// case leaves holes: over 125 cases 2 GiB of them. Arrays from 4 MiB on go back to the system at once.
  static func returnMemory() { cmachine_return_memory(4 << 20) }

  /// A lack of memory anywhere, in a library too, ends the job with one message.
  static func watchMemory() {
    cmachine_on_lack { AvailableMemory.endForLack(of: Int(clamping: $0)) }
  }

  private static let coreVariable = "OPENBLAS_CORETYPE"
  /// Says in the environment which core type the program itself chose.
  private static let choiceVariable = "HADNET_CORETYPE_CHOSEN"

  /// Starts the program anew with OPENBLAS_CORETYPE if OpenBLAS, which reads it when it is loaded, does not know this
  /// CPU and took kernels without AVX2: they are several times slower. A user's OPENBLAS_CORETYPE stays as it is.
  static func chooseKernels() {
    // The variable is set from then on, so this happens once.
    // Whether it is there; nobody else reads or changes the environment yet. The same below.
    guard unsafe getenv(coreVariable) == nil, let better = BLAS.betterCore else { return }
    restart(with: [(coreVariable, better), (choiceVariable, better)])
  }

  /// Where the address space is limited (ulimit -v) starts the program anew without OpenBLAS's own threads, which are
  /// never used: each takes a buffer when the library is loaded, and tries to for ever where there is none, so that the
  /// program could not even end.
  static func limitBLAS() {
    var limit = rlimit()
    guard unsafe getenv("OPENBLAS_NUM_THREADS") == nil,
      unsafe getrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit) == 0, limit.rlim_cur < UInt.max >> 1
    else { return }
    restart(with: [("OPENBLAS_NUM_THREADS", "1")])
  }

  /// Starts the program anew with these variables; returns without them where that is not possible.
  private static func restart(with variables: [(String, String)]) {
    // No other thread is there that reads the environment, and the arguments are the process's own.
    for (name, value) in variables { unsafe setenv(name, value, 1) }
    // By its path, so that the process keeps its name.
    if let path = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe") {
      unsafe execv(path, CommandLine.unsafeArgv)
    }
    unsafe execv("/proc/self/exe", CommandLine.unsafeArgv)
    for (name, _) in variables { unsafe unsetenv(name) }
  }

  private static var core: (name: String, isOurs: Bool)? {
    let environment = ProcessInfo.processInfo.environment
    return environment[coreVariable].map { ($0, environment[choiceVariable] == $0) }
  }

  /// Who chose OpenBLAS's kernels, if OpenBLAS did not by itself.
  static var kernelChoice: String? {
    core.map { core in
      core.isOurs
        ? "OPENBLAS_CORETYPE=\(core.name) was set by hadnet-dist: OpenBLAS by itself does not know this CPU"
        : "OPENBLAS_CORETYPE=\(core.name) is set; last bits and speed follow it"
    }
  }

  /// What to do if OpenBLAS runs without AVX2 on a CPU that has it.
  static var kernelWarning: String? {
    guard let better = BLAS.betterCore else { return nil }
    let fact = "OpenBLAS runs its \(BLAS.core) kernels, without AVX2"
    guard let core else { return "\(fact): OPENBLAS_CORETYPE=\(better) makes it faster" }
    return core.isOurs || core.name == better
      ? "\(fact), and has no better ones: another build of OpenBLAS makes it faster"
      : "\(fact), as OPENBLAS_CORETYPE says: \(better) is faster here"
  }
}
