import ArgumentParser
import Compute
import Files
import Foundation
import Imaging
import Study
import Terminal

extension Purpose: ExpressibleByArgument {}
extension Preparation.Negative: ExpressibleByArgument {}

/// A task on the command line: a preset's name, or a file that says it.
struct TaskOption: ExpressibleByArgument {
  let text: String

  init?(argument: String) { text = argument }

  static var allValueStrings: [String] { TaskPreset.allCases.map(\.rawValue) }
  static var defaultCompletionKind: CompletionKind { .file() }

  /// Throws `.usage` where it is neither, `.recipe` where a recipe says no task, and what reading the file throws.
  var request: TaskRequest {
    get throws(Fault) {
      if let preset = TaskPreset(rawValue: text) { return .whole(preset.task) }
      guard AtomicFile.isFile(text) else {
        let names = TaskPreset.allCases.map(\.rawValue).joined(separator: ", ")
        throw Fault(
          .usage,
          "--task \(text.prefix(80)): neither a preset (\(names)) nor a file, a recipe or a run's task.json")
      }
      let content = try Recipe.text(text)
      if let task = SegmentationTask(json: content) { return .whole(task) }
      guard let request = try Recipe(yaml: content, file: text).task else {
        throw Fault(.recipe, "--task \(text): this recipe says no task")
      }
      return request
    }
  }
}

