import Compute
import Files
import Imaging

/// The order in which a method sees its training cases, and where they come from: a function of seed, epoch and slot, so
/// the same on any number of ranks and after a resume.
package protocol CaseOrder {
  var epochs: Int { get }
  var store: CaseStore { get }
  /// Steps of an epoch, which are counted from 0.
  func steps(_ epoch: Int) -> Int
  /// Slots that hold a case: the first ones.
  func filled(_ epoch: Int, _ step: Int) -> Int
  /// Cases or windows that have been seen with this step.
  func seen(_ epoch: Int, _ step: Int) -> Int
  /// What sits in a slot, one of this rank's `run` of the step. Begins to fetch what the rank asks for next.
  func load(_ epoch: Int, _ step: Int, slot: Int, of run: Range<Int>, note: (String) -> Void) throws
    -> SlotCase
}

/// Whole cases, each once an epoch in an order of its own.
package final class EpochOrder: CaseOrder {
  package let epochs: Int
  private let ids: [String]
  private let slots: Int
  private let seed: UInt64
  package let store: CaseStore
  /// Changes a case; the stream is that of the epoch and the case.
  private let augment: (PreparedCase, LabelVolume, inout Philox) -> (images: Volume, labels: LabelVolume)
  private var order: (epoch: Int, cases: [Int]) = (-1, [])

  /// `slots`: of the global batch. `augment`: of a prepared case and its truth; images stay [z, y, x, 4].
  package init(
    _ ids: [String], epochs: Int, slots: Int, seed: UInt64, _ store: CaseStore,
    augment: @escaping (PreparedCase, LabelVolume, inout Philox) -> (images: Volume, labels: LabelVolume)
  ) {
    self.ids = ids
    self.epochs = epochs
    self.slots = slots
    self.seed = seed
    self.store = store
    self.augment = augment
  }

  package func steps(_ epoch: Int) -> Int { (ids.count + slots - 1) / slots }
  package func filled(_ epoch: Int, _ step: Int) -> Int { max(0, min(slots, ids.count - step * slots)) }
  package func seen(_ epoch: Int, _ step: Int) -> Int {
    epoch * ids.count + min(ids.count, (step + 1) * slots)
  }

  private func order(_ epoch: Int) -> [Int] {
    if order.epoch != epoch {
      var random = Philox(seed: seed, .permutation, epoch)
      order = (epoch, random.permutation(ids.count))
    }
    return order.cases
  }

  package func load(_ epoch: Int, _ step: Int, slot: Int, of run: Range<Int>, note: (String) -> Void) throws
    -> SlotCase
  {
    let order = order(epoch), index = order[step * slots + slot]
    note("reading \(ids[index])")
    let prepared = try store.load(ids[index])
    // One at a time, since each takes memory: the next slot's, and behind the last one's that of the next step.
    if slot + 1 < run.upperBound {
      store.prefetch(ids[order[step * slots + slot + 1]])
    } else if step + 1 < steps(epoch), run.lowerBound < filled(epoch, step + 1) {
      store.prefetch(ids[order[(step + 1) * slots + run.lowerBound]])
    }
    guard let truth = prepared.labels else { throw Fault(.missing, "\(prepared.id) has no truth") }
    var random = Philox(seed: seed, .augmentation, epoch, index)
    let (images, labels) = augment(prepared, truth, &random)
    return SlotCase(slot: slot, id: prepared.id, images: images, truth: labels)
  }
}
