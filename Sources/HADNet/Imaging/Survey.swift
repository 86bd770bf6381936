import Compute
import Files

/// What one pass over a case's files finds: all that later passes need to know of the whole data set. Small
/// and Codable, so that cases can be dealt over ranks and kept as JSON.
package struct CaseSurvey: Codable, Equatable, Sendable {
  package let id, patient: String
  package let grade: Grade?
  /// What the values in its truth mean.
  package let values: LabelValues
  /// The first sequence's own extents, fastest axis first.
  package let dimensions: [Int]
  /// Distances of neighbours along x, y and z of the grid brought to BraTS's orientation, mm.
  package let spacing: [Double]
  /// From the first sequence's own voxel indices to mm to the right, to the front, up: 4×4, row-major.
  package let affine: [Double]
  /// Of the first sequence's header.
  package let forms: FormCodes
  /// Whether every file of the case says how its axes lie; else they are taken to run right, front, up.
  package let hasOrientation: Bool
  /// The brain's bounding box.
  package let box: Size
  /// Voxels of the brain.
  package let brainVoxels: Int
  /// XXH3-128 of each sequence's decoded voxels, in hexadecimal, by `Modality.rawValue`; of the truth's
  /// classes as `seg`, and of a mask that a list gives as `mask`.
  package let hashes: [String: String]
  /// Voxels of each class inside the brain, the background's first; nil without a truth.
  package let classVoxels: [Int]?
  /// Voxels of the truth that are not background, inside the brain and outside; nil without a truth.
  package let tumourVoxels: Int?
  /// The value of the grid's eight corners in the sequences where it is one, and not 0.
  package let backgrounds: [String: Float]
}

extension Preparation {
  /// Reads and checks a case's files; throws what `prepare` throws. The survey is the same with and without a
  /// `standardisation`, so that one survey serves all networks: the brain is always HAD-Net's.
  package func survey(_ files: CaseFiles) throws -> CaseSurvey {
    var plain = self
    plain.standardisation = nil
    let raw = try RawCase(files, plain)
    // Training would stop at it, days later perhaps.
    try raw.refuseConstants()
    return survey(raw)
  }

  /// The survey of a case, or all that is wrong with it: each file's own fault, else what doesn't fit.
  package func inspect(_ files: CaseFiles) -> Result<CaseSurvey, Faults> {
    do {
      return .success(try survey(files))
    } catch {
      let faults = fileFaults(files)
      return .failure(Faults(all: faults.isEmpty ? [Fault(error)] : faults))
    }
  }

  /// What is wrong with each of a case's files that are there, alone.
  package func fileFaults(_ files: CaseFiles) -> [Fault] {
    var faults: [Fault] = []
    for modality in modalities {
      guard let path = files.files[modality] else { continue }
      do { _ = try RawCase.sequence(path, self) } catch { faults.append(Fault(error)) }
    }
    if readsTruth, let path = files.segmentation {
      do { _ = try RawCase.classes(try NIfTIImage.read(path), files.values) } catch {
        faults.append(Fault(error))
      }
    }
    return faults
  }

  func survey(_ raw: RawCase) -> CaseSurvey {
    var hashes: [String: String] = [:]
    for (modality, image) in raw.images { hashes[modality.rawValue] = ContentHash.of(image.voxels) }
    if raw.files.mask != nil { hashes["mask"] = ContentHash.of(raw.mask) }
    var counts: [Int]?
    if let labels = raw.labels {
      hashes["seg"] = ContentHash.of(labels)
      var found = [Int](repeating: 0, count: task.classCount)
      for i in labels.indices where raw.mask[i] != 0 && labels[i] != LabelVolume.ignored {
        found[Int(labels[i])] += 1
      }
      counts = found
    }
    return CaseSurvey(
      id: raw.files.id, patient: raw.files.patient, grade: raw.files.grade, values: raw.files.values,
      dimensions: raw.header.dimensions, spacing: raw.header.bratsSpacing.reversed(),
      affine: raw.header.affine,
      forms: raw.header.forms, hasOrientation: raw.hasOrientation, box: raw.box.size,
      brainVoxels: raw.mask.reduce(0) { $0 + Int($1) }, hashes: hashes, classVoxels: counts,
      tumourVoxels: raw.labels.map { $0.reduce(0) { $0 + ($1 != 0 && $1 != LabelVolume.ignored ? 1 : 0) } },
      backgrounds: backgrounds(raw))
  }
}

private func backgrounds(_ raw: RawCase) -> [String: Float] {
  var values: [String: Float] = [:]
  for (modality, image) in raw.images {
    let size = image.size
    let corners = [0, size.z - 1].flatMap { z in
      [0, size.y - 1].flatMap { y in [0, size.x - 1].map { image.voxels[(z * size.y + y) * size.x + $0] } }
    }
    if Set(corners).count == 1, corners[0] != 0 { values[modality.rawValue] = corners[0] }
  }
  return values
}

/// Several faults at once, at least one.
package struct Faults: Error, Equatable, Sendable {
  package let all: [Fault]
}

extension Fault {
  /// The fault itself, or another error in its own words.
  init(_ error: any Error) { self = error as? Fault ?? Fault(.other, "\(error)") }
}

/// A data set's surveys together.
package struct DatasetSurvey: Codable, Equatable, Sendable {
  /// Sorted by ID.
  package let cases: [CaseSurvey]

  /// Throws the first of `problems`.
  package init(_ cases: [CaseSurvey]) throws {
    self.cases = cases.sorted { $0.id < $1.id }
    if let first = DatasetSurvey.problems(cases).first { throw first }
  }

  /// nil: there is no such case.
  package subscript(id: String) -> CaseSurvey? { cases.first { $0.id == id } }

  /// The size all cases are padded to.
  package var commonSize: Size { Preparation.commonSize(cases.map(\.box)) }

  /// Weights of the classes in the cross-entropy: background voxels over the class's voxels inside the brains of
  /// the cases named; 1 of the background.
  ///
  /// A class without a voxel has weight 1: nothing of it will be seen, and a weight must be a number.
  package func classWeights(_ ids: [String]) -> [Float] {
    let chosen = Set(ids)
    var counts = [Int](repeating: 0, count: cases.compactMap(\.classVoxels).map(\.count).max() ?? 0)
    for survey in cases where chosen.contains(survey.id) {
      for (i, count) in (survey.classVoxels ?? []).enumerated() { counts[i] += count }
    }
    return counts.map { $0 == 0 || counts[0] == 0 ? 1 : Float(Double(counts[0]) / Double($0)) }
  }
}
