import Foundation

/// Tables, figures and the HTML report of a run, finished or not, from what lies in its folder.
public struct RunReport {
  private let run: RunFolder
  /// Cases in figure 2.
  private static let pictured = 4

  public init(_ run: RunFolder) { self.run = run }

  /// Table 1 as Markdown; nil where nothing has been evaluated.
  public func table() throws -> String? {
    let evaluations = try evaluations()
    return evaluations.isEmpty ? nil : try Table1(evaluations).markdown
  }

  /// Writes table1.md, table1.csv, the figures and report.html.
  ///
  /// Throws `.missing` where the folder is no run's. Pictures are left out, and the report says so, where the data
  /// set is no longer to be found.
  public func write() throws {
    guard FileManager.default.fileExists(atPath: run.recipe) else {
      throw Fault(.missing, "\(run.path): no run is in this folder (it has no recipe.yaml)")
    }
    let recipe = try Recipe.load(run.recipe)
    let evaluations = try evaluations()
    var sections: [ReportContents.Section] = []
    var results: [ReportContents.Block] = []
    if evaluations.isEmpty {
      results.append(.paragraph("Nothing has been evaluated yet."))
    } else {
      let table = try Table1(evaluations)
      try Replacement.write(Data(table.markdown.utf8), to: "\(run.evaluation)/table1.md")
      try Replacement.write(Data(table.csv.utf8), to: "\(run.evaluation)/table1.csv")
      results.append(.table(ReportContents.Table(table)))
      do {
        let picture = try figure2(recipe)
        try picture.write(to: path("figure2.png"))
        results.append(
          .picture(picture, caption: "Test cases with the most enhancing tumour: sequences, truth, methods."))
      } catch let fault as Fault where fault.kind == .missing {
        results.append(.paragraph("Without pictures: \(fault.description)"))
      }
    }
    sections.append(.init("Results", results))

    let charts = try charts()
    if !charts.isEmpty {
      try Chart.picture(charts.flatMap(\.charts)).write(to: path("curves.png"))
      for (stage, charts) in charts { sections.append(.init(stage.method, [.charts(charts)])) }
    }
    if !evaluations.isEmpty {
      sections.append(.init("Cases", [.table(ReportContents.Table(casesOf: evaluations))]))
    }
    sections.append(.init("Times", [.facts(times())]))
    sections.append(
      .init("Settings", [.text(title: "recipe.yaml", recipe.yaml)]))
    let isUnfinished = FileManager.default.fileExists(atPath: run.unfinished)
    try ReportContents(
      title: "HAD-Net study: \(recipe.name)",
      subtitle: isUnfinished ? "This run is unfinished: go on with --resume." : "", sections: sections
    ).write(to: run.report)
  }

  private func path(_ figure: String) throws -> String {
    try Replacement.makeFolder(run.figures)
    return "\(run.figures)/\(figure)"
  }

  private func evaluations() throws -> [MethodEvaluation] {
    try Stage.allCases.filter { FileManager.default.fileExists(atPath: run.summary($0)) }
      .map { try MethodEvaluation.load(run.summary($0), method: $0.method) }
  }

  private func charts() throws -> [(stage: Stage, charts: [Chart])] {
    var all: [(stage: Stage, charts: [Chart])] = []
    for stage in Stage.allCases where FileManager.default.fileExists(atPath: run.history(stage)) {
      let history = try History.load(run.history(stage))
      func series(_ name: String, _ column: String, percent: Bool = false) -> Chart.Series? {
        guard let epochs = history["epoch"], let values = history[column] else { return nil }
        let points = zip(epochs, values).compactMap { epoch, value in
          epoch.flatMap { e in value.map { (x: e, y: percent ? 100 * $0 : $0) } }
        }
        return points.isEmpty ? nil : Chart.Series(name, points)
      }
      func chart(_ title: String, _ series: [Chart.Series?], logarithmic: Bool = false) -> Chart? {
        let there = series.compactMap { $0 }
        return there.isEmpty ? nil : Chart("\(stage.method): \(title)", there, logarithmic: logarithmic)
      }
      let charts = [
        chart(
          "loss",
          [
            series("loss", "loss"), series("cross-entropy", "cross_entropy"),
            series("discriminator", "discriminator_loss"),
          ]),
        chart(
          "validation Dice, %",
          [
            series("WT", "wt", percent: true), series("TC", "tc", percent: true),
            series("ET", "et", percent: true),
          ]),
        chart(
          "discriminator, %",
          [series("accuracy", "accuracy", percent: true), series("steps updated", "updated", percent: true)]),
        chart("learning rate", [series("rate", "rate")], logarithmic: true),
      ].compactMap { $0 }
      if !charts.isEmpty { all.append((stage, charts)) }
    }
    return all
  }

