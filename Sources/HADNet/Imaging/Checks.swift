import Files

// What a data set must hold to be trained on or segmented, in one place: `inspect`, `train` and `study` ask the same.
// Files that are missing: `Dataset.inspect`. What is wrong with a case's files: `Preparation.survey`. What shows only
// when cases are seen together, and what is no fault but worth knowing: here.

/// What a data set is to be used for.
package enum Purpose: String, CaseIterable, Codable, Sendable {
  /// All sequences of the task and a truth.
  case train
  /// The sequences that are there at inference.
  case predict
  /// A truth.
  case evaluate

  /// The sequences that each case must have.
  package func needs(_ task: SegmentationTask) -> Set<Modality> {
    switch self {
    case .train: Set(task.sequences)
    case .predict: Set(task.present)
    case .evaluate: []
    }
  }

  package var needsTruth: Bool { self != .predict }
}

extension DatasetSurvey {
  /// What is wrong with cases together: images that are there twice. A copy under another name would sit in training
  /// and test alike.
  package static func problems(_ cases: [CaseSurvey]) -> [Fault] {
    var faults: [Fault] = []
    var seen: [String: (id: String, name: String)] = [:]
    for survey in cases.sorted(by: { $0.id < $1.id }) {
      let images = survey.hashes.filter { $0.key != "seg" && $0.key != "mask" }.sorted { $0.key < $1.key }.map
      { name, hash in
        (name: name, hash: hash)
      }
      let others = Set(images.map { seen[$0.hash]?.id })
      if images.count > 1, others.count == 1, let other = others.first.flatMap({ $0 }) {
        faults.append(
          Fault(
            .invalid,
            "\(other) and \(survey.id) are the same images (\(images.map(\.name).joined(separator: ", "))); "
              + "remove one of the two"))
        continue
      }
      for (name, hash) in images {
        if let first = seen[hash] {
          faults.append(
            Fault(
              .invalid,
              "\(first.name) of \(first.id) and \(name) of \(survey.id) are the same image; remove one of the two"
            ))
        } else {
          seen[hash] = (survey.id, name)
        }
      }
    }
    return faults
  }

  /// What is likely to be a mistake, and does not keep anything from being trained or segmented.
  package static func warnings(_ cases: [CaseSurvey]) -> [String] {
    [spacings(cases), fullMasks(cases), withoutOrientation(cases)].compactMap { $0 }
  }

  /// What is unusual, and may well be meant.
  package static func notes(_ cases: [CaseSurvey]) -> [String] {
    let empty = cases.filter { $0.tumourVoxels == 0 }.map(\.id).sorted()
    return empty.first.map { first in
      ["\(empty.count.named("truth")) without any tumour: \(first)\(others(empty))"]
    } ?? []
  }

  /// The largest difference of two spacings that a network takes for one.
  private static let spacingTolerance = 0.01

  /// A network knows voxels, not millimetres.
  private static func spacings(_ cases: [CaseSurvey]) -> String? {
    // Cases that are alike, in the order of their first.
    var groups: [(spacing: [Double], ids: [String])] = []
    for one in cases.sorted(by: { $0.id < $1.id }) {
      let known = groups.firstIndex { group in
        zip(group.spacing, one.spacing).allSatisfy { abs($0 - $1) <= spacingTolerance * $0 }
      }
      if let known { groups[known].ids.append(one.id) } else { groups.append((one.spacing, [one.id])) }
    }
    guard groups.count > 1 else { return nil }
    return "cases of different spacing, which a network takes for the same size; resample them to one:"
      + groups.map { group in
        let rounded = group.spacing.map { ($0 * 10_000).rounded() / 10_000 }
        let sides = rounded.map { Int(exactly: $0).map(String.init) ?? "\($0)" }.joined(separator: "×")
        return
          "\n  \(sides) mm (x, y, z) in \(group.ids.count.named("case")): \(group.ids[0])\(others(group.ids))"
      }.joined()
  }

