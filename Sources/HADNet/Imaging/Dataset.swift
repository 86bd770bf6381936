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
  /// Path of a mask of the brain, where a list gives one; it takes the place of the one that follows from the sequences.
  package let mask: String?
  /// What the values in its label files mean.
  package let values: LabelValues

  /// The patient follows from the case's name where it is nil.
  package init(
    id: String, patient: String? = nil, grade: Grade? = nil, files: [Modality: String],
    segmentation: String? = nil, mask: String? = nil, values: LabelValues
  ) {
    self.id = id
    self.patient = patient ?? Patient.of(caseName: id)
    self.grade = grade
    self.files = files
    self.segmentation = segmentation
    self.mask = mask
    self.values = values
  }
}

/// The cases of a data set, in any layout that is known.
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
    /// `UCSF-PDGM-0004_nifti/UCSF-PDGM-0004_T1c.nii.gz`.
    case ucsf = "ucsf-pdgm"
    /// `images_structural/UPENN-GBM-00003_11/…` and `images_segm`.
    case upenn = "upenn-gbm"
    /// Other names: `CASE/t1c.nii.gz`, `CASE/CASE_fla.nii.gz`.
    case bare
    /// `dataset.json`, or a folder of `ID_0000.nii.gz`.
    case nnunet
    /// A CSV or JSON file with paths.
    case list

    init(caseName: String) {
      let name = caseName.lowercased()
      if name.hasPrefix("ucsf-pdgm-") {
        self = .ucsf
      } else if name.hasPrefix("upenn-gbm-") {
        self = .upenn
      } else if name.hasPrefix("brats-") {
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
  /// Files that are no case's, and what else may well be meant.
  package internal(set) var notes: [String]
  /// What a list says of a case's set: train, validation, test or the number of a fold.
  package internal(set) var sets: [String: String] = [:]

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
    if let table = try CaseTable(root) {
      return try table.dataset(task, needs: needs, needsTruth: needsTruth)
    }
    try refuseUnreadable(root)
    if let folder = try NNUNetFolder(root) {
      return try folder.dataset(task, needs: needs, needsTruth: needsTruth, isForUse: !needsTruth)
    }
    if needs.isEmpty, try NNUNetFolder(ofTruths: root) != nil { return NNUNetFolder.truths(root, task) }
    if !needs.isEmpty, let images = try NNUNetFolder.images(root, task, needs: needs) { return images }
    var scan = try FolderScan(walking: root, task)
    var notes = scan.takeStrays(besideCases: !needs.isEmpty), others = scan.notTaken
    if let first = others.popFirst() {
      let more = others.prefix(2).map { ", \($0)" }.joined() + (others.count > 2 ? ", …" : "")
      notes.append("\((others.count + 1).named("image")) of no sequence that is known: \(first)\(more)")
    }
    notes += scan.unreadNote.map { [$0] } ?? []

    var cases: [CaseFiles] = [], incomplete: [CaseFiles] = [], problems: [Fault] = []
    let byName = Dictionary(grouping: scan.found.values, by: \.id)
    let foreign = needs.isEmpty ? [:] : BraTSNames.foreign(byName.keys.sorted(), task)
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
    guard !byName.isEmpty else { throw scan.nothing }
    notes += BraTSNames.contradiction(byName.keys.sorted(), task).map { [$0] } ?? []
    return Dataset(
      root: root, task: task, layout: scan.layout, cases: cases, incomplete: incomplete, problems: problems,
      notes: notes)
  }

  /// Refuses what is no folder, and BIDS's, of which raw and prepared images would be mixed. Throws `.missing`, `.invalid`.
  static func refuseUnreadable(_ root: String) throws(Fault) {
    guard let status = FileStatus(root) else { throw Fault(.missing, "\(root): no such folder") }
    guard status.isFolder else {
      throw Fault(.invalid, "\(root): no folder and no file; give the data set's folder")
    }
    guard !AtomicFile.isFile("\(root)/dataset_description.json") else {
      throw Fault(
        .invalid,
        "\(root): a BIDS folder (dataset_description.json), which can't be read yet: give the prepared images as a list, "
          + "--data cases.csv with the columns id, patient, seg and one for each sequence")
    }
  }
}
