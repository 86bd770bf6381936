import Files
import Foundation

/// How advanced a glioma is: high or low grade.
package enum Grade: String, Codable, Sendable, CaseIterable {
  case hgg = "HGG"
  case lgg = "LGG"
}

/// The files of one case.
package struct CaseFiles: Equatable, Sendable {
  /// The case's name in its data set, e.g. `BraTS19_CBICA_AAB_1`.
  package let id: String
  /// Whose case it is; see `Patient`.
  package let patient: String
  package let grade: Grade?
  /// Paths of the sequences that are there.
  package let files: [Modality: String]
  /// Path of the truth, where there is one.
  package let segmentation: String?
  /// What the values in its label files mean.
  package let values: LabelValues

  /// The patient follows from the case's name where it is nil.
  package init(
    id: String, patient: String? = nil, grade: Grade? = nil, files: [Modality: String],
    segmentation: String? = nil, values: LabelValues
  ) {
    self.id = id
    self.patient = patient ?? Patient.of(caseName: id)
    self.grade = grade
    self.files = files
    self.segmentation = segmentation
    self.values = values
  }
}

/// The cases of a folder, in any of BraTS's layouts.
package struct Dataset: Sendable {
  /// By whose names the cases go.
  package enum Layout: String, Codable, Sendable {
    /// `HGG/NAME/NAME_flair.nii.gz`, `LGG/…`, or `NAME/…` without a level.
    case brats2019
    /// `BraTS20_Training_001/…`, grades in name_mapping.csv.
    case brats2020
    /// `BraTS2021_00000/…`, no grades.
    case brats2021
    /// `BraTS-GLI-00000-000/BraTS-GLI-00000-000-t2f.nii.gz`, ET is label 3, no grades.
    case brats2023

    init(caseName: String) {
      let name = caseName.lowercased()
      if name.hasPrefix("brats-") {
        self = .brats2023
      } else if name.hasPrefix("brats2021_") {
        self = .brats2021
      } else {
        self = name.hasPrefix("brats20_") ? .brats2020 : .brats2019
      }
    }
  }

  package let root: String
  package let task: SegmentationTask
  package let layout: Layout
  /// Sorted by ID; those with problems are left out.
  package let cases: [CaseFiles]
  /// Those with problems, with what of their files is beyond doubt; sorted by ID.
  package let incomplete: [CaseFiles]
  /// What is wrong, in the order of the cases' IDs.
  package let problems: [Fault]
  /// Files that are no case's.
  package let notes: [String]

  /// The case of that name.
  package subscript(id: String) -> CaseFiles? { cases.first { $0.id == id } }

  /// Finds the cases of a folder, all of which must have the sequences in `needs` (nil: all of the task's), and a truth if
  /// `needsTruth`.
  ///
  /// Throws the first problem, saying how many more there are: `.missing` for an absent or empty folder, a
  /// missing sequence or truth, `.invalid` for two files or two cases of one name.
  package static func find(
    _ root: String, _ task: SegmentationTask, needs: Set<Modality>? = nil, needsTruth: Bool = false
  ) throws -> Dataset {
    let dataset = try inspect(root, task, needs: needs, needsTruth: needsTruth)
    guard let first = dataset.problems.first else { return dataset }
    let others = dataset.problems.count - 1
    if others == 0 { throw first }
    throw Fault(
      first.kind,
      "\(first.description)\n\(others.named("more problem")); "
        + "`hadnet-dist inspect \(root)\(needsTruth ? "" : " --for predict")` lists all")
  }

  /// Finds the cases of a folder and collects what is wrong with them; throws only where there is no case at all.
  ///
  /// `root` is a data set's folder, one that wraps it, a single case's folder, or a flat folder of files. What is
  /// found doesn't depend on the order in which a file system lists a folder. Endings and suffixes may be in capitals;
  /// hidden files and what macOS leaves (`__MACOSX`, `._NAME`) are never looked at, and a folder that several links
  /// lead to is looked into once.
  ///
  /// Where sequences are needed, cases whose names are not known to be glioma's are refused.
  package static func inspect(
    _ root: String, _ task: SegmentationTask, needs: Set<Modality>? = nil, needsTruth: Bool = false
  ) throws -> Dataset {
    let needs = needs ?? Set(task.sequences)
    guard let status = FileStatus(root) else { throw Fault(.missing, "\(root): no such folder") }
    guard status.isFolder else { throw Fault(.invalid, "\(root): a file; give the data set's folder") }
    var scan = Scan(root)
    try scan.visit(scan.root, depth: 0)
    scan.addOddSegmentations()
    var notes = scan.takeStrays(besideCases: !needs.isEmpty), others = scan.notTaken
    if let first = others.popFirst() {
      let more = others.prefix(2).map { ", \($0)" }.joined() + (others.count > 2 ? ", …" : "")
      notes.append("\((others.count + 1).named("image")) of no sequence that is known: \(first)\(more)")
    }

    var cases: [CaseFiles] = [], incomplete: [CaseFiles] = [], problems: [Fault] = []
    let byName = Dictionary(grouping: scan.found.values, by: \.id)
    // A task that is said wins over names.
    let foreign = needs.isEmpty || task.preset != .brats ? [:] : BraTSNames.foreign(byName.keys.sorted())
    for family in foreign.keys.sorted() {
      problems.append(BraTSNames.refusal(foreign[family] ?? [], of: family))
    }
    let refused = Set(foreign.values.flatMap { $0 })
    for id in byName.keys.sorted() where !refused.contains(id) {
      let here = byName[id, default: []].sorted { $0.folder < $1.folder }
      guard here.count == 1, let found = here.first else {
        problems.append(
          Fault(.invalid, "\(id): two cases of that name, in \(here[0].folder) and \(here[1].folder)"))
        continue
      }
      let wrong = found.problems(task, needs, needsTruth)
      problems += wrong
      let item = found.case(task, in: scan)
      if wrong.isEmpty { cases.append(item) } else { incomplete.append(item) }
    }
    guard !byName.isEmpty else {
      throw Fault(
        .missing, "\(root): no cases found; expected folders such as NAME/NAME_flair.nii.gz (BraTS's layouts)"
      )
    }
    let name = byName.keys.sorted()[0]
    return Dataset(
      root: root, task: task, layout: Layout(caseName: name), cases: cases, incomplete: incomplete,
      problems: problems,
      notes: notes)
  }
}

