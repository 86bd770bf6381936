import Foundation
import Testing

/// What tests share: phantoms, a recipe, and a study that was run once. Nothing of it is changed.
enum Fixture {
  // A static's memory is never given back, so its folder goes when the process does.
  private static let folder = NSTemporaryDirectory() + "hadnet-commands-\(UUID().uuidString)"
  private static let shared = Result {
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    atexit { try? FileManager.default.removeItem(atPath: Fixture.folder) }
    return folder
  }

  private static func phantom(_ name: String, _ arguments: String...) -> Result<String, any Error> {
    Result {
      let path = "\(try shared.get())/\(name)"
      let outcome = try Program.start(["phantom", path, "--shape", "32x32x32"] + arguments).outcome()
      try #require(outcome.code == 0, "\(outcome.errors)")
      return path
    }
  }

  // Seven cases train in batches of four: an epoch's last batch is partial.
  private static let thirteen = phantom("data", "--cases", "13")
  private static let four = phantom("few", "--cases", "4", "--seed", "7")
  private static let newer = phantom("newer", "--cases", "3", "--layout", "brats2023")

  /// 13 cases.
  static func data() throws -> String { try thirteen.get() }
  /// Four other cases.
  static func fewData() throws -> String { try four.get() }
  /// The same, a copy to be spoilt.
  static func fewCases(in folder: Scratch) throws -> String { try folder.copy(four.get(), "data") }
  /// The first three cases of `data` under the names and labels of 2023.
  static func data2023() throws -> String { try newer.get() }

  static let recipeText = """
    name: small
    seed: 3
    batch: 4
    data:
      split: {train: 7, validation: 3, test: 3}
      class_weights: data
    network: {k: 2, dropout: 0.2}
    teacher: {epochs: 2, rate: 1e-3, augmentation: {enabled: true}}
    student: {epochs: 2, rate: 1e-3, augmentation: {enabled: true}}
    hadnet: {epochs: 2, rate: 1e-3}
    kdnet: {epochs: 2, rate: 1e-3}
    # Two epochs, of which the second is not whole; several cases wait in the queue.
    uhemis: {width: 2, windows: 40, windows_per_case: 4, queue: 6, patch: 24, window: 64, least_side: 24}
    uhved: {width: 2, windows: 40, windows_per_case: 4, queue: 6, patch: 24, window: 64, least_side: 24}
    uncertainty: {samples: 12}

    """
  private static let recipeFile = Result {
    let path = "\(try shared.get())/small.yaml"
    try Data(recipeText.utf8).write(to: URL(fileURLWithPath: path))
    return path
  }
  static func recipe() throws -> String { try recipeFile.get() }

  /// The arguments of a study of `recipe` into `run`; the gate is such that some steps close it.
  static func study(_ run: String, _ more: String..., threads: Int = 1) throws -> [String] {
    ["study", try recipe(), "--data", try data(), "--run", run, "--threads", "\(threads)", "--quiet"]
      + ["--set", "hadnet.gate=0.5"] + more
  }

  /// The same with room for six ranks: nine cases train in batches of six, so that the last has no slot for three
  /// of them.
  static func wideStudy(_ run: String, threads: Int = 1) throws -> [String] {
    try study(
      run, "--set", "batch=6", "--set", "data.split={train: 9, validation: 2, test: 2}", threads: threads)
  }

  private static func finish(_ name: String, _ arguments: (String) throws -> [String]) -> Result<
    String, any Error
  > {
    Result {
      let run = "\(try shared.get())/\(name)"
      let outcome = try Program.start(try arguments(run)).outcome()
      try #require(outcome.code == 0, "\(outcome.errors)")
      return run
    }
  }
  private static let finished = finish("run") { try study($0) }
  private static let finishedWide = finish("wide") { try wideStudy($0) }

  /// A whole study on one rank and one thread, which all others are compared with.
  static func run() throws -> String { try finished.get() }
  /// The same of `wideStudy`.
  static func wideRun() throws -> String { try finishedWide.get() }

  static let stages = ["teacher", "student", "hadnet", "control", "adnet", "kdnet", "uhemis", "uhved"]
  static let methods = [
    "Teacher", "Student", "HAD-Net", "Control", "AD-Net", "KD-Net+", "U-HeMIS", "U-HVED",
  ]

  /// Expects all that the finished study has in its last checkpoints, predictions and tables, byte for byte.
  static func expectResults(
    _ run: String, of reference: String? = nil, sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let reference = try reference ?? Fixture.run()
    for stage in stages {
      for name in ["epoch-0002", "best", "latest"] {
        try expectSame(
          "\(reference)/\(stage)/checkpoints/\(name)", "\(run)/\(stage)/checkpoints/\(name)",
          sourceLocation: sourceLocation)
      }
      #expect(
        try bytes("\(reference)/\(stage)/history.csv") == bytes("\(run)/\(stage)/history.csv"),
        sourceLocation: sourceLocation)
    }
    try expectSame("\(reference)/evaluation", "\(run)/evaluation", sourceLocation: sourceLocation)
    #expect(!exists("\(run)/unfinished"), sourceLocation: sourceLocation)
  }

  /// A case's file in a data set of 2019's layout: `file(data, 2, "flair")`.
  static func file(_ data: String, _ number: Int, _ sequence: String) -> String {
    let id = id(number)
    let grade = exists("\(data)/HGG/\(id)") ? "HGG" : "LGG"
    return "\(data)/\(grade)/\(id)/\(id)_\(sequence).nii.gz"
  }

  static func id(_ number: Int) -> String { "BraTS19_PHANTOM_0\(number < 10 ? "0" : "")\(number)_1" }
}
