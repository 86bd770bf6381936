import CMPI
import Glibc

/// The ranks of a job, and how they talk.
///
/// One rank answers itself, and never calls MPI: so it need not have been started. Every collective function is called by
/// all ranks in the same order, and all of them leave with MPI's error
/// thrown rather than the program ended. Only one thread talks at a time, the courier's if there is one. Long messages
/// go in pieces, so a length is limited by memory alone.
public struct Communicator: @unchecked Sendable {
  // MPI's handle may be used from any thread; that no two do so at once is the caller's promise to MPI
  // (MPI_THREAD_SERIALIZED).
  let handle: MPI_Comm
  /// This process's number, 0..<size.
  package let rank: Int
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
    var name = [CChar](repeating: 0, count: 256)
    gethostname(&name, name.count - 1)
    host = String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  init(world handle: MPI_Comm) throws(MPIError) {
    try check("MPI_Comm_set_errhandler", cmpi_return_errors(handle))
    self.handle = handle
    var number: Int32 = 0
    try check("MPI_Comm_rank", MPI_Comm_rank(handle, &number))
    rank = Int(number)
    try check("MPI_Comm_size", MPI_Comm_size(handle, &number))
    size = Int(number)
    host = text(capacity: cmpi_max_processor_name()) { MPI_Get_processor_name($0, $1) } ?? "unknown host"
    // Ranks of a host keep their order: the key is the rank.
    var local = cmpi_null_comm()
    try check(
      "MPI_Comm_split_type",
      MPI_Comm_split_type(handle, cmpi_split_by_host(), Int32(rank), cmpi_no_info(), &local))
    try check("MPI_Comm_rank", MPI_Comm_rank(local, &number))
    localRank = Int(number)
    try check("MPI_Comm_size", MPI_Comm_size(local, &number))
    localSize = Int(number)
    try check("MPI_Comm_free", MPI_Comm_free(&local))
  }

  /// Waits until all ranks are here.
  package func barrier() throws(MPIError) {
    if size == 1 { return }
    try perform { () throws(MPIError) in try complete("MPI_Ibarrier") { MPI_Ibarrier(handle, &$0.raw) } }
  }

  // MARK: One rank to all

  /// Copies `root`'s numbers over those of all other ranks. All give the same length.
  package func broadcast<Scalar: MPIScalar>(
    _ values: inout MutableSpan<Scalar>, from root: Int = 0
  ) throws(MPIError) {
    try values.withUnsafeMutableBufferPointer { buffer throws(MPIError) in try broadcast(buffer, from: root) }
  }

  func broadcast<Scalar: MPIScalar>(
    _ values: UnsafeMutableBufferPointer<Scalar>, from root: Int = 0
  ) throws(MPIError) {
    if size == 1 { return }
    try perform { () throws(MPIError) in
      for piece in pieces(of: values.indices, as: Scalar.self) {
        try complete("MPI_Ibcast") {
          MPI_Ibcast(
            values.baseAddress! + piece.lowerBound, Int32(piece.count), Scalar.mpiType, Int32(root), handle,
            &$0.raw)
        }
      }
    }
  }

  /// The array of `root`, on all ranks. The others need not know its length; what they give is ignored.
  package func broadcast<Scalar: MPIScalar>(_ array: [Scalar], from root: Int = 0) throws(MPIError)
    -> [Scalar]
  {
    if size == 1 { return array }
    var length = [Int64(array.count)]
    try withPointer(to: &length) { values throws(MPIError) in try broadcast(values, from: root) }
    if rank == root {
      var array = array
      try withPointer(to: &array) { values throws(MPIError) in try broadcast(values, from: root) }
      return array
    }
    return try filledArray(Int(length[0])) { values throws(MPIError) in try broadcast(values, from: root) }
  }

  /// The text of `root`, on all ranks.
  package func broadcast(_ text: String, from root: Int = 0) throws(MPIError) -> String {
    let bytes: [UInt8] = try broadcast(rank == root ? Array(text.utf8) : [], from: root)
    return String(decoding: bytes, as: UTF8.self)
  }

  // MARK: All ranks to one, or to all

