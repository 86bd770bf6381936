import Files
import Foundation
import Imaging
import Terminal

/// Table 1 or 2 over several seeds of one study, all on the same cases: how much of a method's Dice or score, and of its
/// distance to the subject, is the luck of a seed. The paper has one seed and no such table.
package struct SeedTable: Sendable {
  /// One number of each seed.
  package struct Spread: Equatable, Sendable {
    package let values: [Double]
    package var mean: Double { Evaluation.mean(values) }
    /// With n − 1; NaN for one seed.
    package var sd: Double { standardDeviation(values) }
  }

  /// A method's values in a region, as fractions.
  package struct Cell: Equatable, Sendable {
    /// Each seed's mean over the cases.
    package let means: Spread
    /// Each seed's standard deviation over the cases.
    package let deviations: Spread
  }

  /// The subject minus another method.
  package struct Difference: Equatable, Sendable {
    package let method: String
    /// Of the means over the cases, as fractions.
    package let values: [Region: Spread]

    /// In how many seeds the subject was better.
    package func better(_ region: Region) -> Int { values[region]?.values.count { $0 > 0 } ?? 0 }
  }

  package let content: MethodTable.Content
  package let columns: TableColumns
  package let seeds: [UInt64]
  /// Those that every seed has, in the paper's order; others follow as they came.
  package let methods: [String]
  /// Those that only some seeds have.
  package let partial: [String]
  /// Those of all methods.
  package let regions: [Region]
  /// In the order of `methods` for each region.
  package let cells: [Region: [Cell]]
  /// The subject's to every other method; none without it.
  package let differences: [Difference]
  /// How many cases; seeds and methods have the same.
  package let cases: Int
  /// Which cases; nil where that is not known.
  package let set: EvaluatedSet?

  /// A score's table has the methods that have scores.
  ///
  /// Throws where two evaluations are not of the same cases.
  package init(
    _ content: MethodTable.Content, _ runs: [(seed: UInt64, evaluations: [MethodEvaluation])],
    columns: TableColumns
  ) throws(Fault) {
    precondition(!runs.isEmpty, "a table of no seeds")
    self.content = content
    self.columns = columns
    let runs = runs.map { run in
      (
        seed: run.seed,
        evaluations: run.evaluations.filter { content == .dice || $0.metrics.contains(content.metric) }
      )
    }
    seeds = runs.map(\.seed)
    var known: [String] = []
    for method in runs.flatMap(\.evaluations).map(\.method) where !known.contains(method) {
      known.append(method)
    }
    let all = columns.arranged(known, by: \.self)
    /// A method's evaluations, those of one seed after the other.
    func evaluations(_ method: String) -> [MethodEvaluation] {
      runs.compactMap { run in run.evaluations.first { $0.method == method } }
    }
    let methods = all.filter { evaluations($0).count == runs.count }
    partial = all.filter { !methods.contains($0) }
    self.methods = methods
    let table = methods.map(evaluations)
    cases = table.first?.first?.cases.count ?? 0
    set = EvaluatedSet.common(table.flatMap { $0 })
    let regions = try MethodEvaluation.commonRegions(table.flatMap { $0 })
    self.regions = regions

    var reference: MethodEvaluation?
    for (method, row) in zip(methods, table) {
      for (seed, evaluation) in zip(seeds, row) {
        let named = MethodEvaluation(
          method: "\(method) of seed \(seed)", regions: regions, cases: evaluation.cases)
        try reference?.requireCases(of: named)
        reference = reference ?? named
      }
    }
    var cells: [Region: [Cell]] = [:]
    for region in regions {
      cells[region] = table.map { row in
        let summaries = row.map { $0.summary(region, content.metric) }
        return Cell(
          means: Spread(values: summaries.map(\.mean)), deviations: Spread(values: summaries.map(\.sd)))
      }
    }
    self.cells = cells
    var differences: [Difference] = []
    if let subject = methods.firstIndex(of: columns.subject) {
      for (i, method) in methods.enumerated() where i != subject {
        var values: [Region: Spread] = [:]
        for region in regions {
          guard let row = cells[region] else { continue }
          values[region] = Spread(values: zip(row[subject].means.values, row[i].means.values).map { $0 - $1 })
        }
        differences.append(Difference(method: method, values: values))
      }
    }
    self.differences = differences
  }
}

// MARK: - As text

extension SeedTable {
  /// A line a region, a column a method: `66.7 ± 1.2 (19.7)`, percent.
  package var rows: [[String]] {
    regions.map { region in
      [region.name]
        + (cells[region] ?? []).map { cell in
          let deviation = cell.deviations.mean
          return content.text(cell.means.mean, sd: cell.means.sd)
            + (deviation.isNaN ? "" : " (\(content.text(deviation)))")
        }
    }
  }

