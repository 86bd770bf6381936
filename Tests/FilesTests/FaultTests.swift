import Files
import Testing

@Suite struct FaultTests {
  /// A file's name is the user's, or a stranger's.
  @Test func textsCannotSteerTheTerminal() {
    #expect(Fault(.invalid, "x\u{1B}y\nz").description == "x\\u{1B}y\nz")
  }

  /// What a person gave may be of any length; a path is needed as it is.
  @Test func wordsAreCutWherePathsAreNot() {
    let name = String(repeating: "n", count: 200), path = "/data/" + name
    #expect(
      Fault(.invalid, "\(name): two cases of that name").description
        == String(repeating: "n", count: 80) + "…: two cases of that name")
    #expect(Fault(.invalid, "\(path): truncated").description == "\(path): truncated")
    #expect(
      Fault(.invalid, "/\(name)\(name): truncated").description.hasPrefix(
        "/" + String(repeating: "n", count: 79) + "…"))
    #expect(Fault(.other, "short").description == "short")
    let lines = Fault(.other, Array(repeating: "word", count: 1000).joined(separator: " "))
    #expect(lines.description.count == 2001)
  }
}
