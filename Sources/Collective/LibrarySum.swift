import CMPI

/// By what a sum over ranks is made.
public enum SumMethod: String, Codable, CaseIterable, Sendable {
  /// `TreeReducer`: the same bits for any number of ranks.
  case tree
  /// The MPI library's own reduction, which may suit a fabric better: the same bits only for the same number of ranks,
  /// and surely the tree's only on two, which leave one order.
  case mpi
}

extension Communicator {
  /// The sum of all ranks' vectors by MPI's own reduction, each rank's part of it in its place in `vector`. The parts
  /// follow each other in rank order, without gaps.
  package func reduceScatter(
    _ vector: UnsafeMutableBufferPointer<Float>, parts: [Range<Int>]
  ) throws(MPIError) {
    // One rank's vector is the sum.
    if size == 1 { return }
    let own = parts[rank], counts = parts.map { Int32($0.count) }
    guard let base = vector.baseAddress else { return }
    let result = UnsafeMutableBufferPointer<Float>.allocate(capacity: Swift.max(own.count, 1))
    defer { result.deallocate() }
    result.initialize(repeating: 0)
    try perform { () throws(MPIError) in
      try counts.withUnsafeBufferPointer { counts throws(MPIError) in
        try complete("MPI_Ireduce_scatter") {
          MPI_Ireduce_scatter(
            base, result.baseAddress, counts.baseAddress, Float.mpiType, cmpi_sum(), handle, &$0.raw)
        }
      }
    }
    (base + own.lowerBound).update(from: result.baseAddress!, count: own.count)  // not empty
  }

  /// The sum of all ranks' vectors on every rank by MPI_Allreduce, which spins while it waits: to compare with.
  package func allreduce(_ vector: UnsafeMutableBufferPointer<Float>) throws(MPIError) {
    if size == 1 { return }
    try perform { () throws(MPIError) in
      try check(
        "MPI_Allreduce",
        MPI_Allreduce(
          cmpi_in_place(), vector.baseAddress, Int32(vector.count), Float.mpiType, cmpi_sum(), handle))
    }
  }

  /// The same by MPI_Reduce_scatter and MPI_Allgatherv; `scratch` has room for the largest part.
  package func reduceScatterAllGather(
    _ vector: UnsafeMutableBufferPointer<Float>, parts: [Range<Int>],
    _ scratch: UnsafeMutableBufferPointer<Float>
  ) throws(MPIError) {
    if size == 1 { return }
    let counts = parts.map { Int32($0.count) }, starts = parts.map { Int32($0.lowerBound) }
    try perform { () throws(MPIError) in
      try check(
        "MPI_Reduce_scatter",
        MPI_Reduce_scatter(vector.baseAddress, scratch.baseAddress, counts, Float.mpiType, cmpi_sum(), handle)
      )
      try check(
        "MPI_Allgatherv",
        MPI_Allgatherv(
          scratch.baseAddress, counts[rank], Float.mpiType, vector.baseAddress, counts, starts, Float.mpiType,
          handle))
    }
  }
}
