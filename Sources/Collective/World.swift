import CMPI
import Dispatch
import Glibc
import Terminal

/// This process's MPI scope: from MPI_Init to MPI_Finalize.
///
/// The program may be started with mpirun, with srun, or plainly, which makes a world of one rank.
package enum World {
  /// Runs `body` inside the MPI scope and returns the process's exit code, with MPI finalised: exit at once.
  ///
  /// `body` returns the exit code that all ranks agree on. An error that leaves it on any rank is printed on
  /// standard error, with rank and host if there are several, and ends the job: all ranks, with `exitCode` of
  /// the error. Call it once in a process, on the thread that is to wait for the ranks.
  package static func run(
    exitCode: (any Error) -> Int32, body: (Communicator) throws -> Int32
  ) -> Int32 {
    run(exitCode: exitCode, courier: { try Courier($0, .init()) }, body: body)
  }

  /// The same, with `makeCourier` for the communication thread of a rank of several: for tests.
  ///
  /// The scope has one end for errors: wherever one comes from, ranks that wait for this one are ended with it.
  package static func run(
    exitCode: (any Error) -> Int32, courier makeCourier: (Communicator) throws -> Courier,
    body: (Communicator) throws -> Int32
  ) -> Int32 {
    var communicator: Communicator?, courier: Courier?
    do {
      var world = try start()
      communicator = world
      // One rank has nobody to talk to.
      courier = world.size > 1 ? try makeCourier(world) : nil
      world.courier = courier
      let code = try body(world)
      // Whoever is late is named here. From now on nothing takes long.
      try world.barrier()
      exitWithoutFinalize(code, after: min(60, courier?.stallLimits.limit ?? 60))
      try courier?.finish()
      try finish()
      return code
    } catch {
      let code = exitCode(error)
      report(error, code, communicator, courier?.activity)
      if communicator?.size ?? ranks > 1 {
        courier?.abort(code: code)
        abort(code: code)
      }
      try? finish()
      return code
    }
  }

  /// How many ranks MPI has started, as long as it runs; 1 without it.
  private static var ranks: Int {
    guard (try? isRunning()) == true else { return 1 }
    return (try? answer("MPI_Comm_size", cmpi_comm_size(cmpi_world()))) ?? 1
  }

  private static func report(
    _ error: any Error, _ code: Int32, _ communicator: Communicator?, _ activity: String?
  ) {
    var fields = [("code", "\(code)")]
    guard let communicator, communicator.size > 1 else {
      return StandardError.say("\(error)", event: "fault", fields)
    }
    let who =
      "rank \(communicator.rank) of \(communicator.size) (\(communicator.host))"
      + (activity.map { ", \($0)" } ?? "")
    // In JSON both stand beside the text.
    if StandardError.form == .text { return StandardError.say("\(who): \(error)") }
    fields += [("rank", "\(communicator.rank)"), ("host", jsonString(communicator.host))]
    if let activity { fields.append(("place", jsonString(activity))) }
    StandardError.say("\(error)", event: "fault", fields)
  }

  /// Ends the process in so many seconds, should MPI_Finalize not return: its last barrier goes through the launcher,
  /// which may lose it, and a job that has all its results would hold its nodes until the time limit. Open MPI's mpirun
  /// calls such an end a failure (1), srun does not; the batch scripts go by the mark of the run.
  private static func exitWithoutFinalize(_ code: Int32, after seconds: Double) {
    DispatchQueue.global().asyncAfter(deadline: .now() + seconds) {
      warn(
        "MPI_Finalize has not returned for \(Int(seconds)) s; all is written, so the process ends without it")
      _exit(code)
    }
  }

  /// Open MPI's TCP hardly sends both ways at once, unless messages may be sent before the other side has said where to:
  /// then exchanges over Ethernet take half the time. A setting of the user's stays.
  private static func raiseTCPLimits() {
    for name in ["btl_tcp_eager_limit", "btl_tcp_rndv_eager_limit", "btl_tcp_max_send_size"] {
      // A little more than a message, for its envelope. Unsafe while another thread reads the environment: MPI, which has
      // threads, is not yet there.
      unsafe setenv("OMPI_MCA_\(name)", "\(Communicator.pieceBytes + 4096)", 0)
    }
  }

  /// Initialises MPI, once; later calls return the same world. `run` is the better way where a program has
  /// one scope.
  ///
  /// A process that no launcher has started is alone without MPI: that would take a third of a second, and fails in a
  /// shell within a Slurm step, whose variables it takes for its own start.
  ///
  /// Throws `MPIError`, or `LaunchError` if the processes that were started together are not one world.
  package static func start() throws -> Communicator {
    if isAlone(environmentVariable) { return Communicator() }
    if try answer("MPI_Initialized", cmpi_initialized()) == 0 {
      if mpiLibrary().hasPrefix("Open MPI"), let error = LaunchError(openMPIBeforeInit: environmentVariable) {
        throw error
      }
      raiseTCPLimits()
      let level = try answer("MPI_Init_thread", cmpi_init_thread(cmpi_thread_serialized()))
      if level < cmpi_thread_serialized() {
        throw MPIError("\(mpiLibrary()) was built without threads: MPI_THREAD_SERIALIZED is needed")
      }
    }
    let communicator = try Communicator(world: cmpi_world())
    if let error = LaunchError(size: communicator.size, variable: environmentVariable) { throw error }
    return communicator
  }

  /// Finalises MPI if it is running; all ranks together.
  package static func finish() throws(MPIError) {
    if try isRunning() { try check("MPI_Finalize", MPI_Finalize()) }
  }

  /// Ends all ranks at once (MPI_Abort), or this process alone where MPI does not run; mpirun returns `code`.
  package static func abort(code: Int32) -> Never {
    fflush(nil)
    if (try? isRunning()) == true { _ = cmpi_abort(code) }
    _exit(code)
  }

  private static func isRunning() throws(MPIError) -> Bool {
    let isInitialized = try answer("MPI_Initialized", cmpi_initialized())
    let isFinalized = try answer("MPI_Finalized", cmpi_finalized())
    return isInitialized != 0 && isFinalized == 0
  }

  /// Tells what is no error.
  static func warn(_ text: String) {
    let isText = StandardError.form == .text
    StandardError.say(isText ? "warning: \(text)" : text, event: "warning")
  }
}
