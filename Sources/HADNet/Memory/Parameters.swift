import Synchronization

/// One learned tensor's place in the flat vector of a network.
public struct Parameter: Hashable, Sendable {
  /// The published checkpoint's name, e.g. `conv_d1.conv1.inst.weight`.
  public let name: String
  /// Extents in the published order, e.g. [out, in, z, y, x].
  public let extents: [Int]
  public let range: Range<Int>

  public var count: Int { range.count }
}

/// All learned tensors of a network, one after the other in one vector.
public struct ParameterLayout: Sendable {
  public private(set) var parameters: [Parameter] = []
  public private(set) var count = 0

  public init() {}

  public mutating func add(_ name: String, _ extents: Int...) -> Parameter {
    let size = extents.reduce(1, *)
    let parameter = Parameter(name: name, extents: extents, range: count..<(count + size))
    parameters.append(parameter)
    count += size
    return parameter
  }

  public subscript(name: String) -> Parameter? { parameters.first { $0.name == name } }
}

/// The numbers of a layout: parameters, gradients and an optimiser's moments all have this form, so that
/// zeroing, reducing, updating and saving are each one loop over one allocation.
public final class ParameterVector: Sendable {
  public let layout: ParameterLayout
  public let buffer: Buffer
  /// What kernels have made of these numbers, kept because they no longer change; nil: they may.
  private let derived = Mutex<[[Int]: Buffer]?>(nil)

  public init(zeros layout: ParameterLayout) {
    self.layout = layout
    buffer = Buffer(zeros: layout.count)
  }

  public var values: UnsafeMutableBufferPointer<Float> { buffer.values }
  public var count: Int { buffer.count }

  public subscript(parameter: Parameter) -> UnsafeMutableBufferPointer<Float> {
    UnsafeMutableBufferPointer(rebasing: buffer.values[parameter.range])
  }

  /// A hash of all numbers.
  var fingerprint: String { ContentHash.of(UnsafeRawBufferPointer(values)) }

  public func fill(_ value: Float, _ workers: Workers) {
    let pieces = Pieces(count, least: 1 << 16, limit: 64)
    workers.forEach(pieces.count) { piece, _ in
      (buffer.base + pieces[piece].lowerBound).update(repeating: value, count: pieces[piece].count)
    }
  }

  /// Declares that the numbers stay as they are (a frozen teacher, a network that only infers): kernels may keep what
  /// they derive from them.
  public func freeze() { derived.withLock { $0 = $0 ?? [:] } }
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

  public func copy(from other: ParameterVector) {
    precondition(other.count == count, "\(other.count) parameters into \(count)")
    precondition(derived.withLock { $0 == nil }, "frozen parameters are written to")
    buffer.base.update(from: other.buffer.base, count: count)
  }
}
