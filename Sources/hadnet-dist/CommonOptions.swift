import ArgumentParser
import Collective
import Compute
import Study
import Terminal

// Options that several commands have, each only where it does something.

/// How faults look: every command has some.
struct LogOption: ParsableArguments {
  enum Form: String, ExpressibleByArgument, CaseIterable { case text, json }

  @Option(
    help:
      "How messages on standard error look: text, or json, an object a line, with every event of log.jsonl.")
  var log = Form.text

  func validate() {
    // From here on all that is said looks like that.
    if log == .json { StandardError.form = .json }
  }
}

/// What a command that takes its time says.
struct MessageOptions: ParsableArguments {
  @OptionGroup private var form: LogOption
  @Flag(help: "Say nothing but errors, warnings and results.")
  var quiet = false

  var isJSON: Bool { form.log == .json }

  /// What shows progress and messages; only rank 0 shows any.
  func bar(rank: Int = 0) -> ProgressBar { ProgressBar(quiet: quiet, silent: rank > 0) }
}

/// The threads of what computes.
struct ThreadOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Threads of a rank.",
      discussion: """
        Default: SLURM_CPUS_PER_TASK, else OMP_NUM_THREADS, else the cores this process may use divided by the ranks \
        that share them.
        """))
  var threads: Int?

  func validate() throws {
    if let threads, !(1...4096).contains(threads) {
      throw ValidationError("--threads is \(threads); 1 to 4096 are possible")
    }
  }

  /// The threads of this rank; all ranks together.
  func workers(_ communicator: Communicator?) throws -> Workers {
    let count = try threads ?? Cores.threads(communicator, warn: warn(communicator))
    try BLAS.reserve(threads: count)
    return Workers(count)
  }

  /// Says on rank 0 where threads have too few cores; all ranks together.
  func warnOfCores(_ workers: Workers, _ communicator: Communicator) throws {
    let warnings = try Cores.warnings(threads: workers.count, communicator)
    warnings.forEach(warn(communicator))
  }

  /// Warnings are told in quiet too.
  private func warn(_ communicator: Communicator?) -> (String) -> Void {
    ProgressBar(quiet: true, silent: (communicator?.rank ?? 0) > 0).warn
  }
}
