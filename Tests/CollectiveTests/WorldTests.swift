import Foundation
import Testing

@testable import Collective

/// What a program left behind.
private struct Outcome {
  let code: Int32
  let output: String
  let errors: String
}

/// Runs the Ranks program, under mpirun if `ranks` is given.
private func runRanks(
  _ ranks: Int?, _ arguments: String..., variables: [String: String] = [:]
) throws -> Outcome {
  // The test runner lies beside the products.
  let products = URL(fileURLWithPath: CommandLine.arguments[0]).resolvingSymlinksInPath()
    .deletingLastPathComponent()
  let candidates = [products, products.deletingLastPathComponent(), Bundle.main.bundleURL]
    .map { $0.appendingPathComponent("Ranks").path }
  let program = try #require(
    candidates.first { FileManager.default.isExecutableFile(atPath: $0) }, "no Ranks in \(candidates)")

  let process = Process()
  process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
  process.arguments = (ranks.map { mpirun($0) } ?? []) + [program] + arguments
  var environment = ProcessInfo.processInfo.environment
  // mpirun refuses to run as root without both.
  environment["OMPI_ALLOW_RUN_AS_ROOT"] = "1"
  environment["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1"
  process.environment = environment.merging(variables) { $1 }
  return try outcome(of: process)
}

private func mpirun(_ ranks: Int) -> [String] {
  // More ranks than cores, and no core of their own: options that only Open MPI knows.
  let isOpenMPI = mpiLibrary().hasPrefix("Open MPI")
  return ["mpirun", "-n", "\(ranks)"] + (isOpenMPI ? ["--oversubscribe", "--bind-to", "none"] : [])
}

/// Output goes to files: a pipe could fill up while nobody reads it.
private func outcome(of process: Process) throws -> Outcome {
  let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
  try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(at: folder) }
  func file(_ name: String) throws -> (URL, FileHandle) {
    let url = folder.appendingPathComponent(name)
    try Data().write(to: url)
    return (url, try FileHandle(forWritingTo: url))
  }
  let (output, outputHandle) = try file("output")
  let (errors, errorsHandle) = try file("errors")
  process.standardOutput = outputHandle
  process.standardError = errorsHandle
  process.standardInput = FileHandle.nullDevice
  try process.run()
  process.waitUntilExit()
  return Outcome(
    code: process.terminationStatus,
    output: String(decoding: try Data(contentsOf: output), as: UTF8.self),
    errors: String(decoding: try Data(contentsOf: errors), as: UTF8.self))
}

/// One after the other: each uses all cores, and MPI wants one thread at a time.
@Suite(.serialized) struct WorldTests {
  @Test(arguments: 1...8)
  func everyCollectiveGivesTheFormulasBits(ranks: Int) throws {
    let outcome = try runRanks(ranks)
    #expect(outcome.output == "ok \(ranks)\n", "\(outcome.errors)")
    #expect(outcome.code == 0)
  }

  @Test func plainStartIsAWorldOfOne() throws {
    let outcome = try runRanks(nil)
    #expect(outcome.output == "ok 1\n", "\(outcome.errors)")
    #expect(outcome.code == 0)
  }

  /// A shell within a Slurm step hands its variables on, which Open MPI would take for its own start.
  @Test(arguments: [[:], ["PMIX_RANK": "0", "PMIX_NAMESPACE": "slurm.pmix.1.0"]])
  func aProcessOfAStepsShellIsAlone(more: [String: String]) throws {
    let step = [
      "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "1", "SLURM_NODELIST": "n1",
      "SLURM_PROCID": "0", "SLURM_STEP_NODELIST": "n1", "SLURM_NTASKS": "1",
    ]
    let outcome = try runRanks(nil, variables: step.merging(more) { $1 })
    #expect(outcome.output == "ok 1\n" && outcome.code == 0, "\(outcome.errors)")
  }

  @Test func errorOnOneRankEndsAllAndNamesRankAndHost() throws {
    let outcome = try runRanks(3, "fail", "1", "65")
    #expect(outcome.code == 65)
    let line = "rank 1 of 3 (\(ProcessInfo.processInfo.hostName)): case 7 is damaged"
    #expect(outcome.errors.split(separator: "\n").contains { $0 == line }, "\(outcome.errors)")
  }

  /// One rank fails before its thread for messages is there: the others, which wait for it, end with it.
  @Test(arguments: [0, 2]) func aRankWithoutItsThreadEndsAll(rank: Int) throws {
    let outcome = try runRanks(3, "courier", "\(rank)", "74")
    #expect(outcome.code == 74)
    let line = "rank \(rank) of 3 (\(ProcessInfo.processInfo.hostName)): no communication thread"
    #expect(outcome.errors.split(separator: "\n").contains { $0 == line }, "\(outcome.errors)")
  }

  @Test func errorOfAWorldOfOneIsTheMessageAlone() throws {
    let outcome = try runRanks(nil, "fail", "0", "66")
    #expect(outcome.code == 66)
    #expect(outcome.errors == "case 7 is damaged\n")
  }

  @Test func codeThatAllRanksAgreeOnIsMpirunsCode() throws {
    #expect(try runRanks(2, "return", "75").code == 75)
    #expect(try runRanks(nil, "return", "75").code == 75)
  }

  @Test func disagreementEndsTheJob() throws {
    let outcome = try runRanks(3, "agree")
    #expect(outcome.code == 1)
    #expect(outcome.errors.contains("the ranks differ in recipe: ranks 0, 2 have a, rank 1 has b"))
  }

  @Test func worldOfAnotherMPIIsRefused() throws {
    // What MPICH's mpirun says to its processes; this program's MPI does not listen to it if it is Open MPI.
    guard mpiLibrary().hasPrefix("Open MPI") else { return }
    let outcome = try runRanks(nil, variables: ["PMI_SIZE": "4"])
    #expect(outcome.code == 1)
    #expect(outcome.errors.hasPrefix("mpirun started 4 processes, but MPI sees 1 rank in each"))
  }

  @Test func errorsCarryTheCallAndMPIsText() throws {
    let outcome = try runRanks(2, "root")
    #expect(outcome.code == 1)
    let text = mpiLibrary().hasPrefix("Open MPI") ? "MPI_ERR_ROOT: invalid root\n" : ""
    #expect(outcome.errors.contains(": MPI_Ibcast failed: " + text), "\(outcome.errors)")
  }
}
