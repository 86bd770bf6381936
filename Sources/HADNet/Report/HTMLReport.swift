import Evaluation
import Files
import Foundation
import Imaging
import Learning
import Methods

/// What a report shows. It knows nothing of training: whoever writes a report puts words, tables, charts and pictures
/// in here.
package struct ReportContents: Sendable {
  /// A heading and what stands under it.
  package struct Section: Sendable {
    package let heading: String
    package let blocks: [Block]

    package init(_ heading: String, _ blocks: [Block]) {
      self.heading = heading
      self.blocks = blocks
    }
  }

  /// One thing under a heading.
  package enum Block: Sendable {
    case paragraph(String)
    case table(Table)
    /// Charts side by side where there is room.
    case charts([Chart])
    case picture(Picture, caption: String)
    /// Names and values, a line each.
    case facts([(name: String, value: String)])
    /// Names of other files, as paths from the report's folder.
    case links([(name: String, path: String)])
    /// Text as it stands, such as a recipe; folded away under its title.
    case text(title: String, String)
  }

  /// A table as it is shown: texts alone.
  package struct Table: Sendable {
    package let header: [String]
    package let rows: [[String]]
    package let note: String
    /// The column that stands out, e.g. HAD-Net's.
    package let highlight: String?

    /// Each row has as many texts as the header.
    package init(header: [String], rows: [[String]], note: String = "", highlight: String? = nil) {
      self.header = header
      self.rows = rows
      self.note = note
      self.highlight = highlight
    }
  }

  package let title: String
  /// A line under the title, e.g. date, version, data set.
  package let subtitle: String
  package let sections: [Section]

  package init(title: String, subtitle: String = "", sections: [Section]) {
    self.title = title
    self.subtitle = subtitle
    self.sections = sections
  }
}

extension ReportContents.Table {
  /// Tables 1 and 2 as they stand in the report.
  package init(_ table: MethodTable) {
    self.init(
      header: [""] + table.methods, rows: table.rows, note: table.note, highlight: table.columns.subject)
  }

  /// Tables 1 and 2 over seeds.
  package init(_ table: SeedTable) {
    self.init(
      header: [""] + table.methods, rows: table.rows, note: table.note, highlight: table.columns.subject)
  }

  /// The subject's distance to each other method over seeds.
  package init(differencesOf table: SeedTable) {
    self.init(
      header: ["\(table.columns.subject) minus"] + table.regions.map(\.name),
      rows: table.differenceRows,
      note: table.differenceNote)
  }

  /// The means of each seed.
  package init(seedsOf table: SeedTable) {
    self.init(
      header: [""] + table.methods, rows: table.seedRows,
      note:
        "Means of \(table.regions.map(\.name).joined(separator: " / ")) over \(EvaluatedSet.count(table.cases, table.set)). \(table.content.caption).",
      highlight: table.columns.subject)
  }

  /// A case a line, Dice of the regions, in percent, of each method.
  package init(casesOf evaluations: [MethodEvaluation]) {
    let set = EvaluatedSet.common(evaluations)
    let ids = Set(evaluations.flatMap(\.ids)).sorted()
    self.init(
      header: ["Case"]
        + evaluations.flatMap { one in one.regions.map { "\(one.method) \($0.name)" } },
      rows: ids.map { id in
        [id]
          + evaluations.flatMap { one in
            one.regions.map { region in
              one.cases[id]?[region, .dice].map { String(format: "%.1f", $0 * 100) } ?? "–"
            }
          }
      }, note: "Dice in percent" + (set.map { ", \($0.rawValue) cases" } ?? "") + ".")
  }
}

extension ReportContents {
  /// The statistics of all metrics, each table under its title.
  static func blocks(_ statistics: StatisticsTable) -> [Block] {
    [.paragraph(statistics.note)]
      + statistics.tables.flatMap { table -> [Block] in
        [
          .paragraph(table.title + ":"),
          .table(Table(header: table.header, rows: table.rows, note: table.note)),
        ]
      }
  }

  /// The report as one HTML file that needs no other: pictures and styles are inside, nothing is loaded.
  /// Throws `.storage` where a picture can't be made.
  package func html() throws(Fault) -> String {
    var body = "<header>\n<h1>\(escaped(title))</h1>\n"
    if !subtitle.isEmpty { body += "<p class=\"subtitle\">\(escaped(subtitle))</p>\n" }
    if sections.count > 1 {
      let links = sections.indices.map { "<a href=\"#s\($0)\">\(escaped(sections[$0].heading))</a>" }
      body += "<nav>\(links.joined(separator: " "))</nav>\n"
    }
    body += "</header>\n<main>\n"
    for (i, section) in sections.enumerated() {
      body += "<section id=\"s\(i)\">\n<h2>\(escaped(section.heading))</h2>\n"
      for block in section.blocks { body += try html(block) }
      body += "</section>\n"
    }
    return """
      <!DOCTYPE html>
      <html lang="en">
      <head>
      <meta charset="utf-8">
      <meta name="viewport" content="width=device-width, initial-scale=1">
      <title>\(escaped(title))</title>
      <style>
      \(ReportContents.style)
      </style>
      </head>
      <body>
      \(body)</main>
      </body>
      </html>

      """
  }

  /// Writes the report, whole or not at all. Throws `.storage`.
  package func write(to path: String) throws { try AtomicFile.write(Data(html().utf8), to: path) }

