import Foundation
import Testing

@testable import Compute
@testable import Imaging
@testable import Learning
@testable import Methods
@testable import TestSupport

/// A store of small cases on disk, standardised.
private func store(_ count: Int, _ scratch: Scratch, standardised: Bool) throws -> (
  ids: [String], store: CaseStore
) {
  let root = scratch.file("data")
  try Phantom.write(to: root, cases: count, shape: Size(24, 24, 24), seed: 5, layout: .brats2019)
  let dataset = try Dataset.find(root, needsTruth: true)
  var preparation = Preparation()
  if standardised { preparation.standardisation = Standardisation(leastSide: 16, border: 4) }
  return (
    dataset.cases.map(\.id),
    CaseStore(
      dataset.cases, preparation: preparation, commonSize: Size(32, 32, 32), memoryLimit: 1 << 30)
  )
}

@Suite struct FeedTests {
  private let scratch = Scratch()

  private func windows(
    _ ids: [String], _ store: CaseStore, slots: Int, windows: Int = 1000, perCase: Int = 3, seed: UInt64 = 9
  ) -> WindowOrder {
    WindowOrder(
      ids,
      .init(
        windows: windows, perCase: perCase, queue: 4, patch: 12,
        augmentation: .init(flip: 0.5, least: 0.9, most: 1.1)), slots: slots, seed: seed, store, Workers(2))
  }

  /// Counts of epochs, steps and slots for any number of cases and slots, without reading any.
  @Test(arguments: [1, 2, 3, 5, 8], [1, 2, 3, 7])
  func windowsAddUp(slots: Int, cases: Int) {
    let ids = (0..<cases).map { "\($0)" }
    let none = CaseStore([], preparation: Preparation(), commonSize: Size(16, 16, 16), memoryLimit: 0)
    for wanted in [1, 4, 11, 3 * cases, 3 * cases + 1, 7 * cases + 2] {
      let feed = windows(ids, none, slots: slots, windows: wanted)
      #expect(feed.epochs == (wanted + 3 * cases - 1) / (3 * cases))
      var seen = 0
      for epoch in 0..<feed.epochs {
        let steps = feed.steps(epoch)
        var inEpoch = 0
        for step in 0..<steps {
          let filled = feed.filled(epoch, step)
          #expect(filled > 0 && filled <= slots)
          inEpoch += filled
          #expect(feed.seen(epoch, step) == epoch * 3 * cases + inEpoch)
        }
        #expect(epoch + 1 == feed.epochs || inEpoch == 3 * cases, "epoch \(epoch) of \(feed.epochs)")
        seen += inEpoch
      }
      // No step more than is wanted.
      #expect(seen >= wanted && seen - feed.filled(feed.epochs - 1, feed.steps(feed.epochs - 1) - 1) < wanted)
    }
  }

  @Test func everyWindowOfEveryCaseIsSeenOnceAnEpoch() throws {
    let (ids, store) = try store(3, scratch, standardised: true), feed = windows(ids, store, slots: 2)
    var counts: [String: Int] = [:]
    for step in 0..<feed.steps(0) {
      for slot in 0..<feed.filled(0, step) {
        let item = try feed.load(0, step, slot: slot, of: 0..<feed.filled(0, step)) { _ in }
        #expect(item.images.shape == Shape(Size(12, 12, 12), 4) && item.truth.size == item.images.size)
        #expect(item.slot == slot)
        counts[item.id, default: 0] += 1
      }
    }
    #expect(counts == Dictionary(uniqueKeysWithValues: ids.map { ($0, 3) }))
  }

  /// What sits in a slot is the same whoever asks, after a resume too, where the steps before were never asked for.
  @Test func whatSitsInASlotDependsOnNothingElse() throws {
    let (ids, store) = try store(4, scratch, standardised: true)
    let whole = windows(ids, store, slots: 2)
    var all: [[[Float]]] = []
    for step in 0..<whole.steps(1) {
      all.append(
        try (0..<whole.filled(1, step)).map {
          try whole.load(1, step, slot: $0, of: 0..<2) { _ in }.images.array
        })
    }
    for slot in 0..<2 {
      let resumed = windows(ids, store, slots: 2)
      for step in 3..<resumed.steps(1) where slot < resumed.filled(1, step) {
        #expect(
          try resumed.load(1, step, slot: slot, of: slot..<slot + 1) { _ in }.images.array == all[step][slot])
      }
    }
    let other = windows(ids, store, slots: 2, seed: 10)
    #expect(try other.load(1, 0, slot: 0, of: 0..<2) { _ in }.images.array != all[0][0])
  }

  @Test func casesComeOnceAnEpochInAnOrderOfItsOwn() throws {
    let (ids, store) = try store(5, scratch, standardised: false)
    let feed = EpochOrder(ids, epochs: 2, slots: 2, seed: 3, store) { item, truth, _ in (item.images, truth) }
    #expect(feed.steps(0) == 3 && (0..<3).map { feed.filled(0, $0) } == [2, 2, 1])
    #expect((0..<3).map { feed.seen(1, $0) } == [7, 9, 10])
    var orders: [[String]] = []
    for epoch in 0..<2 {
      orders.append(
        try (0..<3).flatMap { step in
          try (0..<feed.filled(epoch, step)).map {
            try feed.load(epoch, step, slot: $0, of: 0..<feed.filled(epoch, step)) { _ in }.id
          }
        })
      #expect(orders[epoch].sorted() == ids)
    }
    #expect(orders[0] != orders[1])
  }
}
