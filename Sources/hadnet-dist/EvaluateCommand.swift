import ArgumentParser
import Collective
import Evaluation
import Files
import Foundation
import Imaging
import Report
import Study
import Terminal

struct EvaluateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "evaluate", abstract: "Score segmentations on disk, made by any method.",
    discussion: """
      Dice, sensitivity, specificity and HD95 of WT, TC and ET, with the challenge's rules for empty regions; with \
      maps of uncertainties also the challenge's score of them. Files may be stored in any orientation.

      Example: hadnet-dist evaluate --truth BraTS2019 --predictions segmentations --json scores.json
               hadnet-dist evaluate --truth BraTS2019 --predictions out --uncertainty out --split run/split.json:test
      """)

  enum Labels: String, ExpressibleByArgument, CaseIterable {
    case brats2019 = "2019"
    case brats2023 = "2023"

    var values: LabelValues { self == .brats2019 ? .upTo2021 : .from2023 }
  }

  @Option(
    help: "A data set in any BraTS layout, or a folder of ID/ID_seg.nii.gz or ID_seg.nii.gz.",
    completion: .directory)
  var truth: String
  @Option(help: "Folder of ID.nii.gz.", completion: .directory)
  var predictions: String
  @Option(
    help: ArgumentHelp(
      "Folder of ID_unc_whole.nii.gz, ID_unc_core.nii.gz and ID_unc_enhance.nii.gz.",
      discussion: """
        Uncertainties from 0 to 100, on the truth's grid; the folder may be that of the predictions. The truth then \
        needs ID_t1.nii.gz beside it, which is above 0 in the brain.
        """), completion: .directory)
  var uncertainty: String?
  @Option(help: "File for the scores as JSON; - is standard output.", completion: .file())
  var json: String?
  @Option(
    help: "What is segmented: a preset, or a recipe or task.json that says it; default: as the truths tell.")
  var task: TaskOption?
  @Option(
    help: """
      Scores beside the usual ones, brats2020: brats2023 (lesion by lesion) or brats2026 (pairs of parts), or several with commas \
      between; also detection and volumes of a region over patients.
      """)
  var metrics: MetricNames?
  @Option(
    help: "Of brats2023: DILATION,VOLUME of a lesion in voxels and mm³; default: those of the task's preset.")
  var lesions: LesionNumbers?
  @Option(help: "Label convention: 2019 (ET is 4) or 2023 (ET is 3); default: by the cases' names.")
  var labels: Labels?
  @Option(help: "That of the truth alone.")
  var truthLabels: Labels?
  @Option(help: "That of the predictions alone.")
  var predictionLabels: Labels?
  @Option(help: "Evaluate only the cases in this text file or pipe, a name a line.", completion: .file())
  var cases: String?
  @Option(
    help: "Evaluate only one set of a split, FILE:SET, such as run/split.json:test.", completion: .file())
  var split: String?
  @Option(help: "Steps from 0 to 100 of the thresholds of the uncertainty score; default: 40.")
  var points: Int?
  @Option(
    help:
      "Uncertainties above which voxels are filtered, to tell the Dice of the others; default: 100,75,50,25.")
  var filters: Thresholds?
  @Option(
    help: """
      HD95 where truth or prediction is empty and the other isn't: constant (373.13 mm, a BraTS volume's diagonal) or \
      diagonal (of the volume at hand, in voxels).
      """)
  var hd95Empty = SurfaceDistance.Empty.constant
  @Option(
    help: """
      HD95 of the distances of both directions together (pooled), or the larger of the two directions' (larger).
      """)
  var hd95Direction = SurfaceDistance.Direction.pooled
  @OptionGroup var messages: MessageOptions

  /// `100,75,50,25`.
  struct Thresholds: ExpressibleByArgument {
    let values: [Double]

    init?(argument: String) {
      let values = argument.split(separator: ",", omittingEmptySubsequences: false).map { Double($0) }
      guard values.allSatisfy({ $0.map { $0 >= 0 && $0 <= 100 } ?? false }) else { return nil }
      self.values = values.compactMap(\.self)
    }
  }

  func validate() throws {
    if labels != nil, truthLabels != nil || predictionLabels != nil {
      throw ValidationError(
        "--labels is for both sides: leave it out beside --truth-labels and --prediction-labels")
    }
    if let task, labels != nil || truthLabels != nil || predictionLabels != nil {
      throw ValidationError("--labels tells BraTS's years apart: leave it out beside --task \(task.text)")
    }
    if lesions != nil, metrics?.sets.contains(.brats2023) != true {
      throw ValidationError("--lesions needs --metrics brats2023")
    }
    if cases != nil, split != nil {
      throw ValidationError("--cases and --split: one of them says which cases")
    }
    if let points, !(1...10_000).contains(points) {
      throw ValidationError("--points is \(points); 1 to 10000 are possible")
    }
    if uncertainty == nil {
      if points != nil { throw ValidationError("--points needs --uncertainty") }
      if filters != nil { throw ValidationError("--filters needs --uncertainty") }
    }
  }

  func run() throws {
    runForCode { communicator in
      let usual = UncertaintyThresholds()
      let task = try communicator.rootFirst { try chooseTask() }
      var evaluator = Evaluator(
        task, distance: .init(direction: hd95Direction, empty: hd95Empty),
        thresholds: .init(points: points ?? usual.points, filters: filters?.values ?? usual.filters))
      let asked = metrics.map { AskedSets($0.sets, task) }
      if asked?.sets.contains(.brats2023) == true, lesions == nil, task.preset == nil {
        throw MetricSet.lesionsAreOpen
      }
      evaluator.asked = asked
      evaluator.lesions = lesions?.settings
      let only = try caseList(communicator)
      let pairs = try communicator.rootFirst {
        try Evaluator.pairs(
          truth: truth, predictions: predictions, task, uncertainty: uncertainty,
          values: (truthLabels ?? labels)?.values,
          predictionValues: (predictionLabels ?? labels)?.values,
          only: only)
      }
      let bar = messages.bar(rank: communicator.rank)
      bar.start(
        "evaluate", total: (pairs.count + communicator.size - 1) / communicator.size, isTold: true)
      var mine: [String: CaseScores] = [:], failures = CaseFailures()
      for i in stride(from: communicator.rank, to: pairs.count, by: communicator.size) {
        if let scores = try failures.of(pairs[i].id, { try evaluator.scores(pairs[i]) }) {
          mine[pairs[i].id] = scores
        }
        bar.advance()
      }
      bar.finish()
      failures = try failures.gathered(communicator)
      // Means of some of the cases would be taken for those of all.
      if !failures.ids.isEmpty {
        if communicator.rank == 0 {
          failures.tell(
            "\(failures.ids.count) of \(pairs.count) cases could not be scored, so there is no table",
            atMost: 10)
        }
        return failures.code
      }
      // Where there are more ranks than cases, some have none.
      let parts = try communicator.gather(
        mine.isEmpty
          ? "" : MethodEvaluation(method: predictions, regions: task.regions, cases: mine).json)
      let sets = try communicator.gather(asked == nil ? "" : try CaseSets.json(mine.compactMapValues(\.sets)))
      guard communicator.rank == 0 else { return 0 }
      var all = MethodEvaluation(
        method: predictions, regions: task.regions, settings: evaluator.settings(hasMaps: uncertainty != nil))
      all.settings?.set = only?.set
      for part in parts where !part.isEmpty {
        let evaluation = try MethodEvaluation(json: Data(part.utf8), file: predictions, method: predictions)
        all.cases.merge(evaluation.cases) { first, _ in first }
      }
      all.asked = asked
      for part in sets where !part.isEmpty {
        for (id, own) in try CaseSets.cases(json: part) { all.cases[id]?.sets = own }
      }
      Output.print(all.text + all.setsText, terminator: "")
      if let json { try OutputFile.write(all.json, to: json) }
      return 0
    }
  }

  /// The task of the truths. Labels of BraTS's years that are said are those of its gliomas.
  private func chooseTask() throws -> SegmentationTask {
    if task == nil, labels != nil || truthLabels != nil && predictionLabels != nil {
      return TaskPreset.brats.task
    }
    guard AtomicFile.isFolder(truth) else { return TaskPreset.brats.task }
    do {
      return try TaskChoice(truth, said: task?.request).task
    } catch let fault as Fault where fault.kind == .missing {
      throw Fault(.missing, "\(truth): no truth (ID_seg.nii.gz) is in this folder")
    }
  }

  /// The cases that were named; nil for all. Rank 0 reads them: a pipe can be read once.
  private func caseList(_ communicator: Communicator) throws -> CaseList? {
    if cases == nil, split == nil { return nil }
    let list = try communicator.rank == 0 ? cases.map(CaseList.lines) ?? split.map(CaseList.split) : nil
    let bytes = try communicator.broadcast([UInt8](try JSONEncoder().encode(list)))
    return try JSONDecoder().decode(CaseList?.self, from: Data(bytes))
  }
}