  /// A line a method: `+5.5 ± 0.8 (3 of 3)` a region, percent points.
  package var differenceRows: [[String]] {
    differences.map { difference in
      [difference.method]
        + regions.map { region in
          guard let spread = difference.values[region] else { return "" }
          return content.text(spread.mean, sd: spread.sd, signed: true)
            + " (\(difference.better(region)) of \(seeds.count))"
        }
    }
  }

  /// A line a seed, a column a method: the means of WT, TC and ET, percent.
  package var seedRows: [[String]] {
    seeds.indices.map { i in
      ["seed \(seeds[i])"]
        + methods.indices.map { method in
          regions.map { region in
            content.text(cells[region]?[method].means.values[i] ?? .nan)
          }.joined(separator: " / ")
        }
    }
  }

  /// What the numbers are.
  package var note: String {
    var text =
      "\(content.caption), mean ± standard deviation over \(seeds.count.named("seed")) "
      + "(\(seeds.map(String.init).joined(separator: ", "))) of each seed's mean over \(EvaluatedSet.count(cases, set)); "
      + "in brackets the standard deviation over the cases, as a mean over the seeds. All seeds have the same split: "
      + "their spread is that of training, not of the choice of cases."
    if let caution = set?.caution { text += " " + caution }
    text += columns.remarks(on: methods)
    if !partial.isEmpty { text += " Not in every seed: \(partial.joined(separator: ", "))." }
    return text
  }

  /// What the differences are.
  package var differenceNote: String {
    "\(content == .dice ? "Percent points, mean" : "Mean") ± standard deviation over the seeds of the difference of a seed's means; in brackets in how "
      + "many seeds \(columns.subject) was better."
  }

  package var markdown: String {
    var text = markdownTable([""] + methods, rows) + "\n" + note + "\n"
    if !differences.isEmpty {
      text +=
        "\n" + markdownTable(["\(columns.subject) minus"] + regions.map(\.name), differenceRows)
      text += "\n" + differenceNote + "\n"
    }
    return text
  }

  /// The cells of the Markdown table.
  package var csv: String {
    ([[EvaluatedSet.corner(set)] + methods] + rows).map { $0.map(csvField).joined(separator: ",") + "\n" }
      .joined()
  }

  /// `{"seeds": […], "cases": …, "set": "test", "dice": {METHOD: {"WT": {"means": […], "mean": …, "sd": …, "sd_cases": […]}, …}, …},
  /// "hadnet_minus": {METHOD: {"WT": {"differences": […], "mean": …, "sd": …, "better": …}, …}, …}}`: lists in the
  /// order of the seeds, all as fractions; of scores the same as `score` and `hadnet_minus_score`. The tables are of the
  /// same seeds.
  package static func json(_ tables: [SeedTable]) -> String {
    let sections = tables.flatMap { table in
      let name = table.content.metric.rawValue
      return [
        (name, table.methodsJSON),
        (table.content == .dice ? "hadnet_minus" : "hadnet_minus_\(name)", table.differencesJSON),
      ]
    }
    let seeds = (tables.first?.seeds ?? []).map(String.init).joined(separator: ", ")
    let set = tables.first?.set.map { ",\n  \"set\": \"\($0.rawValue)\"" } ?? ""
    return "{\n  \"seeds\": [\(seeds)],\n  \"cases\": \(tables.first?.cases ?? 0)\(set)"
      + sections.map { ",\n  \(jsonString($0.0)): \($0.1)" }.joined() + "\n}\n"
  }

  private var methodsJSON: String {
    let none = Spread(values: [])
    return SeedTable.section(
      methods.enumerated().map { i, name in
        method(name) { region in
          SeedTable.members("means", cells[region]?[i].means ?? none)
            + ", \"sd_cases\": \(SeedTable.list(cells[region]?[i].deviations.values ?? []))"
        }
      })
  }

  private var differencesJSON: String {
    SeedTable.section(
      differences.map { difference in
        method(difference.method) { region in
          SeedTable.members("differences", difference.values[region] ?? Spread(values: []))
            + ", \"better\": \(difference.better(region))"
        }
      })
  }

  private static func list(_ values: [Double]) -> String {
    "[" + values.map(jsonNumber).joined(separator: ", ") + "]"
  }

  private static func members(_ name: String, _ spread: Spread) -> String {
    "\(jsonString(name)): \(list(spread.values)), \"mean\": \(jsonNumber(spread.mean)), \"sd\": \(jsonNumber(spread.sd))"
  }

  /// A method's name and a line for each region.
  private func method(_ name: String, _ line: (Region) -> String) -> String {
    "    \(jsonString(name)): {\n"
      + regions.map { "      \(jsonString($0.name)): {\(line($0))}" }.joined(separator: ",\n")
      + "\n    }"
  }

  private static func section(_ methods: [String]) -> String {
    methods.isEmpty ? "{}" : "{\n" + methods.joined(separator: ",\n") + "\n  }"
  }
}