struct InspectCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "inspect",
    abstract: "Read every file of a data set and say what is there and what is wrong.",
    discussion: """
      Prints counts, sizes, the split that a recipe without one makes, class weights, and all that train, predict or \
      evaluate would refuse or warn of. Sizes are along x, y, z, in JSON too; a recipe's data.size is [z, y, x]. Exit code 66 if all that is wrong is missing or empty, 65 if something is \
      damaged or inconsistent.

      Example: hadnet-dist inspect MICCAI_BraTS_2019_Data_Training
               hadnet-dist inspect patients --for predict
      """)

  @Argument(help: "The data set's folder, as BraTS or nnU-Net has it.", completion: .directory)
  var data: String
  @Option(
    name: .customLong("for"),
    help: """
      What the data is for: train (all sequences and a truth), predict (those that are there at inference) or evaluate (a truth).
      """)
  var purpose = Purpose.train
  @Option(
    help: "What is segmented: a preset, or a recipe or task.json that says it; default: as the data tell.")
  var task: TaskOption?
  @Option(help: "What becomes of negative voxels: refuse, abs or zero.")
  var negative = Preparation.Negative.refuse
  @Flag(help: "Print JSON.")
  var json = false
  @Option(help: "Seed of the split that is shown.")
  var seed: UInt64 = 1
  @OptionGroup var messages: MessageOptions

  /// What `--json` prints.
  struct Findings: Codable {
    var root: String
    var purpose: String
    var layout: String
    var cases, patients: Int
    /// Cases with nothing wrong, and those whose FLAIR, T1 and T2 can be segmented.
    var fit: Int
    var fitForPrediction: Int?
    var highGrade, lowGrade, withoutGrade: Int
    var withTruth, withT1ce: Int
    /// Cases with all sequences that will be missing at inference.
    var complete: Int
    /// Extents of the files → cases.
    var dimensions: [String: Int]
    /// [x, y, z].
    var largestBrain: [Int]?
    var commonSize: [Int]?
    var split: [String: Int]?
    var splitPatients: [String: Int]?
    var classWeights: [Float]?
    var problems: [String]
    var warnings: [String]
    var notes: [String]
    var task: SegmentationTask

    enum CodingKeys: String, CodingKey {
      case root, layout, cases, patients, fit, complete, fitForPrediction, highGrade, lowGrade, withoutGrade,
        withTruth
      case dimensions, largestBrain, commonSize, split, splitPatients, classWeights, problems, warnings,
        notes, task
      case purpose = "for"
      case withT1ce = "with_t1ce"
    }
  }

  func run() throws {
    let bar = messages.bar()
    let choice = try TaskChoice(data, said: self.task?.request), task = choice.task
    let found = try Inspection(
      data, task, for: purpose, negative: negative, begin: { bar.start("inspect", total: $0) },
      isRead: { bar.advance() })
    bar.finish()
    let dataset = found.dataset, all = dataset.cases + dataset.incomplete
    let question = choice.question.map { [$0.description] } ?? []
    var findings = Findings(
      root: data, purpose: purpose.rawValue, layout: dataset.layout.rawValue, cases: all.count,
      patients: Set(all.map(\.patient)).count, fit: found.fit,
      fitForPrediction: purpose == .evaluate ? nil : found.fitForPrediction,
      highGrade: all.count { $0.grade == .hgg }, lowGrade: all.count { $0.grade == .lgg },
      withoutGrade: all.count { $0.grade == nil }, withTruth: all.count { $0.segmentation != nil },
      withT1ce: all.count { $0.files[.t1ce] != nil },
      complete: all.count { item in task.missing.allSatisfy { item.files[$0] != nil } }, dimensions: [:],
      problems: found.problems.map(\.description), warnings: found.warnings,
      notes: question + found.notes, task: choice.task)
    for item in found.surveys {
      findings.dimensions[item.dimensions.map(String.init).joined(separator: "×"), default: 0] += 1
    }
    var table: SplitTable?
    if !found.surveys.isEmpty {
      let boxes = found.surveys.map(\.box)
      findings.largestBrain = [
        boxes.map(\.x).max() ?? 0, boxes.map(\.y).max() ?? 0, boxes.map(\.z).max() ?? 0,
      ]
      findings.commonSize = Preparation.commonSize(boxes).array.reversed()
    }
    // Of cases that lack nothing; where an image is there twice, the weights would count it twice.
    if purpose == .train, !found.surveys.isEmpty, let survey = try? DatasetSurvey(found.surveys) {
      let fit = dataset.cases.filter { survey[$0.id] != nil }
      do {
        var said: [String] = []
        let split = try Split.random(fit, seed: seed) { said.append($0) }
        findings.warnings += said
        table = SplitTable(split, of: fit)
        findings.classWeights = survey.classWeights(split.train)
      } catch let fault as Fault {
        findings.warnings.append("no split in the usual proportions: \(fault)")
      }
    }
    if let table {
      let names = ["train", "validation", "test"]
      findings.split = Dictionary(uniqueKeysWithValues: zip(names, table.rows.map(\.cases)))
      findings.splitPatients = Dictionary(uniqueKeysWithValues: zip(names, table.rows.map(\.patients)))
    }
    if json {
      let encoder = JSONEncoder()
      encoder.keyEncodingStrategy = .convertToSnakeCase
      encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
      Output.print(String(decoding: try encoder.encode(findings), as: UTF8.self))
    } else {
      show(findings, table, choice)
    }
    if !found.problems.isEmpty {
      throw ExitCode(
        (found.problems.allSatisfy { $0.kind == .missing } ? Fault.Kind.missing : .invalid).rawValue)
    }
  }

  private func show(_ f: Findings, _ split: SplitTable?, _ choice: TaskChoice) {
    func size(_ sides: [Int]) -> String { sides.map(String.init).joined(separator: "×") }
    let task = choice.task
    Output.print("\(f.root): \(f.cases.named("case")), layout \(f.layout)")
    Output.print("task           \(task.preset?.rawValue ?? "the data set's own"), \(choice.reason)")
    func list(_ names: [String]) -> String { names.joined(separator: ", ") }
    let missing =
      choice.question == nil
      ? "missing at inference: \(list(task.missing.map(\.rawValue)))" : "missing: not said"
    Output.print("sequences      \(list(task.sequences.map(\.rawValue))); \(missing)")
    Output.print(
      "classes        \(list(task.classes.map { "\($0.name) \($0.value)" })); regions \(task.regionNames)")
    let uses = [purpose == .train ? "training \(f.fit)" : nil, f.fitForPrediction.map { "prediction \($0)" }]
    Output.print(
      "patients       \(f.patients); cases fit for "
        + (purpose == .evaluate ? "evaluation \(f.fit)" : uses.compactMap { $0 }.joined(separator: ", ")))
    Output.print(
      "grades         HGG \(f.highGrade), LGG \(f.lowGrade), unknown \(f.withoutGrade); with truth \(f.withTruth), "
        + "with \(task.missing.map(\.title).joined(separator: " and ")) \(f.complete)")
    for (dimensions, count) in f.dimensions.sorted(by: { ($1.value, $0.key) < ($0.value, $1.key) }) {
      Output.print("voxels         \(dimensions) (x, y, z) in \(count.named("case"))")
    }
    if let largest = f.largestBrain, let common = f.commonSize {
      Output.print("largest brain  \(size(largest)) (x, y, z); common size \(size(common))")
    }
    for (i, line) in (split?.lines ?? []).enumerated() {
      Output.print((i == 0 ? "split          " : "               ") + line)
    }
    if let weights = f.classWeights {
      let text = weights.map { String(format: "%.4f", $0) }.joined(separator: ", ")
      Output.print("class weights  \(text) (\(task.classNames))")
    }
    for (kind, texts) in [("note", f.notes), ("warning", f.warnings)] {
      for text in texts { Output.print("\(kind): \(text)") }
    }
    Output.print(f.problems.isEmpty ? "no problems" : "\(f.problems.count.named("problem")):")
    for problem in f.problems {
      Output.print("  \(problem.split(separator: "\n").joined(separator: "\n    "))")
    }
  }
}
