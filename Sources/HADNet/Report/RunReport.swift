import Compute
import Evaluation
import Files
import Foundation
import Imaging
import Inference
import Learning
import Methods
import Study
import Terminal

/// Tables, figures and the HTML report of a run, finished or not, from what lies in its folder.
package struct RunReport {
  private let run: RunFolder
  /// Cases in figure 2.
  private static let pictured = 4
  /// In the order of table 1.
  private static let stages = TableColumns.methods.arranged(Method.allCases, by: \.title)

  package init(_ run: RunFolder) { self.run = run }

  /// Writes the tables and statistics, each as .md and .csv, the figures and report.html. Gives the tables as Markdown,
  /// nil where nothing has been evaluated.
  ///
  /// Throws `.missing` where the folder is no run's. Pictures are left out, and the report says so, where the data
  /// set is no longer to be found or is another one.
  @discardableResult
  package func write() throws -> String? {
    guard FileManager.default.fileExists(atPath: run.recipe) else {
      throw Fault(.missing, "\(run.path): no run is in this folder (it has no recipe.yaml)")
    }
    let recipe = try Recipe.load(run.recipe)
    for stage in RunReport.stages { run.mend(stage) }
    let evaluations = try evaluations()
    var sections: [ReportContents.Section] = []
    var results: [ReportContents.Block] = []
    let set = EvaluatedSet.common(evaluations)
    if let caution = set?.caution { results.append(.paragraph(caution)) }
    var columns = TableColumns.methods
    columns.unseen = try task.missing.map(\.title).joined(separator: " and ")
    var tables = evaluations.isEmpty ? [] : [try MethodTable(.dice, evaluations, columns: columns)]
    if evaluations.contains(where: { $0.metrics.contains(.score) }) {
      tables.append(try MethodTable(.score, evaluations, columns: columns))
    }
    let remarks = remarks()
    let markdown = tables.map { table in
      table.markdown + remarks.map { "\n\($0)\n" }.joined()
    }
    for (table, text) in zip(tables, markdown) {
      try AtomicFile.write(Data(text.utf8), to: "\(run.evaluation)/\(table.content.name).md")
      try AtomicFile.write(Data(table.csv.utf8), to: "\(run.evaluation)/\(table.content.name).csv")
      results.append(.table(ReportContents.Table(table)))
    }
    if tables.isEmpty {
      results.append(.paragraph("Nothing has been evaluated yet."))
    } else {
      do {
        results += try pictures(recipe)
      } catch let fault as Fault where [.missing, .invalid].contains(fault.kind) {
        results.append(.paragraph("Without pictures: \(fault.description)"))
      }
    }
    results += remarks.map { .paragraph($0) }
    sections.append(.init("Results", results))
    let uncertainty = try uncertaintyCharts(recipe.uncertainty, set)
    if !uncertainty.isEmpty {
      try Chart.picture(uncertainty).write(to: path("uncertainty.png"))
      sections.append(.init("Uncertainty", [.charts(uncertainty.flatMap { $0.compactMap { $0 } })]))
    }
    if !evaluations.isEmpty {
      let statistics = try StatisticsTable(evaluations, columns: .methods)
      try AtomicFile.write(Data(statistics.markdown.utf8), to: "\(run.evaluation)/statistics.md")
      try AtomicFile.write(Data(statistics.csv.utf8), to: "\(run.evaluation)/statistics.csv")
      sections.append(.init("Statistics", ReportContents.blocks(statistics)))
    }

    let charts = try charts()
    if !charts.isEmpty {
      // A row a stage, a column a kind that any stage has.
      let kinds = charts[0].charts.indices.filter { kind in charts.contains { $0.charts[kind] != nil } }
      try Chart.picture(charts.map { stage in kinds.map { stage.charts[$0] } }).write(to: path("curves.png"))
      for (stage, charts) in charts {
        sections.append(.init(stage.title, [.charts(charts.compactMap { $0 })]))
      }
    }
    if !evaluations.isEmpty {
      sections.append(.init("Cases", [.table(ReportContents.Table(casesOf: evaluations))]))
    }
    let split = splitBlocks()
    if !split.isEmpty { sections.append(.init("Split", split)) }
    sections.append(.init("Times", [.facts(times())]))
    sections.append(
      .init("Settings", [.text(title: "recipe.yaml", recipe.yaml)]))
    let isUnfinished = FileManager.default.fileExists(atPath: run.unfinished)
    try ReportContents(
      title: "HAD-Net study: \(recipe.name)",
      subtitle: isUnfinished ? "This run is unfinished: go on with --resume." : "", sections: sections
    ).write(to: run.report)
    return tables.isEmpty ? nil : markdown.joined(separator: "\n")
  }

  /// The run's task; that of BraTS where the run has none yet.
  private var task: SegmentationTask {
    get throws { try run.task() ?? TaskPreset.brats.task }
  }

  /// A region in running text.
  private static func words(_ region: Region) -> String { region == .et ? "enhancing tumour" : region.name }

  /// What a reader of the tables must know beside the numbers.
  func remarks() -> [String] {
    var remarks: [String] = []
    let stale = run.stale()
    if !stale.isEmpty {
      remarks.append(
        "Stale: \(stale.joined(separator: ", ")). The network has been trained on; study makes them again.")
    }
    let accepted = RunReport.stages.filter { FileManager.default.fileExists(atPath: run.acceptedData($0)) }
    if !accepted.isEmpty {
      remarks.append(
        "Trained with data that have changed since (--accept-changed-data): "
          + "\(accepted.map(\.title).joined(separator: ", ")).")
    }
    return remarks
  }

  /// A case that was scored with another truth than there is now, in words; nil where there is none, or the data set is no
  /// longer to be found. `hashes` has those of truths that were read before.
  func changedTruth(_ hashes: inout [String: String]) -> String? {
    guard let root = try? Recipe.load(run.recipe).data.path,
      let task = try? run.task(), let cases = try? Dataset.find(root, task, needsTruth: true).cases
    else { return nil }
    let sources = RunReport.stages.compactMap { EvaluationSource(run.source($0)) }
    for files in cases {
      let scored = Set(sources.compactMap { $0.truth(files.id) })
      guard !scored.isEmpty, let path = files.segmentation else { continue }
      if hashes[path] == nil {
        hashes[path] = (try? Segmentation.read(path, values: files.values)).map {
          RunReport.hash($0.labels.classes)
        }
      }
      if let now = hashes[path], scored != [now] { return RunReport.changed(path, files.id) }
    }
    return nil
  }

  /// As much of a truth's hash as is kept with its scores.
  private static func hash(_ classes: [UInt8]) -> String { String(ContentHash.of(classes).prefix(16)) }

  private static func changed(_ path: String, _ id: String) -> String {
    "\(path) has changed since \(id) was scored; study tells what can be done"
  }

  private func path(_ figure: String) throws -> String {
    try AtomicFile.makeFolder(run.figures)
    return "\(run.figures)/\(figure)"
  }

  /// Cases, patients and grades of each set; nothing where the run has not come so far.
  func splitBlocks() -> [ReportContents.Block] {
    let known = TrainingData.kept(in: run)
    guard !known.isEmpty, let split = try? Split.read(run.split, ids: known.map(\.id)) else { return [] }
    let task = (try? task) ?? TaskPreset.brats.task
    let table = SplitTable(
      split, of: known.map { ($0.id, $0.patient, $0.grade) }, regions: SplitTable.regions(of: task, known))
    let rows = table.rows.map { row in
      [row.name, "\(row.cases)", "\(row.patients)", row.cases == 0 ? "–" : row.grades]
        + (table.present(row).map { [row.cases == 0 ? "–" : $0] } ?? [])
    }
    return [
      .table(
        .init(
          header: ["", "cases", "patients", "grades"] + (table.regions.isEmpty ? [] : ["cases with"]),
          rows: rows,
          note: table.leftOut > 0 ? "\(table.leftOut.named("case")) in no set." : ""))
    ] + (table.leak.map { [.paragraph("Warning: \($0)")] } ?? [])
  }

  func evaluations() throws -> [MethodEvaluation] {
    try RunReport.stages.filter { FileManager.default.fileExists(atPath: run.summary($0)) }
      .map { try MethodEvaluation.load(run.summary($0), method: $0.title) }
  }

  /// Each stage's charts, always of the same kinds in the same order; nil where a stage has nothing of a kind.
  private func charts() throws -> [(stage: Method, charts: [Chart?])] {
    var all: [(stage: Method, charts: [Chart?])] = []
    for stage in RunReport.stages where FileManager.default.fileExists(atPath: run.history(stage)) {
      let charts = RunReport.charts(stage, try History.load(run.history(stage)), try task.regions)
      if charts.contains(where: { $0 != nil }) { all.append((stage, charts)) }
    }
    return all
  }

  /// The curves that a history has: losses, validation Dice, the discriminator, the distance of features, the rate.
  static func charts(_ stage: Method, _ history: History, _ regions: [Region]) -> [Chart?] {
    func series(_ column: String, _ name: String, percent: Bool = false) -> Chart.Series? {
      guard let epochs = history["epoch"], let values = history[column] else { return nil }
      let points = zip(epochs, values).compactMap { epoch, value in
        epoch.flatMap { e in value.map { (x: e, y: percent ? 100 * $0 : $0) } }
      }
      return points.isEmpty ? nil : Chart.Series(name, points)
    }
    func chart(_ title: String, _ series: [Chart.Series?], logarithmic: Bool = false) -> Chart? {
      let there = series.compactMap { $0 }
      return there.isEmpty ? nil : Chart("\(stage.title): \(title)", there, logarithmic: logarithmic)
    }
    func curves(_ kind: Term.Kind) -> [Chart.Series?] {
      stage.terms.filter { $0.kind == kind }.map {
        series($0.name, $0.label, percent: kind != .loss && kind != .distance)
      }
    }
    return [
      chart(
        "loss", [series("loss", "loss")] + curves(.loss) + [series("validation_loss", "validation")]),
      chart(
        "validation Dice, %",
        regions.map { series(EpochRecord.column($0.name), $0.name, percent: true) }),
      chart("discriminator, %", curves(.accuracy) + curves(.share)),
      chart("distance of features", curves(.distance)),
      chart("learning rate", [series("rate", "rate")], logarithmic: true),
    ]
  }

  /// Sums of the epochs' seconds by stage and the shares of the steps', as the journal has them.
  private func times() -> [(name: String, value: String)] {
    struct Line: Decodable {
      let event: String
      let stage: String?
      let seconds: Double?
      let ranks, threads: Int?
      let compute, exposed, dataWait: Double?
      let bytes: Double?

      private enum CodingKeys: String, CodingKey {
        case event, stage, seconds, ranks, threads
        case compute = "compute_s"
        case exposed = "exposed_s"
        case dataWait = "data_wait_s"
        case bytes = "bytes_sent"
      }
    }
    var shares: [String: (compute: Double, exposed: Double, wait: Double, bytes: Double)] = [:]
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
    var facts: [(name: String, value: String)] = Method.allCases.compactMap { stage in
      seconds[stage.rawValue].map {
        var text = "\(ProgressBar.duration($0)) for \((epochs[stage.rawValue] ?? 0).named("epoch"))"
        if let share = shares[stage.rawValue] {
          let all = max(share.compute + share.exposed + share.wait, .leastNormalMagnitude)
          text += String(
            format: "; steps: %.1f %% computing, %.1f %% exposed communication, %.1f %% waiting for data",
            100 * share.compute / all, 100 * share.exposed / all, 100 * share.wait / all)
          if share.bytes > 0 { text += String(format: "; %.1f GB sent by rank 0", share.bytes / 1e9) }
        }
        return (stage.title, text)
      }
    }
    facts.append(("Ranks × threads", starts.joined(separator: ", ")))
    return facts
  }

  /// A row a region: the challenge's curves of every method, and how often a voxel of a given uncertainty is wrong.
  private func uncertaintyCharts(
    _ settings: UncertaintySettings, _ set: EvaluatedSet?
  ) throws -> [[Chart?]] {
    let methods = try RunReport.stages.filter { FileManager.default.fileExists(atPath: run.curves($0)) }
      .map { (name: $0.title, curves: try MeanCurves.load(run.curves($0), task.regions)) }
    guard let thresholds = methods.first?.curves.thresholds else { return [] }
    return try task.regions.reversed().map { region in
      func chart(
        _ title: String, reference: [Chart.Series] = [], _ values: (MeanCurves.Curves) -> [Double]
      ) -> Chart {
        let series = methods.compactMap { method in
          method.curves.regions[region].map { curves in
            Chart.Series(
              method.name, zip(method.curves.thresholds, values(curves)).map { (x: $0, y: 100 * $1) })
          }
        }
        let name = region.name + (set == .validation ? " (validation)" : "")
        return Chart("\(name): \(title)", xLabel: "uncertainty", series + reference)
      }
      // What a probability says of its own error is known where the map is its entropy.
      let isCalibrated = settings.measure == .region && settings.scale == .theoretical
      let calibrated = Chart.Series(
        "calibrated", thresholds.map { (x: $0, y: 100 * Entropy.smallerProbability(of: $0 / 100)) })
      return [
        chart("Dice of what stays below, %") { $0.dice },
        chart("true positives taken out, %") { $0.ftp },
        chart("true negatives taken out, %") { $0.ftn },
        chart("wrong voxels, %", reference: isCalibrated ? [calibrated] : []) { $0.errorRates },
      ]
    }
  }

  /// Figure 2 of the judged cases with the most enhancing tumour, and figure 3 of the first of them.
  private func pictures(_ recipe: Recipe) throws -> [ReportContents.Block] {
    guard let root = recipe.data.path else { throw Fault(.missing, "the recipe names no data set") }
    let task = try task, dataset = try Dataset.find(root, task, needsTruth: true)
    let split = try Split.read(run.split, ids: dataset.cases.map(\.id))
    let preparation = recipe.data.preparation(task)
    let stages = RunReport.stages.filter { FileManager.default.fileExists(atPath: run.summary($0)) }
    var figures: [(files: CaseFiles, placement: Placement, figure: CaseFigure)] = []
    for files in try prominent(dataset.cases.filter { Study.judged(split).contains($0.id) }, task) {
      let prepared = try preparation.prepare(files, commonSize: Size(16, 16, 16))
      guard let truth = prepared.labels else { continue }
      let segmentations = try stages.map { stage in
        let path = "\(run.predictions(stage))/\(files.id).nii.gz"
        let (labels, header) = try Segmentation.read(path, values: files.values)
        try header.grid.check(path, against: prepared.placement.grid, "\(files.id) in the data set")
        let cropped = prepared.placement.crop(labels.classes, fill: 0)
        return (method: stage.title, labels: LabelVolume(prepared.size, cropped))
      }
      figures.append(
        (
          files, prepared.placement,
          CaseFigure(
            task, id: files.id, images: prepared.images, truth: truth, segmentations: segmentations)
        ))
    }
    let picture = CaseFigure.picture(figures.map(\.figure), of: Study.judgedSet(split))
    try picture.write(to: path("figure2.png"))
    var blocks = [
      ReportContents.Block.picture(
        picture,
        caption:
          "\(Study.judgedSet(split).rawValue.capitalized) cases with the most \(RunReport.words(task.detect)): sequences, truth, methods."
      )
    ]
    if let (files, placement, figure) = figures.first {
      let methods = try zip(stages, figure.segmentations).compactMap { stage, segmentation in
        try uncertainty(stage, files, placement, task).map {
          UncertaintyFigure.Method(segmentation.method, segmentation.labels, map: $0)
        }
      }
      if !methods.isEmpty {
        let picture = UncertaintyFigure(
          task, id: files.id, images: figure.images, truth: figure.truth, methods: methods
        ).picture(of: Study.judgedSet(split))
        try picture.write(to: path("figure3.png"))
        blocks.append(
          .picture(
            picture,
            caption:
              "\(RunReport.words(task.detect).capitalised) of a \(Study.judgedSet(split).rawValue) case that stays as voxels with an uncertainty "
              + "above T are taken out, and its Dice."
          ))
      }
    }
    return blocks
  }

  /// The cases with the most of the region of detection, the first the most.
  private func prominent(_ cases: [CaseFiles], _ task: SegmentationTask) throws -> [CaseFiles] {
    let sources = RunReport.stages.compactMap { EvaluationSource(run.source($0)) }
    let counted = try cases.compactMap { files in
      try files.segmentation.map { path in
        let labels = try Segmentation.read(path, values: files.values).labels.classes
        let scored = sources.lazy.compactMap { $0.truth(files.id) }.first
        guard scored == nil || scored == RunReport.hash(labels) else {
          throw Fault(.invalid, RunReport.changed(path, files.id))
        }
        return (voxels: labels.reduce(0) { $0 + (task.detect.contains($1) ? 1 : 0) }, files: files)
      }
    }
    return counted.sorted { ($1.voxels, $0.files.id) < ($0.voxels, $1.files.id) }.prefix(RunReport.pictured)
      .map(
        \.files)
  }

  /// A stage's uncertainties of the region of detection on the prepared grid; nil where there are none.
  private func uncertainty(
    _ stage: Method, _ files: CaseFiles, _ placement: Placement, _ task: SegmentationTask
  ) throws -> [Float]? {
    let path = UncertaintyWriter.files(files.id, [task.detect], in: run.predictions(stage))[0]
    guard FileManager.default.fileExists(atPath: path) else { return nil }
    let image = try NIfTIImage.read(path)
    try image.header.grid.check(path, against: placement.grid, "\(files.id) in the data set")
    return placement.crop(image.voxels, fill: 0)
  }
}

extension String {
  /// With its first letter as a capital.
  fileprivate var capitalised: String { prefix(1).uppercased() + dropFirst() }
}