  /// Every rank's array on `root`, in rank order; an empty list on the others. Lengths may differ.
  package func gather<Scalar: MPIScalar>(_ array: [Scalar], to root: Int = 0) throws(MPIError) -> [[Scalar]] {
    try perform { () throws(MPIError) in
      let lengths = try lengths(array.count)
      if rank != root {
        var array = array
        try withPointer(to: &array) { values throws(MPIError) in
          try send(UnsafeBufferPointer(values), to: root)
        }
        return []
      }
      var arrays: [[Scalar]] = []
      for (sender, length) in lengths.enumerated() {
        if sender == rank {
          arrays.append(array)
        } else {
          arrays.append(
            try filledArray(length) { values throws(MPIError) in try receive(into: values, from: sender) })
        }
      }
      return arrays
    }
  }

  /// Every rank's text on `root`, in rank order; an empty list on the others.
  package func gather(_ text: String, to root: Int = 0) throws(MPIError) -> [String] {
    try gather(Array(text.utf8), to: root).map { String(decoding: $0, as: UTF8.self) }
  }

  /// Every rank's array on every rank, in rank order. Lengths may differ.
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
  /// in rank order, without gaps, and are the same on all ranks.
  package func allGather<Scalar: MPIScalar>(
    _ vector: UnsafeMutableBufferPointer<Scalar>, parts: [Range<Int>]
  ) throws(MPIError) {
    precondition(parts.count == size, "\(parts.count) parts for \(size) ranks")
    guard let base = vector.baseAddress, size > 1 else { return }
    // Where messages are short their number counts, and MPI's own algorithms need only log2 N.
    if vector.count * MemoryLayout<Scalar>.stride <= 1 << 20 {
      let counts = parts.map { Int32($0.count) }
      let starts = parts.map { Int32($0.lowerBound) }
      return try perform { () throws(MPIError) in
        // MPI keeps the two lists until the end.
        try counts.withUnsafeBufferPointer { counts throws(MPIError) in
          try starts.withUnsafeBufferPointer { starts throws(MPIError) in
            try complete("MPI_Iallgatherv") {
              MPI_Iallgatherv(
                cmpi_in_place(), 0, Scalar.mpiType, base, counts.baseAddress, starts.baseAddress,
                Scalar.mpiType,
                handle, &$0.raw)
            }
          }
        }
      }
    }
    let own = UnsafeBufferPointer(rebasing: vector[parts[rank]])
    try perform { () throws(MPIError) in
      var messages = Messages(self)
      for distance in 1..<size {
        let source = (rank + size - distance) % size
        try messages.receive(into: UnsafeMutableBufferPointer(rebasing: vector[parts[source]]), from: source)
      }
      for distance in 1..<size { try messages.send(own, to: (rank + distance) % size) }
      try messages.complete()
    }
  }

  // MARK: One rank to another

  /// Sends to `target`, which calls `receive` with the same length.
  package func send<Scalar: MPIScalar>(_ values: Span<Scalar>, to target: Int) throws(MPIError) {
    try values.withUnsafeBufferPointer { buffer throws(MPIError) in try send(buffer, to: target) }
  }

  func send<Scalar: MPIScalar>(_ values: UnsafeBufferPointer<Scalar>, to target: Int) throws(MPIError) {
    try perform { () throws(MPIError) in
      var messages = Messages(self)
      try messages.send(values, to: target)
      try messages.complete()
    }
  }

  /// Receives from `source`, which calls `send` with the same length.
  package func receive<Scalar: MPIScalar>(
    into values: inout MutableSpan<Scalar>, from source: Int
  ) throws(MPIError) {
    try values.withUnsafeMutableBufferPointer { buffer throws(MPIError) in
      try receive(into: buffer, from: source)
    }
  }

  func receive<Scalar: MPIScalar>(
    into values: UnsafeMutableBufferPointer<Scalar>, from source: Int
  ) throws(MPIError) {
    try perform { () throws(MPIError) in
      var messages = Messages(self)
      try messages.receive(into: values, from: source)
      try messages.complete()
    }
  }

  // MARK: Decisions that all ranks share

  /// Runs `body` on rank 0, and on the others once it has ended well there: an error that every rank would find
  /// alike, such as a missing file, is said once, since rank 0's error ends the job while the others wait.
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

