// Each `unsafe` here hands out memory of at least as many floats as are asked for, or a body to threads that end
// before the call does.

import CMachine
import COpenBLAS
import Dispatch
import Synchronization

/// The threads of a rank and the scratch memory of each.
///
/// Work is handed out item by item through a counter, so who does what is left to chance; results are not,
/// because an item never depends on the worker that does it, and sums are over a number of pieces that the
/// shape alone decides.
package final class Workers: @unchecked Sendable {
  package let count: Int
  /// Which item is the n-th to be handed out, a permutation; nil: in order. For tests: results must not depend on it.
  var deal: ((_ turn: Int, _ items: Int) -> Int)?
  /// Kept where a benchmark asks for it.
  package var profile: Profile?
  /// Hears which phase of a step begins.
  package var onPhase: ((Profile.Phase) -> Void)?
  private var scratch: [Buffer]
  private var shared: [Buffer]

  /// `count` threads, at least one. OpenBLAS's own are switched off, in the whole process.
  package init(_ count: Int) {
    precondition(count > 0, "\(count) threads")
    self.count = count
    scratch = (0..<count).map { _ in Buffer(zeros: 0) }
    shared = (0..<3).map { _ in Buffer(zeros: 0) }
    // Our threads are the parallelism; OpenBLAS's own would fight them for the cores.
    openblas_set_num_threads(1)
  }

  /// Calls `body(item, worker)` once for each item in 0..<`items`, on all threads.
  package func forEach(_ items: Int, _ body: (_ item: Int, _ worker: Int) -> Void) {
    cmachine_flush_denormals()
    if count == 1 || items <= 1 {
      for turn in 0..<items { body(deal?(turn, items) ?? turn, 0) }
      return
    }
    nonisolated(unsafe) let deal = deal
    let next = Atomic<Int>(0)
    withoutActuallyEscaping(body) { body in
      // Items write to disjoint memory, and all of them have ended when this returns.
      nonisolated(unsafe) let body = body
      DispatchQueue.concurrentPerform(iterations: min(count, items)) { worker in
        cmachine_flush_denormals()
        while true {
          let turn = next.wrappingAdd(1, ordering: .relaxed).oldValue
          if turn >= items { return }
          unsafe body(deal?(turn, items) ?? turn, worker)
        }
      }
    }
  }

  /// `width` sums of each item, [item, width], from 0 on: `body` has an item's.
  package func sums(
    _ items: Int, width: Int = 1, _ body: (_ item: Int, _ sums: inout MutableSpan<Double>) -> Void
  ) -> [Double] {
    var all = [Double](repeating: 0, count: items * width)
    unsafe all.withUnsafeMutableBufferPointer { all in
      // Items' sums are disjoint.
      nonisolated(unsafe) let all = unsafe all
      forEach(items) { item, _ in
        var own = unsafe all.extracting(item * width..<(item + 1) * width).mutableSpan
        body(item, &own)
      }
    }
    return all
  }

  /// Calls `body` for each piece of an array, with its range and its values to be written.
  package func forEach<Value>(
    _ pieces: Pieces, of array: inout [Value], _ body: (Range<Int>, inout MutableSpan<Value>) -> Void
  ) {
    precondition(pieces.total == array.count, "pieces of \(pieces.total) values for \(array.count)")
    // Pieces do not overlap, and none is written any more when the region ends.
    unsafe array.withUnsafeMutableBufferPointer { values in
      nonisolated(unsafe) let values = unsafe values
      forEach(pieces.count) { piece, _ in
        let range = pieces[piece]
        var span = unsafe values.extracting(range).mutableSpan
        body(range, &span)
      }
    }
  }

  /// Scratch memory of at least `floats` values for each worker, contents undefined; valid until the next call.
  /// Only the thread that starts parallel regions may ask, before the region.
  func scratch(_ floats: Int) -> [UnsafeMutablePointer<Float>] {
    for worker in 0..<count where scratch[worker].count < floats { scratch[worker] = Buffer(zeros: floats) }
    return unsafe scratch.map(\.base)
  }

  /// Scratch memory that all workers share (`place` 0, 1 or 2), contents undefined; valid until the next call for
  /// the same place.
  func sharedScratch(_ floats: Int, place: Int = 0) -> UnsafeMutablePointer<Float> {
    unsafe sharedBuffer(floats, place: place).base
  }

  func sharedBuffer(_ floats: Int, place: Int) -> Buffer {
    if shared[place].count < floats { shared[place] = Buffer(zeros: floats) }
    return shared[place]
  }
}

/// A fixed cut of `total` things into nearly equal pieces, from the total alone, never from the thread count.
package struct Pieces: Sendable {
  package let total, count: Int

  /// At most `limit` pieces of at least `least` things each.
  package init(_ total: Int, least: Int, limit: Int) {
    self.total = total
    count = max(1, min(limit, total / max(1, least)))
  }

  /// The things of a piece, 0..<`count`; together the pieces are 0..<`total`.
  package subscript(piece: Int) -> Range<Int> { total * piece / count..<total * (piece + 1) / count }
}

/// How a worker's scratch memory is cut into regions, one behind the other, each of whole cache lines.
struct Regions {
  private(set) var count = 0

  /// The offset of a region of `floats`.
  mutating func add(_ floats: Int) -> Int {
    defer { count += (floats + 15) / 16 * 16 }
    return count
  }
}
