import Collective
import Compute
import Files
import Foundation
import Imaging
import Learning
import Methods
import Networks

/// What a run knows of its data set: cases, sizes, split, class weights, and where prepared cases come from.
package final class TrainingData {
  package let task: SegmentationTask
  package let dataset: Dataset
  package let survey: DatasetSurvey
  package let split: Split
  package let commonSize: Size
  package let preparation: Preparation
  /// Of the training cases, or as the recipe fixes them.
  package let startWeights: [Float]
  package let store: CaseStore
  private let cache: String
  private let memoryLimit: Int

  /// A survey as it is kept: with the sizes and times of the files it was made from.
  private struct Kept: Codable {
    let stamp: String
    let survey: CaseSurvey
  }

  /// A file of what was found in the data, with the hash that tells a damaged one: that is found anew.
  private struct KeptFile<Content: Codable>: Codable {
    let content: Content
    let xxh3: String

    init(_ content: Content) throws {
      self.content = content
      xxh3 = try KeptFile.hash(content)
    }

    /// nil where the file is absent, damaged, or another.
    static func read(_ path: String) -> Content? {
      guard let data = FileManager.default.contents(atPath: path),
        let file = try? JSONDecoder().decode(KeptFile.self, from: data),
        file.xxh3 == (try? hash(file.content))
      else { return nil }
      return file.content
    }

    func write(_ path: String) throws { try AtomicFile.write(try KeptFile.encoder.encode(self), to: path) }

    private static var encoder: JSONEncoder {
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
      return encoder
    }

    private static func hash(_ content: Content) throws -> String {
      ContentHash.of(try encoder.encode(content).span)
    }
  }

  /// Landmarks as they are kept: with what the cases that they were taken from consisted of.
  private struct KeptLandmarks: Codable {
    let source: [String: String]
    let landmarks: Landmarks
  }

  /// Finds and surveys the data set (cases dealt over ranks, results kept in the run folder), splits it, and checks
  /// that no image is in it twice. All ranks must call it together.
  ///
  /// `stages`: those that are to be trained; `evaluates`: whether they are compared afterwards. What they need of the
  /// split must be there.
  /// `cache`: the folder of prepared cases, which several seeds share. `memoryLimit`: bytes of prepared cases that this
  /// rank keeps; nil: `CaseStore.defaultMemoryLimit`. `tell` hears what a person should know, on rank 0.
  package init(
    _ recipe: Recipe, root: String, run: RunFolder, for stages: [Method], evaluates: Bool, cache: String,
    memoryLimit: Int? = nil, over communicator: Communicator, tell: @escaping (TrainingEvent) -> Void
  ) throws {
    let tell = { if communicator.rank == 0 { tell($0) } }
    let task = try TrainingData.task(recipe, root, run, communicator)
    self.task = task
    dataset = try communicator.rootFirst { try Dataset.find(root, task, needsTruth: true) }
    do {
      try communicator.agree(on: "the data set \(root)", TrainingData.fingerprint(dataset))
    } catch let disagreement as Disagreement {
      throw Fault(.invalid, "\(disagreement.description): each node must see the same files")
    }
    preparation = recipe.data.preparation(task)
    try communicator.rootFirst {
      if communicator.rank == 0 { try TrainingData.keep(task, in: run) }
    }
    survey = try TrainingData.survey(dataset, preparation, run, communicator)
    for text in DatasetSurvey.warnings(survey.cases) { tell(.warning(text)) }
    for text in dataset.notes + DatasetSurvey.notes(survey.cases) { tell(.note(text)) }

    let needed = survey.commonSize, least = Discriminator.leastSide
    commonSize =
      recipe.data.size ?? Size(max(needed.z, least), max(needed.y, least), max(needed.x, least))
    if communicator.rank == 0, let size = recipe.data.size,
      let large = survey.cases.first(where: { $0.box.z > size.z || $0.box.y > size.y || $0.box.x > size.x })
    {
      throw Fault(
        .recipe,
        "data.size \(size) (x, y, z) is smaller than the brain of \(large.id), \(large.box) voxels; the data set needs "
          + "data.size: \(survey.commonSize.array), in a recipe along z, y, x")
    }

    let found = dataset, cases = found.cases
    // Rank 0 writes the split, the others read it.
    split = try communicator.rootFirst {
      try TrainingData.split(found, recipe, run, for: stages, evaluates: evaluates, tell)
    }
    tell(.split(SplitTable(split, of: cases, regions: SplitTable.regions(of: task, survey.cases))))
    switch recipe.data.classWeights(task) {
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

  /// The task that the recipe says, or else the data set. Rank 0 reads, and speaks for all.
  private static func task(
    _ recipe: Recipe, _ root: String, _ run: RunFolder, _ communicator: Communicator
  ) throws -> SegmentationTask {
    if let task = recipe.task?.whole {
      try recipe.checkClassWeights(task)
      return task
    }
    var json = ""
    if communicator.rank == 0 {
      let choice = try recipe.choice(root, run)
      if let question = choice.question { throw question }
      json = choice.task.json
    }
    guard let task = SegmentationTask(json: try communicator.broadcast(json)) else {
      preconditionFailure("a task that is not read as it was written")
    }
    return task
  }

  /// Keeps the run's task; refuses another than it has.
  private static func keep(_ task: SegmentationTask, in run: RunFolder) throws {
    if run.hasBegun, let kept = try run.task() {
      guard kept == task else {
        throw Fault(
          .recipe,
          "\(run.path) was begun with another task (\(run.taskFile)): choose another --run for this one")
      }
      return
    }
    try AtomicFile.write(Data(task.json.utf8), to: run.taskFile)
  }

  private static func check(_ batch: Int?, _ split: Split) throws(Fault) {
    let cases = split.train.count
    guard let batch, batch > cases else { return }
    throw Fault(
      .recipe,
      "a batch of \(batch) is more than the \(cases) training cases: set batch to at most \(cases), on at most as many "
        + "ranks")
  }

  /// The run's own split, else the one that the recipe says, which becomes the run's.
  private static func split(
    _ dataset: Dataset, _ recipe: Recipe, _ run: RunFolder, for stages: [Method], evaluates: Bool,
    _ tell: @escaping (TrainingEvent) -> Void
  ) throws -> Split {
    let say: (String) -> Void = { tell(.warning($0)) }
    let cases = dataset.cases, root = dataset.root, sets = dataset.sets
    let isKept = FileManager.default.fileExists(atPath: run.split)
    let settings = isKept ? .file(run.split) : recipe.data.split
    var source = (kind: Fault.Kind.recipe, name: "data.split")
    let split: Split
    if case .ratio = settings, !sets.isEmpty {
      split = try SplitFile(list: root, sets).split(of: cases, allowLeak: recipe.data.allowLeak)
      source = (.invalid, root)
      tell(.note("the split is that of the column set in \(root)"))
    } else {
      split = try settings.divide(
        cases, seed: recipe.data.splitSeed ?? recipe.seed, allowLeak: recipe.data.allowLeak, say: say)
    }
    if case .file(let path, _) = settings { source = (.invalid, path) }
    let sizes = split.sets.map { "\($0.name) \($0.ids.count)" }.joined(separator: ", ")
    if split.validation.isEmpty,
      let stage = stages.first(where: { recipe.schedule($0).validationInterval != nil })
    {
      throw Fault(
        source.kind,
        "\(source.name) gives no validation case (\(sizes)), and \(stage.rawValue) chooses its checkpoint by them: "
          + "give validation one"
      )
    }
    if evaluates, Study.judged(split).isEmpty {
      throw Fault(source.kind, "\(source.name) gives neither test nor validation cases (\(sizes)) to score")
    }
    if isKept { return split }
    if case .file = recipe.data.split {
    } else if sets.isEmpty, cases.allSatisfy({ $0.grade == nil }) {
      say("no grades are known in \(root): the split is plain random")
    }
    // Before the split is kept, so that a mended recipe may begin in the same folder.
    try check(recipe.batch, split)
    try split.write(run.split)
    return split
  }

  /// How U-HeMIS and U-HVED see the cases, and where they come from. The landmarks are the training cases', dealt over
  /// ranks and kept in the run folder, or the published ones. All ranks together.
  func standardised(
    _ source: LandmarkSource, leastSide: Int, _ run: RunFolder, over communicator: Communicator
  ) throws -> (preparation: Preparation, store: CaseStore) {
    var preparation = preparation
    preparation.standardisation = Standardisation(
      landmarks: source == .published
        ? .published : try landmarks(leastSide: leastSide, run, over: communicator),
      leastSide: leastSide)
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
    leastSide: Int, _ run: RunFolder, over communicator: Communicator
  ) throws -> Landmarks {
    var preparation = preparation
    preparation.standardisation = Standardisation(leastSide: leastSide)
    let path = run.landmarks(leastSide: leastSide)
    // Of the images alone: the truth has no part in them.
    let source = contents(split.train).mapValues { text in
      text.split(separator: " ").filter { !$0.hasPrefix("seg=") }.joined(separator: " ")
    }
    func kept() -> Landmarks? {
      KeptFile<KeptLandmarks>.read(path).flatMap { $0.source == source ? $0.landmarks : nil }
    }
    let isKept = try communicator.all(kept() != nil)
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
      let landmarks = try Landmarks.mean(all, of: task.sequences)
      if communicator.rank == 0 {
        try KeptFile(KeptLandmarks(source: source, landmarks: landmarks)).write(path)
      }
      try communicator.barrier()
    }
    // What is read is what was written: a resumed run has the same digits.
    return try communicator.rootFirst {
      guard let landmarks = kept() else { throw Fault(.storage, "\(path) can't be read") }
      return landmarks
    }
  }

  /// What the last start of a run found in its data set; nothing where there was none.
  package static func kept(in run: RunFolder) -> [CaseSurvey] {
    kept(run).map(\.survey)
  }

  private static func kept(_ run: RunFolder) -> [Kept] {
    (KeptFile<[Kept]>.read(run.survey) ?? []).filter(\.survey.isPlausible)
  }

  private static func survey(
    _ dataset: Dataset, _ preparation: Preparation, _ run: RunFolder, _ communicator: Communicator
  ) throws -> DatasetSurvey {
    let known = kept(run)
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
      try KeptFile(all).write(run.survey)
    }
    return try communicator.rootFirst { try DatasetSurvey(all.map(\.survey)) }
  }

  /// Cases, and the sizes of their files.
  private static func fingerprint(_ dataset: Dataset) -> String {
    let sizes = dataset.cases.map { item in
      let paths =
        dataset.task.sequences.map { item.files[$0] ?? "" } + [item.segmentation ?? ""]
        + [item.mask].compactMap(\.self)
      return "\(item.id) "
        + paths.map { $0.isEmpty ? "-" : FileStatus($0).map { "\($0.bytes)" } ?? "?" }.joined(separator: " ")
    }
    let text = Array(sizes.joined(separator: "\n").utf8)
    return "\(dataset.cases.count) cases, \(ContentHash.of(text).prefix(8))"
  }

  /// Sizes and times of a case's files: a changed file is surveyed anew. The time of the last change of its facts is among
  /// them, since that of its contents can be set back.
  private static func stamp(_ item: CaseFiles) -> String {
    let paths =
      item.files.sorted { $0.key < $1.key }.map(\.value) + [item.segmentation, item.mask].compactMap { $0 }
    return paths.map { path in
      guard let status = FileStatus(path) else { return "?" }
      let times = [status.modified, status.changed].map { "\($0.tv_sec).\($0.tv_nsec)" }
      return "\(status.bytes)@\(times.joined(separator: "/"))"
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
