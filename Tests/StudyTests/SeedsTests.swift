import Foundation
import Testing

@testable import Files
@testable import Methods
@testable import Study
@testable import TestSupport

/// Folders of several seeds, and what is refused in them.
@Suite struct SeedsTests {
  private let folder: RunFolder
  private let recipe: Recipe

  init() throws {
    folder = RunFolder(NSTemporaryDirectory() + "hadnet-seeds-\(UUID().uuidString)")
    var recipe = Recipe()
    recipe.seed = 9
    self.recipe = recipe
  }

  private func cleanUp() { try? FileManager.default.removeItem(atPath: folder.path) }

  private func begin(_ run: RunFolder, _ recipe: Recipe, split: String = "{}") throws {
    try AtomicFile.write(Data(recipe.yaml.utf8), to: run.recipe)
    try AtomicFile.write(Data(split.utf8), to: run.split)
  }

  private func refusal(_ body: () throws -> Void) -> Fault? {
    do { try body() } catch { return error as? Fault }
    return nil
  }

  @Test func aSeedKeepsTheSplitOfTheRecipes() {
    let third = recipe.with(seed: 11)
    #expect(third.seed == 11 && third.data.splitSeed == 9)
    #expect(third.with(seed: 12) == recipe.with(seed: 12))
    #expect(recipe.with(seed: 9).data.splitSeed == 9)
  }

  @Test func seedsFollowTheRecipesAndShareABatch() throws {
    defer { cleanUp() }
    #expect(try folder.open(recipe, seeds: 3, ranks: 4).map(\.seed) == [9, 10, 11])
    let first = try #require(try folder.open(recipe, seeds: 3, ranks: 4).first)
    #expect(first.batch == 4 && folder.seeds.isEmpty)
    try begin(folder.seed(9), first)
    // Begun with four ranks, gone on with two.
    let recipes = try folder.open(recipe, seeds: 2, ranks: 2)
    #expect(recipes.map(\.batch) == [4, 4] && recipes[0] == first)
    #expect(try folder.open(seed: recipes[1], ranks: 2).path == folder.seed(10).path)
    #expect(folder.seeds == [9, 10])
    #expect(try Recipe.load(folder.seed(10).recipe) == recipes[1])
    #expect(refusal { _ = try folder.open(recipe, seeds: 2, ranks: 5) }?.kind == .recipe)
  }

  @Test func aNewSeedTakesTheSplitOfTheOthers() throws {
    defer { cleanUp() }
    let recipes = try folder.open(recipe, seeds: 2, ranks: 1)
    try begin(folder.seed(9), recipes[0], split: "the split")
    try AtomicFile.write(Data("the survey".utf8), to: folder.seed(9).survey)
    _ = try folder.open(seed: recipes[1], ranks: 1)
    #expect(FileManager.default.contents(atPath: folder.seed(10).split) == Data("the split".utf8))
    #expect(FileManager.default.contents(atPath: folder.seed(10).survey) == Data("the survey".utf8))
    #expect(try folder.sharedRecipe() == recipes[0])
  }

  @Test func aPlainRunAndSeedsDoNotShareAFolder() throws {
    defer { cleanUp() }
    try begin(folder, recipe)
    let plain = refusal { _ = try folder.open(recipe, seeds: 2, ranks: 1) }
    #expect(
      plain
        == Fault(
          .recipe,
          "\(folder.path) belongs to a run of a single seed; leave --seeds out, or choose another --run"))
    try FileManager.default.removeItem(atPath: folder.path)
    try begin(folder.seed(9), recipe.with(seed: 9))
    let seeds = refusal { _ = try folder.open(recipe, ranks: 1) }
    #expect(
      seeds
        == Fault(
          .recipe,
          "\(folder.path) belongs to a study over several seeds (\(folder.path)/seed-9); give study its --seeds, or "
            + "choose another --run"))
    #expect(!FileManager.default.fileExists(atPath: folder.recipe))
  }

  @Test func anotherRecipesSeedIsRefusedAtOnce() throws {
    defer { cleanUp() }
    // The last of three, as a plain run would have it: on a split of its own.
    var other = recipe
    other.seed = 11
    other.batch = 1
    try begin(folder.seed(11), other)
    let fault = refusal { _ = try folder.open(recipe, seeds: 3, ranks: 1) }
    #expect(fault?.kind == .recipe)
    #expect(
      fault?.description
        == "\(folder.seed(11).path) belongs to another recipe: data.split_seed is 9, there null; choose another --run"
    )
  }

  @Test func seedsThatDifferInMoreHaveNoTable() throws {
    defer { cleanUp() }
    #expect(try folder.sharedRecipe() == nil)
    try begin(folder.seed(1), recipe.with(seed: 1))
    try begin(folder.seed(2), recipe.with(seed: 2), split: "another")
    #expect(
      refusal { _ = try folder.sharedRecipe() }
        == Fault(
          .invalid,
          "\(folder.seed(2).split) is another split than \(folder.seed(1).split); move one of the runs elsewhere"
        ))
    var other = recipe.with(seed: 2)
    other.hadnet.lambda = 0.5
    try begin(folder.seed(2), other)
    #expect(
      refusal { _ = try folder.sharedRecipe() }
        == Fault(
          .recipe,
          "\(folder.seed(2).path) has another recipe than \(folder.seed(1).path): hadnet.lambda is 0.5, there 0.2; "
            + "move one elsewhere"))
  }

  @Test func thereAreNoSeedsBeyondTheLargest() {
    var last = recipe
    last.seed = .max
    #expect(
      refusal { _ = try folder.open(last, seeds: 2, ranks: 1) }
        == Fault(.recipe, "seed is \(UInt64.max): there are no 2 seeds from it on; set a smaller one"))
  }

  @Test func onlyFoldersOfSeedsCount() throws {
    defer { cleanUp() }
    for name in ["seed-10", "seed-2", "seed-02", "seed-", "seed-x", "teacher"] {
      try begin(RunFolder("\(folder.path)/\(name)"), recipe)
    }
    try AtomicFile.makeFolder(folder.seed(3).path)
    #expect(folder.seeds == [2, 10])
  }
}
