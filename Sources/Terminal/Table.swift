/// A text whose Markdown tables have columns of even width, as they are read on a terminal; they stay the same tables.
package func aligned(_ markdown: String) -> String {
  var result: [String] = [], table: [[String]] = []
  func end() {
    let widths = (0..<(table.map(\.count).max() ?? 0)).map { column in
      table.map { column < $0.count && !isRule($0[column]) ? columns($0[column]) : 3 }.max() ?? 3
    }
    for row in table {
      let cells = zip(row, widths).enumerated().map { column, cell in
        let (text, width) = cell
        if isRule(text) {
          let dashes = String(repeating: "-", count: width - text.filter { $0 == ":" }.count)
          return (text.hasPrefix(":") ? ":" : "") + dashes + (text.hasSuffix(":") ? ":" : "")
        }
        let space = String(repeating: " ", count: width - columns(text))
        // Names to the left, numbers to the right.
        return column == 0 ? text + space : space + text
      }
      result.append("| " + cells.joined(separator: " | ") + " |")
    }
    table = []
  }
  for line in markdown.split(separator: "\n", omittingEmptySubsequences: false) {
    if line.hasPrefix("|"), line.hasSuffix("|"), line.count > 1 {
      table.append(
        line.dropFirst().dropLast().split(separator: "|", omittingEmptySubsequences: false).map { cell in
          String(cell.drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
        })
    } else {
      end()
      result.append(String(line))
    }
  }
  end()
  return result.joined(separator: "\n")
}

/// Whether a cell is of the line below a table's head.
private func isRule(_ cell: String) -> Bool {
  cell.contains("-") && cell.allSatisfy { $0 == "-" || $0 == ":" }
}
