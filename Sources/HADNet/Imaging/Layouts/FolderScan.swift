import Files
import Foundation
import Terminal

/// What a walk through folders has come upon: cases whose files are named by case and sequence, as BraTS's are, or lie in a
/// folder of the case's name.
struct FolderScan {
  enum Role: Hashable {
    case sequence(Modality)
    case segmentation
  }

  struct Found {
    let id: String
    let folder: String
    var files: [Role: [String]] = [:]
    /// Whether all its files' names end as BraTS's do.
    var isBraTS = true

    func problems(_ task: SegmentationTask, _ needs: Set<Modality>, _ needsTruth: Bool) -> [Fault] {
      if files.isEmpty { return [Fault(.missing, "\(id): no sequences in \(folder)")] }
      var problems: [Fault] = []
      for modality in task.sequences {
        let paths = files[.sequence(modality.canonical), default: []]
        if paths.isEmpty && needs.contains(modality) {
          problems.append(
            Fault(
              .missing,
              "\(id): \(modality.rawValue) is missing: no \(name(.sequence(modality.canonical))) in \(folder)"
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
      let suffix = FolderScan.suffixes.first { $0.role == role && $0.text.hasPrefix(is2023 ? "-" : "_") }?
        .text
      guard case .sequence(let modality) = role, suffix == nil else { return "\(id)\(suffix ?? "").nii.gz" }
      return "\(id)_\(modality.rawValue).nii.gz"
    }

    /// Whether there is a segmentation and nothing that it could be of.
    var isSegmentationAlone: Bool { !files.isEmpty && files.keys.allSatisfy { $0 == .segmentation } }

    func `case`(_ task: SegmentationTask, in scan: FolderScan) -> CaseFiles {
      func only(_ role: Role) -> String? {
        let paths = files[role, default: []]
        return paths.count == 1 ? paths[0] : nil
      }
      var sequences: [Modality: String] = [:]
      for modality in task.sequences { sequences[modality] = only(.sequence(modality.canonical)) }
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

  /// Endings of images that are no NIfTI files, or are in two files.
  private static let otherFormats = [".mha", ".mhd", ".nrrd", ".nhdr", ".mgz", ".dcm", ".hdr"]

  /// Without a slash at its end.
  let root: String
  var found: [String: Found] = [:]  // by folder and ID
  var grades: [String: Grade] = [:]
  private var odd: [(folder: String, path: String)] = []
  /// Images in formats that are not read.
  private var unread: [String] = []
  private var visited: Set<FileStatus.Identity> = []
  /// Sequences of the task that no alias is of.
  private let others: [String: Modality]

  /// Walks through `root` and the folders below it. `task` says sequences that no data set's words are known for; nil: none.
  init(walking root: String, _ task: SegmentationTask?) throws {
    self.init(root, task)
    try visit(self.root, depth: 0)
    joinApart()
    addOddSegmentations()
  }

  private init(_ root: String, _ task: SegmentationTask?) {
    others = Dictionary(
      (task?.sequences ?? []).map { (Modality.plain($0.rawValue), $0.canonical) },
      uniquingKeysWith: { a, _ in a })
    self.root = root.count > 1 && root.hasSuffix("/") ? String(root.dropLast()) : root
  }

  private mutating func visit(_ folder: String, depth: Int) throws {
    guard let status = FileStatus(folder),
      let entries = try? FileManager.default.contentsOfDirectory(atPath: folder)
    else { throw Fault(.storage, "cannot list the folder \(folder): check its permissions") }
    guard visited.insert(status.identity).inserted else { return }
    var folders: [(path: String, isLink: Bool)] = []
    for name in entries.sorted() where !FolderScan.isHidden(name) {
      let path = "\(folder)/\(name)"
      guard let status = FileStatus(path) else { continue }
      if status.isFolder {
        if name.lowercased().hasPrefix("brats"), NIfTIImage.stem(name) == nil, FolderScan.isEmpty(path) {
          found["\(path)|\(name)"] = Found(id: name, folder: path)
        }
        folders.append((path, (try? FileManager.default.destinationOfSymbolicLink(atPath: path)) != nil))
      } else if let stem = NIfTIImage.stem(name) {
        add(stem, path, in: folder)
      } else if name.hasPrefix("name_mapping") && name.hasSuffix(".csv") && depth < 2 {
        try readGrades(path)
      } else if FolderScan.otherFormats.contains(where: { name.lowercased().hasSuffix($0) }) {
        unread.append(path)
      }
    }
    guard depth < FolderScan.depth else { return }
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

  /// The paths of all truths, sorted.
  var truths: [String] { found.values.flatMap { $0.files[.segmentation, default: []] }.sorted() }

  /// By whose names the cases go.
  var layout: Dataset.Layout {
    let named = Dataset.Layout(caseName: found.values.map(\.id).min() ?? "")
    let isOwn = found.values.contains { !$0.isBraTS } && ![.ucsf, .upenn].contains(named)
    return isOwn && !found.values.contains { $0.id.lowercased().hasPrefix("brats") } ? .bare : named
  }

  /// What is said where no case was found: what was seen, and what would fit.
  var nothing: Fault {
    var images = notTaken
    let words = "expected folders such as NAME/NAME_flair.nii.gz (BraTS's layouts), nnU-Net's dataset.json"
    if let note = unreadNote { return Fault(.missing, "\(root): no cases found: \(note)") }
    guard let first = images.popFirst() else { return Fault(.missing, "\(root): no cases found; \(words)") }
    let more = images.prefix(2).map { ", \($0)" }.joined() + (images.count > 2 ? ", …" : "")
    return Fault(
      .missing,
      "\(root): no cases found in \((images.count + 1).named("image")) (\(first)\(more));\n\(words)")
  }

  /// What is said of images in other formats; nil where there are none.
  var unreadNote: String? {
    let paths = unread.sorted()
    return paths.first.map {
      "\(paths.count.named("image")) in a format that is not read, \($0)\(paths.count > 1 ? " for one" : ""): "
        + "convert to NIfTI (.nii.gz)"
    }
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
    // A folder named like its file (NAME_flair.nii/…) belongs to the case above it, and says what the file is: Kaggle's copy
    // of BraTS 2021 has other names within.
    if folder != root, let name = NIfTIImage.stem(AtomicFile.name(folder)), let own = read(name),
      let id = own.id
    {
      return put(path, own, id, AtomicFile.parent(folder))
    }
    let home = folder != root && NIfTIImage.stem(folder) != nil ? AtomicFile.parent(folder) : folder
    guard let own = read(stem), let id = own.id ?? (home == root ? nil : AtomicFile.name(home)) else {
      odd.append((folder, path))
      return
    }
    put(path, own, id, home)
  }

  private mutating func put(_ path: String, _ own: Name, _ id: String, _ home: String) {
    var one = found["\(home)|\(id)"] ?? Found(id: id, folder: home)
    one.files[own.role, default: []].append(path)
    one.isBraTS = one.isBraTS && own.isBraTS
    found["\(home)|\(id)"] = one
  }

  private typealias Name = (id: String?, role: Role, isBraTS: Bool)

  /// What a file's name without its ending says: the case (nil: its folder is the case) and what the file is of.
  private func read(_ stem: String) -> Name? {
    let lower = stem.lowercased()
    if let known = FolderScan.suffixes.first(where: { stem.count > $0.text.count && lower.hasSuffix($0.text) }
    ) {
      return (String(stem.dropLast(known.text.count)), known.role, true)
    }
    if let role = role(stem) { return (nil, role, false) }
    // The longest word that fits: from the left.
    for separator in stem.indices where stem[separator] == "_" || stem[separator] == "-" {
      let id = String(stem[..<separator])
      guard !id.isEmpty, let role = role(String(stem[stem.index(after: separator)...])) else { continue }
      // UPENN-GBM has truths that a program made, beside those that experts have corrected.
      if role == .segmentation, id.lowercased().contains("automated") { return nil }
      return (id, role, false)
    }
    return nil
  }

  private func role(_ word: String) -> Role? {
    let plain = Modality.plain(word)
    if Modality.truths.contains(plain) { return .segmentation }
    return (Modality.named(word) ?? others[plain]).map { .sequence($0) }
  }

  /// UPENN-GBM has images and truths in folders of their own, and further visits (`_21`: after surgery), which are not read.
  private mutating func joinApart() {
    func isUPENN(_ one: Found) -> Bool { one.id.uppercased().hasPrefix("UPENN-GBM-") }
    for key in found.keys.sorted() {
      guard let one = found[key], isUPENN(one) else { continue }
      if one.id.hasSuffix("_21") {
        odd += one.files.values.flatMap { $0 }.map { (one.folder, $0) }
        found[key] = nil
      } else if one.isSegmentationAlone,
        let home = found.keys.sorted().first(where: { found[$0]?.id == one.id && $0 != key }),
        found[home]?.files[.segmentation] == nil
      {
        found[home]?.files[.segmentation] = one.files[.segmentation]
        found[key] = nil
      }
    }
  }

  /// BraTS 2020 has one truth under another name (case 355: W39_1998.09.19_Segm.nii): a file that says "seg" in
  /// the folder of a single case without a truth is that case's. Not in other sets, where it may be a mask of the brain.
  private mutating func addOddSegmentations() {
    // Its name may end in a word for truths, and begin in what is no case.
    for key in found.keys.sorted() {
      guard let one = found[key], !one.isBraTS, one.isSegmentationAlone else { continue }
      let beside = found.values.filter { $0.folder == one.folder && !$0.isSegmentationAlone }
      guard beside.count == 1, beside[0].id != one.id, beside[0].id.lowercased().hasPrefix("brats20_") else {
        continue
      }
      odd += one.files[.segmentation, default: []].map { (one.folder, $0) }
      found[key] = nil
    }
    for (folder, path) in odd {
      let here = found.keys.filter { found[$0]?.folder == folder }
      let name = AtomicFile.name(path).lowercased()
      guard here.count == 1, let key = here.first, let one = found[key], name.contains("seg"),
        one.id.lowercased().hasPrefix("brats20_"), one.files[.segmentation] == nil
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
