import Files

/// What a person says of the task: all of it, or what the data set leaves open.
package enum TaskRequest: Equatable, Sendable {
  case whole(SegmentationTask)
  case additions(TaskAdditions)

  /// The task where all of it is said.
  package var whole: SegmentationTask? {
    if case .whole(let task) = self { task } else { nil }
  }
}

/// What is said beside that which a data set tells itself; what is nil stays as the data set has it.
package struct TaskAdditions: Equatable, Sendable {
  package var missing: [Modality]?
  package var readAs: [UInt8: SegmentationTask.Reading] = [:]
  package var regions: [NamedClasses]?
  package var score: [String]?
  package var detect: String?

  package init() {}
}

/// A region as it is written: its name, and those of its classes.
package struct NamedClasses: Equatable, Sendable {
  package let name: String
  package let classes: [String]

  package init(_ name: String, _ classes: [String]) {
    self.name = name
    self.classes = classes
  }
}

/// What a data set says of its task.
package struct ToldTask: Equatable, Sendable {
  package var preset: TaskPreset?
  /// In the order of the data set's channels.
  package var sequences: [Modality]
  /// nil: no data set says what will be missing where a network is used, but for those of a preset.
  package var missing: [Modality]?
  package var classes: [SegmentationTask.Label]
  package var readAs: [UInt8: SegmentationTask.Reading] = [:]
  package var regions: [NamedClasses]

  init(
    sequences: [Modality], classes: [SegmentationTask.Label],
    readAs: [UInt8: SegmentationTask.Reading], regions: [NamedClasses]
  ) {
    self.sequences = sequences
    self.classes = classes
    self.readAs = readAs
    self.regions = regions
  }

  /// That of a preset.
  init(_ preset: TaskPreset) {
    let task = preset.task
    self.init(
      sequences: task.sequences, classes: task.classes, readAs: task.readAs,
      regions: task.regions.map { NamedClasses($0.name, $0.classes.map(task.className)) })
    self.preset = preset
    missing = task.missing
  }

  /// The task with what is said beside it. Throws `.recipe` for what is no task; nil where nobody says what will be missing.
  package func task(with more: TaskAdditions? = nil) throws(Fault) -> SegmentationTask? {
    guard let missing = more?.missing ?? missing else { return nil }
    let base = more?.regions == nil ? preset?.task : nil
    return try SegmentationTask(
      preset: preset, sequences: sequences, missing: missing, classes: classes,
      readAs: readAs.merging(more?.readAs ?? [:]) { $1 },
      regions: (more?.regions ?? regions).map { ($0.name, $0.classes) },
      score: more?.score ?? base?.score.map(\.name), detect: more?.detect ?? base?.detect.name)
  }
}
