import Collective
import Foundation

/// What a run knows of its data set: cases, sizes, split, class weights, and where prepared cases come from.
public final class TrainingData {
  public let dataset: Dataset
  public let survey: DatasetSurvey
  public let split: Split
  public let commonSize: Size
  public let preparation: Preparation
  /// Of the training cases, or as the recipe fixes them.
  public let startWeights: [Float]
  public let store: CaseStore
  private let cache: String
  private let memoryLimit: Int

  /// A survey as it is kept: with the sizes and times of the files it was made from.
  private struct Kept: Codable {
    let stamp: String
    let survey: CaseSurvey
  }

  /// Finds and surveys the data set (cases dealt over ranks, results kept in the run folder), splits it, and checks
  /// that no image is in it twice. All ranks must call it together.
  ///
  /// `cache`: the folder of prepared cases, which several seeds share. `memoryLimit`: bytes of prepared cases that this
  /// rank keeps; nil: `CaseStore.defaultMemoryLimit`. `warn` hears what a person should know, on rank 0.
  public init(
    _ recipe: Recipe, root: String, run: RunFolder, cache: String, memoryLimit: Int? = nil,
    over communicator: Communicator, warn: (String) -> Void
  ) throws {
    dataset = try communicator.rootFirst { try Dataset.find(root, needsTruth: true) }
    do {
      try communicator.agree(on: "the data set \(root)", TrainingData.fingerprint(dataset))
    } catch let disagreement as Disagreement {
      throw Fault(.invalid, "\(disagreement.description): each node must see the same files")
    }
    preparation = recipe.data.preparation
    survey = try TrainingData.survey(dataset, preparation, run, communicator)

    let needed = survey.commonSize, least = Discriminator.leastSide
    commonSize =
      recipe.data.size ?? Size(max(needed.z, least), max(needed.y, least), max(needed.x, least))
    if communicator.rank == 0, let size = recipe.data.size,
      let large = survey.cases.first(where: { $0.box.z > size.z || $0.box.y > size.y || $0.box.x > size.x })
    {
      throw Fault(
        .recipe,
        "data.size \(size) is smaller than the brain of \(large.id), \(large.box) voxels; the data set needs "
          + "\(survey.commonSize)")
    }

    let ids = dataset.cases.map(\.id)
    let cases = dataset.cases
    // Rank 0 writes the split, the others read it.
    split = try communicator.rootFirst {
      if FileManager.default.fileExists(atPath: run.split) { return try Split.read(run.split, ids: ids) }
      let found: Split
      switch recipe.data.split {
      case .file(let path): found = try Split.read(path, ids: ids)
      case .counts(let train, let validation, let test):
        if cases.allSatisfy({ $0.grade == nil }) {
          warn("no grades are known in \(root): the split is plain random")
        }
        found = try Split.random(
          cases, seed: recipe.data.splitSeed ?? recipe.seed,
          weights: (train: train, validation: validation, test: test))
      }
      // Before the split is kept, so that a mended recipe may begin in the same folder.
      try TrainingData.check(recipe.batch, found)
      try found.write(run.split)
      return found
    }
    switch recipe.data.classWeights {
    case .fixed(let weights): startWeights = weights
    case .data: startWeights = survey.classWeights(split.train)
    }
    self.cache = cache
    self.memoryLimit = memoryLimit ?? CaseStore.defaultMemoryLimit(ranksOnNode: communicator.localSize)
    store = CaseStore(
      dataset.cases, surveys: survey.cases, preparation: preparation, commonSize: commonSize,
      cache: self.cache, memoryLimit: self.memoryLimit)
    try communicator.barrier()
  }

  private static func check(_ batch: Int?, _ split: Split) throws(Fault) {
    let cases = split.train.count
    guard let batch, batch > cases else { return }
    throw Fault(
      .recipe,
      "a batch of \(batch) is more than the \(cases) training cases: set batch to at most \(cases), on at most as many "
        + "ranks")
  }

  /// How U-HeMIS and U-HVED see the cases, and where they come from. The landmarks are the training cases', dealt over
  /// ranks and kept in the run folder, or the published ones. All ranks together.
  func standardised(
    _ settings: WindowTraining, _ run: RunFolder, over communicator: Communicator
  ) throws -> (preparation: Preparation, store: CaseStore) {
    var preparation = preparation
    preparation.standardisation = Standardisation(
      landmarks: settings.landmarks == .published
        ? .published : try landmarks(settings, run, over: communicator),
      leastSide: settings.leastSide)
    return (preparation, store(preparation))
  }

  /// Cases of another preparation. Memory is for one kind of cases at a time: the usual ones are let go.
  func store(_ preparation: Preparation) -> CaseStore {
    store.letGo()
    return CaseStore(
      dataset.cases, surveys: survey.cases, preparation: preparation, commonSize: commonSize, cache: cache,
      memoryLimit: memoryLimit)
  }

