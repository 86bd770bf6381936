import Foundation
import Testing

@testable import Files
@testable import Learning
@testable import Methods
@testable import Networks
@testable import Study
@testable import TestSupport

@Suite struct TrainingCheckpointTests {
  private let scratch = Scratch()
  private var folder: CheckpointFolder { CheckpointFolder(scratch.file("run/student/checkpoints"), .student) }

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
      state.history.append(record)
    }
    return state
  }

  private let numbers = Data((0..<1000).map { UInt8(truncatingIfNeeded: $0 * $0) })

  private func unsealed(_ epoch: Int, recipe: String = "0123") throws -> Checkpoint.Unsealed {
    try Checkpoint.Unsealed(
      state(epoch), recipe: recipe, origin: .init(cases: ["a": "flair=01 seg=23"]),
      files: [
        ("student.safetensors", { try AtomicFile.put(numbers, to: $0, as: $1) }),
        ("moments.safetensors", { try AtomicFile.put(Data(numbers.reversed()), to: $0, as: $1) }),
      ], to: folder.folder(.init(epoch: epoch)))
  }

  @discardableResult
  private func write(_ epoch: Int) throws -> String {
    let path = folder.folder(.init(epoch: epoch))
    try unsealed(epoch).seal()
    return path
  }

  /// A checkpoint with these files in the folder of its mark, or in another.
  @discardableResult
  private func seal(
    _ state: TrainingState, _ files: [String] = ["student.safetensors"], to name: String? = nil
  )
    throws -> String
  {
    let path = "\(folder.path)/\(name ?? CheckpointFolder.Progress(state).name)"
    try Checkpoint.Unsealed(
      state, recipe: "0123", origin: .init(),
      files: files.map { ($0, { try AtomicFile.put(numbers, to: $0, as: $1) }) },
      to: path
    ).seal()
    return path
  }

  private func isLink(_ name: String, to target: String) -> Bool {
    (try? FileManager.default.destinationOfSymbolicLink(atPath: "\(folder.path)/\(name)")) == target
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
      _ = try Checkpoint.Unsealed(
        state(1), recipe: "4567", origin: .init(),
        files: [
          ("student.safetensors", { try AtomicFile.put(numbers, to: $0, as: $1) }),
          ("moments", { _, _ in throw Full() }),
        ], to: path)
    }
    #expect(try Checkpoint(path).recipe == "0123")
    #expect(names(folder.path) == ["epoch-0001"])
    // A file that is gone before it has reached the disk.
    let unsealed = try unsealed(1, recipe: "4567")
    try FileManager.default.removeItem(atPath: "\(folder.path)/.epoch-0001-writing/moments.safetensors")
    #expect(fault { try unsealed.seal() }?.description.contains("\(path)/moments.safetensors") == true)
    #expect(try Checkpoint(path).recipe == "0123")
    #expect(names(folder.path) == ["epoch-0001"])
  }

  @Test func untilItIsSealedTheOneBeforeIsTheNewest() throws {
    try write(1)
    let unsealed = try unsealed(2)
    #expect(try folder.newest { Issue.record("\($0)") }?.state == state(1))
    try unsealed.seal()
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
    #expect(try folder.latest.map { try Checkpoint($0).state } == state(5))
    #expect(try folder.best.map { try Checkpoint($0).state } == best.map(state))
    #expect(folder.points().map(\.name) == left.reversed())
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
    begun.begun = .init(steps: 7, totals: [1.0 / 3])
    let mark = CheckpointFolder.Progress(begun)
    try seal(begun)
    try folder.point(at: mark, best: 1, keep: 1)
    #expect(names(folder.path) == ["best", "epoch-0001", "epoch-0002", "epoch-0002-step-0007", "latest"])
    #expect(try folder.newest { Issue.record("\($0)") }?.state == begun)
    try write(3)
    try folder.point(at: .init(epoch: 3), best: 1, keep: 1)
    #expect(names(folder.path) == ["best", "epoch-0001", "epoch-0003", "latest"])
  }

  @Test func namesSortInTheOrderOfTime() {
    let points = [(1, 0), (1, 12), (2, 0), (999, 3), (12345, 0)].map {
      CheckpointFolder.Progress(epoch: $0, step: $1)
    }
    #expect(
      points.map(\.name)
        == ["epoch-0001", "epoch-0001-step-0012", "epoch-0002", "epoch-0999-step-0003", "epoch-12345"])
    #expect(points.map { CheckpointFolder.Progress($0.name) } == points)
    #expect(points.sorted() == points)
    for name in ["epoch-1", "epoch-0001-step-0000", "epoch-0001-", "latest", ".epoch-0001-writing"] {
      #expect(CheckpointFolder.Progress(name) == nil)
    }
  }

  // MARK: Forged states

  /// A change that no training makes, and what is said of it.
  struct Forgery: Sendable, CustomStringConvertible {
    let description: String
    let change: @Sendable (inout TrainingState) -> Void

    init(_ why: String, change: @escaping @Sendable (inout TrainingState) -> Void) {
      description = why
      self.change = change
    }
  }

  /// With a hash that is right: whoever reads such a state computes with it.
  @Test(
    arguments: [
      .init("epoch is -1") { $0.epoch = -1 },
      .init("epoch is 9223372036854775807") { $0.epoch = .max },
      .init("step is -1") { $0.step = -1 },
      .init("step is 9223372036854775807") { $0.step = .max },
      .init("9 steps of an epoch") { ($0.step, $0.begun) = (3, .init(steps: 9, totals: [1])) },
      .init("0 steps of an epoch") { $0.begun = .init(steps: 0, totals: [1]) },
      .init("sums of an epoch's losses") { $0.begun = .init(steps: 1, totals: []) },
      .init("sums of an epoch's losses") { $0.begun = .init(steps: 1, totals: [1, 2]) },
      .init("the history is not that of 2 epochs") { $0.history.removeLast() },
      .init("the history is not that of 2 epochs") { $0.history[1].epoch = 7 },
      .init("a number of epoch 2 is none") { $0.history[1].rate = -1 },
      .init("a number of epoch 2 is none") { $0.history[1].loss = 1e308 },
      .init("epoch 2 has other terms than a student") { $0.history[1].terms["l_hd"] = 1 },
      .init("the best epoch is 3") { $0.bestEpoch = 3 },
      .init("the best epoch is 0") { $0.bestEpoch = 0 },
      .init("the best score is not that of epoch 1") { ($0.bestEpoch, $0.bestScore) = (1, 5) },
      .init("a best score without an epoch") { $0.bestScore = 5 },
      .init("a plateau of the rate") { $0.plateau = Plateau(patience: 0, factor: 0.5) },
      .init("a plateau of the rate") { $0.plateau = Plateau(patience: 3, factor: 1e300) },
      .init("-1 updates of student in 34 steps") { $0.updates["student"] = -1 },
      .init("35 updates of student in 34 steps") { $0.updates["student"] = 35 },
    ] as [Forgery])
  func aForgedStateIsRefused(forgery: Forgery) throws {
    var forged = state(2)
    forgery.change(&forged)
    let path = try seal(forged, to: "forged")
    let found = fault { _ = try Checkpoint(path) }
    #expect(found?.kind == .invalid, "\(String(describing: found))")
    #expect(
      found?.description.hasPrefix("\(path): damaged checkpoint: state.json: \(forgery)") == true,
      "\(String(describing: found))")
    #expect(fault { _ = try Model.load(path) } == found)
  }

  @Test(arguments: [
    ([], "state.json names no student.safetensors"),
    (["moments.safetensors"], "state.json names no student.safetensors"),
    (["../student.safetensors", "student.safetensors"], "state.json names a file that no checkpoint has"),
    ([".hidden", "student.safetensors"], "state.json names a file that no checkpoint has"),
  ])
  func filesOfNoCheckpointAreRefused(files: [String], why: String) throws {
    let path = try seal(state(1), files)
    #expect(fault { _ = try Checkpoint(path) } == Fault(.invalid, "\(path): damaged checkpoint: \(why)"))
  }

  @Test func aStateOfAnotherStageOrEpochIsRefused() throws {
    let path = try write(1), other = folder.folder(.init(epoch: 2))
    #expect(
      fault { _ = try Checkpoint(path, of: .teacher) }
        == Fault(.invalid, "\(path): damaged checkpoint: it is of the stage student, not teacher"))
    try FileManager.default.copyItem(atPath: path, toPath: other)
    #expect(
      fault { _ = try Checkpoint(other) }
        == Fault(.invalid, "\(other): damaged checkpoint: state.json is of epoch-0001"))
    #expect(try folder.newest { _ in }?.state == state(1))
    #expect(throws: Fault.self) { try CheckpointFolder(folder.path, .teacher).newest { _ in } }
  }

  @Test func anOlderVersionIsSaid() throws {
    let path = try write(1), file = "\(path)/state.json"
    let text = try String(contentsOfFile: file, encoding: .utf8).replacing(
      "\"version\" : 2", with: "\"version\" : 1")
    try Data(text.utf8).write(to: URL(fileURLWithPath: file))
    #expect(
      fault { _ = try Checkpoint(path) }
        == Fault(.invalid, "\(path): damaged checkpoint: state.json has version 1, expected 2"))
  }

  // MARK: After a kill, or a copy

  private func open() throws -> TrainingState? {
    try folder.tidy { Issue.record("\($0)") }
    let newest = try folder.newest { Issue.record("\($0)") }
    if let state = newest?.state { try folder.relink(state) { Issue.record("\($0)") } }
    return newest?.state
  }

  private func best(_ epoch: Int, _ score: Double) -> TrainingState {
    var state = state(epoch)
    state.bestEpoch = score == 0 ? 1 : epoch
    state.bestScore = state.history[(state.bestEpoch ?? 1) - 1].score
    return state
  }

  /// Between the checkpoint's rename and the links.
  @Test func linksThatAKillHasKeptFromBeingMadeAreMade() throws {
    try seal(best(1, 1))
    #expect(try open() == best(1, 1))
    #expect(isLink("latest", to: "epoch-0001") && isLink("best", to: "epoch-0001"))
    try seal(best(2, 1))
    #expect(isLink("best", to: "epoch-0001"))
    #expect(try open() == best(2, 1))
    #expect(isLink("latest", to: "epoch-0002") && isLink("best", to: "epoch-0002"))
  }

  @Test func whatAKilledJobWasWritingGoes() throws {
    try seal(best(1, 1))
    for name in [".epoch-0002-writing", ".epoch-0001-replaced"] {
      try scratch.put("run/student/checkpoints/\(name)/student.safetensors")
    }
    try AtomicFile.write(Data(), to: "\(folder.path)/.\(UUID().uuidString)-best")
    #expect(try open() == best(1, 1))
    #expect(names(folder.path) == ["best", "epoch-0001", "latest"])
    // Killed between the two renames: the one that was to be replaced is all there is.
    try FileManager.default.moveItem(
      atPath: "\(folder.path)/epoch-0001", toPath: "\(folder.path)/.epoch-0001-replaced")
    #expect(try open() == best(1, 1))
    #expect(names(folder.path) == ["best", "epoch-0001", "latest"])
  }

  /// `cp -rL`, `scp -r`: whole folders in the place of the links.
  @Test func copiedFoldersBecomeLinksAgain() throws {
    try seal(best(1, 1))
    try seal(best(2, 0))
    func copy(_ name: String, _ epoch: Int) throws {
      unlink("\(folder.path)/\(name)")
      try FileManager.default.copyItem(
        atPath: folder.folder(.init(epoch: epoch)), toPath: "\(folder.path)/\(name)")
    }
    try copy("latest", 2)
    try copy("best", 1)
    // As they are they can be used.
    #expect(try folder.best.map { try Checkpoint($0).state } == best(1, 1))
    #expect(try open() == best(2, 0))
    #expect(isLink("latest", to: "epoch-0002") && isLink("best", to: "epoch-0001"))
    // Of the best one only the copy is left.
    try copy("best", 1)
    try FileManager.default.removeItem(atPath: folder.folder(.init(epoch: 1)))
    #expect(try open() == best(2, 0))
    #expect(isLink("best", to: "epoch-0001"))
    #expect(try Checkpoint(folder.folder(.init(epoch: 1))).state == best(1, 1))
    // Of all there is `latest` alone.
    try copy("latest", 2)
    try FileManager.default.removeItem(atPath: folder.folder(.init(epoch: 2)))
    #expect(try open() == best(2, 0))
    #expect(isLink("latest", to: "epoch-0002"))
  }

  /// A file system without links.
  @Test func aTextFileInPlaceOfALinkIsRead() throws {
    try seal(best(1, 1))
    for name in ["latest", "best"] {
      try scratch.put("run/student/checkpoints/\(name)", Array("epoch-0001\n".utf8))
    }
    let epoch = folder.folder(.init(epoch: 1))
    #expect(folder.best == epoch && folder.latest == epoch)
    #expect(CheckpointFolder.resolve("\(folder.path)/best") == epoch)
    for text in ["epoch-0007", "../../../etc", "", "epoch-0001/../epoch-0001"] {
      try scratch.put("run/student/checkpoints/best", Array(text.utf8))
      #expect(folder.best == nil, "\(text)")
    }
  }
}