  private static func fullMasks(_ cases: [CaseSurvey]) -> String? {
    let full = cases.filter { fillsVolume($0.brainVoxels, of: $0.dimensions) }.sorted { $0.id < $1.id }
    guard let first = full.first else { return nil }
    let backgrounds = first.backgrounds.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }
    return fullMasks(full.map(\.id), backgrounds: backgrounds)
  }

  static func fillsVolume(_ brainVoxels: Int, of dimensions: [Int]) -> Bool {
    10 * brainVoxels > 9 * dimensions.reduce(1, *)
  }

  /// What is said of cases whose background isn't 0, or whose heads have their skulls: all of it would be taken for brain.
  /// nil for none.
  package static func fullMasks(_ ids: [String], backgrounds: [String] = []) -> String? {
    guard let first = ids.first else { return nil }
    return
      "the brain fills more than 90 % of the volume in \(ids.count.named("case")), of \(first) for one: "
      + (backgrounds.isEmpty
        ? "the skull must be stripped, and the background must be 0"
        : "the background is not 0 (\(backgrounds.joined(separator: ", "))); set it to 0, e.g. by the product with a "
          + "brain mask")
  }

  /// A head stored otherwise would be turned or mirrored without a word.
  private static func withoutOrientation(_ cases: [CaseSurvey]) -> String? {
    let silent = cases.filter { !$0.hasOrientation }.map(\.id).sorted()
    return silent.first.map { first in
      "no orientation in headers (both form codes 0) in \(silent.count.named("case")): \(first)\(others(silent)); their "
        + "axes are taken to run to the right, to the front and up"
    }
  }

  private static func others(_ ids: [String]) -> String { ids.count > 1 ? " and \(ids.count - 1) more" : "" }
}

/// A whole data set, read and checked.
package struct Inspection {
  package let dataset: Dataset
  /// Of the cases that passed.
  package let surveys: [CaseSurvey]
  package let problems: [Fault]
  package let warnings, notes: [String]
  /// Cases with nothing wrong.
  package let fit: Int
  /// Cases whose sequences of inference can be segmented, whatever else they lack.
  package let fitForPrediction: Int

  /// Reads every file that the purpose asks for. `isRead` is called after each case.
  ///
  /// Throws where there is no case at all.
  package init(
    _ root: String, _ task: SegmentationTask, for purpose: Purpose, negative: Preparation.Negative = .refuse,
    begin: (Int) -> Void = { _ in }, isRead: () -> Void = {}
  ) throws {
    dataset = try Dataset.inspect(root, task, needs: purpose.needs(task), needsTruth: purpose.needsTruth)
    let student = Preparation(task, modalities: task.present, negative: negative, readsTruth: false)
    let preparation = purpose == .train ? Preparation(task, negative: negative) : student
    var problems = dataset.problems, surveys: [CaseSurvey] = [], fit = 0, fitForPrediction = 0
    func canBeSegmented(_ item: CaseFiles) -> Bool {
      guard task.present.allSatisfy({ item.files[$0] != nil }) else { return false }
      if case .success = student.inspect(item) { return true }
      return false
    }
    begin(dataset.cases.count + dataset.incomplete.count)
    for item in dataset.cases {
      if purpose == .evaluate {
        let faults = Preparation(task, modalities: [], readsTruth: true).fileFaults(item)
        problems += faults
        fit += faults.isEmpty ? 1 : 0
      } else {
        switch preparation.inspect(item) {
        case .success(let survey):
          surveys.append(survey)
          fit += 1
          fitForPrediction += 1
        case .failure(let more):
          problems += more.all
          if purpose == .train, canBeSegmented(item) { fitForPrediction += 1 }
        }
      }
      isRead()
    }
    // Of cases that lack a file, the files that are there.
    for item in dataset.incomplete {
      problems += purpose == .evaluate ? [] : preparation.fileFaults(item)
      if purpose == .train, canBeSegmented(item) { fitForPrediction += 1 }
      isRead()
    }
    // Two patients of one image are segmented all the same.
    let twice = DatasetSurvey.problems(surveys)
    self.problems = problems + (purpose == .train ? twice : [])
    var notes = dataset.notes
    if purpose == .train, fitForPrediction > fit {
      notes.append(
        "\((fitForPrediction - fit).named("case")) that can't be trained on can be segmented: "
          + "\(task.present.map(\.rawValue).joined(separator: ", ")) are there (inspect --for predict)")
    }
    warnings = DatasetSurvey.warnings(surveys) + (purpose == .predict ? twice.map(\.description) : [])
    self.notes = notes + DatasetSurvey.notes(surveys)
    self.surveys = surveys
    self.fit = fit
    self.fitForPrediction = fitForPrediction
  }
}
