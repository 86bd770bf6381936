// Each `unsafe` here stays within a vector's `count`, in which the ranges of its layout lie.

import Files
import Synchronization

/// One learned tensor's place in the flat vector of a network.
package struct Parameter: Hashable, Sendable {
  /// The published checkpoint's name, e.g. `conv_d1.conv1.inst.weight`.
  package let name: String
  /// Extents in the published order, e.g. [out, in, z, y, x].
  package let extents: [Int]
  package let range: Range<Int>

  package var count: Int { range.count }
}

/// All learned tensors of a network, one after the other in one vector.
package struct ParameterLayout: Sendable {
  package private(set) var parameters: [Parameter] = []
  package private(set) var count = 0

  package init() {}

  /// Puts a tensor behind those that are there; `extents` in the published order, e.g. [out, in, z, y, x].
  package mutating func add(_ name: String, _ extents: Int...) -> Parameter {
    let size = extents.reduce(1, *)
    let parameter = Parameter(name: name, extents: extents, range: count..<(count + size))
    parameters.append(parameter)
    count += size
    return parameter
  }

  /// The tensor of that name; nil: there is none.
  package subscript(name: String) -> Parameter? { parameters.first { $0.name == name } }
}

/// The numbers of a layout, to be read: what a network's layers take. There are two kinds, numbers that are written
/// again and again (`ParameterVector`) and numbers that stay (`FrozenParameters`).
package class Parameters: @unchecked Sendable {
  package final let layout: ParameterLayout
  fileprivate final let buffer: Buffer

  fileprivate init(_ layout: ParameterLayout, _ buffer: Buffer) {
    self.layout = layout
    self.buffer = buffer
  }

  package final var count: Int { buffer.count }

  /// The numbers of a range of the layout.
  package final subscript(range: Range<Int>) -> UnsafeBufferPointer<Float> {
    unsafe UnsafeBufferPointer(rebasing: buffer.values[range])
  }

  /// A tensor's numbers, in its published order.
  // Of a vector, the subscript that can be written through is meant.
  @_disfavoredOverload
  package final subscript(parameter: Parameter) -> UnsafeBufferPointer<Float> { unsafe self[parameter.range] }

  /// A tensor's numbers, to be read.
  @_lifetime(borrow self)
  package final func values(of parameter: Parameter) -> Span<Float> {
    let numbers = unsafe self[parameter.range]
    return unsafe _overrideLifetime(numbers.span, borrowing: self)
  }

  /// A hash of all numbers.
  package final var fingerprint: String { unsafe ContentHash.of(buffer.values.span) }

  /// Where kernels keep what they derive from these numbers; nil where the numbers may change.
  var derived: DerivedWeights? { nil }
}

/// Numbers that may be written: parameters that learn, gradients and an optimiser's moments all have this form, so that
/// zeroing, reducing, updating and saving are each one loop over one allocation.
package final class ParameterVector: Parameters, @unchecked Sendable {
  /// `layout.count` numbers, all 0.
  package init(zeros layout: ParameterLayout) { super.init(layout, Buffer(zeros: layout.count)) }

  /// A vector of its own with the numbers of `other`.
  package convenience init(copying other: Parameters) {
    self.init(zeros: other.layout)
    copy(from: other)
  }

  package var values: UnsafeMutableBufferPointer<Float> { unsafe buffer.values }

  /// A tensor's numbers, in its published order.
  package subscript(parameter: Parameter) -> UnsafeMutableBufferPointer<Float> {
    unsafe UnsafeMutableBufferPointer(rebasing: values[parameter.range])
  }

  /// A tensor's numbers, to be written.
  @_lifetime(borrow self)
  package func mutableValues(of parameter: Parameter) -> MutableSpan<Float> {
    let numbers = unsafe self[parameter]
    return unsafe _overrideLifetime(numbers.mutableSpan, borrowing: self)
  }

  /// Sets every number.
  package func fill(_ value: Float, _ workers: Workers) {
    let pieces = Pieces(count, least: 1 << 16, limit: 64)
    workers.forEach(pieces.count) { piece, _ in
      unsafe (buffer.base + pieces[piece].lowerBound).update(repeating: value, count: pieces[piece].count)
    }
  }

  /// Takes all numbers of parameters of as many.
  package func copy(from other: Parameters) {
    precondition(other.count == count, "\(other.count) parameters into \(count)")
    unsafe buffer.base.update(from: other.buffer.base, count: count)
  }
}

/// Numbers that stay as they are, of a teacher or of a network that only infers, and what kernels have made of them.
package final class FrozenParameters: Parameters, @unchecked Sendable {
  private let kept = DerivedWeights()

  /// The numbers that `fill` writes into a vector of zeros, which it must not keep.
  package init(_ layout: ParameterLayout, _ fill: (ParameterVector) throws -> Void) rethrows {
    var vector = ParameterVector(zeros: layout)
    try fill(vector)
    precondition(isKnownUniquelyReferenced(&vector), "numbers that are frozen can still be written")
    super.init(layout, vector.buffer)
  }

  override var derived: DerivedWeights? { kept }
}

/// What kernels have derived from numbers that stay: each is made once.
final class DerivedWeights: Sendable {
  private let kept = Mutex<[[Int]: Buffer]>([:])

  /// The `count` floats of a `key`, which `make` writes the first time.
  func weights(_ key: [Int], count: Int, _ make: (UnsafeMutablePointer<Float>) -> Void)
    -> UnsafePointer<Float>
  {
    if let known = kept.withLock({ $0[key] }) { return unsafe UnsafePointer(known.base) }
    let buffer = Buffer(zeros: count)
    unsafe make(buffer.base)
    kept.withLock { $0[key] = buffer }
    return unsafe UnsafePointer(buffer.base)
  }
}
