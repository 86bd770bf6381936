import Files
import Imaging
import Learning
import Yams

extension SplitSettings {
  /// The split of these cases.
  ///
  /// - `allowLeak`: whether a file's split may part a patient.
  /// - `say`: hears of what is not as it was asked for.
  package func divide(
    _ cases: [CaseFiles], seed: UInt64, allowLeak: Bool = false, say: (String) -> Void = { _ in }
  ) throws -> Split {
    switch self {
    case .ratio(let train, let validation, let test):
      return try Split.random(cases, seed: seed, ratio: (train, validation, test), say: say)
    case .counts(let train, let validation, let test):
      return try Split.random(cases, seed: seed, counts: (train, validation, test), say: say)
    case .folds(let count, let fold):
      return try Split.fold(fold, of: count, cases, seed: seed)
    case .file(let path, let fold):
      return try SplitFile(path).split(fold: fold, of: cases, allowLeak: allowLeak)
    }
  }

  // MARK: In a recipe

  private static let counts = ["train", "validation", "test"]
  /// Each way to say a split with its keys.
  private static let ways = [counts, ["ratio"], ["folds", "fold"], ["file", "fold"]]
  static let keys = counts + ["ratio", "folds", "fold", "file"]

  /// The keys that can't stand beside one.
  static func keys(besides key: String) -> [String] {
    let allowed = ways.filter { $0.contains(key) }.flatMap { $0 }
    return keys.filter { !allowed.contains($0) }
  }

  fileprivate static func read(_ node: Node) throws(RecipeMistake) -> SplitSettings? {
    if let scalar = node.scalar {
      return node.isNull || scalar.string.isEmpty || node.number(Double.self) != nil
        ? nil : .file(scalar.string)
    }
    guard case .mapping(let mapping) = node else { return nil }
    let names = mapping.map { $0.key.scalar?.string ?? "" }
    guard let way = ways.first(where: { names.allSatisfy($0.contains) }) else { return nil }
    func whole(_ node: Node) -> Int? {
      node.plain.flatMap { Int($0) }.flatMap { (0...1_000_000).contains($0) ? $0 : nil }
    }
    if let folds = mapping["folds"] {
      guard let count = whole(folds), let fold = mapping["fold"].map(whole) ?? 0 else { return nil }
      guard (Split.leastFolds...Split.mostFolds).contains(count) else {
        throw RecipeMistake(
          folds, "folds is \(count); \(Split.leastFolds) to \(Split.mostFolds) are possible")
      }
      guard fold < count else {
        throw RecipeMistake(
          mapping["fold"] ?? node, "fold is \(fold); 0 to \(count - 1) are possible of \(count) folds")
      }
      return .folds(count: count, fold: fold)
    }
    if let file = mapping["file"] {
      guard let name = file.scalar?.string, !name.isEmpty, !file.isNull else { return nil }
      guard let fold = mapping["fold"] else { return .file(name) }
      return whole(fold).map { .file(name, fold: $0) }
    }
    if case .sequence(let list)? = mapping["ratio"] {
      let parts = list.compactMap(whole)
      guard list.count == 3, parts.count == 3, parts[0] > 0 else { return nil }
      return .ratio(train: parts[0], validation: parts[1], test: parts[2])
    }
    guard way == counts else { return nil }
    // A set that is not named is empty.
    let sizes = counts.compactMap { name in mapping[name].map(whole) ?? 0 }
    guard sizes.count == 3, sizes[0] > 0 else { return nil }
    return .counts(train: sizes[0], validation: sizes[1], test: sizes[2])
  }
}

extension RecipeValue where T == SplitSettings {
  static var split: Self {
    Self(
      allowed: "counts {train: 7, validation: 2, test: 2} with at least 1 to train, proportions "
        + "{ratio: [200, 66, 69]}, a fold {folds: 5, fold: 0} counted from 0, the name of a file, or a fold of one "
        + "{file: NAME, fold: 0}",
      read: { node in (try? SplitSettings.read(node)) ?? nil },
      text: { split in
        switch split {
        case .ratio(let train, let validation, let test): "{ratio: [\(train), \(validation), \(test)]}"
        case .counts(let train, let validation, let test):
          "{train: \(train), validation: \(validation), test: \(test)}"
        case .folds(let count, let fold): "{folds: \(count), fold: \(fold)}"
        case .file(let name, let fold?): "{file: \(quoted(name)), fold: \(fold)}"
        case .file(let name, nil): quoted(name)
        }
      },
      mistake: { node in
        do throws(RecipeMistake) {
          _ = try SplitSettings.read(node)
          return nil
        } catch { return error }
      })
  }
}
