import Foundation
import Testing

/// QEMU's emulator of programs for x86-64, if this is such a machine and has it.
private let emulator: String? = {
  #if arch(x86_64)
    let folders = (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":")
    return folders.map { "\($0)/qemu-x86_64" }.first(where: FileManager.default.isExecutableFile(atPath:))
  #else
    return nil
  #endif
}()

extension Commands {
  /// Other processors than this one, by QEMU's emulator of programs.
  @Suite(
    .serialized,
    .enabled(
      if: emulator != nil,
      "needs qemu-x86_64 on an x86-64 machine: scripts/install-dependencies --tests brings it"))
  struct ProcessorTests {
    private func run(on processor: String, _ arguments: String...) throws -> Outcome {
      // Without the kernels that the environment of the tests may ask for.
      let outcome = try Job(
        ["-u", "OPENBLAS_CORETYPE", try #require(emulator), "-cpu", processor] + Program.command(arguments)
      ).outcome()
      // QEMU names what it does not emulate.
      let errors = outcome.errors.split(separator: "\n").filter { !$0.hasPrefix("qemu-x86_64: warning") }
      return Outcome(code: outcome.code, output: outcome.output, errors: errors.joined(separator: "\n"))
    }

    /// x86-64-v2: the program's own code would end in an illegal instruction.
    @Test(arguments: ["Nehalem", "SandyBridge"]) func anOlderProcessorIsNamedAsTheReason(processor: String)
      throws
    {
      expectFault(try run(on: processor, "doctor"), 70, ["AVX2", "x86-64-v3", "use a newer machine"])
    }

    @Test func aProcessorOfLevel3IsEnough() throws {
      let outcome = try run(on: "Haswell", "--version")
      #expect(outcome.code == 0 && outcome.errors == "", "\(outcome.errors)")
    }

    /// A processor that OpenBLAS cannot know: the program starts itself again with kernels that fit.
    @Test func kernelsAreChosenWhereOpenBLASDoesNotKnowTheProcessor() throws {
      let outcome = try run(on: "Haswell,model=250", "doctor", "--threads", "1")
      #expect(outcome.code == 0, "\(outcome.errors)")
      #expect(
        outcome.output.contains("was set by hadnet-dist: OpenBLAS by itself does not know this CPU"),
        "\(outcome.output)")
      #expect(!outcome.output.contains("warning"), "\(outcome.output)")
    }
  }
}
