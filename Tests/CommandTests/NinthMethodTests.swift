import Foundation
import Testing

extension Commands {
  /// A method is one folder and one line: the page that says so is followed in a copy of the tree.
  @Suite struct NinthMethodTests {
    /// The first Swift code of docs/adding-a-method.md, which is a whole file.
    private static func example() throws -> String {
      let page = try text("\(Program.root)/docs/adding-a-method.md")
      let start = try #require(page.range(of: "```swift\n")), end = try #require(page.range(of: "\n```\n"))
      return String(page[start.upperBound..<end.lowerBound]) + "\n"
    }

    /// A copy of the tree with what the package manager has fetched, so that nothing is fetched anew.
    private static func copy(in folder: Scratch) throws -> String {
      let copy = try folder.folder("tree"), root = Program.root
      for name in ["Package.swift", "Sources", "Tests", "slurm"] {
        try folder.copy("\(root)/\(name)", "tree/\(name)")
      }
      for name in ["Package.resolved"] where exists("\(root)/\(name)") {
        try folder.copy("\(root)/\(name)", "tree/\(name)")
      }
      // BUILD/TRIPLE/release/hadnet-dist
      let build = URL(fileURLWithPath: Program.path).resolvingSymlinksInPath().deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent().path
      try folder.folder("tree/.build")
      for name in ["checkouts", "repositories", "workspace-state.json"] {
        try folder.copy("\(build)/\(name)", "tree/.build/\(name)")
      }
      return copy
    }

    @Test func aFolderAndALineAreAMethod() throws {
      let folder = try Scratch(), tree = try NinthMethodTests.copy(in: folder)
      let methods = "\(tree)/Sources/HADNet/Methods", list = "\(methods)/Methods.swift"
      try folder.folder("tree/Sources/HADNet/Methods/Echo")
      try folder.put(try NinthMethodTests.example(), "tree/Sources/HADNet/Methods/Echo/Echo.swift")
      let lines = try text(list)
      try #require(lines.contains(".uhved,"))
      try folder.put(
        lines.replacingOccurrences(of: ".uhved,", with: ".uhved, .echo,"),
        "tree/Sources/HADNet/Methods/Methods.swift")
      let built = try Job([
        "swift", "build", "-c", "release", "--package-path", tree, "--product", "hadnet-dist",
      ]).outcome()
      try #require(built.code == 0, "\(built.output.suffix(3000))")
      let program = "\(tree)/.build/release/hadnet-dist"

      let help = try Job([program, "train", "--help"]).outcome().output
      #expect(help.contains("echo"), "\(help)")
      let run = folder / "run"
      let outcome = try Job([
        program, "study", try Fixture.recipe(), "--data", try Fixture.data(), "--run", run, "--stages",
        "student,echo", "--threads", "1", "--quiet", "--set", "echo.epochs=1",
      ]).outcome()
      try #require(outcome.code == 0, "\(outcome.errors)")
      #expect(try text("\(run)/recipe.yaml").contains("\necho:\n  epochs: 1\n"))
      #expect(exists("\(run)/echo/checkpoints/best/state.json"))
      #expect(try text("\(run)/evaluation/table1.md").contains("Echo"))
      #expect(try text("\(run)/report.html").contains("Echo"))
      // The others' bits do not know of it.
      let student = "student/checkpoints/latest/student.safetensors"
      #expect(try bytes("\(run)/\(student)") == bytes("\(Fixture.run())/\(student)"))
      let bench = try Job([
        program, "bench", "step", "--stage", "echo", "--shape", "32x32x32", "--k", "2", "--threads", "1",
      ]).outcome()
      #expect(bench.code == 0 && bench.output.contains("Echo"), "\(bench.errors)")
    }
  }
}