  private func landmarks(
    _ settings: WindowTraining, _ run: RunFolder, over communicator: Communicator
  ) throws -> Landmarks {
    var preparation = preparation
    preparation.standardisation = Standardisation(leastSide: settings.leastSide)
    let path = run.landmarks(leastSide: settings.leastSide)
    let isKept = try communicator.all(FileManager.default.fileExists(atPath: path))
    if !isKept {
      let ids = split.train
      var samples: [Landmarks.Sample] = []
      for i in stride(from: communicator.rank, to: ids.count, by: communicator.size) {
        guard let files = dataset[ids[i]] else {
          throw Fault(.missing, "\(ids[i]) is in the split but not in \(dataset.root)")
        }
        communicator.courier?.note("landmarks: \(ids[i])")
        samples.append(try preparation.landmarkSample(files))
      }
      let parts = try communicator.allGather([UInt8](try JSONEncoder().encode(samples)))
      let all = try parts.flatMap { try JSONDecoder().decode([Landmarks.Sample].self, from: Data($0)) }
      let landmarks = try Landmarks.mean(all)
      if communicator.rank == 0 { try Replacement.write(Data(landmarks.json.utf8), to: path) }
      try communicator.barrier()
    }
    // What is read is what was written: a resumed run has the same digits.
    return try communicator.rootFirst {
      guard let data = FileManager.default.contents(atPath: path) else {
        throw Fault(.storage, "\(path) can't be read")
      }
      return try Landmarks(json: String(decoding: data, as: UTF8.self))
    }
  }

  private static func survey(
    _ dataset: Dataset, _ preparation: Preparation, _ run: RunFolder, _ communicator: Communicator
  ) throws -> DatasetSurvey {
    let known =
      FileManager.default.contents(atPath: run.survey)
      .flatMap { try? JSONDecoder().decode([Kept].self, from: $0) } ?? []
    let byID = Dictionary(known.map { ($0.survey.id, $0) }) { first, _ in first }
    var kept: [Kept] = [], isNew = false
    // Rank 0 may write the file when all have read it.
    try communicator.barrier()
    for (i, item) in dataset.cases.enumerated() where i % communicator.size == communicator.rank {
      let stamp = stamp(item)
      if let old = byID[item.id], old.stamp == stamp {
        kept.append(old)
      } else {
        kept.append(Kept(stamp: stamp, survey: try preparation.survey(item)))
        isNew = true
      }
    }
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    let parts = try communicator.allGather([UInt8](try encoder.encode(kept)))
    let all = try parts.flatMap { try JSONDecoder().decode([Kept].self, from: Data($0)) }
      .sorted { $0.survey.id < $1.survey.id }
    if try communicator.any(isNew || known.count != all.count), communicator.rank == 0 {
      let data = try encoder.encode(all)
      try Replacement.write(data, to: run.survey)
    }
    return try communicator.rootFirst { try DatasetSurvey(all.map(\.survey)) }
  }

  /// Cases, and the sizes of their files.
  private static func fingerprint(_ dataset: Dataset) -> String {
    let sizes = dataset.cases.map { item in
      let paths = Modality.allCases.map { item.files[$0] ?? "" } + [item.segmentation ?? ""]
      return "\(item.id) "
        + paths.map { path in
          var status = stat()
          return path.isEmpty ? "-" : stat(path, &status) == 0 ? "\(status.st_size)" : "?"
        }.joined(separator: " ")
    }
    let text = Array(sizes.joined(separator: "\n").utf8)
    return "\(dataset.cases.count) cases, \(ContentHash.of(text).prefix(8))"
  }

  /// Sizes and times of a case's files: a changed file is surveyed anew.
  private static func stamp(_ item: CaseFiles) -> String {
    let paths = Modality.allCases.compactMap { item.files[$0] } + [item.segmentation].compactMap { $0 }
    return paths.map { path in
      var status = stat()
      guard stat(path, &status) == 0 else { return "?" }
      return "\(status.st_size)@\(status.st_mtim.tv_sec).\(status.st_mtim.tv_nsec)"
    }.joined(separator: " ")
  }
}

extension CaseStore {
  /// All ranks together: a disk that alters files is worth a word, though nothing is lost.
  func tellDamage(over communicator: Communicator, _ tell: (TrainingEvent) -> Void) throws {
    let found = try communicator.gather(takeDamaged().joined(separator: "\n"))
    for path in Set(found.flatMap { $0.split(separator: "\n") }).sorted() {
      tell(.warning("\(path): damaged; the case was prepared anew from the patient's files"))
    }
  }
}
