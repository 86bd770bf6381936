import Files
import Terminal

/// Which task a data set is taken for, and why.
package struct TaskChoice: Sendable {
  package let task: SegmentationTask
  /// For a person: `brats2024: BraTS-GLI cases with label 4`.
  package let reason: String
  /// What only a person can say, and the data set is not trained on without; what is in `task` in its place is a guess that serves to
  /// look at the data. nil where nothing is open.
  package let question: Fault?

  private init(_ task: SegmentationTask, _ reason: String, question: Fault? = nil) {
    self.task = task
    self.reason = reason
    self.question = question
  }

  /// Chooses the task for the data set in a folder: what is said, else what names and labels tell where that is safe.
  ///
  /// `holds`: whether any of some truths has a voxel of a value; all ranks of a job may share the reading.
  ///
  /// Throws `.recipe` where the data tell too little, saying what to say; what reading the folder throws.
  package init(
    _ root: String, said request: TaskRequest?,
    holds: (UInt8, _ truths: [String]) throws -> Bool = TaskChoice.holds
  ) throws {
    let table = try CaseTable(root)
    if table == nil { try Dataset.refuseUnreadable(root) }
    if let folder = try NNUNetFolder(root) ?? NNUNetFolder(ofTruths: root) {
      self = try TaskChoice.told(by: folder, request)
      return
    }
    if case .whole(let task)? = request {
      self.init(task, "as it was said")
      return
    }
    if let table { throw TaskChoice.labelsAreOpen(root, table.firstID, table.truths) }
    var more: TaskAdditions?
    if case .additions(let additions)? = request { more = additions }
    let (told, reason) = try TaskChoice.told(by: FolderScan(walking: root, nil), holds)
    guard let task = try TaskChoice.task(told, more, root) else {
      preconditionFailure("a preset without missing sequences")
    }
    self.init(task, reason)
  }

  // MARK: nnU-Net

  private static func told(by folder: NNUNetFolder, _ request: TaskRequest?) throws(Fault) -> TaskChoice {
    let file = "\(folder.root)/\(NNUNetFolder.file)"
    if case .whole(let task)? = request {
      let values = Set(folder.told.classes.map(\.value)).union(folder.told.readAs.keys)
      if let preset = task.preset, task.classes == preset.task.classes {
        throw Fault(
          .recipe,
          "\(file) says what its labels are, and nnU-Net's copies of BraTS have other values than BraTS: in place of the preset "
            + "\(preset.rawValue) say only what will be missing, such as task: {missing: [\(guess(folder).rawValue)]}"
        )
      }
      let read = Set(task.classes.map(\.value)).union(task.readAs.keys)
      if let value = values.subtracting(read).min() {
        throw Fault(
          .recipe,
          "\(file) has the label \(value), which is none of the task's classes, and read_as does not name it")
      }
      return TaskChoice(task, "as it was said, for the channels and labels of \(NNUNetFolder.file)")
    }
    var more: TaskAdditions?
    if case .additions(let additions)? = request { more = additions }
    let reason = "channels and labels are those of \(NNUNetFolder.file)"
    if let task = try task(folder.told, more, file) { return TaskChoice(task, reason) }
    var guessed = more ?? TaskAdditions()
    guessed.missing = [guess(folder)]
    guard let task = try task(folder.told, guessed, file) else {
      preconditionFailure("a task whose missing sequence is given")
    }
    let names = zip(folder.channels, folder.told.sequences).map {
      $0 == $1.rawValue ? $0 : "\($0) (\($1.rawValue))"
    }
    return TaskChoice(
      task, reason,
      question: Fault(
        .recipe,
        "\(file) does not say which channels will be missing where the network is used; they are \(names.joined(separator: ", ")):\n"
          + "say it in the recipe, such as task: {missing: [\(guess(folder).rawValue)]}"))
  }

  /// The task of what is told and what is said beside it, whose mistakes are told with where they come from.
  private static func task(
    _ told: ToldTask, _ more: TaskAdditions?, _ source: String
  ) throws(Fault) -> SegmentationTask? {
    do throws(Fault) { return try told.task(with: more) } catch {
      throw Fault(
        error.kind, "\(source)\(more == nil ? "" : " with the recipe's task"): \(error.description)")
    }
  }

  /// The channel that is most likely to be missing: the one with contrast agent, else the last.
  private static func guess(_ folder: NNUNetFolder) -> Modality {
    let sequences = folder.told.sequences
    return sequences.first { $0 == .t1ce } ?? sequences[sequences.count - 1]
  }

  private static func labelsAreOpen(_ root: String, _ name: String, _ truths: [String]) -> Fault {
    var found: Set<Float> = []
    for path in truths { found.formUnion((try? NIfTIImage.read(path))?.voxels ?? []) }
    let values = found.sorted().prefix(20).map { Int(exactly: $0).map(String.init) ?? "\($0)" }
    return Fault(
      .recipe,
      "\(root): nothing says what the labels of these cases are (\(name) for one"
        + (values.isEmpty ? "" : "; the truths have the values \(values.joined(separator: ", "))")
        + "): say their task, in a recipe as task: brats (1 NET, 2 ED, 4 ET),\nanother preset or a mapping of your own, in a "
        + "command as --task brats or --task FILE")
  }

  // MARK: Names

  private static func told(
    by scan: FolderScan, _ holds: (UInt8, [String]) throws -> Bool
  ) throws -> (ToldTask, String) {
    let names = Set(scan.found.values.map(\.id)).sorted(), truths = scan.truths
    guard !names.isEmpty else { throw scan.nothing }
    if scan.layout == .bare {
      throw labelsAreOpen(scan.root, names[0], truths)
    }
    let families = Set(names.map(BraTSNames.family))
    // Names of no family and of glioma's together are read as glioma's; the others are told as problems.
    let glioma: Set<String?> = [nil, "GLI", "GOAT", "MEN"]
    guard let first = families.first, families.count == 1, !families.isSubset(of: [nil, "GOAT", "MEN"]),
      let family = first
    else {
      if let mixed = families.subtracting(glioma).compactMap({ $0 }).min(), families.isDisjoint(with: glioma)
      {
        throw Fault(
          .recipe,
          "\(scan.root): cases of several families, BraTS-\(mixed) for one, whose labels differ: give each a folder of its own"
        )
      }
      if families.contains("GLI"), try isTreated(names, truths, holds) {
        return (ToldTask(.brats2024), "BraTS-GLI cases after treatment")
      }
      return (ToldTask(.brats), "by the names of the cases")
    }
    switch family {
    case "GLI":
      return try isTreated(names, truths, holds)
        ? (ToldTask(.brats2024), "BraTS-GLI cases after treatment: visits from 100 on, or label 4")
        : (ToldTask(.brats), "BraTS-GLI cases without label 4")
    case "SSA": return (ToldTask(.africa), "BraTS-SSA cases")
    case "MET": return (ToldTask(.metastases), "BraTS-MET cases")
    case "PED":
      guard try holds(4, truths) else {
        throw Fault(
          .recipe,
          "\(scan.root): BraTS-PED cases without label 4, whose labels mean one thing in 2023 and another from 2024 on: say "
            + "task: brats-ped (2024 on: 1 ET, 2 NETC, 3 CC, 4 ED) or\ntask: brats (2023: 1 NET, 2 ED, 3 ET) in the recipe, or "
            + "--task to a command")
      }
      return (ToldTask(.pediatric), "BraTS-PED cases with label 4")
    default:
      throw Fault(
        .recipe,
        "\(scan.root): what the labels of BraTS-\(family) mean is not known (\(names[0]) for one): say the task in the recipe, "
          + "or --task to a command")
    }
  }

  private static func isTreated(
    _ names: [String], _ truths: [String], _ holds: (UInt8, [String]) throws -> Bool
  ) throws -> Bool {
    let treated = names.contains { BraTSNames.family($0) == "GLI" && BraTSNames.visit($0) ?? 0 >= 100 }
    return try treated || holds(4, truths)
  }

  /// Reads truths until one has the value. One that cannot be read says nothing; whoever needs it will say why.
  package static func holds(_ value: UInt8, _ truths: [String]) -> Bool {
    truths.contains { path in (try? NIfTIImage.read(path))?.voxels.contains(Float(value)) ?? false }
  }
}
