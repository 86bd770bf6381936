import Foundation
import Testing

@testable import HADNet

@Suite struct TrainingCheckpointTests {
  private let scratch = Scratch()
  private var folder: CheckpointFolder { CheckpointFolder(scratch.file("run/student/checkpoints")) }

  private func state(_ epoch: Int) -> TrainingState {
    var state = TrainingState(.student)
    state.epoch = epoch
    state.step = 17 * epoch
    state.plateau = Plateau(patience: 30, factor: 0.5)
    state.plateau?.observe(1.0 / 3)
    state.updates = ["student": 17 * epoch]
    for i in 0..<epoch {
      var record = EpochRecord(epoch: i + 1, rate: 2e-4, loss: 1 / Double(i + 3))
      record.score = 0.1 * Double(i)
      record.terms = ["one": 1 / Double(i + 7), "another": 3]
      state.history.append(record)
    }
    return state
  }

  private let numbers = Data((0..<1000).map { UInt8(truncatingIfNeeded: $0 * $0) })

  private func draft(_ epoch: Int, recipe: String = "0123") throws -> Checkpoint.Draft {
    try Checkpoint.Draft(
      state(epoch), recipe: recipe,
      files: [
        ("student.safetensors", { try Replacement.put(numbers, to: $0, as: $1) }),
        ("moments.safetensors", { try Replacement.put(Data(numbers.reversed()), to: $0, as: $1) }),
      ], to: folder.folder(.init(epoch: epoch)))
  }

  @discardableResult
  private func write(_ epoch: Int) throws -> String {
    let path = folder.folder(.init(epoch: epoch))
    try draft(epoch).seal()
    return path
  }

