import CMPI
import Glibc

/// The ranks of a job, and how they talk.
///
/// One rank answers itself, and never calls MPI: so it need not have been started. Every collective function is called by
/// all ranks in the same order, returns once this rank's part is done, and throws MPI's error (`MPI_ERRORS_RETURN`) where a
/// call of MPI fails. Only one thread talks at a time, the courier's if there is one. Long messages go in pieces, so a
/// length is limited by memory alone.
package struct Communicator: @unchecked Sendable {
  // MPI's handle may be used from any thread; that no two do so at once is the caller's promise to MPI
  // (MPI_THREAD_SERIALIZED).
  let handle: cmpi_comm
  /// This process's number, 0..<size.
  package let rank: Int
  /// How many ranks the job has, 1….
  package let size: Int
  /// The name of this rank's host.
  package let host: String
  /// This rank's number among those on the same host, 0..<localSize.
  package let localRank: Int
  /// How many ranks share this host.
  package let localSize: Int
  /// The thread that makes the calls; nil: the caller's.
  package internal(set) var courier: Courier?

  /// Bytes in a piece of a long message: pieces of 1 to 25 MB are the fastest, one huge message is slow, and over TCP
  /// each may need a buffer of its length.
  package static let pieceBytes = 4 << 20

  /// The world of a process that is alone, without MPI.
  init() {
    handle = cmpi_null_comm()
    (rank, size, localRank, localSize) = (0, 1, 0, 1)
    host = hostName()
  }

  init(world handle: cmpi_comm) throws(MPIError) {
    try check("MPI_Comm_set_errhandler", cmpi_return_errors(handle))
    self.handle = handle
    rank = try answer("MPI_Comm_rank", cmpi_comm_rank(handle))
    size = try answer("MPI_Comm_size", cmpi_comm_size(handle))
    host = processorName() ?? "unknown host"
    // Ranks of a host keep their order: the key is the rank.
    let local = try answer("MPI_Comm_split_type", cmpi_comm_split_by_host(handle, Int32(rank)))
    localRank = try answer("MPI_Comm_rank", cmpi_comm_rank(local))
    localSize = try answer("MPI_Comm_size", cmpi_comm_size(local))
    try check("MPI_Comm_free", cmpi_comm_free(local))
  }

  /// Waits until all ranks are here (MPI_Ibarrier).
  package func barrier() throws(MPIError) {
    if size == 1 { return }
    try perform { () throws(MPIError) in try complete("MPI_Ibarrier", cmpi_ibarrier(handle)) }
  }

  // MARK: One rank to all

  /// Copies `root`'s numbers over those of all other ranks (MPI_Ibcast). All give the same length.
  package func broadcast<Scalar: MPIScalar>(
    _ values: inout MutableSpan<Scalar>, from root: Int = 0
  ) throws(MPIError) {
    try values.withView { values throws(MPIError) in try broadcast(values, from: root) }
  }

  func broadcast<Scalar: MPIScalar>(_ values: VectorView<Scalar>, from root: Int) throws(MPIError) {
    if size == 1 { return }
    try perform { () throws(MPIError) in
      for piece in pieces(values) { try complete("MPI_Ibcast", handle.ibcast(piece, from: root)) }
    }
  }

  /// The array of `root`, on all ranks. The others need not know its length; what they give is ignored.
  package func broadcast<Scalar: MPIScalar>(_ array: [Scalar], from root: Int = 0) throws(MPIError)
    -> [Scalar]
  {
    if size == 1 { return array }
    var length = [Int64(array.count)]
    try length.withView { values throws(MPIError) in try broadcast(values, from: root) }
    if rank == root {
      try array.withReadView { values throws(MPIError) in try broadcast(values, from: root) }
      return array
    }
    return try Array(count: Int(length[0])) { values throws(MPIError) in try broadcast(values, from: root) }
  }

  /// The text of `root`, on all ranks.
  package func broadcast(_ text: String, from root: Int = 0) throws(MPIError) -> String {
    let bytes: [UInt8] = try broadcast(rank == root ? Array(text.utf8) : [], from: root)
    return String(decoding: bytes, as: UTF8.self)
  }

  // MARK: All ranks to one, or to all

  /// Every rank's array on `root`, `[size][its length]` in rank order; an empty list on the others. Lengths may differ.
  package func gather<Scalar: MPIScalar>(_ array: [Scalar], to root: Int = 0) throws(MPIError) -> [[Scalar]] {
    try perform { () throws(MPIError) in
      let lengths = try lengths(array.count)
      if rank != root {
        try array.withReadView { values throws(MPIError) in try send(values, to: root) }
        return []
      }
      var arrays: [[Scalar]] = []
      for (sender, length) in lengths.enumerated() {
        if sender == rank {
          arrays.append(array)
        } else {
          arrays.append(
            try Array(count: length) { values throws(MPIError) in try receive(into: values, from: sender) })
        }
      }
      return arrays
    }
  }

  /// Every rank's text on `root`, in rank order; an empty list on the others.
  package func gather(_ text: String, to root: Int = 0) throws(MPIError) -> [String] {
    try gather(Array(text.utf8), to: root).map { String(decoding: $0, as: UTF8.self) }
  }

  /// Every rank's array on every rank, `[size][its length]` in rank order. Lengths may differ.
  package func allGather<Scalar: MPIScalar>(_ array: [Scalar]) throws(MPIError) -> [[Scalar]] {
    let parts = parts(try lengths(array.count))
    let all = try concatenation(of: array, parts: parts)
    return parts.map { Array(all[$0]) }
  }

  /// Every rank's text on every rank, in rank order.
  package func allGather(_ text: String) throws(MPIError) -> [String] {
    try allGather(Array(text.utf8)).map { String(decoding: $0, as: UTF8.self) }
  }

  /// Fills `vector` on every rank: rank r gives the part r, which it has already. The parts follow each other
  /// in rank order, without gaps, and are the same on all ranks. In place, as MPI_Allgatherv with MPI_IN_PLACE.
  ///
  /// `vector`: memory that stays until this returns.
  package func allGather<Scalar: MPIScalar>(
    _ vector: UnsafeMutableBufferPointer<Scalar>, parts: [Range<Int>]
  ) throws(MPIError) {
    // The caller keeps it until this returns.
    try allGather(unsafe VectorView(vector), parts: parts)
  }

  func allGather<Scalar: MPIScalar>(_ vector: VectorView<Scalar>, parts: [Range<Int>]) throws(MPIError) {
    precondition(parts.count == size, "\(parts.count) parts for \(size) ranks")
    if vector.count == 0 || size == 1 { return }
    // Where messages are short their number counts, and MPI's own algorithms need only log2 N.
    if vector.bytes <= 1 << 20 {
      let list = PartList(parts)
      return try perform { () throws(MPIError) in
        // MPI reads the list until the end.
        defer { withExtendedLifetime(list) {} }
        try complete("MPI_Iallgatherv", handle.iallgatherv(vector, list))
      }
    }
    let own = vector[parts[rank]]
    try perform { () throws(MPIError) in
      var messages = Messages(self)
      for distance in 1..<size {
        let source = (rank + size - distance) % size
        try messages.receive(into: vector[parts[source]], from: source)
      }
      for distance in 1..<size { try messages.send(own, to: (rank + distance) % size) }
      try messages.complete()
    }
  }

  // MARK: One rank to another

  /// Sends to rank `target`, which calls `receive` with the same length; returns once the numbers may change.
  package func send<Scalar: MPIScalar>(_ values: Span<Scalar>, to target: Int) throws(MPIError) {
    try values.withReadView { values throws(MPIError) in try send(values, to: target) }
  }

  func send<Scalar: MPIScalar>(_ values: VectorView<Scalar>, to target: Int) throws(MPIError) {
    try perform { () throws(MPIError) in
      var messages = Messages(self)
      try messages.send(values, to: target)
      try messages.complete()
    }
  }

  /// Receives from rank `source`, which calls `send` with the same length.
  package func receive<Scalar: MPIScalar>(
    into values: inout MutableSpan<Scalar>, from source: Int
  ) throws(MPIError) {
    try values.withView { values throws(MPIError) in try receive(into: values, from: source) }
  }

  func receive<Scalar: MPIScalar>(into values: VectorView<Scalar>, from source: Int) throws(MPIError) {
    try perform { () throws(MPIError) in
      var messages = Messages(self)
      try messages.receive(into: values, from: source)
      try messages.complete()
    }
  }

  // MARK: Decisions that all ranks share

  /// Runs `body` on rank 0, and on the others once it has ended well there: an error that every rank would find
  /// alike, such as a missing file, is said once, since rank 0's error ends the job while the others wait. Throws what
  /// `body` throws, or `MPIError`.
  package func rootFirst<Result>(_ body: () throws -> Result) throws -> Result {
    if rank != 0 { try barrier() }
    let result = try body()
    if rank == 0 { try barrier() }
    return result
  }

  /// True on all ranks if `flag` is true on any.
  package func any(_ flag: Bool) throws(MPIError) -> Bool { try max(flag ? 1 : 0) == 1 }

  /// True on all ranks if `flag` is true on all.
  package func all(_ flag: Bool) throws(MPIError) -> Bool { try min(flag ? 1 : 0) == 1 }

  /// The largest of all ranks' numbers.
  package func max(_ value: Int) throws(MPIError) -> Int { Int(try reduced(Int64(value), cmpi_max())) }

  /// The largest of all ranks' numbers.
  package func max(_ value: Double) throws(MPIError) -> Double { try reduced(value, cmpi_max()) }

  /// The smallest of all ranks' numbers.
  package func min(_ value: Int) throws(MPIError) -> Int { Int(try reduced(Int64(value), cmpi_min())) }

  /// The smallest of all ranks' numbers.
  package func min(_ value: Double) throws(MPIError) -> Double { try reduced(value, cmpi_min()) }

  /// Throws a `Disagreement` if the ranks do not all have the same value of `what`, as it is read in "the ranks differ in
  /// recipe": on rank 0, while the others wait for their end, so that it is said once.
  package func agree(on what: String, _ value: String) throws {
    let values = try allGather(value)
    guard let disagreement = Disagreement(what, values) else { return }
    if rank != 0 { try barrier() }
    throw disagreement
  }

  // MARK: Parts

  private func reduced<Scalar: MPIScalar>(_ value: Scalar, _ operation: cmpi_op) throws(MPIError) -> Scalar {
    if size == 1 { return value }
    var values = [value, value]
    try perform { () throws(MPIError) in
      try values.withView { values throws(MPIError) in
        try complete("MPI_Iallreduce", handle.iallreduce(values[0..<1], into: values[1..<2], operation))
      }
    }
    return values[1]
  }

  /// Every rank's `length`.
  private func lengths(_ length: Int) throws(MPIError) -> [Int] {
    if size == 1 { return [length] }
    var lengths = [Int64](repeating: 0, count: size)
    lengths[rank] = Int64(length)
    try perform { () throws(MPIError) in
      try lengths.withView { lengths throws(MPIError) in
        try complete("MPI_Iallgather", handle.iallgather(lengths))
      }
    }
    return lengths.map { Int($0) }
  }

  /// The ranges of arrays of these lengths that follow each other.
  private func parts(_ lengths: [Int]) -> [Range<Int>] {
    var end = 0
    return lengths.map { length in
      end += length
      return end - length..<end
    }
  }

  /// All ranks' arrays one after the other; `parts` says where each belongs.
  func concatenation<Scalar: MPIScalar>(of array: [Scalar], parts: [Range<Int>]) throws(MPIError) -> [Scalar]
  {
    try Array(count: parts.last?.upperBound ?? 0) { all throws(MPIError) in
      all[parts[rank]].copy(array)
      try allGather(all, parts: parts)
    }
  }
}

