// Safe to hold: `base` has `count` floats, and room for a vector behind them, as long as the buffer is there.
// Whoever follows it writes `unsafe` and stays within them.

import Glibc

/// Float memory with one owner: 64-byte aligned, zeroed when made, freed with its last reference.
///
/// The memory is shared by all who hold the reference. Who writes what and when is the plan of the network
/// that owns it (`WorkspacePlan`); parallel writers keep to disjoint ranges.
@safe package final class Buffer: @unchecked Sendable {
  package let base: UnsafeMutablePointer<Float>
  package let count: Int

  /// `count` values, all 0. Ends the job where the memory is not to be had.
  package init(zeros count: Int) {
    precondition(count >= 0, "a buffer of \(count) values")
    // Kernels read whole vectors: room for one behind the last value.
    let bytes = (count + 16) * 4, isLarge = bytes >= 1 << 22
    var memory: UnsafeMutableRawPointer?
    guard unsafe posix_memalign(&memory, isLarge ? 1 << 21 : 64, bytes) == 0, let memory = unsafe memory
    else {
      AvailableMemory.endForLack(of: bytes)
    }
    // Large pages: transforms write hundreds of streams at once, more than the CPU holds page addresses for.
    if isLarge { unsafe madvise(memory, bytes, Int32(MADV_HUGEPAGE)) }
    unsafe base = memory.bindMemory(to: Float.self, capacity: count + 16)
    self.count = count
    unsafe base.initialize(repeating: 0, count: count + 16)
  }

  deinit { unsafe free(base) }

  package var values: UnsafeMutableBufferPointer<Float> {
    unsafe UnsafeMutableBufferPointer(start: base, count: count)
  }

  /// Values of a range, to be read.
  @_lifetime(borrow self)
  package func span(_ range: Range<Int>) -> Span<Float> {
    precondition(
      range.lowerBound >= 0 && range.upperBound <= count, "\(range) of a buffer of \(count) values")
    // Inside, as was just checked, and there as long as this object.
    let values = unsafe UnsafeBufferPointer(start: base + range.lowerBound, count: range.count).span
    return unsafe _overrideLifetime(values, borrowing: self)
  }

  /// Values of a range, to be written. Views of one memory do not know of each other: see above.
  @_lifetime(borrow self)
  package func mutableSpan(_ range: Range<Int>) -> MutableSpan<Float> {
    precondition(
      range.lowerBound >= 0 && range.upperBound <= count, "\(range) of a buffer of \(count) values")
    // As in `span`.
    let values = unsafe UnsafeMutableBufferPointer(start: base + range.lowerBound, count: range.count)
      .mutableSpan
    return unsafe _overrideLifetime(values, borrowing: self)
  }
}
