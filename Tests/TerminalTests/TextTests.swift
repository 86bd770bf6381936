import Testing

@testable import Terminal

struct TextTests {
  @Test func nothingThatSteersATerminalIsLeft() {
    #expect(printable("two\nlines\tand ä, 脑") == "two\nlines\tand ä, 脑")
    #expect(printable("a\u{1B}[31mb\u{7}\r") == #"a\u{1B}[31mb\u{7}\u{D}"#)
    // C1's "control sequence", and writing from right to left.
    #expect(printable("\u{9B}31m \u{202E}txt.exe") == #"\u{9B}31m \u{202E}txt.exe"#)
    #expect(printable("a\r\nb") == "a\\u{D}\nb")
  }

  @Test func jsonEscapesThemToo() {
    #expect(jsonString("a\u{1B}\u{9B}\u{202E}\"\\\n") == #""a\u001b\u009b\u202e\"\\\n""#)
    #expect(jsonEvent("step", [("epoch", "3")]).hasSuffix(#"Z", "event": "step", "epoch": 3}"#))
  }

  @Test func whatAUserGaveIsCut() {
    #expect(excerpt("short") == "short")
    #expect(excerpt("first\nsecond") == "first…")
    #expect(excerpt(String(repeating: "x", count: 81)) == String(repeating: "x", count: 80) + "…")
    // One character for Swift, of a thousand marks.
    #expect(excerpt("e" + String(repeating: "\u{301}", count: 1000)).unicodeScalars.count == 81)
  }

  @Test func wideCharactersCountTwice() {
    #expect(columns("Teacher █··") == 11)
    #expect(columns("脑瘤") == 4 && columns("e\u{301}") == 1)
    #expect(fitted("abcdef", columns: 6) == "abcdef" && fitted("abcdef", columns: 5) == "abcd…")
    #expect(fitted("脑瘤脑", columns: 4) == "脑…" && fitted("abc", columns: 0) == "…")
  }
}