  private func html(_ block: Block) throws(Fault) -> String {
    switch block {
    case .paragraph(let text): return "<p>\(escaped(text))</p>\n"
    case .table(let table): return html(table)
    case .charts(let charts):
      return "<div class=\"charts\">\n" + charts.map { $0.svg() + "\n" }.joined() + "</div>\n"
    case .picture(let picture, let caption):
      let data = Data(try picture.png()).base64EncodedString()
      return """
        <figure><div class="scroll"><img alt="\(escaped(caption))" width="\(picture.width)" \
        height="\(picture.height)" src="data:image/png;base64,\(data)"></div>\
        <figcaption>\(escaped(caption))</figcaption></figure>

        """
    case .facts(let facts):
      let lines = facts.map { "<dt>\(escaped($0.name))</dt><dd>\(escaped($0.value))</dd>\n" }
      return "<dl>\n" + lines.joined() + "</dl>\n"
    case .links(let links):
      let items = links.map { "<li><a href=\"\(escaped($0.path))\">\(escaped($0.name))</a></li>\n" }
      return "<ul>\n" + items.joined() + "</ul>\n"
    case .text(let title, let text):
      return "<details><summary>\(escaped(title))</summary><pre>\(escaped(text))</pre></details>\n"
    }
  }

  private func html(_ table: Table) -> String {
    func row(_ cells: [String], _ tag: String) -> String {
      let cells = cells.enumerated().map { i, cell in
        let stands = i < table.header.count && table.header[i] == table.highlight
        let tag = i == 0 ? "th scope=\"row\"" : tag
        return "<\(tag)\(stands ? " class=\"highlight\"" : "")>\(escaped(cell))</\(tag.prefix(2))>"
      }
      return "<tr>" + cells.joined() + "</tr>\n"
    }
    return """
      <div class="scroll"><table>
      <thead>\(row(table.header, "th"))</thead>
      <tbody>
      \(table.rows.map { row($0, "td") }.joined())</tbody>
      </table></div>

      """ + (table.note.isEmpty ? "" : "<p class=\"note\">\(escaped(table.note))</p>\n")
  }

  private static let style = """
    :root { color-scheme: light dark; --ink: #1d2129; --paper: #ffffff; --soft: #f3f5f8; --line: #d9dde3;
      --quiet: #5c6470; --accent: #0a6ebd; }
    @media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --paper: #14171c; --soft: #1e232a;
      --line: #343b45; --quiet: #9aa3af; --accent: #6cb6ff; } }
    * { box-sizing: border-box; }
    body { margin: 0 auto; padding: 1.5rem 1.2rem 4rem; max-width: 76rem; background: var(--paper);
      color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
    h1 { font-size: 1.7rem; line-height: 1.2; margin: 0.5rem 0 0; }
    h2 { font-size: 1.2rem; margin: 2.4rem 0 0.8rem; padding-top: 0.6rem; border-top: 1px solid var(--line); }
    .subtitle { color: var(--quiet); margin: 0.3rem 0 0; }
    nav { display: flex; flex-wrap: wrap; gap: 0.3rem 1.1rem; margin-top: 0.9rem; }
    a { color: var(--accent); text-decoration: none; }
    .scroll { overflow-x: auto; }
    .scroll + .scroll, .note + .scroll { margin-top: 1.4rem; }
    table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
    th, td { padding: 0.35rem 0.8rem; text-align: right; white-space: nowrap;
      border-bottom: 1px solid var(--line); }
    thead th { border-bottom: 2px solid var(--ink); font-weight: 600; }
    tr > th:first-child { text-align: left; position: sticky; left: 0; background: var(--paper); }
    tbody tr:hover > * { background: var(--soft); }
    .highlight { font-weight: 650; background: var(--soft); }
    .note, figcaption { color: var(--quiet); font-size: 0.88rem; margin: 0.5rem 0 0; }
    .charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr));
      gap: 1rem; }
    .chart { width: 100%; height: auto; border: 1px solid var(--line); border-radius: 6px; padding: 6px; }
    figure { margin: 0 0 1.2rem; }
    img { height: auto; max-width: 100%; min-width: min(100%, 40rem); border-radius: 6px; display: block; }
    dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.2rem 1.4rem; margin: 0; }
    dt { color: var(--quiet); } dd { margin: 0; overflow-wrap: anywhere; }
    pre { background: var(--soft); border-radius: 6px; padding: 0.9rem; overflow-x: auto;
      font: 0.85rem/1.45 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
    summary { cursor: pointer; color: var(--accent); }
    @media (max-width: 40rem) { body { font-size: 15px; padding: 0.8rem 0.8rem 3rem; }
      th, td { padding: 0.3rem 0.5rem; } dl { grid-template-columns: 1fr; } dd { margin-bottom: 0.5rem; }
      img { max-width: none; } }
    @media print { :root { --ink: #000; --paper: #fff; --soft: #f3f3f3; --line: #bbb; --quiet: #444; }
      body { max-width: none; padding: 0; font-size: 10pt; } nav { display: none; }
      figure, .chart, tr { break-inside: avoid; } h2 { break-after: avoid; } .scroll { overflow: visible; } }
    """
}

/// Text that is safe inside an element or a quoted attribute.
func escaped(_ text: String) -> String {
  var result = ""
  for character in text.unicodeScalars {
    switch character {
    case "&": result += "&amp;"
    case "<": result += "&lt;"
    case ">": result += "&gt;"
    case "\"": result += "&quot;"
    case "'": result += "&#39;"
    default: result.unicodeScalars.append(character)
    }
  }
  return result
}
