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

  package mutating func add(_ name: String, _ extents: Int...) -> Parameter {
    let size = extents.reduce(1, *)
    let parameter = Parameter(name: name, extents: extents, range: count..<(count + size))
    parameters.append(parameter)
    count += size
    return parameter
  }

  package subscript(name: String) -> Parameter? { parameters.first { $0.name == name } }
}

/// The numbers of a layout: parameters, gradients and an optimiser's moments all have this form, so that
/// zeroing, reducing, updating and saving are each one loop over one allocation.
package final class ParameterVector: Sendable {
  package let layout: ParameterLayout
  package let buffer: Buffer
  /// What kernels have made of these numbers, kept because they no longer change; nil: they may.
  private let derived = Mutex<[[Int]: Buffer]?>(nil)

  package init(zeros layout: ParameterLayout) {
    self.layout = layout
    buffer = Buffer(zeros: layout.count)
  }

  package var values: UnsafeMutableBufferPointer<Float> { buffer.values }
  package var count: Int { buffer.count }

  package subscript(parameter: Parameter) -> UnsafeMutableBufferPointer<Float> {
    UnsafeMutableBufferPointer(rebasing: buffer.values[parameter.range])
  }

  /// A hash of all numbers.
  package var fingerprint: String { ContentHash.of(UnsafeRawBufferPointer(values)) }

  package func fill(_ value: Float, _ workers: Workers) {
    let pieces = Pieces(count, least: 1 << 16, limit: 64)
    workers.forEach(pieces.count) { piece, _ in
      (buffer.base + pieces[piece].lowerBound).update(repeating: value, count: pieces[piece].count)
    }
  }

  /// Declares that the numbers stay as they are (a frozen teacher, a network that only infers): kernels may keep what
  /// they derive from them.
  package func freeze() { derived.withLock { $0 = $0 ?? [:] } }
  var isFrozen: Bool { derived.withLock { $0 != nil } }

  /// What `make` derives from the numbers, [`count`]: made once for a `key` and kept if they are frozen, else made anew
  /// in `scratch`.
  func derived(
    _ key: [Int], count: Int, scratch: () -> UnsafeMutablePointer<Float>,
    _ make: (UnsafeMutablePointer<Float>) -> Void
  ) -> UnsafePointer<Float> {
    if let kept = derived.withLock({ $0?[key] }) { return UnsafePointer(kept.base) }
    guard derived.withLock({ $0 != nil }) else {
      let memory = scratch()
      make(memory)
      return UnsafePointer(memory)
    }
    let buffer = Buffer(zeros: count)
    make(buffer.base)
    derived.withLock { $0?[key] = buffer }
    return UnsafePointer(buffer.base)
  }

  package func copy(from other: ParameterVector) {
    precondition(other.count == count, "\(other.count) parameters into \(count)")
    precondition(derived.withLock { $0 == nil }, "frozen parameters are written to")
    buffer.base.update(from: other.buffer.base, count: count)
  }
}
