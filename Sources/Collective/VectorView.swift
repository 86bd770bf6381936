/// Numbers in memory, read and written through: what a message carries, what a sum adds up.
///
/// Copies of a view are the same memory. A view keeps the owner of its memory, if that is a `VectorMemory`; whoever makes one
/// of a pointer keeps the memory until nothing uses the view any more: for an exchange, until that is over.
// Safe, since what is read and written is checked against `count` and the memory is there, by the owner or by the promise
// of whoever wrote `unsafe` in making the view.
@safe package struct VectorView<Scalar: BitwiseCopyable> {
  /// For what MPI reads and writes, and for callers who have pointers.
  @unsafe let memory: UnsafeMutableBufferPointer<Scalar>
  /// What keeps the memory; nil where its maker does.
  let owner: AnyObject?

  /// Of memory that stays as long as the view is used.
  @unsafe init(_ memory: UnsafeMutableBufferPointer<Scalar>, owner: AnyObject? = nil) {
    // Nothing is accessed here.
    unsafe self.memory = memory
    self.owner = owner
  }

  /// Of memory that is only read: whoever makes it sends it, and nothing else.
  @unsafe init(reading memory: UnsafeBufferPointer<Scalar>) {
    // Nothing is written through it, as the maker promises.
    unsafe self.init(UnsafeMutableBufferPointer(mutating: memory))
  }

  /// How many numbers there are.
  var count: Int {
    // A count is no access.
    unsafe memory.count
  }
  var bytes: Int { count * MemoryLayout<Scalar>.stride }

  /// A part of it.
  subscript(range: Range<Int>) -> VectorView {
    precondition(
      range.lowerBound >= 0 && range.upperBound <= count, "\(range) of a vector of \(count) numbers")
    // Inside, as was just checked.
    let start = unsafe memory.baseAddress.map { unsafe $0 + range.lowerBound }
    return unsafe VectorView(UnsafeMutableBufferPointer(start: start, count: range.count), owner: owner)
  }

  /// Copies all of `other`, which has the same length; the two may be the same memory.
  func copy(_ other: VectorView) {
    precondition(other.count == count, "\(other.count) numbers into \(count)")
    // Both have `count` numbers, and a base where that is not 0.
    guard let target = unsafe memory.baseAddress, let source = unsafe other.memory.baseAddress else { return }
    if unsafe target != source { unsafe target.update(from: source, count: count) }
  }

  /// Copies all of `array`, which has the same length.
  func copy(_ array: [Scalar]) {
    array.withReadView { copy($0) }
  }

  func fill(_ value: Scalar) {
    // All of it, and no more.
    unsafe memory.update(repeating: value)
  }

  /// Whether both begin at the same number.
  func begins(with other: VectorView) -> Bool {
    // Addresses are compared, not read.
    unsafe memory.baseAddress == other.memory.baseAddress
  }
}

extension VectorView where Scalar: Summand {
  /// self[i] += other[i]; the two have the same length, and are the same memory or do not overlap.
  func add(_ other: VectorView) { Scalar.add(other, to: self) }

  /// `add`, compiled for one type.
  @inline(__always) func addEach(_ other: VectorView) where Scalar: FloatingPoint {
    precondition(other.count == count, "\(other.count) numbers added to \(count)")
    // Both have `count` numbers. Pointers, since the two may be one memory, which spans may not.
    guard let x = unsafe other.memory.baseAddress, let y = unsafe memory.baseAddress else { return }
    for i in 0..<count { unsafe y[i] += x[i] }
  }
}

/// Memory of `count` numbers with one owner, which views of it keep.
// Safe, since the pointer leaves only in views, and those hold the owner.
@safe final class VectorMemory<Scalar: BitwiseCopyable> {
  private let memory: UnsafeMutableBufferPointer<Scalar>

  init(_ count: Int, of value: Scalar) {
    // Given back in `deinit`; at least one number, so that each memory has an address of its own.
    let all = UnsafeMutableBufferPointer<Scalar>.allocate(capacity: max(count, 1))
    unsafe all.initialize(repeating: value)
    unsafe memory = UnsafeMutableBufferPointer(start: all.baseAddress, count: count)
  }

  // No view is left: each holds this object.
  deinit { unsafe memory.deallocate() }

  var view: VectorView<Scalar> {
    // Kept by the view itself.
    unsafe VectorView(memory, owner: self)
  }
}

extension Array where Element: BitwiseCopyable {
  /// An array of `count` numbers that `fill` writes, all of them, or throws.
  init(count: Int, _ fill: (VectorView<Element>) throws(MPIError) -> Void) throws(MPIError) {
    var failure: MPIError?
    // `fill` has written all numbers when it returns; without the range an array's spare capacity would belong to the view.
    unsafe self.init(unsafeUninitializedCapacity: count) { buffer, initialized in
      do throws(MPIError) {
        try fill(unsafe VectorView(UnsafeMutableBufferPointer(rebasing: buffer[0..<count])))
        initialized = count
      } catch {
        failure = error
      }
    }
    if let failure { throw failure }
  }

  /// The array's memory for `body`, which is done with it when it returns.
  mutating func withView<Result, Failure: Error>(
    _ body: (VectorView<Element>) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    var span = mutableSpan
    return try span.withView(body)
  }

  /// The array's memory for `body`, which only reads, and is done with it when it returns.
  func withReadView<Result, Failure: Error>(
    _ body: (VectorView<Element>) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    try span.withReadView(body)
  }
}

extension MutableSpan where Element: BitwiseCopyable {
  /// The span's memory for `body`, which is done with it when it returns.
  mutating func withView<Result, Failure: Error>(
    _ body: (VectorView<Element>) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    // The memory stays where it is while this runs.
    try unsafe withUnsafeMutableBufferPointer { buffer throws(Failure) in
      try body(unsafe VectorView(buffer))
    }
  }
}

extension Span where Element: BitwiseCopyable {
  /// The span's memory for `body`, which only reads, and is done with it when it returns.
  func withReadView<Result, Failure: Error>(
    _ body: (VectorView<Element>) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    // The memory stays where it is while this runs.
    try unsafe withUnsafeBufferPointer { buffer throws(Failure) in
      try body(unsafe VectorView(reading: buffer))
    }
  }
}
