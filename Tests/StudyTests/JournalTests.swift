import Files
import Foundation
import Study
import Testing

/// A folder for one test, gone afterwards.
private func withFolder<T>(_ body: (String) throws -> T) throws -> T {
  let folder = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString)
  try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(at: folder) }
  return try body(folder.path)
}

private func lines(_ path: String) throws -> [String] {
  try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n").map(String.init)
}

@Suite struct JournalTests {
  @Test func aLineIsAJSONObject() throws {
    try withFolder { folder in
      let path = folder + "/log.jsonl"
      try Journal(path).write(
        "epoch", ["stage": "teacher", "epoch": 3, "loss": 0.25, "best": true, "dice": .number(.nan)])
      let line = try #require(try lines(path).first)
      #expect(line.hasPrefix(#"{"time": "2"#))
      #expect(
        line.hasSuffix(
          #""event": "epoch", "stage": "teacher", "epoch": 3, "loss": 0.25, "best": true, "dice": null}"#))
      #expect(throws: Never.self) { try JSONSerialization.jsonObject(with: Data(line.utf8)) }
    }
  }

  @Test func aTornLastLineDoesNotSpoilTheNext() throws {
    try withFolder { folder in
      let path = folder + "/log.jsonl"
      try Data("{\"event\": \"a\"}\n{\"eve".utf8).write(to: URL(fileURLWithPath: path))
      let journal = try Journal(path)
      try journal.write("b")
      try journal.write("c")
      let all = try lines(path)
      #expect(all.count == 4 && all[1] == "{\"eve" && all[2].contains("\"b\"") && all[3].contains("\"c\""))
    }
  }

  @Test func aSecondJournalGoesOnWhereTheFirstEnded() throws {
    try withFolder { folder in
      let path = folder + "/log.jsonl"
      try Journal(path).write("a")
      try Journal(path).write("b")
      #expect(try lines(path).count == 2)
    }
  }

  @Test func aFullDiskIsNamed() throws {
    let journal = try Journal("/dev/full")
    #expect(throws: Fault(.storage, "/dev/full can't be written: No space left on device")) {
      try journal.write("a")
    }
    #expect(throws: Fault(.storage, "/nowhere/log.jsonl can't be opened: No such file or directory")) {
      try Journal("/nowhere/log.jsonl")
    }
  }

  @Test func historyReadsBackAsTheSame() throws {
    var history = History(columns: ["epoch", "loss", "score"])
    history.append([1, 0.1 + 0.2, nil])
    history.append([2, 1e-7, 0.5])
    #expect(history.csv == "epoch,loss,score\n1,0.30000000000000004,\n2,1e-07,0.5\n")
    try withFolder { folder in
      let path = folder + "/history.csv"
      try history.write(to: path)
      #expect(try History.load(path) == history)
      #expect(history["score"] == [nil, 0.5] && history["none"] == nil)
      try Data("epoch,loss\n1,x\n".utf8).write(to: URL(fileURLWithPath: path))
      #expect(throws: Fault(.invalid, "\(path):2: expected 2 numbers")) { try History.load(path) }
    }
  }
}