  /// Sums of the epochs' seconds by stage and the shares of the steps', as the journal has them.
  private func times() -> [(name: String, value: String)] {
    struct Line: Decodable {
      let event: String
      let stage: String?
      let seconds: Double?
      let ranks, threads: Int?
      let compute, exposed, dataWait: Double?
      let bytes: Int?

      private enum CodingKeys: String, CodingKey {
        case event, stage, seconds, ranks, threads
        case compute = "compute_s"
        case exposed = "exposed_s"
        case dataWait = "data_wait_s"
        case bytes = "bytes_sent"
      }
    }
    var shares: [String: (compute: Double, exposed: Double, wait: Double, bytes: Int)] = [:]
    let text = FileManager.default.contents(atPath: run.log) ?? Data()
    var seconds: [String: Double] = [:], epochs: [String: Int] = [:], starts: [String] = []
    for line in text.split(separator: UInt8(ascii: "\n")) {
      guard let line = try? JSONDecoder().decode(Line.self, from: Data(line)) else { continue }
      if line.event == "epoch", let stage = line.stage {
        seconds[stage, default: 0] += line.seconds ?? 0
        epochs[stage, default: 0] += 1
      }
      if line.event == "step", let stage = line.stage, let compute = line.compute {
        let known = shares[stage] ?? (0, 0, 0, 0)
        shares[stage] = (
          known.compute + compute, known.exposed + (line.exposed ?? 0),
          known.wait + (line.dataWait ?? 0),
          known.bytes + (line.bytes ?? 0)
        )
      }
      if line.event == "start", let ranks = line.ranks, let threads = line.threads {
        starts.append("\(ranks) × \(threads)")
      }
    }
    var facts: [(name: String, value: String)] = Stage.allCases.compactMap { stage in
      seconds[stage.rawValue].map {
        var text = "\(ProgressBar.duration($0)) for \(epochs[stage.rawValue] ?? 0) epochs"
        if let share = shares[stage.rawValue] {
          let all = max(share.compute + share.exposed + share.wait, .leastNormalMagnitude)
          text += String(
            format: "; steps: %.1f %% computing, %.1f %% exposed communication, %.1f %% waiting for data",
            100 * share.compute / all, 100 * share.exposed / all, 100 * share.wait / all)
          if share.bytes > 0 { text += String(format: "; %.1f GB sent by rank 0", Double(share.bytes) / 1e9) }
        }
        return (stage.method, text)
      }
    }
    facts.append(("Ranks × threads", starts.joined(separator: ", ")))
    return facts
  }

  /// Rows of figure 2: the judged cases with the most enhancing tumour.
  private func figure2(_ recipe: Recipe) throws -> Picture {
    guard let root = recipe.data.path else { throw Fault(.missing, "the recipe names no data set") }
    let dataset = try Dataset.find(root, needsTruth: true)
    let split = try Split.read(run.split, ids: dataset.cases.map(\.id))
    let preparation = recipe.data.preparation
    let stages = Stage.allCases.filter { FileManager.default.fileExists(atPath: run.summary($0)) }
    var figures: [(et: Int, figure: CaseFigure)] = []
    for files in dataset.cases where Study.judged(split).contains(files.id) {
      let prepared = try preparation.prepare(files, commonSize: Size(16, 16, 16))
      guard let truth = prepared.labels else { continue }
      let segmentations = try stages.map { stage in
        let path = "\(run.predictions(stage))/\(files.id).nii.gz"
        let labels = try Segmentation.read(path, convention: files.convention).labels
        let cropped = prepared.placement.crop(labels.classes, fill: 0)
        return (method: stage.method, labels: LabelVolume(prepared.size, cropped))
      }
      let et = truth.classes.reduce(0) { $0 + ($1 == 3 ? 1 : 0) }
      figures.append(
        (et, CaseFigure(id: files.id, images: prepared.images, truth: truth, segmentations: segmentations)))
      // Only the rows that will be drawn are held.
      figures.sort { ($1.et, $0.figure.id) < ($0.et, $1.figure.id) }
      figures = Array(figures.prefix(RunReport.pictured))
    }
    return CaseFigure.picture(figures.map(\.figure))
  }
}
