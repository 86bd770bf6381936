// Each `unsafe` here stays within the volume's `shape.count` floats, which `init` has found in its buffer.

/// Dense activations, [z, y, x, channels], channels fastest: a view of a part of a buffer, not a copy.
package struct Volume: Sendable {
  package let shape: Shape
  package let buffer: Buffer
  package let offset: Int

  /// A view of `buffer` from `offset` on.
  package init(_ shape: Shape, in buffer: Buffer, at offset: Int) {
    precondition(
      offset >= 0 && offset + shape.count <= buffer.count,
      "a volume \(shape) at \(offset) of a buffer of \(buffer.count) values")
    self.shape = shape
    self.buffer = buffer
    self.offset = offset
  }

  /// A volume with memory of its own, all zero.
  package init(zeros shape: Shape) { self.init(shape, in: Buffer(zeros: shape.count), at: 0) }

  /// A shape that stands for a volume where none is read: it has no memory.
  package init(unbacked shape: Shape) {
    self.shape = shape
    buffer = Buffer(zeros: 0)
    offset = 0
  }

  /// A volume with memory of its own; `values` in memory order.
  package init(_ shape: Shape, _ values: [Float]) {
    precondition(values.count == shape.count, "\(values.count) values for a volume \(shape)")
    self.init(zeros: shape)
    for i in values.indices { unsafe base[i] = values[i] }
  }

  package var size: Size { shape.size }
  package var channels: Int { shape.channels }
  package var base: UnsafeMutablePointer<Float> { unsafe buffer.base + offset }

  /// The values in memory order, to be read and to be written.
  package var values: Span<Float> {
    @_lifetime(borrow self) get { buffer.span(offset..<offset + shape.count) }
  }
  package var mutableValues: MutableSpan<Float> {
    @_lifetime(borrow self) get { mutableValues(0..<shape.count) }
  }
  /// Some of them, so that a loop over these alone needs no check a value.
  @_lifetime(borrow self)
  package func mutableValues(_ range: Range<Int>) -> MutableSpan<Float> {
    precondition(range.upperBound <= shape.count, "\(range) of a volume \(shape)")
    return buffer.mutableSpan(offset + range.lowerBound..<offset + range.upperBound)
  }

  /// A copy of the values in memory order.
  package var array: [Float] { unsafe Array(UnsafeBufferPointer(start: base, count: shape.count)) }

  /// Sets every value.
  package func fill(_ value: Float) { unsafe base.update(repeating: value, count: shape.count) }

  /// Takes all values of a volume of the same shape.
  package func copy(from other: Volume) {
    precondition(other.shape == shape, "a copy of \(other.shape) into \(shape)")
    unsafe base.update(from: other.base, count: shape.count)
  }
}

/// One class index (0 background, then those of a task) a voxel, [z, y, x].
package struct LabelVolume: Equatable, Sendable {
  /// The class index of voxels that are left out of losses and scores.
  package static let ignored: UInt8 = 255

  package let size: Size
  package var classes: [UInt8]

  /// `classes`: a class index a voxel, in memory order.
  package init(_ size: Size, _ classes: [UInt8]) {
    precondition(classes.count == size.voxels, "\(classes.count) labels for \(size)")
    self.size = size
    self.classes = classes
  }
}
