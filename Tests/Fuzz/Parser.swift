import Foundation
import Terminal

@testable import Compute
@testable import Evaluation
@testable import Files
@testable import Imaging
@testable import Methods
@testable import Networks
@testable import Report
@testable import Study

/// What reads files, by the byte that an input begins with.
enum Parser: UInt8, CaseIterable {
  case nifti = 0x6E  // n
  case safetensors = 0x73  // s
  case model = 0x6D  // m
  case recipe = 0x72  // r
  case override = 0x6F  // o
  case split = 0x70  // p
  case checkpoint = 0x63  // c
  case evaluation = 0x65  // e
  case history = 0x68  // h
  case curves = 0x75  // u
  case landmarks = 0x6C  // l
  case grades = 0x67  // g
  case prepared = 0x66  // f
  case names = 0x64  // d
  case lock = 0x6B  // k
  case task = 0x74  // t

  func read(_ input: Data) throws {
    switch self {
    case .nifti: try Parser.nifti(input)
    case .safetensors: try Parser.safetensors(input)
    case .model: try Parser.model(input)
    case .recipe: try Parser.recipe(input)
    case .override: try Parser.override(input)
    case .split: try Parser.split(input)
    case .checkpoint: try Parser.checkpoint(input)
    case .evaluation: try Parser.evaluation(input)
    case .history: try Parser.history(input)
    case .curves: try Parser.curves(input)
    case .landmarks: _ = try Landmarks(json: String(decoding: input, as: UTF8.self))
    case .grades: try Parser.grades(input)
    case .prepared:
      _ = CaseFile.read(
        try Parser.file(input), id: "A", fingerprint: "f", task: TaskPreset.brats.task)
    case .names: try Parser.names(input)
    case .lock: try Parser.lock(input)
    case .task: Parser.task(input)
    }
  }

  // MARK: Files and folders in memory

  private static let memory: Int32 = {
    let path = "\(folder)/input", file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    precondition(file >= 0, "no memory for the input")
    unlink(path)
    return file
  }()

  /// The path of a file with these bytes, until the next call.
  private static func file(_ input: Data) throws -> String {
    let isWhole = input.withUnsafeBytes { pwrite(memory, $0.baseAddress, $0.count, 0) } == input.count
    precondition(isWhole && ftruncate(memory, off_t(input.count)) == 0, "no memory for the input")
    return "/proc/self/fd/\(memory)"
  }

  private static let folder = {
    let path = "/dev/shm/hadnet-fuzz-\(getpid())"
    do { try AtomicFile.makeFolder(path) } catch { preconditionFailure("\(error)") }
    atexit { try? FileManager.default.removeItem(atPath: "/dev/shm/hadnet-fuzz-\(getpid())") }
    return path
  }()

  /// A folder with one file of these bytes, until the next call.
  private static func folder(_ name: String, _ input: Data) throws -> String {
    try input.write(to: URL(fileURLWithPath: "\(folder)/\(name)"))
    return folder
  }

  // MARK: Parsers

  private static func nifti(_ input: Data) throws {
    let path = try file(input)
    let image = try NIfTIImage.read(path)
    check(image.voxels.count, image.size.voxels)
    try image.header.grid.check("the file", against: image.header.grid, "itself")
    let doubles = try NIfTIImage.doubles(path).values
    check(doubles.count, image.voxels.count)
    _ = try Segmentation.read(path, values: .upTo2021)
  }

  private static func check<Value: Equatable>(_ found: Value, _ expected: Value) {
    precondition(found == expected, "\(found) instead of \(expected)")
  }

  private static func safetensors(_ input: Data) throws {
    let file = try Safetensors(input, path: "f")
    for (name, entry) in file.entries {
      let count = entry.extents.reduce(1, *)
      switch entry.element {
      case .float32: check(try file.floats(name).count, count)
      case .float64: check(try file.doubles(name).count, count)
      case .byte: check(try file.bytes(name).count, count)
      }
    }
  }

  private static func model(_ input: Data) throws {
    // A flipped bit of what a hash covers ends there, so that what is behind it is only seen without.
    _ = try Model.load(file(input), isVerified: false)
  }

