import Files
import Foundation

// A study over several seeds: a folder whose parts `seed-S` are each a whole run. What is in the parts decides; the
// folder itself keeps no recipe.

extension Recipe {
  /// The recipe of one of several seeds: other random numbers on the same split of the cases.
  package func with(seed: UInt64) -> Recipe {
    var recipe = self
    recipe.data.splitSeed = data.splitSeed ?? self.seed
    recipe.seed = seed
    return recipe
  }
}

extension RunFolder {
  /// The run of one seed.
  package func seed(_ seed: UInt64) -> RunFolder { RunFolder("\(path)/seed-\(seed)") }

  /// The seeds whose runs have begun here, in their order; none in the folder of a plain run.
  package var seeds: [UInt64] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
    return names.compactMap { name in
      UInt64(name.dropFirst("seed-".count)).flatMap { name == "seed-\($0)" ? $0 : nil }
    }.filter { seed($0).hasBegun }.sorted()
  }

  /// Opens the folder for a study over `count` seeds from the recipe's on, or makes it, and gives each seed's recipe.
  /// They have the same batch, whatever number of ranks each begins with.
  ///
  /// Throws `.recipe` where the folder belongs to a plain run, or a seed in it to another recipe.
  package func open(_ recipe: Recipe, seeds count: Int, ranks: Int, resume: Bool = false) throws -> [Recipe] {
    guard !hasBegun else {
      throw Fault(
        .recipe, "\(path) belongs to a run of a single seed; leave --seeds out, or choose another --run")
    }
    let (last, isTooLarge) = recipe.seed.addingReportingOverflow(UInt64(count - 1))
    guard !isTooLarge else {
      throw Fault(
        .recipe, "seed is \(recipe.seed): there are no \(count) seeds from it on; set a smaller one")
    }
    var recipe = recipe
    let begun = seeds
    if recipe.batch == nil { recipe.batch = try begunBatch() }
    recipe.batch = try RunFolder.batch(recipe.batch, ranks: ranks, isFixed: !begun.isEmpty)
    // All of them now: days may pass before the last one's turn.
    for seed in begun { _ = try self.seed(seed).open(recipe.with(seed: seed), ranks: ranks, resume: resume) }
    try AtomicFile.makeFolder(path)
    return (recipe.seed...last).map { recipe.with(seed: $0) }
  }

  /// Opens one seed's run, or makes it with the split of those that have begun, and with what they know of the data.
  package func open(seed recipe: Recipe, ranks: Int, locks: RunLocks? = nil) throws -> RunFolder {
    let run = seed(recipe.seed)
    // That its epochs may grow was asked when all were opened.
    _ = try run.open(recipe, ranks: ranks, resume: true, locks: locks)
    if !run.hasBegun, let other = seeds.first.map(seed) {
      // The split last: with it the run has begun.
      for (from, to) in [(other.survey, run.survey), (other.split, run.split)] {
        if let data = FileManager.default.contents(atPath: from) { try AtomicFile.write(data, to: to) }
      }
    }
    return run
  }

  /// The recipe of the seeds that have begun, as that of the first; nil where there is none.
  ///
  /// Throws `.recipe` where two differ in more than their seeds, `.invalid` where they were split differently.
  package func sharedRecipe() throws -> Recipe? {
    let seeds = seeds
    guard let first = seeds.first else { return nil }
    let recipe = try Recipe.load(seed(first).recipe)
    let split = FileManager.default.contents(atPath: seed(first).split)
    for seed in seeds.dropFirst().map(seed) {
      let other = try Recipe.load(seed.recipe)
      if let difference = other.with(seed: first).difference(from: recipe.with(seed: first)) {
        throw Fault(
          .recipe,
          "\(seed.path) has another recipe than \(self.seed(first).path): \(difference); move one elsewhere")
      }
      guard FileManager.default.contents(atPath: seed.split) == split else {
        throw Fault(
          .invalid,
          "\(seed.split) is another split than \(self.seed(first).split); move one of the runs elsewhere")
      }
    }
    return recipe
  }
}
