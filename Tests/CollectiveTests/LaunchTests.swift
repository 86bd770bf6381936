import Testing

@testable import Collective

struct LaunchTests {
  private func error(_ variables: [String: String], size: Int = 1) -> LaunchError? {
    LaunchError(size: size) { variables[$0] }
  }

  @Test func aloneIsRight() {
    #expect(error([:]) == nil)
    // A batch script's own shell, and an interactive step.
    #expect(error(["SLURM_NTASKS": "4", "SLURM_PROCID": "0"]) == nil)
    #expect(error(["SLURM_NTASKS": "4", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "1"]) == nil)
    // mpirun -n 1, whose daemon is a step of two nodes.
    let daemon = ["OMPI_COMM_WORLD_SIZE": "1", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2"]
    #expect(error(daemon) == nil)
  }

  @Test func aPlainStartNeedsNoMPI() {
    func alone(_ variables: [String: String]) -> Bool { isAlone { variables[$0] } }
    #expect(alone([:]) && alone(["SLURM_JOB_ID": "1", "SLURM_NTASKS": "4", "OMPI_MCA_btl": "tcp,self"]))
    #expect(alone(["SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "1", "PMIX_RANK": "0"]))
    for name in ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK", "PALS_RANKID"] {
      #expect(!alone([name: "1"]))
    }
    // srun of several, and mpirun on several nodes of a job, whose daemons are a step.
    #expect(!alone(["SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2"]))
    #expect(!alone(["OMPI_COMM_WORLD_SIZE": "4", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "1"]))
  }

  @Test func severalInOneWorldIsRight() {
    #expect(error(["OMPI_COMM_WORLD_SIZE": "4"], size: 4) == nil)
    #expect(error(["SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4"], size: 4) == nil)
  }

  @Test func mpirunOfAnotherMPIIsNamed() {
    let text = error(["PMI_SIZE": "4"])?.description ?? ""
    #expect(text.hasPrefix("mpirun started 4 processes, but MPI sees 1 rank in each: this mpirun is MPICH"))
    #expect(text.hasSuffix("Start it with the mpirun of the MPI it was built with."))
    #expect(error(["OMPI_COMM_WORLD_SIZE": "2"])?.description.contains("this mpirun is Open MPI's") == true)
  }

  @Test func srunWithoutPMIxIsNamed() {
    let step = ["SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2"]
    let text = """
      srun started 2 tasks, but MPI sees 1 rank in each.
      Start it with `srun --mpi=pmix` (`srun --mpi=list` shows what this cluster has), or with mpirun.
      """
    #expect(error(step)?.description == text)
    #expect(LaunchError(openMPIBeforeInit: { step[$0] }) != nil)
    let pmix = step.merging(["PMIX_RANK": "0"]) { $1 }
    #expect(LaunchError(openMPIBeforeInit: { pmix[$0] }) == nil)
  }

  @Test func disagreementNamesTheRanks() {
    #expect(Disagreement("recipe", ["a", "a"]) == nil)
    let text = Disagreement("recipe", ["a", "a", "b", "a", "c", "a"])?.description
    #expect(text == "the ranks differ in recipe: ranks 0–1, 3, 5 have a, rank 2 has b, rank 4 has c")
  }
}
