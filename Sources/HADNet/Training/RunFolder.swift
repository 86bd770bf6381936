import Foundation

/// The folder of a run, and where things lie in it.
public struct RunFolder: Sendable {
  public let path: String

  public init(_ path: String) { self.path = path }

  public var recipe: String { "\(path)/recipe.yaml" }
  public var log: String { "\(path)/log.jsonl" }
  public var report: String { "\(path)/report.html" }
  public var split: String { "\(path)/split.json" }
  public var survey: String { "\(path)/survey.json" }
  public var landmarks: String { "\(path)/landmarks.json" }
  public var unfinished: String { "\(path)/unfinished" }
  public var cache: String { "\(path)/cache" }
  public var evaluation: String { "\(path)/evaluation" }
  public var figures: String { "\(path)/figures" }
  public func stage(_ stage: Stage) -> String { "\(path)/\(stage.rawValue)" }
  public func history(_ stage: Stage) -> String { "\(path)/\(stage.rawValue)/history.csv" }
  public func checkpoints(_ stage: Stage) -> CheckpointFolder {
    CheckpointFolder("\(path)/\(stage.rawValue)/checkpoints")
  }
  public func evaluation(_ stage: Stage) -> String { "\(evaluation)/\(stage.method)" }
  public func predictions(_ stage: Stage) -> String { "\(evaluation(stage))/predictions" }
  public func summary(_ stage: Stage) -> String { "\(evaluation(stage))/summary.json" }
  public func curves(_ stage: Stage) -> String { "\(evaluation(stage))/curves.csv" }

  /// A run has begun once its cases are split: a start that failed before (damaged data, a wrong split) may be
  /// repeated with a mended recipe.
  var hasBegun: Bool { [recipe, split].allSatisfy(FileManager.default.fileExists(atPath:)) }

  /// Opens the folder for `recipe`, or makes it: the recipe with which a run began stays that of the run, and its
  /// batch is fixed when it begins.
  ///
  /// Throws `.recipe` where the folder belongs to another recipe, naming the first difference, or to a study over
  /// several seeds.
  public func open(_ recipe: Recipe, ranks: Int) throws -> Recipe {
    var recipe = recipe
    if let seed = seeds.first {
      throw Fault(
        .recipe,
        "\(path) belongs to a study over several seeds (\(self.seed(seed).path)); give study its --seeds, or choose "
          + "another --run")
    }
    let hasBegun = hasBegun
    if hasBegun {
      let kept = try Recipe.load(self.recipe)
      if recipe.batch == nil { recipe.batch = kept.batch }
      if let difference = recipe.difference(from: kept) {
        throw Fault(
          .recipe, "\(path) belongs to another recipe: \(difference); choose another --run")
      }
      removeTorn()
    }
    recipe.batch = try RunFolder.batch(recipe.batch, ranks: ranks)
    // Last, so that a start that is refused leaves no folder behind that belongs to its recipe.
    if !hasBegun {
      // A survey that a failed start has left may have been made with another preparation.
      unlink(survey)
      try Replacement.write(Data(recipe.yaml.utf8), to: self.recipe)
    }
    return recipe
  }

  /// Cases in a step: what the recipe says, else one a rank. Throws where there are fewer than ranks.
  static func batch(_ batch: Int?, ranks: Int) throws(Fault) -> Int {
    let batch = batch ?? ranks
    guard ranks <= batch else {
      throw Fault(
        .recipe,
        "\(ranks) ranks share a batch of \(batch) cases; start at most \(batch) ranks, or set batch: \(ranks)"
      )
    }
    return batch
  }

  /// Removes what a killed run has left of files that were being written, outside the cache, which others may share, and
  /// the checkpoints, which look after themselves.
  private func removeTorn() {
    let stages = Stage.allCases.map(stage)
    let evaluations = Stage.allCases.flatMap { [evaluation($0), predictions($0)] }
    for folder in [path, evaluation, figures] + stages + evaluations {
      for name in (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
      where Replacement.isTemporary(name) {
        unlink("\(folder)/\(name)")
      }
    }
  }

  /// Says in the mark that the run would fail again as it is: a batch script does not start it again.
  public func mark(fault: Fault.Kind) throws {
    try Replacement.write(Data("fault: exit code \(fault.rawValue)\n".utf8), to: unfinished)
  }

  /// Marks the run as unfinished, or takes the mark away: a batch script asks for it before it requeues.
  public func mark(unfinished isUnfinished: Bool) throws {
    if isUnfinished {
      try Replacement.write(Data("run again with --resume\n".utf8), to: unfinished)
    } else if FileManager.default.fileExists(atPath: unfinished) {
      unlink(unfinished)
    }
  }
}