  private static func recipe(_ input: Data) throws {
    let path = try file(input), recipe = try Recipe.load(path)
    let again = try Recipe(yaml: recipe.yaml)
    precondition(
      again == recipe, "written and read again it differs: \(again.difference(from: recipe) ?? "")")
  }

  private static func override(_ input: Data) throws {
    let text = String(decoding: input, as: UTF8.self)
    let recipe = try Recipe(yaml: "name: r", overrides: text.split(separator: "\0").map(String.init))
    check(try Recipe(yaml: recipe.yaml), recipe)
  }

  private static func split(_ input: Data) throws {
    let split = try Split.read(file(input), ids: ["A", "B", "C", "D"])
    let all = split.train + split.validation + split.test
    precondition(Set(all).count == all.count && !split.train.isEmpty)
  }

  private static func checkpoint(_ input: Data) throws {
    // As whoever forges a state would, with a hash that holds.
    if let state = try? JSONDecoder().decode(TrainingState.self, from: input), state.problem == nil {
      let mark = CheckpointFolder.Progress(state)
      check(CheckpointFolder.Progress(mark.name), mark)
      check(state.history.count, state.epoch)
      _ = state.stage.watch(state.history.map { $0.values(state.stage.terms) })
      var history = History(columns: EpochRecord.columns(state.stage, regions: ["WT"]))
      for record in state.history { history.append(record.values(state.stage, regions: ["WT"])) }
      for chart in RunReport.charts(state.stage, history, TaskPreset.brats.task.regions) { _ = chart?.svg() }
      var next = state
      _ = next.observe(0.5)
    }
    _ = try Checkpoint(folder("state.json", input))
  }

  private static func evaluation(_ input: Data) throws {
    let evaluation = try MethodEvaluation.load(file(input), method: "HAD-Net")
    // Not all that is made of it: intervals take a second.
    let other = MethodEvaluation(
      method: "Student", regions: evaluation.regions, cases: evaluation.cases)
    _ = evaluation.csv + evaluation.text
    _ = try MethodTable(.dice, [evaluation, other], columns: .methods).markdown
  }

  private static func history(_ input: Data) throws {
    let history = try History.load(file(input))
    _ = history.csv
    let charts = RunReport.charts(.student, history, TaskPreset.brats.task.regions)
    for chart in charts { _ = chart?.svg() }
  }

  private static func curves(_ input: Data) throws {
    let curves = try MeanCurves.load(file(input), TaskPreset.brats.task.regions)
    for region in curves.regions.values {
      _ = Chart("c", [.init("s", zip(curves.thresholds, region.errorRates).map { (x: $0, y: $1) })]).svg()
    }
  }

  private static func grades(_ input: Data) throws {
    let folder = "\(folder)/data", home = "\(folder)/BraTS20_Training_001"
    if !AtomicFile.isFolder(home) {
      try AtomicFile.makeFolder(home)
      try Data().write(to: URL(fileURLWithPath: "\(home)/BraTS20_Training_001_t1.nii"))
    }
    try input.write(to: URL(fileURLWithPath: "\(folder)/name_mapping.csv"))
    _ = try Dataset.inspect(folder, TaskPreset.brats.task, needs: [])
  }

  private static func task(_ input: Data) {
    guard let task = SegmentationTask(json: String(decoding: input, as: UTF8.self)) else { return }
    check(SegmentationTask(json: task.json), task)
  }

  private static func lock(_ input: Data) throws {
    let path = try file(input)
    guard let owner = RunLock.read(path) else { return }
    let text = owner.description
    precondition(text.utf8.count < 500 && !text.contains { $0.isNewline }, text)
    _ = owner.isDead(seenBy: owner, age: 1) { _ in 0 }
    _ = EvaluationSource(path)?.text
  }

  /// Names of cases, files and checkpoints.
  private static func names(_ input: Data) throws {
    let text = String(decoding: input, as: UTF8.self)
    _ = CheckpointFolder.Progress(text)
    _ = TaskPreset.brats.task.values(caseName: text)
    _ = csvField(text) + escaped(text) + jsonString(text)
    _ = AtomicFile.isTemporary(text)
  }
}