/// Metric sets with commas between.
struct MetricNames: ExpressibleByArgument {
  let sets: [MetricSet]

  init?(argument: String) {
    let words = argument.split(separator: ",", omittingEmptySubsequences: false).map {
      $0.trimmingCharacters(in: .whitespaces)
    }
    sets = words.compactMap(MetricSet.init)
    if sets.isEmpty || sets.count != words.count { return nil }
  }

  static var allValueStrings: [String] { MetricSet.allCases.map(\.rawValue) }
}

/// What a lesion is: `3,50`.
struct LesionNumbers: ExpressibleByArgument {
  let settings: LesionSettings

  init?(argument: String) {
    let parts = argument.split(separator: ",", omittingEmptySubsequences: false)
    guard parts.count == 2, let dilation = Int(parts[0]), (0...100).contains(dilation),
      let volume = Double(parts[1]),
      volume >= 0, volume.isFinite
    else { return nil }
    settings = LesionSettings(dilation: dilation, volume: volume)
  }
}

extension SurfaceDistance.Empty: ExpressibleByArgument {}
extension SurfaceDistance.Direction: ExpressibleByArgument {}

struct CompareCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "compare",
    abstract: "Two-sided paired tests between two evaluations, or of one against several.",
    discussion: """
      Mean, 95 % bootstrap interval, median and sd of the differences, paired t-test and Wilcoxon's signed-rank test, \
      each p also after Holm's correction for all tests that are printed.

      Example: hadnet-dist compare hadnet.json student.json adnet.json
      """)

  @Argument(
    help: "Scores as `evaluate --json` writes them, or a run's summary.json.",
    completion: .file(extensions: ["json"]))
  var a: String
  @Argument(help: "Scores of other methods on the same cases.", completion: .file(extensions: ["json"]))
  var others: [String]
  @Option(help: "File for all numbers as JSON; - is standard output.", completion: .file())
  var json: String?
  @OptionGroup var log: LogOption

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
    Output.print(comparison.text, terminator: "")
    if let json { try OutputFile.write(comparison.json, to: json) }
  }
}

struct ReportCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "report",
    abstract: "Write tables, figures and report.html of a run, or of all its seeds, finished or not.",
    discussion: "Example: hadnet-dist report run")

  @Argument(help: "The run's folder.", completion: .directory)
  var path: String
  @OptionGroup var log: LogOption

  func run() throws {
    let folder = RunFolder(path), seeds = folder.seeds
    for seed in seeds { try RunReport(folder.seed(seed)).write() }
    Output.printTables(try seeds.isEmpty ? RunReport(folder).write() : SeedReport(folder).write())
    Output.print("report: \(folder.report)")
  }
}
