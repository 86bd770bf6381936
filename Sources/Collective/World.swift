import CMPI
import Dispatch

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// This process's MPI scope: from MPI_Init to MPI_Finalize.
///
/// The program may be started with mpirun, with srun, or plainly, which makes a world of one rank.
public enum World {
  /// Runs `body` inside the MPI scope and returns the process's exit code, with MPI finalised: exit at once.
  ///
  /// `body` returns the exit code that all ranks agree on. An error that leaves it on any rank is printed on
  /// standard error, with rank and host if there are several, and ends the job: all ranks, with `exitCode` of
  /// the error. Call it once in a process.
  public static func run(
    exitCode: (any Error) -> Int32, body: (Communicator) throws -> Int32
  ) -> Int32 {
    var size = 1
    do {
      var communicator = try start()
      size = communicator.size
      // One rank has nobody to talk to.
      let courier = size > 1 ? try Courier(communicator, .init()) : nil
      communicator.courier = courier
      do {
        let code = try body(communicator)
        // Whoever is late is named here. From now on nothing takes long.
        try communicator.barrier()
        leave(code, after: min(60, courier?.patience.limit ?? 60))
        try courier?.finish()
        try finish()
        return code
      } catch  where size > 1 {
        let place = courier?.place.map { ", \($0)" } ?? ""
        complain("rank \(communicator.rank) of \(size) (\(communicator.host))\(place): \(error)")
        courier?.abort(code: exitCode(error))
        abort(code: exitCode(error))
      }
    } catch {
      complain("\(error)")
      try? finish()
      return exitCode(error)
    }
  }

  /// Ends the process in so many seconds, should MPI_Finalize not return: its last barrier goes through the launcher,
  /// which may lose it, and a job that has all its results would hold its nodes until the time limit. Open MPI's mpirun
  /// calls such an end a failure (1), srun does not; the batch scripts go by the mark of the run.
  private static func leave(_ code: Int32, after seconds: Double) {
    DispatchQueue.global().asyncAfter(deadline: .now() + seconds) {
      complain(
        "warning: MPI_Finalize has not returned for \(Int(seconds)) s; all is written, so the process ends without it"
      )
      _exit(code)
    }
  }

  /// Open MPI's TCP hardly sends both ways at once, unless messages may be sent before the other side has said where to:
  /// then exchanges over Ethernet take half the time. A setting of the user's stays.
  private static func useBothWays() {
    for name in ["btl_tcp_eager_limit", "btl_tcp_rndv_eager_limit", "btl_tcp_max_send_size"] {
      // A little more than a message, for its envelope.
      setenv("OMPI_MCA_\(name)", "\(Communicator.pieceBytes + 4096)", 0)
    }
  }

  /// Initialises MPI, once; later calls return the same world. `run` is the better way where a program has
  /// one scope.
  ///
  /// Throws `MPIError`, or `LaunchError` if the processes that were started together are not one world.
  public static func start() throws -> Communicator {
    var isInitialized: Int32 = 0
    try check("MPI_Initialized", MPI_Initialized(&isInitialized))
    if isInitialized == 0 {
      if mpiLibrary().hasPrefix("Open MPI"), let error = LaunchError(openMPIBeforeInit: environmentVariable) {
        throw error
      }
      useBothWays()
      var level: Int32 = 0
      try check("MPI_Init_thread", MPI_Init_thread(nil, nil, cmpi_thread_serialized(), &level))
      if level < cmpi_thread_serialized() {
        throw MPIError("\(mpiLibrary()) was built without threads: MPI_THREAD_SERIALIZED is needed")
      }
    }
    let communicator = try Communicator(world: cmpi_world())
    if let error = LaunchError(size: communicator.size, variable: environmentVariable) { throw error }
    return communicator
  }

  /// Finalises MPI if it is running.
  public static func finish() throws(MPIError) {
    if try isRunning() { try check("MPI_Finalize", MPI_Finalize()) }
  }

  /// Ends all ranks at once; mpirun returns `code`.
  public static func abort(code: Int32) -> Never {
    fflush(nil)
    if (try? isRunning()) == true { MPI_Abort(cmpi_world(), code) }
    _exit(code)
  }

  private static func isRunning() throws(MPIError) -> Bool {
    var isInitialized: Int32 = 0
    var isFinalized: Int32 = 0
    try check("MPI_Initialized", MPI_Initialized(&isInitialized))
    try check("MPI_Finalized", MPI_Finalized(&isFinalized))
    return isInitialized != 0 && isFinalized == 0
  }

  /// Writes a message to standard error in one piece, so that ranks do not mix their lines.
  static func complain(_ message: String) {
    fflush(nil)
    let line = Array((message + "\n").utf8)
    _ = line.withUnsafeBytes { write(2, $0.baseAddress, $0.count) }
  }
}
