import Foundation
import Testing

@testable import Files

@Suite struct AtomicFileTests {
  @Test(arguments: [
    ("j", "", "j"), ("j/", "", "j"), ("j/k", "j", "k"), ("/j", "/", "j"), ("/", "/", "/"), ("", "", ""),
    ("a//b", "a/", "b"), ("/a/b.c/", "/a", "b.c"), ("é", "", "é"),
  ])
  func everyPathHasAFolderAndAName(path: String, folder: String, name: String) {
    #expect(AtomicFile.parent(path) == folder)
    #expect(AtomicFile.name(path) == name)
  }

  @Test func onlyWhatNobodyWritesToIsRemoved() throws {
    let folder = NSTemporaryDirectory() + "hadnet-replacement-\(UUID().uuidString)"
    try AtomicFile.makeFolder(folder)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let old = "\(folder)/.\(UUID().uuidString)-a.case", new = "\(folder)/.\(UUID().uuidString)-b.case"
    let other = "\(folder)/.hidden"
    for path in [old, new, other] { #expect(FileManager.default.createFile(atPath: path, contents: Data())) }
    for path in [old, other] {
      try FileManager.default.setAttributes(
        [.modificationDate: Date(timeIntervalSinceNow: -7200)], ofItemAtPath: path)
    }
    AtomicFile.removeTemporary(from: folder, olderThan: 3600)
    #expect([old, new, other].map(FileManager.default.fileExists(atPath:)) == [false, true, true])
    AtomicFile.removeTemporary(from: folder)
    #expect([new, other].map(FileManager.default.fileExists(atPath:)) == [false, true])
  }
}
