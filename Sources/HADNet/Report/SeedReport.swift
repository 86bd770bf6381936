import Evaluation
import Files
import Foundation
import Methods
import Study

/// Tables and the HTML report of a study over several seeds, finished or not, from the runs in its folder.
package struct SeedReport {
  private let run: RunFolder

  package init(_ run: RunFolder) { self.run = run }

  /// Writes the tables as .md and .csv, seeds.json and report.html. Gives the tables as Markdown, nil where no seed has been
  /// evaluated.
  ///
  /// Seeds that are unfinished are named and left out. Throws `.missing` where no seed has begun, `.recipe` or
  /// `.invalid` where their recipes or splits differ.
  @discardableResult
  package func write() throws -> String? {
    let seeds = run.seeds
    guard let recipe = try run.sharedRecipe() else {
      throw Fault(.missing, "\(run.path): no seed's run is in this folder")
    }
    var done: [(seed: UInt64, evaluations: [MethodEvaluation])] = [], undone: [UInt64] = []
    for seed in seeds {
      let one = run.seed(seed)
      let evaluations = try RunReport(one).evaluations()
      if evaluations.isEmpty || FileManager.default.fileExists(atPath: one.unfinished) {
        undone.append(seed)
      } else {
        done.append((seed, evaluations))
      }
    }
    var tables = done.isEmpty ? [] : [try SeedTable(.dice, done, columns: .methods)]
    if done.flatMap(\.evaluations).contains(where: { $0.metrics.contains(.score) }) {
      tables.append(try SeedTable(.score, done, columns: .methods))
    }
    var results: [ReportContents.Block] = [], each: [ReportContents.Block] = []
    let remarks = remarks(done.map(\.seed))
    let markdown = tables.map { table in table.markdown + remarks.map { "\n\($0)\n" }.joined() }
    for (table, markdown) in zip(tables, markdown) {
      for (text, type) in [(markdown, "md"), (table.csv, "csv")] {
        try AtomicFile.write(Data(text.utf8), to: "\(run.evaluation)/\(table.content.name).\(type)")
      }
      results.append(.table(ReportContents.Table(table)))
      if !table.differences.isEmpty { results.append(.table(ReportContents.Table(differencesOf: table))) }
      each.append(.table(ReportContents.Table(seedsOf: table)))
    }
    if tables.isEmpty {
      results.append(.paragraph("No seed has been evaluated yet."))
    } else {
      try AtomicFile.write(Data(SeedTable.json(tables).utf8), to: "\(run.evaluation)/seeds.json")
    }
    results += remarks.map { .paragraph($0) }
    if !undone.isEmpty {
      each.append(
        .paragraph("Unfinished: \(undone.map { "seed \($0)" }.joined(separator: ", ")) (not in the tables)."))
    }
    each.append(.links(seeds.map { ("Report of seed \($0)", "seed-\($0)/report.html") }))
    // All seeds have the same.
    let split = seeds.first.map { RunReport(run.seed($0)).splitBlocks() } ?? []
    let isUnfinished = FileManager.default.fileExists(atPath: run.unfinished)
    try ReportContents(
      title: "HAD-Net study: \(recipe.name), \(seeds.count) seeds",
      subtitle: isUnfinished ? "This study is unfinished: go on with --resume." : "",
      sections: [
        .init("Results", results), .init("Seeds", each),
      ] + (split.isEmpty ? [] : [.init("Split", split)]) + [
        .init("Settings", [.text(title: "recipe.yaml of the first seed", recipe.yaml)])
      ]
    ).write(to: run.report)
    return tables.isEmpty ? nil : markdown.joined(separator: "\n")
  }

  /// What is remarked of the runs in the tables, each remark with the seeds that it is of.
  private func remarks(_ seeds: [UInt64]) -> [String] {
    var hashes: [String: String] = [:], remarks: [(text: String, seeds: [UInt64])] = []
    for seed in seeds {
      let report = RunReport(run.seed(seed))
      for text in report.remarks() + (report.changedTruth(&hashes).map { [$0 + "."] } ?? []) {
        if let known = remarks.firstIndex(where: { $0.text == text }) {
          remarks[known].seeds.append(seed)
        } else {
          remarks.append((text, [seed]))
        }
      }
    }
    return remarks.map { text, seeds in
      "Seed\(seeds.count == 1 ? "" : "s") \(seeds.map(String.init).joined(separator: ", ")): \(text)"
    }
  }
}
