import ArgumentParser
import Collective
import Foundation
import HADNet

struct EvaluateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "evaluate", abstract: "Score segmentations on disk, made by any method.",
    discussion: """
      Dice, sensitivity and specificity of WT, TC and ET, with the challenge's rules for empty regions.

      Example: hadnet-dist evaluate --truth BraTS2019 --predictions segmentations --json scores.json
      """)

  enum Labels: String, ExpressibleByArgument, CaseIterable {
    case brats2019 = "2019"
    case brats2023 = "2023"
  }

  @Option(help: "A data set in any BraTS layout, or a folder of ID/ID_seg.nii.gz or ID_seg.nii.gz.")
  var truth: String
  @Option(help: "Folder of ID.nii.gz.")
  var predictions: String
  @Option(help: "File for the scores as JSON.")
  var json: String?
  @Option(help: "Label convention: 2019 (ET is 4) or 2023 (ET is 3); default: by the cases' names.")
  var labels: Labels?
  @OptionGroup var shared: SharedOptions

  func run() throws {
    runInWorld { communicator in
      let convention: LabelConvention? = labels.map { $0 == .brats2019 ? .brats2019 : .brats2023 }
      let pairs = try communicator.rootFirst {
        try Evaluator.pairs(truth: truth, predictions: predictions, convention: convention)
      }
      let bar = shared.bar(rank: communicator.rank)
      bar.start("evaluate", total: (pairs.count + communicator.size - 1) / communicator.size)
      var mine: [String: CaseScores] = [:]
      for i in stride(from: communicator.rank, to: pairs.count, by: communicator.size) {
        mine[pairs[i].id] = try Evaluator.scores(pairs[i])
        bar.advance()
      }
      bar.finish()
      // Where there are more ranks than cases, some have none.
      let parts = try communicator.gather(
        mine.isEmpty ? "" : MethodEvaluation(method: predictions, cases: mine).json)
      guard communicator.rank == 0 else { return }
      var all = MethodEvaluation(method: predictions)
      for part in parts where !part.isEmpty {
        let evaluation = try MethodEvaluation(json: Data(part.utf8), file: predictions, method: predictions)
        all.cases.merge(evaluation.cases) { first, _ in first }
      }
      if let json { try Files.write(all.json, to: json) }
      print("\(all.cases.count) cases, mean ± sd")
      for region in Region.allCases {
        let words = all.metrics.map { metric in
          let summary = all.summary(region, metric)
          return "\(metric.rawValue) "
            + String(format: "%.2f ± %.2f %%", 100 * summary.mean, 100 * summary.sd)
        }
        print("\(region.rawValue)  \(words.joined(separator: "  "))")
      }
    }
  }
}

struct CompareCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "compare",
    abstract: "Two-sided paired tests between two evaluations, or of one against several.",
    discussion: """
      Mean, 95 % bootstrap interval, median and sd of the differences, paired t-test and Wilcoxon's signed-rank test, \
      each p also after Holm's correction for all tests that are printed.

      Example: hadnet-dist compare hadnet.json student.json adnet.json
      """)

  @Argument(help: "Scores as `evaluate --json` writes them, or a run's summary.json.")
  var a: String
  @Argument(help: "Scores of other methods on the same cases.")
  var others: [String]
  @Option(help: "File for all numbers as JSON.")
  var json: String?
  @OptionGroup var shared: SharedOptions

  func validate() throws {
    if let path = others.indices.first(where: { others[..<$0].contains(others[$0]) }).map({ others[$0] }) {
      throw ValidationError("\(path) is given twice.")
    }
  }

  func run() throws {
    let paths = [a] + others
    let evaluations = try zip(paths, MethodEvaluation.names(paths)).map { path, name in
      try MethodEvaluation.load(path, method: name)
    }
    let comparison = try Comparison(evaluations[0], Array(evaluations.dropFirst()))
    if let json { try Files.write(comparison.json, to: json) }
    print(comparison.text, terminator: "")
  }
}

struct ReportCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "report",
    abstract: "Write tables, figures and report.html of a run, or of all its seeds, finished or not.",
    discussion: "Example: hadnet-dist report run")

  @Argument(help: "The run's folder.")
  var path: String
  @OptionGroup var shared: SharedOptions

  func run() throws {
    let folder = RunFolder(path), seeds = folder.seeds
    for seed in seeds { try RunReport(folder.seed(seed)).write() }
    if let table = try seeds.isEmpty ? RunReport(folder).write() : SeedReport(folder).write() { print(table) }
    print("report: \(folder.report)")
  }
}
