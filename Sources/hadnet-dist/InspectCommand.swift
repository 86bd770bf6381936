import ArgumentParser
import Foundation
import HADNet

struct InspectCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "inspect",
    abstract: "Read every file of a data set and say what is there and what is wrong.",
    discussion: """
      Prints counts, sizes, a split and class weights. Exit code 66 if all that is wrong is missing or empty, 65 if \
      something is damaged or inconsistent.

      Example: hadnet-dist inspect MICCAI_BraTS_2019_Data_Training
      """)

  @Argument(help: "The data set's folder, in any BraTS layout.")
  var data: String
  @Flag(help: "Print JSON.")
  var json = false
  @Option(help: "Seed of the split that is shown.")
  var seed: UInt64 = 1
  @OptionGroup var shared: SharedOptions

  struct Findings: Codable {
    var root: String
    var layout: String
    var cases: Int
    var highGrade, lowGrade, withoutGrade: Int
    var withTruth: Int
    /// Extents of the files → cases.
    var dimensions: [String: Int]
    var largestBrain: [Int]?
    var commonSize: [Int]?
    var split: [String: Int]?
    var classWeights: [Float]?
    var problems: [String]
  }

  func run() throws {
    let dataset = try Dataset.inspect(data)
    var faults = dataset.problems
    let bar = shared.bar()
    bar.start("inspect", total: dataset.cases.count)
    var surveys: [CaseSurvey] = []
    for item in dataset.cases {
      switch Preparation().inspect(item) {
      case .success(let survey): surveys.append(survey)
      case .failure(let more): faults += more.all
      }
      bar.advance()
    }
    // Of cases that lack a file, the files that are there.
    for item in try Dataset.inspect(data, needs: []).cases where dataset[item.id] == nil {
      faults += Preparation().fileFaults(item)
    }
    bar.finish()
    faults += DatasetSurvey.duplicates(surveys)
    let survey = try? DatasetSurvey(surveys)
    let truthful = dataset.cases.filter { item in
      item.segmentation != nil && surveys.contains { $0.id == item.id }
    }
    let split = try? Split.random(truthful, seed: seed)
    var findings = Findings(
      root: data, layout: dataset.layout.rawValue, cases: dataset.cases.count,
      highGrade: dataset.cases.filter { $0.grade == .hgg }.count,
      lowGrade: dataset.cases.filter { $0.grade == .lgg }.count,
      withoutGrade: dataset.cases.filter { $0.grade == nil }.count, withTruth: truthful.count,
      dimensions: [:],
      problems: faults.map(\.description))
    for item in surveys {
      findings.dimensions[item.dimensions.map(String.init).joined(separator: "×"), default: 0] += 1
    }
    if let survey, !survey.cases.isEmpty {
      let boxes = survey.cases.map(\.box)
      findings.largestBrain = [
        boxes.map(\.z).max() ?? 0, boxes.map(\.y).max() ?? 0, boxes.map(\.x).max() ?? 0,
      ]
      findings.commonSize = survey.commonSize.array
      if let split {
        findings.split = [
          "train": split.train.count, "validation": split.validation.count, "test": split.test.count,
        ]
        findings.classWeights = survey.classWeights(split.train)
      }
    }
    if json {
      let encoder = JSONEncoder()
      encoder.keyEncodingStrategy = .convertToSnakeCase
      encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
      Output.print(String(decoding: try encoder.encode(findings), as: UTF8.self))
    } else {
      show(findings)
    }
    if !faults.isEmpty {
      throw ExitCode(
        (faults.allSatisfy { $0.kind == .missing } ? Fault.Kind.missing : .invalid).rawValue)
    }
  }

  private func show(_ f: Findings) {
    func size(_ sides: [Int]) -> String { sides.map(String.init).joined(separator: "×") }
    Output.print("\(f.root): \(f.cases) cases, layout \(f.layout)")
    Output.print(
      "grades         HGG \(f.highGrade), LGG \(f.lowGrade), unknown \(f.withoutGrade); with truth \(f.withTruth)"
    )
    for (dimensions, count) in f.dimensions.sorted(by: { ($1.value, $0.key) < ($0.value, $1.key) }) {
      Output.print("voxels         \(dimensions) (x, y, z) in \(count) cases")
    }
    if let largest = f.largestBrain, let common = f.commonSize {
      Output.print("largest brain  \(size(largest)) (z, y, x); common size \(size(common))")
    }
    if let split = f.split {
      Output.print(
        "split          \(split["train"] ?? 0) training, \(split["validation"] ?? 0) validation, "
          + "\(split["test"] ?? 0) test (seed \(seed))")
    }
    if let weights = f.classWeights {
      let text = weights.map { String(format: "%.4f", $0) }.joined(separator: ", ")
      Output.print("class weights  \(text) (background, NET, ED, ET)")
    }
    Output.print(f.problems.isEmpty ? "no problems" : "\(f.problems.count) problems:")
    for problem in f.problems { Output.print("  \(problem)") }
  }
}