/// What a walk through the folders has come upon.
private struct Scan {
  enum Role: Hashable {
    case sequence(Modality)
    case segmentation
  }

  struct Found {
    let id: String
    let folder: String
    var files: [Role: [String]] = [:]

    func problems(_ task: SegmentationTask, _ needs: Set<Modality>, _ needsTruth: Bool) -> [Fault] {
      if files.isEmpty { return [Fault(.missing, "\(id): no sequences in \(folder)")] }
      var problems: [Fault] = []
      for modality in task.sequences {
        let paths = files[.sequence(modality), default: []]
        if paths.isEmpty && needs.contains(modality) {
          problems.append(
            Fault(
              .missing, "\(id): \(modality.rawValue) is missing: no \(name(.sequence(modality))) in \(folder)"
            ))
        }
        if paths.count > 1 {
          problems.append(Fault(.invalid, "\(id): two files for \(modality.rawValue): \(list(paths))"))
        }
      }
      let truths = files[.segmentation, default: []]
      if truths.isEmpty && needsTruth {
        problems.append(
          Fault(.missing, "\(id): the truth is missing: no \(name(.segmentation)) in \(folder)"))
      }
      if truths.count > 1 {
        problems.append(Fault(.invalid, "\(id): two files for the truth: \(list(truths))"))
      }
      return problems
    }

    func list(_ paths: [String]) -> String { paths.sorted().joined(separator: " and ") }

    /// The name that a missing file would have.
    func name(_ role: Role) -> String {
      let is2023 = Dataset.Layout(caseName: id) == .brats2023
      let suffix =
        Scan.suffixes.first { $0.role == role && $0.text.hasPrefix(is2023 ? "-" : "_") }?.text ?? ""
      return "\(id)\(suffix).nii.gz"
    }

    /// Whether there is a segmentation and nothing that it could be of.
    var isSegmentationAlone: Bool { !files.isEmpty && files.keys.allSatisfy { $0 == .segmentation } }

    func `case`(_ task: SegmentationTask, in scan: Scan) -> CaseFiles {
      func only(_ role: Role) -> String? {
        let paths = files[role, default: []]
        return paths.count == 1 ? paths[0] : nil
      }
      var sequences: [Modality: String] = [:]
      for modality in task.sequences { sequences[modality] = only(.sequence(modality)) }
      // HGG and LGG as folders count only right above the case (or above its files).
      let above = folder.split(separator: "/").suffix(2).reversed()
      let level = above.lazy.compactMap { Grade(rawValue: $0.uppercased()) }.first
      let folders = folder.dropFirst(scan.root.count).split(separator: "/").map(String.init)
      return CaseFiles(
        id: id, patient: Patient.of(caseName: id, folders: folders), grade: level ?? scan.grades[id],
        files: sequences, segmentation: only(.segmentation), values: task.values(caseName: id))
    }
  }

  /// Names after the case's, longest first, so that _t1ce isn't taken for _t1.
  static let suffixes: [(text: String, role: Role)] = [
    ("_flair", .sequence(.flair)), ("_t1ce", .sequence(.t1ce)), ("_t1", .sequence(.t1)),
    ("_t2", .sequence(.t2)), ("_seg", .segmentation),
    ("-t2f", .sequence(.flair)), ("-t1c", .sequence(.t1ce)), ("-t1n", .sequence(.t1)),
    ("-t2w", .sequence(.t2)), ("-seg", .segmentation),
  ]

  /// Folders below the root that are looked into: wrapper, level, case, and a folder named like its file, as
  /// some mirrors of BraTS have them.
  static let depth = 4

  /// Without a slash at its end.
  let root: String
  var found: [String: Found] = [:]  // by folder and ID
  var grades: [String: Grade] = [:]
  private var odd: [(folder: String, path: String)] = []
  private var visited: Set<FileStatus.Identity> = []