/// Messages that are under way together. What they carry stays where it is until `complete`.
struct Messages {
  /// All have the same: between two ranks messages are matched in the order in which they were sent.
  private static let tag: Int32 = 0
  private let communicator: Communicator
  private var requests: [cmpi_request] = []
  /// What keeps the memory of the messages.
  private var owners: [AnyObject] = []

  init(_ communicator: Communicator) { self.communicator = communicator }

  /// Starts to send to `target`, which receives the same length.
  mutating func send<Scalar: MPIScalar>(_ values: VectorView<Scalar>, to target: Int) throws(MPIError) {
    if let owner = values.owner { owners.append(owner) }
    for piece in pieces(values) {
      try start("MPI_Isend", communicator.handle.isend(piece, to: target, tag: Self.tag))
    }
    communicator.courier?.count(bytes: values.bytes)
  }

  /// Starts to receive from `source`, which sends the same length.
  mutating func receive<Scalar: MPIScalar>(
    into values: VectorView<Scalar>, from source: Int
  ) throws(MPIError) {
    if let owner = values.owner { owners.append(owner) }
    for piece in pieces(values) {
      try start("MPI_Irecv", communicator.handle.irecv(piece, from: source, tag: Self.tag))
    }
  }

  private mutating func start(_ call: StaticString, _ started: cmpi_started) throws(MPIError) {
    try check(call, started.code)
    requests.append(started.request)
  }

  /// Waits for all of them.
  mutating func complete() throws(MPIError) {
    try communicator.complete(&requests)
    requests.removeAll(keepingCapacity: true)
    owners.removeAll(keepingCapacity: true)
  }
}

/// A vector cut into pieces that are short enough for one message.
func pieces<Scalar>(_ values: VectorView<Scalar>) -> [VectorView<Scalar>] {
  if values.count == 0 { return [] }
  if values.bytes <= Communicator.pieceBytes { return [values] }
  let length = Communicator.pieceBytes / MemoryLayout<Scalar>.stride
  return stride(from: 0, to: values.count, by: length).map {
    values[$0..<Swift.min($0 + length, values.count)]
  }
}

/// This host's name, without MPI.
private func hostName() -> String {
  var name = [CChar](repeating: 0, count: 256)
  // It writes 255 characters at most, so the last one stays 0.
  unsafe gethostname(&name, name.count - 1)
  return String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
}

/// This host's name as MPI has it.
private func processorName() -> String? {
  // There is room for what MPI writes at most.
  unsafe text(capacity: cmpi_max_processor_name()) { unsafe MPI_Get_processor_name($0, $1) }
}
