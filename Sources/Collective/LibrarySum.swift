import CMPI

/// By what a sum over ranks is made.
package enum SumMethod: String, CaseIterable, Sendable {
  /// `TreeReducer`: the same bits for any number of ranks.
  case tree
  /// The MPI library's own reduction, which may suit a fabric better: the same bits only for the same number of ranks,
  /// and surely the tree's only on two, which leave one order.
  case mpi
}

extension Communicator {
  /// The sum of all ranks' vectors by MPI's own reduction, each rank's part of it in its place in `vector`. The parts
  /// follow each other in rank order, without gaps.
  func reduceScatter(_ vector: VectorView<Float>, parts: [Range<Int>]) throws(MPIError) {
    // One rank's vector is the sum.
    if size == 1 || vector.count == 0 { return }
    let own = parts[rank], list = PartList(parts), result = VectorMemory<Float>(own.count, of: 0).view
    try perform { () throws(MPIError) in
      // MPI reads the list until the end.
      defer { withExtendedLifetime(list) {} }
      try complete("MPI_Ireduce_scatter", handle.ireduceScatter(vector, into: result, list))
    }
    vector[own].copy(result)
  }

  /// The sum of all ranks' vectors on every rank by MPI_Allreduce, which spins while it waits: to compare with. In place; the
  /// memory stays until this returns.
  package func allreduce(_ vector: UnsafeMutableBufferPointer<Float>) throws(MPIError) {
    if size == 1 { return }
    // The caller keeps it until this returns.
    let vector = unsafe VectorView(vector)
    try perform { () throws(MPIError) in try check("MPI_Allreduce", handle.allreduce(vector)) }
  }

  /// The same by MPI_Reduce_scatter and MPI_Allgatherv; `scratch` has room for the largest of `parts`, which are one a rank,
  /// in rank order, without gaps.
  package func reduceScatterAllGather(
    _ vector: UnsafeMutableBufferPointer<Float>, parts: [Range<Int>],
    _ scratch: UnsafeMutableBufferPointer<Float>
  ) throws(MPIError) {
    if size == 1 { return }
    let list = PartList(parts)
    // The caller keeps both until this returns.
    let vector = unsafe VectorView(vector), own = unsafe VectorView(scratch)[0..<parts[rank].count]
    try perform { () throws(MPIError) in
      defer { withExtendedLifetime(list) {} }
      try check("MPI_Reduce_scatter", handle.reduceScatter(vector, into: own, list))
      try check("MPI_Allgatherv", handle.allgatherv(own, into: vector, list))
    }
  }
}
