import CMPI
import Glibc

/// The program was started in a way that gives several worlds of one rank instead of one world of several.
package struct LaunchError: Error, CustomStringConvertible, Equatable, Sendable {
  /// What is wrong, and how to start the program instead.
  package let description: String

  init(_ description: String) { self.description = description }

  /// What is wrong with the start, if a launcher speaks of several processes and MPI of `size` 1.
  ///
  /// A batch script's own environment also speaks of several tasks (`SLURM_NTASKS`), and a program started
  /// there without a launcher is rightly alone; so only the tasks of a Slurm *step* count, and those not under
  /// an mpirun, which carries its daemons' step variables over to its ranks.
  init?(size: Int, variable: (String) -> String?) {
    guard size == 1 else { return nil }
    func number(_ name: String) -> Int? { variable(name).flatMap { Int($0) } }
    for (name, family) in [("OMPI_COMM_WORLD_SIZE", "Open MPI"), ("PMI_SIZE", "MPICH or Intel MPI")] {
      guard let started = number(name) else { continue }
      if started == 1 { return nil }
      self.init(
        """
        mpirun started \(started) processes, but MPI sees 1 rank in each: this mpirun is \(family)'s, \
        the program was built with \(mpiLibrary()).
        Start it with the mpirun of the MPI it was built with.
        """)
      return
    }
    guard variable("SLURM_STEP_ID") != nil, let tasks = number("SLURM_STEP_NUM_TASKS"), tasks > 1 else {
      return nil
    }
    self.init(
      """
      srun started \(tasks) tasks, but MPI sees 1 rank in each.
      Start it with `srun --mpi=pmix` (`srun --mpi=list` shows what this cluster has), or with mpirun.
      """)
  }

  /// What Open MPI would only say with a page of text and an abort inside MPI_Init: the tasks of a Slurm step
  /// have no way to find each other.
  init?(openMPIBeforeInit variable: (String) -> String?) {
    guard variable("SLURM_STEP_ID") != nil, let tasks = variable("SLURM_STEP_NUM_TASKS").flatMap({ Int($0) }),
      tasks > 1, variable("OMPI_COMM_WORLD_SIZE") == nil,
      ["PMIX_RANK", "PMI_RANK", "PMI_FD"].allSatisfy({ variable($0) == nil })
    else { return nil }
    self.init(
      """
      srun started \(tasks) tasks without telling MPI about it.
      Start it with `srun --mpi=pmix` (`srun --mpi=list` shows what this cluster has), or with mpirun.
      """)
  }
}

/// Whether this process is a world of one rank that nothing but itself has to tell MPI of: no launcher has started it,
/// or it is in a Slurm step of one task, as the programs of an interactive shell are (`srun --pty bash`).
func isAlone(_ variable: (String) -> String?) -> Bool {
  let launchers = [
    "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMI_FD", "PMI_PORT", "MPI_LOCALNRANKS", "MV2_COMM_WORLD_SIZE",
    "PALS_RANKID", "ALPS_APP_PE", "FLUX_TASK_RANK", "JSM_NAMESPACE_RANK", "MPIRUN_RANK", "PMIX_RANK",
    "PMIX_NAMESPACE", "PMI_RANK", "PMI_ID", "PMI_JOBID",
  ]
  // mpirun's daemons may be a step too, whose variables its ranks inherit.
  if variable("OMPI_COMM_WORLD_SIZE") == nil, variable("SLURM_STEP_ID") != nil {
    return variable("SLURM_STEP_NUM_TASKS") == "1"
  }
  return launchers.allSatisfy { variable($0) == nil }
}

/// The MPI library's name and version, such as "Open MPI v4.1.4".
package func mpiLibrary() -> String {
  // There is room for what MPI writes at most.
  let about =
    unsafe text(capacity: cmpi_max_library_version()) { unsafe MPI_Get_library_version($0, $1) } ?? ""
  // Open MPI goes on with where it was built, MPICH with more lines.
  guard let name = about.split(whereSeparator: { $0.isNewline || $0 == "," }).first else {
    return "an unknown MPI"
  }
  return name.split(whereSeparator: \.isWhitespace).joined(separator: " ")
}

/// The value of an environment variable.
func environmentVariable(_ name: String) -> String? {
  // Copied at once; nothing here changes the environment meanwhile.
  unsafe getenv(name).map { unsafe String(cString: $0) }
}