  private func names(_ path: String) -> [String] {
    ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).sorted()
  }

  @Test func whatIsWrittenIsRead() throws {
    let path = try write(3), checkpoint = try Checkpoint(path)
    #expect(checkpoint.state == state(3) && checkpoint.recipe == "0123" && checkpoint.folder == path)
    #expect(names(path) == ["moments.safetensors", "state.json", "student.safetensors"])
    #expect(names(folder.path) == ["epoch-0003"], "nothing else is left")
    #expect(FileManager.default.contents(atPath: "\(path)/student.safetensors") == numbers)
  }

  @Test func theFingerprintIsThatOfTheContents() throws {
    let a = try Checkpoint(try write(3)).fingerprint, b = try Checkpoint(try write(3)).fingerprint
    let c = try Checkpoint(try write(4)).fingerprint
    #expect(a == b && a != c)
  }

  @Test func aFailedWriteLeavesWhatWasThere() throws {
    struct Full: Error {}
    let path = try write(1)
    #expect(throws: Full.self) {
      _ = try Checkpoint.Draft(
        state(1), recipe: "4567",
        files: [
          ("student.safetensors", { try Replacement.put(numbers, to: $0, as: $1) }),
          ("moments", { _, _ in throw Full() }),
        ], to: path)
    }
    #expect(try Checkpoint(path).recipe == "0123")
    #expect(names(folder.path) == ["epoch-0001"])
    // A file that is gone before it has reached the disk.
    let draft = try draft(1, recipe: "4567")
    try FileManager.default.removeItem(atPath: "\(folder.path)/.epoch-0001-writing/moments.safetensors")
    #expect(fault { try draft.seal() }?.description.contains("\(path)/moments.safetensors") == true)
    #expect(try Checkpoint(path).recipe == "0123")
    #expect(names(folder.path) == ["epoch-0001"])
  }

  @Test func untilItIsSealedTheOneBeforeIsTheNewest() throws {
    try write(1)
    let draft = try draft(2)
    #expect(try folder.newest { Issue.record("\($0)") }?.state == state(1))
    try draft.seal()
    #expect(try folder.newest { Issue.record("\($0)") }?.state == state(2))
    #expect(names(folder.path) == ["epoch-0001", "epoch-0002"])
  }

  @Test func alteredBytesAreFound() throws {
    let path = try write(2)
    for name in ["student.safetensors", "moments.safetensors"] {
      let file = "\(path)/\(name)", good = try #require(FileManager.default.contents(atPath: file))
      for at in [0, 500, 999] {
        var bad = good
        bad[at] ^= 1
        try bad.write(to: URL(fileURLWithPath: file))
        #expect(
          fault { _ = try Checkpoint(path) }
            == Fault(.invalid, "\(path): damaged checkpoint: \(name) is altered"))
      }
      for length in [0, 1, 999] {
        try good.prefix(length).write(to: URL(fileURLWithPath: file))
        #expect(
          fault { _ = try Checkpoint(path) }
            == Fault(.invalid, "\(path): damaged checkpoint: \(name) has \(length) bytes, 1000 were written"))
      }
      try FileManager.default.removeItem(atPath: file)
      #expect(
        fault { _ = try Checkpoint(path) }
          == Fault(.invalid, "\(path): damaged checkpoint: \(name) is missing"))
      try good.write(to: URL(fileURLWithPath: file))
    }
    #expect(try Checkpoint(path).state == state(2))
  }

  @Test func everyDamageOfTheStateIsFound() throws {
    let path = try write(2), file = "\(path)/state.json"
    let good = try #require(FileManager.default.contents(atPath: file)), whole = try Checkpoint(path)
    for length in stride(from: 0, to: good.count - 1, by: 7) {
      try good.prefix(length).write(to: URL(fileURLWithPath: file))
      #expect(
        fault { _ = try Checkpoint(path) }
          == Fault(.invalid, "\(path): damaged checkpoint: state.json is cut or altered"), "\(length) bytes")
    }
    for at in good.indices {
      var bad = good
      bad[at] ^= 1
      try bad.write(to: URL(fileURLWithPath: file))
      do {
        // Space may become another space; then nothing is lost.
        #expect(try Checkpoint(path).state == whole.state, "byte \(at)")
      } catch let fault as Fault {
        #expect(
          fault.kind == .invalid && fault.description.contains("damaged checkpoint"), "byte \(at): \(fault)")
      }
    }
    try FileManager.default.removeItem(atPath: file)
    #expect(
      fault { _ = try Checkpoint(path) }
        == Fault(.invalid, "\(path): damaged checkpoint: state.json is missing"))
  }

  @Test func theNewestGoodOneIsTakenWithAWarning() throws {
    var warnings: [String] = []
    #expect(try folder.newest { warnings.append($0) } == nil)
    for epoch in 1...3 { try write(epoch) }
    #expect(try folder.newest { warnings.append($0) }?.state == state(3))
    #expect(warnings.isEmpty)

    let third = "\(folder.path)/epoch-0003", second = "\(folder.path)/epoch-0002",
      first = "\(folder.path)/epoch-0001"
    try FileManager.default.removeItem(atPath: "\(third)/student.safetensors")
    #expect(try folder.newest { warnings.append($0) }?.state == state(2))
    let missing = "damaged checkpoint: student.safetensors is missing"
    #expect(warnings == ["\(third): \(missing); the one before it is taken"])

    for path in [second, first] { try FileManager.default.removeItem(atPath: "\(path)/student.safetensors") }
    warnings = []
    #expect(
      fault { _ = try folder.newest { warnings.append($0) } }
        == Fault(
          .invalid,
          "\(first): \(missing); there is none before it: remove \(folder.path) to start the stage anew"))
    #expect(warnings.count == 2)
  }

  @Test func aDamagedOneIsReplaced() throws {
    let path = try write(1)
    try FileManager.default.removeItem(atPath: "\(path)/student.safetensors")
    try write(1)
    #expect(try Checkpoint(path).state == state(1))
  }

  @Test(
    arguments: [
      (1, nil, ["epoch-0005"]), (2, 2, ["epoch-0002", "epoch-0004", "epoch-0005"]),
      (2, 4, ["epoch-0004", "epoch-0005"]), (9, 1, (1...5).map { "epoch-000\($0)" }),
    ] as [(Int, Int?, [String])])
  func theNewestAndTheBestAreKept(keep: Int, best: Int?, left: [String]) throws {
    for epoch in 1...5 {
      try write(epoch)
      try folder.point(at: .init(epoch: epoch), best: best.map { min($0, epoch) }, keep: keep)
    }
    #expect(names(folder.path) == (best == nil ? [] : ["best"]) + left + ["latest"])
    #expect(try Checkpoint(folder.latest).state == state(5))
    if let best { #expect(try Checkpoint(folder.best).state == state(best)) }
    #expect(folder.marks().map(\.name) == left.reversed())
  }

  @Test func epochsOfAnAbandonedLineAreRemoved() throws {
    for epoch in 1...3 { try write(epoch) }
    try folder.point(at: .init(epoch: 2), best: 1, keep: 5)
    #expect(names(folder.path) == ["best", "epoch-0001", "epoch-0002", "latest"])
  }

  /// One within an epoch is the newest until there is a newer one, and does not count among those that are kept.
  @Test func oneWithinAnEpochLastsUntilTheNext() throws {
    for epoch in 1...2 { try write(epoch) }
    var begun = state(2)
    begun.begun = .init(steps: 7, totals: [1, 1.0 / 3])
    let mark = CheckpointFolder.Mark(begun)
    try Checkpoint.Draft(begun, recipe: "0123", files: [], to: folder.folder(mark)).seal()
    try folder.point(at: mark, best: 1, keep: 1)
    #expect(names(folder.path) == ["best", "epoch-0001", "epoch-0002", "epoch-0002-step-0007", "latest"])
    #expect(try folder.newest { Issue.record("\($0)") }?.state == begun)
    try write(3)
    try folder.point(at: .init(epoch: 3), best: 1, keep: 1)
    #expect(names(folder.path) == ["best", "epoch-0001", "epoch-0003", "latest"])
  }

  @Test func namesSortInTheOrderOfTime() {
    let marks = [(1, 0), (1, 12), (2, 0), (999, 3), (12345, 0)].map {
      CheckpointFolder.Mark(epoch: $0, step: $1)
    }
    #expect(
      marks.map(\.name)
        == ["epoch-0001", "epoch-0001-step-0012", "epoch-0002", "epoch-0999-step-0003", "epoch-12345"])
    #expect(marks.map { CheckpointFolder.Mark($0.name) } == marks)
    #expect(marks.sorted() == marks)
    for name in ["epoch-1", "epoch-0001-step-0000", "epoch-0001-", "latest", ".epoch-0001-writing"] {
      #expect(CheckpointFolder.Mark(name) == nil)
    }
  }
}