  init(_ root: String) { self.root = root.count > 1 && root.hasSuffix("/") ? String(root.dropLast()) : root }

  mutating func visit(_ folder: String, depth: Int) throws {
    guard let status = FileStatus(folder),
      let entries = try? FileManager.default.contentsOfDirectory(atPath: folder)
    else { throw Fault(.storage, "cannot list the folder \(folder): check its permissions") }
    guard visited.insert(status.identity).inserted else { return }
    var folders: [(path: String, isLink: Bool)] = []
    for name in entries.sorted() where !Scan.isHidden(name) {
      let path = "\(folder)/\(name)"
      guard let status = FileStatus(path) else { continue }
      if status.isFolder {
        if name.lowercased().hasPrefix("brats"), NIfTIImage.stem(name) == nil, Scan.isEmpty(path) {
          found["\(path)|\(name)"] = Found(id: name, folder: path)
        }
        folders.append((path, (try? FileManager.default.destinationOfSymbolicLink(atPath: path)) != nil))
      } else if let stem = NIfTIImage.stem(name) {
        add(stem, path, in: folder)
      } else if name.hasPrefix("name_mapping") && name.hasSuffix(".csv") && depth < 2 {
        try readGrades(path)
      }
    }
    guard depth < Scan.depth else { return }
    // Links last, so that a folder goes by its own path where it has one here.
    for (path, _) in folders.filter({ !$0.isLink }) + folders.filter(\.isLink) {
      try visit(path, depth: depth + 1)
    }
  }

  /// Hidden files and what macOS packs beside those of an archive.
  private static func isHidden(_ name: String) -> Bool {
    name.hasPrefix(".") || name.uppercased() == "__MACOSX"
  }

  /// Takes out segmentations above the cases' folders, with nothing that they could be of, and tells of them; where
  /// there are none but segmentations, they are the cases. `besideCases`: also those at the root among cases of a flat
  /// folder.
  mutating func takeStrays(besideCases: Bool) -> [String] {
    guard found.values.contains(where: { !$0.isSegmentationAlone }) else { return [] }
    let strays = found.filter { _, one in
      one.isSegmentationAlone
        && (besideCases && one.folder == root
          || found.values.contains { !$0.isSegmentationAlone && $0.folder.hasPrefix(one.folder + "/") })
    }
    for key in strays.keys { found[key] = nil }
    let paths = strays.values.flatMap { $0.files.values.flatMap { $0 } }.sorted()
    return paths.first.map {
      ["\(paths.count.named("segmentation")) without a case: \($0)\(paths.count > 1 ? ", …" : "")"]
    } ?? []
  }

  /// Images whose names end in no suffix that is known.
  var notTaken: ArraySlice<String> {
    let taken = Set(found.values.flatMap { $0.files.values.flatMap { $0 } })
    return odd.map(\.path).filter { !taken.contains($0) }.sorted()[...]
  }

  private static func isEmpty(_ folder: String) -> Bool {
    ((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []).allSatisfy(isHidden)
  }

  private mutating func add(_ stem: String, _ path: String, in folder: String) {
    guard
      let suffix = Scan.suffixes.first(where: {
        stem.count > $0.text.count && stem.lowercased().hasSuffix($0.text)
      })
    else {
      odd.append((folder, path))
      return
    }
    let id = String(stem.dropLast(suffix.text.count))
    // A folder named like its file (NAME_flair.nii/…) belongs to the case above it.
    let home =
      folder != root && NIfTIImage.stem(folder) != nil
      ? AtomicFile.parent(folder) : folder
    found["\(home)|\(id)", default: Found(id: id, folder: home)].files[suffix.role, default: []].append(path)
  }

  /// BraTS 2020 has one truth under another name (case 355: W39_1998.09.19_Segm.nii): a file that says "seg" in
  /// the folder of a single case without a truth is that case's.
  mutating func addOddSegmentations() {
    for (folder, path) in odd {
      let here = found.keys.filter { found[$0]?.folder == folder }
      let name = AtomicFile.name(path).lowercased()
      guard here.count == 1, let key = here.first, name.contains("seg"),
        found[key]?.files[.segmentation] == nil
      else { continue }
      found[key]?.files[.segmentation] = [path]
    }
  }

  /// name_mapping.csv: a column Grade and columns of the cases' names in the data sets of several years.
  private mutating func readGrades(_ path: String) throws {
    guard let text = try? String(contentsOfFile: path, encoding: .utf8) else {
      throw Fault(.invalid, "\(path): not a text file in UTF-8")
    }
    let rows = text.split(whereSeparator: \.isNewline).map {
      $0.split(separator: ",", omittingEmptySubsequences: false).map {
        $0.trimmingCharacters(in: CharacterSet(charactersIn: " \"\u{feff}"))
      }
    }
    guard let column = rows.first?.firstIndex(where: { $0.lowercased() == "grade" }) else { return }
    for row in rows.dropFirst() where row.count > column {
      guard let grade = Grade(rawValue: row[column].uppercased()) else { continue }
      for (i, name) in row.enumerated() where i != column && name.hasPrefix("BraTS") { grades[name] = grade }
    }
  }
}
