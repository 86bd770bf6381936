import Foundation
import Testing

@testable import Files
@testable import Methods
@testable import Study
@testable import TestSupport

/// Jobs that train stages of one run at the same time.
@Suite struct RunFolderTests {
  private let folder = RunFolder(NSTemporaryDirectory() + "hadnet-run-\(UUID().uuidString)")

  private func exists(_ path: String) -> Bool { FileManager.default.fileExists(atPath: path) }

  @Test func theRunsMarkGoesWithTheLastStages() throws {
    defer { try? FileManager.default.removeItem(atPath: folder.path) }
    try folder.markUnfinished(.teacher)
    try folder.markUnfinished(.student)
    folder.markFinished(.teacher)
    #expect(!exists(folder.unfinished(.teacher)) && exists(folder.unfinished(.student)))
    #expect(exists(folder.unfinished))
    try folder.mark(fault: .storage, of: .student)
    for mark in [folder.unfinished, folder.unfinished(.student)] {
      #expect(try String(contentsOfFile: mark, encoding: .utf8) == "fault: exit code 74\n")
    }
    folder.markFinished(.student)
    #expect(!exists(folder.unfinished(.student)) && !exists(folder.unfinished))
  }

  @Test func theStagesThatWereAskedForAreKept() throws {
    defer { try? FileManager.default.removeItem(atPath: folder.path) }
    #expect(folder.askedStages == nil)
    // Of all stages, which nobody chose, none is added.
    try folder.ask(alsoFor: .kdnet)
    #expect(folder.askedStages == nil)
    try folder.ask(for: [.teacher, .student])
    for _ in 1...2 { try folder.ask(alsoFor: .kdnet) }
    #expect(folder.askedStages == [.teacher, .student, .kdnet])
    #expect(try String(contentsOfFile: folder.asked, encoding: .utf8) == "teacher\nstudent\nkdnet\n")
    try AtomicFile.write(Data("uhved\nof another version\nteacher".utf8), to: folder.asked)
    #expect(folder.askedStages == [.teacher, .uhved])
    try AtomicFile.write(Data(), to: folder.asked)
    #expect(folder.askedStages == nil)
    try folder.ask(for: [.student])
    try folder.ask(for: nil)
    #expect(folder.askedStages == nil && !exists(folder.asked))
  }

  /// What a stopped job of one stage has left goes too.
  @Test func aStudysEndTakesAllMarks() throws {
    defer { try? FileManager.default.removeItem(atPath: folder.path) }
    try folder.markUnfinished(.kdnet)
    try folder.markUnfinished()
    folder.markFinished()
    #expect(!exists(folder.unfinished(.kdnet)) && !exists(folder.unfinished))
  }

  @Test func aStageLeavesAloneWhatOthersWrite() throws {
    defer { try? FileManager.default.removeItem(atPath: folder.path) }
    let recipe = try folder.open(Recipe(), ranks: 1)
    try AtomicFile.write(Data("{}".utf8), to: folder.split)
    let torn = "/.\(UUID().uuidString)-history.csv"
    let teacher = folder.stage(.teacher) + torn, student = folder.stage(.student) + torn
    let paths = [folder.path + torn, teacher, student]
    for path in paths { try AtomicFile.write(Data(), to: path) }
    _ = try folder.open(recipe, ranks: 1, stage: .teacher)
    #expect(paths.map(exists) == [true, false, true])
    _ = try folder.open(recipe, ranks: 1)
    #expect(paths.map(exists) == [false, false, false])
  }
}
