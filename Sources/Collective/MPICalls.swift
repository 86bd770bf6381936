import CMPI

// MPI's calls that carry messages, with views for pointers and lengths.
//
// Each `unsafe` here has the same reason: MPI reads or writes the `count` numbers at a view's address, which the view
// says are there. They have to stay until the operation is over, so whoever starts one holds the view until
// `Communicator.complete` or `Messages.complete` has returned.

extension cmpi_comm {
  func isend<Scalar: MPIScalar>(_ values: VectorView<Scalar>, to target: Int, tag: Int32) -> cmpi_started {
    unsafe cmpi_isend(
      values.memory.baseAddress, Int32(values.count), Scalar.mpiType, Int32(target), tag, self)
  }

  func irecv<Scalar: MPIScalar>(_ values: VectorView<Scalar>, from source: Int, tag: Int32) -> cmpi_started {
    unsafe cmpi_irecv(
      values.memory.baseAddress, Int32(values.count), Scalar.mpiType, Int32(source), tag, self)
  }

  func recv<Scalar: MPIScalar>(_ values: VectorView<Scalar>, from source: Int, tag: Int32) -> Int32 {
    unsafe cmpi_recv(
      values.memory.baseAddress, Int32(values.count), Scalar.mpiType, Int32(source), tag, self)
  }

  func ibcast<Scalar: MPIScalar>(_ values: VectorView<Scalar>, from root: Int) -> cmpi_started {
    unsafe cmpi_ibcast(values.memory.baseAddress, Int32(values.count), Scalar.mpiType, Int32(root), self)
  }

  func iallreduce<Scalar: MPIScalar>(
    _ values: VectorView<Scalar>, into result: VectorView<Scalar>, _ operation: cmpi_op
  ) -> cmpi_started {
    precondition(values.count == result.count, "\(values.count) numbers into \(result.count)")
    return unsafe cmpi_iallreduce(
      values.memory.baseAddress, result.memory.baseAddress, Int32(values.count), Scalar.mpiType, operation,
      self)
  }

  /// `values`: one number a rank, of which this rank's is there.
  func iallgather<Scalar: MPIScalar>(_ values: VectorView<Scalar>) -> cmpi_started {
    unsafe cmpi_iallgather(values.memory.baseAddress, 1, Scalar.mpiType, self)
  }

  /// `values`: all ranks' parts, of which this rank's is there.
  func iallgatherv<Scalar: MPIScalar>(_ values: VectorView<Scalar>, _ parts: PartList) -> cmpi_started {
    parts.check(values.count)
    return unsafe cmpi_iallgatherv(
      values.memory.baseAddress, parts.counts.memory.baseAddress, parts.starts.memory.baseAddress,
      Scalar.mpiType, self)
  }

  /// `result`: this rank's part of the sum, as long as `parts` says.
  func ireduceScatter<Scalar: MPIScalar>(
    _ values: VectorView<Scalar>, into result: VectorView<Scalar>, _ parts: PartList
  ) -> cmpi_started {
    parts.check(values.count)
    return unsafe cmpi_ireduce_scatter(
      values.memory.baseAddress, result.memory.baseAddress, parts.counts.memory.baseAddress, Scalar.mpiType,
      cmpi_sum(), self)
  }

  func allreduce<Scalar: MPIScalar>(_ values: VectorView<Scalar>) -> Int32 {
    unsafe cmpi_allreduce(values.memory.baseAddress, Int32(values.count), Scalar.mpiType, cmpi_sum(), self)
  }

  func reduceScatter<Scalar: MPIScalar>(
    _ values: VectorView<Scalar>, into result: VectorView<Scalar>, _ parts: PartList
  ) -> Int32 {
    parts.check(values.count)
    return unsafe cmpi_reduce_scatter(
      values.memory.baseAddress, result.memory.baseAddress, parts.counts.memory.baseAddress, Scalar.mpiType,
      cmpi_sum(), self)
  }

  func allgatherv<Scalar: MPIScalar>(
    _ own: VectorView<Scalar>, into values: VectorView<Scalar>, _ parts: PartList
  ) -> Int32 {
    parts.check(values.count)
    return unsafe cmpi_allgatherv(
      own.memory.baseAddress, Int32(own.count), values.memory.baseAddress, parts.counts.memory.baseAddress,
      parts.starts.memory.baseAddress, Scalar.mpiType, self)
  }
}

/// Whether all of `requests` are done, which makes progress with them.
func testAll(_ requests: inout [cmpi_request]) throws(MPIError) -> Bool {
  var flag: Int32 = 0
  // MPI writes both, and keeps neither address.
  try check("MPI_Testall", unsafe cmpi_test_all(Int32(requests.count), &requests, &flag))
  return flag != 0
}

/// Waits until all of `requests` are done.
func waitAll(_ requests: inout [cmpi_request]) throws(MPIError) {
  // MPI writes the list, and does not keep its address.
  try check("MPI_Waitall", unsafe cmpi_wait_all(Int32(requests.count), &requests))
}

/// The parts of a vector, one a rank, as MPI wants them: it reads the two lists until the operation is over.
struct PartList {
  /// Numbers of each part, and where it starts.
  let counts, starts: VectorView<Int32>
  private let end: Int

  init(_ parts: [Range<Int>]) {
    let lists = VectorMemory<Int32>(2 * parts.count, of: 0).view
    lists.copy(parts.map { Int32($0.count) } + parts.map { Int32($0.lowerBound) })
    counts = lists[0..<parts.count]
    starts = lists[parts.count..<2 * parts.count]
    end = parts.last?.upperBound ?? 0
  }

  func check(_ count: Int) { precondition(end <= count, "parts up to \(end) of \(count) numbers") }
}

/// An answer of MPI's beside its return value; throws where that says so.
func answer(_ call: StaticString, _ answer: cmpi_number) throws(MPIError) -> Int {
  try check(call, answer.code)
  return Int(answer.value)
}

/// A communicator that MPI has made; throws where it has not.
func answer(_ call: StaticString, _ answer: cmpi_new_comm) throws(MPIError) -> cmpi_comm {
  try check(call, answer.code)
  return answer.comm
}
