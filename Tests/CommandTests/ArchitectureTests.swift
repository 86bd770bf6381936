import Foundation
import Testing

extension Commands {
  /// ARCHITECTURE.md's list of rooms against Package.swift and the rooms' own pages: what may use what. And what other rooms
  /// see says what it is.
  @Suite struct ArchitectureTests {
    /// The page's rooms in order, with those that each uses.
    private static func listed() throws -> [(room: String, uses: [String])] {
      let page = try text("\(Program.root)/ARCHITECTURE.md")
      let entry = /- \*\*(?<room>[A-Za-z\-]+)\*\* [^*]*?(?<uses>Uses: [^.]+)\./
      return page.matches(of: entry).map { (String($0.room), uses(String($0.uses))) }
    }

    /// The rooms of a sentence "Uses: Terminal, Files."
    private static func uses(_ text: String) -> [String] {
      guard let sentence = text.firstMatch(of: /Uses: (?<rooms>[^.]+)/) else { return [] }
      let rooms = sentence.rooms.split(whereSeparator: { $0 == "," || $0.isWhitespace }).map(String.init)
      return rooms == ["nothing"] ? [] : rooms
    }

    /// All files below Sources whose names end so.
    private static func sources(_ ending: String) throws -> [String] {
      let root = "\(Program.root)/Sources"
      let all = try #require(FileManager.default.enumerator(atPath: root)).compactMap { $0 as? String }
      return all.filter { $0.hasSuffix(ending) }.sorted().map { "\(root)/\($0)" }
    }

    /// The targets that each target depends on, as the package manager reads them.
    private static func targets() throws -> [String: [String]] {
      let folder = try Scratch()
      let dump = try json(
        tool(
          "swift", "package", "--package-path", Program.root, "--scratch-path", folder / "build",
          "dump-package"))
      let targets = try #require(dump["targets"] as? [[String: Any]])
      return Dictionary(
        uniqueKeysWithValues: try targets.map { target in
          let dependencies = try #require(target["dependencies"] as? [[String: Any]])
          let names = dependencies.compactMap { ($0["byName"] as? [Any])?.first as? String }
          return (try #require(target["name"] as? String), names)
        })
    }

    @Test func roomsUseOnlyThoseAboveThem() throws {
      let rooms = try ArchitectureTests.listed()
      #expect(rooms.count == 14 && rooms.first?.room == "Terminal" && rooms.last?.room == "hadnet-dist")
      for (i, entry) in rooms.enumerated() {
        let above = Set(rooms[..<i].map(\.room))
        #expect(above.isSuperset(of: entry.uses), "\(entry.room) uses \(entry.uses)")
      }
    }

    @Test func theReadmeHasEveryStage() throws {
      let rows = try text("\(Program.root)/README.md").split(separator: "\n").filter { $0.hasPrefix("| `") }
      for stage in Fixture.stages {
        #expect(rows.contains { $0.contains("`\(stage)`") }, "\(stage)")
      }
    }

    @Test func thePageAndThePackageSayTheSame() throws {
      let rooms = try ArchitectureTests.listed(), targets = try ArchitectureTests.targets()
      let names = Set(rooms.map(\.room))
      for (name, uses) in rooms {
        let found = Set(try #require(targets[name], "no target \(name)")).intersection(names)
        #expect(found == Set(uses), "\(name): \(found.sorted()), the page says \(uses.sorted())")
      }
    }

    @Test func eachRoomHasItsPage() throws {
      let pages = try ArchitectureTests.sources(".docc")
      for (room, uses) in try ArchitectureTests.listed() {
        let page = try #require(pages.first { $0.hasSuffix("/\(room)/\(room).docc") }, "\(room) has no page")
        #expect(ArchitectureTests.uses(try text("\(page)/\(room).md")) == uses, "\(room)")
      }
    }

    @Test func typesThatOtherRoomsSeeSayWhatTheyAre() throws {
      let declaration =
        /\s*(@\w+ )*(package|public) (final |indirect )?(struct|class|enum|protocol|actor|typealias) .*/
      for file in try ArchitectureTests.sources(".swift") {
        let lines = try text(file).split(separator: "\n", omittingEmptySubsequences: false)
        for (i, line) in lines.enumerated() where line.wholeMatch(of: declaration) != nil {
          let above = lines[..<i].last { line in
            !["@", "// "].contains { line.trimmingCharacters(in: .whitespaces).hasPrefix($0) }
          }
          #expect(above?.contains("///") ?? false, "\(file):\(i + 1) \(line)")
        }
      }
    }
  }
}
