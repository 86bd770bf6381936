import Foundation
import Learning
import Report
import Testing

@testable import TestSupport

@Suite struct HTMLReportTests {
  let report = ReportContents(
    title: "A <b>\"bold\"</b> & 'new' title", subtitle: "3 < 4",
    sections: [
      .init(
        "Table <1>",
        [
          .table(
            .init(
              header: ["", "HAD-Net"], rows: [["ET", "<i>39.8</i>"]], note: "a & b", highlight: "HAD-Net")),
          .paragraph("<script>alert(1)</script>"), .facts([("time", "1 < 2 s")]),
        ]),
      .init(
        "Curves",
        [
          .charts([Chart("loss <x>", [.init("<train>", [(1, 1), (2, 0.5)])])]),
          .picture(Picture(width: 2, height: 2), caption: "\"quoted\""),
          .text(title: "recipe", "name: <paper>\n"), .links([("seed <2>", "seed-2/report.html")]),
        ]),
    ])

  @Test func nothingIsLoadedFromElsewhere() throws {
    let html = try report.html()
    #expect(!html.contains("http://") && !html.contains("https://") && !html.contains("url("))
    #expect(!html.contains("<script") && !html.contains("<link") && !html.contains("@import"))
    for reference in html.matches(of: /(?:src|href)="([^"]*)"/) {
      // Another report is named, not loaded.
      #expect(
        reference.1.hasPrefix("#") || reference.1.hasPrefix("data:image/png;base64,")
          || reference.0.hasPrefix("href") && reference.1 == "seed-2/report.html")
    }
  }

  @Test func allTextIsEscaped() throws {
    let html = try report.html()
    #expect(html.contains("<title>A &lt;b&gt;&quot;bold&quot;&lt;/b&gt; &amp; &#39;new&#39; title</title>"))
    for text in ["<b>", "<i>", "<paper>", "<train>", "<x>", "alert(1)</script>", "3 < 4", "1 < 2"] {
      #expect(!html.contains(text), "\(text)")
    }
    #expect(html.contains("alt=\"&quot;quoted&quot;\""))
  }

  @Test func elementsAreClosed() throws {
    let html = try report.html()
    for tag in [
      "section", "table", "tr", "th", "td", "figure", "svg", "dl", "dt", "dd", "details", "pre", "main", "ul",
      "li",
    ] {
      let opened = html.matches(of: try Regex("<\(tag)[ >]")).count
      let closed = html.matches(of: try Regex("</\(tag)>")).count
      #expect(opened > 0 && opened == closed, "\(tag)")
    }
  }

  @Test func theSameContentsGiveTheSameFile() throws {
    let first = try report.html(), second = try report.html()
    #expect(first == second)
  }

  @Test func casesStandInATable() {
    let table = ReportContents.Table(casesOf: [
      evaluation("Student", [0.5, 0.25]), evaluation("HAD-Net", [1]),
    ])
    #expect(
      table.header == [
        "Case", "Student WT", "Student TC", "Student ET", "HAD-Net WT", "HAD-Net TC", "HAD-Net ET",
      ])
    #expect(table.rows[1] == ["B", "25.0", "25.0", "25.0", "–", "–", "–"])
  }
}
