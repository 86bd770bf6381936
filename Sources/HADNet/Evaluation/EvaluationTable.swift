import Foundation
import Imaging

extension MethodEvaluation {
  /// A table for the terminal: a line a metric, mean ± sd and median over the cases of WT, TC and ET. Fractions in
  /// percent, but uncertainty scores and areas as they are.
  package var text: String {
    let header =
      EvaluatedSet.count(cases.count, settings?.set) + (cases.count == 1 ? "" : ": mean ± sd (median)")
      + "\n\n"
    let rows = rows
    /// Texts made equally long by spaces before them.
    func aligned(_ texts: [String]) -> [String] {
      let width = texts.map(\.count).max() ?? 0
      return texts.map { String(repeating: " ", count: width - $0.count) + $0 }
    }
    let names = [""] + rows.map(\.name), width = names.map(\.count).max() ?? 0
    var columns = [names.map { $0 + String(repeating: " ", count: width - $0.count) }]
    for (i, region) in regions.enumerated() {
      let summaries = rows.map { ($0.summaries[i], $0.decimals) }
      func numbers(_ value: (Summary) -> Double) -> [String] {
        aligned(summaries.map { String(format: "%.\($1)f", value($0)) })
      }
      var cells = numbers(\.mean)
      if cases.count > 1 {
        let deviations = numbers(\.sd), medians = numbers(\.median)
        cells = cells.indices.map { "\(cells[$0]) ± \(deviations[$0]) (\(medians[$0]))" }
      }
      columns.append(aligned([region.name] + cells))
    }
    return header
      + (0...rows.count).map { row in
        columns.map { $0[row] }.joined(separator: "  ") + "\n"
      }.joined() + (settings?.set?.caution.map { "\n\($0)\n" } ?? "")
  }

  private typealias Row = (name: String, summaries: [Summary], decimals: Int)

  private var rows: [Row] {
    /// A value of every case; nil where one has none.
    func row(
      _ name: String, decimals: Int, scale: Double = 1, _ value: (CaseScores, Region) -> Double?
    ) -> Row? {
      let values = regions.map { region in
        ids.compactMap { id in cases[id].flatMap { value($0, region) }.map { $0 * scale } }
      }
      guard values.allSatisfy({ $0.count == cases.count }) else { return nil }
      return (name, values.map(Summary.init), decimals)
    }
    func filtered(_ threshold: Double) -> Row? {
      row("Dice where U ≤ \(thresholdText(threshold)), %", decimals: 2, scale: 100) { scores, region in
        scores.uncertainty[region]?.filteredDice.first { $0.threshold == threshold }?.dice
      }
    }
    let thresholds = cases.values.first?.uncertainty[regions[0]]?.filteredDice.map(\.threshold) ?? []
    let rows: [Row?] =
      [
        row("Dice, %", decimals: 2, scale: 100) { $0[$1, .dice] },
        row("Sensitivity, %", decimals: 2, scale: 100) { $0[$1, .sensitivity] },
        row("Specificity, %", decimals: 2, scale: 100) { $0[$1, .specificity] },
        row("HD95, mm", decimals: 2) { $0[$1, .hd95] },
        row("Uncertainty score", decimals: 4) { $0[$1, .score] },
        row("  if all were certain", decimals: 4) { $0.uncertainty[$1]?.certain },
        row("  area of Dice", decimals: 4) { $0.uncertainty[$1]?.areas.dice },
        row("  area of filtered TP", decimals: 4) { $0.uncertainty[$1]?.areas.ftp },
        row("  area of filtered TN", decimals: 4) { $0.uncertainty[$1]?.areas.ftn },
      ] + thresholds.map(filtered)
    return rows.compactMap(\.self)
  }
}