  /// Throws a `Disagreement` if the ranks do not all have the same value of `what`: on rank 0, while the others wait for
  /// their end, so that it is said once.
  package func agree(on what: String, _ value: String) throws {
    let values = try allGather(value)
    guard let disagreement = Disagreement(what, values) else { return }
    if rank != 0 { try barrier() }
    throw disagreement
  }

  // MARK: Parts

  private func reduced<Scalar: MPIScalar>(_ value: Scalar, _ operation: MPI_Op) throws(MPIError) -> Scalar {
    if size == 1 { return value }
    var values = [value, value]
    try perform { () throws(MPIError) in
      try withPointer(to: &values) { values throws(MPIError) in
        let base = values.baseAddress!  // there are two
        try complete("MPI_Iallreduce") {
          MPI_Iallreduce(base, base + 1, 1, Scalar.mpiType, operation, handle, &$0.raw)
        }
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
      try withPointer(to: &lengths) { lengths throws(MPIError) in
        try complete("MPI_Iallgather") {
          MPI_Iallgather(
            cmpi_in_place(), 0, Int64.mpiType, lengths.baseAddress, 1, Int64.mpiType, handle, &$0.raw)
        }
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
    try filledArray(parts.last?.upperBound ?? 0) { all throws(MPIError) in
      _ = UnsafeMutableBufferPointer(rebasing: all[parts[rank]]).update(fromContentsOf: array)
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

  init(_ communicator: Communicator) { self.communicator = communicator }

  /// Starts to send to `target`, which receives the same length.
  mutating func send<Scalar: MPIScalar>(_ values: UnsafeBufferPointer<Scalar>, to target: Int)
    throws(MPIError)
  {
    for piece in pieces(of: values.indices, as: Scalar.self) {
      requests.append(cmpi_no_request())
      try check(
        "MPI_Isend",
        MPI_Isend(
          values.baseAddress! + piece.lowerBound, Int32(piece.count), Scalar.mpiType, Int32(target), Self.tag,
          communicator.handle, &requests[requests.count - 1].raw))
    }
    communicator.courier?.count(bytes: values.count * MemoryLayout<Scalar>.stride)
  }

  /// Starts to receive from `source`, which sends the same length.
  mutating func receive<Scalar: MPIScalar>(
    into values: UnsafeMutableBufferPointer<Scalar>, from source: Int
  ) throws(MPIError) {
    for piece in pieces(of: values.indices, as: Scalar.self) {
      requests.append(cmpi_no_request())
      try check(
        "MPI_Irecv",
        MPI_Irecv(
          values.baseAddress! + piece.lowerBound, Int32(piece.count), Scalar.mpiType, Int32(source), Self.tag,
          communicator.handle, &requests[requests.count - 1].raw))
    }
  }

  /// Waits for all of them.
  mutating func complete() throws(MPIError) {
    try communicator.complete(&requests)
    requests.removeAll(keepingCapacity: true)
  }
}

/// `range` cut into pieces that are short enough for one message.
func pieces<Scalar>(of range: Range<Int>, as type: Scalar.Type) -> [Range<Int>] {
  let length = Communicator.pieceBytes / MemoryLayout<Scalar>.stride
  return stride(from: range.lowerBound, to: range.upperBound, by: length).map {
    $0..<Swift.min($0 + length, range.upperBound)
  }
}

/// An array of `count` numbers that `fill` writes, all of them, or throws.
func filledArray<Scalar: MPIScalar>(
  _ count: Int, _ fill: (UnsafeMutableBufferPointer<Scalar>) throws(MPIError) -> Void
) throws(MPIError) -> [Scalar] {
  var failure: MPIError?
  let array = [Scalar](unsafeUninitializedCapacity: count) { buffer, initialized in
    do throws(MPIError) {
      // Without this an array's spare capacity would belong to the message.
      try fill(UnsafeMutableBufferPointer(rebasing: buffer[0..<count]))
      initialized = count
    } catch {
      failure = error
    }
  }
  if let failure { throw failure }
  return array
}

/// The array's memory, for `body` alone.
func withPointer<Scalar: MPIScalar>(
  to array: inout [Scalar], _ body: (UnsafeMutableBufferPointer<Scalar>) throws(MPIError) -> Void
) throws(MPIError) {
  try array.withUnsafeMutableBufferPointer { buffer throws(MPIError) in try body(buffer) }
}
