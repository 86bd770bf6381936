import ArgumentParser
import CMachine
import Collective
import Compute
import Files
import Foundation
import Terminal

@main
struct HADNetDist: ParsableCommand {
  static let version = "0.1.0"

  static let configuration = CommandConfiguration(
    commandName: "hadnet-dist",
    abstract: "Brain tumour segmentation without contrast agent: HAD-Net, trained on CPU clusters.",
    discussion: """
      A first run:  hadnet-dist phantom data --cases 30 --shape 48x48x48
                    mpirun -n 2 hadnet-dist study recipes/demo.yaml --data data --run run
      """,
    version: version,
    subcommands: [
      PhantomCommand.self, InspectCommand.self, TrainCommand.self, StudyCommand.self, PredictCommand.self,
      EvaluateCommand.self, CompareCommand.self, ReportCommand.self, StagesCommand.self, SlurmCommand.self,
      BenchCommand.self, DoctorCommand.self,
    ])

  static func main() {
    StandardError.openWhatIsClosed()
    Startup.checkProcessor()
    // Of all threads: each inherits it from the one that starts it.
    cmachine_flush_denormals()
    Startup.chooseKernels()
    Startup.limitBLAS()
    Startup.watchMemory()
    Startup.returnMemory()
    runCommand()
  }

  /// Faults become one message and their own exit code; argument-parser handles usage, help and versions.
  ///
  /// Never inlined: what it computes may not be moved before the check of the CPU.
  @inline(never)
  private static func runCommand() {
    // A file that grows beyond ulimit -f is then a failed write, which can be told, and not a silent end.
    signal(SIGXFSZ, SIG_IGN)
    do {
      var command = try parseAsRoot()
      try command.run()
      try Output.check()
    } catch let code as ExitCode {
      Foundation.exit(code.rawValue)
    } catch let fault as Fault {
      end(fault)
    } catch {
      // All ranks were typed the same: the first one says it. An earlier end of another would end it too.
      let code = exitCode(for: error)
      if !isFirst {
        sleep(1)
      } else if code == .success {
        // Help, or the version.
        Output.print(fullMessage(for: error))
        do { try Output.check() } catch { end(error) }
      } else {
        // It quotes what was typed, line for line.
        let lines = fullMessage(for: error).split(separator: "\n").map { excerpt(String($0), limit: 1000) }
        StandardError.say(lines.joined(separator: "\n"), event: "fault", [("code", "\(code.rawValue)")])
      }
      Foundation.exit(code.rawValue)
    }
  }

  private static func end(_ fault: Fault) -> Never {
    StandardError.say(fault.description, event: "fault", [("code", "\(fault.kind.rawValue)")])
    Foundation.exit(fault.kind.rawValue)
  }

  /// Whether this is rank 0, or alone, as far as its environment tells before MPI does.
  private static var isFirst: Bool {
    let environment = ProcessInfo.processInfo.environment
    let names = ["OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"]
    return names.compactMap { environment[$0] }.first.map { $0 == "0" } ?? true
  }

}

/// Runs `body` inside MPI and ends the process with the code it gives, or, for an error, with the error's.
func runForCode(_ body: (Communicator) throws -> Int32) -> Never {
  exit(
    World.run(exitCode: { ($0 as? Fault)?.kind.rawValue ?? 1 }) { communicator in
      let code = try body(communicator)
      try Output.check()
      return code
    })
}

/// The same, with code 0 in the end.
func runInWorld(_ body: (Communicator) throws -> Void) -> Never {
  runForCode { communicator in
    try body(communicator)
    return 0
  }
}

extension Size: ExpressibleByArgument {
  /// `80x96x80`, in the order z, y, x.
  package init?(argument: String) {
    let sides = argument.split(separator: "x", omittingEmptySubsequences: false).map { Int($0) }
    guard sides.count == 3, let z = sides[0], let y = sides[1], let x = sides[2], min(z, y, x) > 0,
      max(z, y, x) <= 4096
    else { return nil }
    self.init(z, y, x)
  }

  /// In the order of an option, where messages have x, y, z.
  var asTyped: String { array.map(String.init).joined(separator: "x") }

  package var defaultValueDescription: String { asTyped }
}
