import Foundation
import Testing

extension Commands {
  /// ARCHITECTURE.md's list of rooms against Package.swift: what may use what.
  @Suite struct ArchitectureTests {
    /// The page's rooms in order, with those that each uses.
    private static func listed() throws -> [(room: String, uses: [String])] {
      let page = try text("\(Program.root)/ARCHITECTURE.md")
      let entry = /- \*\*(?<room>[A-Za-z\-]+)\*\* [^*]*?Uses: (?<uses>[^.]+)\./
      return page.matches(of: entry).map { match in
        let uses = match.uses.split(whereSeparator: { $0 == "," || $0.isWhitespace }).map(String.init)
        return (String(match.room), uses == ["nothing"] ? [] : uses)
      }
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
  }
}
