import Testing

@testable import Files

@Suite struct CSVTests {
  /// A spreadsheet would run it.
  @Test func textsOfACsvAreNoFormulas() {
    #expect(csvField("=HYPERLINK(\"http://x\")") == "\"'=HYPERLINK(\"\"http://x\"\")\"")
    #expect(["+1+1", "-a", "@SUM(A1)", "\ta"].map(csvField) == ["'+1+1", "'-a", "'@SUM(A1)", "'\ta"])
    #expect(csvField("\r\nx") == "\"'\r\nx\"")
    // Numbers, and what begins with another sign.
    let plain = ["-0.5", "+1e-3", "-inf", "a-b", "−0.5", ""]
    #expect(plain.map(csvField) == plain)
  }
}
