import Foundation
import Testing

@testable import Compute
@testable import Files
@testable import Imaging
@testable import TestSupport

@Suite struct DataCaseTests {
  let scratch = Scratch()

  @Test func preparesAsWorkedByHand() throws {
    var small = SmallCase(scratch)
    // A hole in T1 leaves the mask, not the box; FLAIR keeps its value there.
    small.images[.t1]?[(0 * 3 + 0) * 4 + 2] = 0
    small.labels = (0..<24).map { [0, 1, 2, 4][$0 % 4] }
    let prepared = try Preparation().prepare(try small.files(), commonSize: Size(16, 16, 16))
    #expect(prepared.size == Size(16, 16, 16))
    #expect(prepared.placement.before == Size(7, 7, 6))
    #expect(prepared.mask.reduce(0) { $0 + Int($1) } == 11)
    // FLAIR's values of the brain: 2 and 4, 6…8, 12…14, 16…18 (3 is the hole).
    let brain: [Double] = [2, 4, 6, 7, 8, 12, 13, 14, 16, 17, 18]
    let mean = brain.reduce(0, +) / 11
    let sd = (brain.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / 11).squareRoot()
    let bottom = (2 - mean) / sd
    for z in 0..<2 {
      for y in 0..<2 {
        for x in 0..<3 {
          let value = Double(1 + (x + 1) + 4 * y + 10 * z)
          // y runs the other way than in the file.
          let at = ((z + 7) * 16 + (1 - y) + 7) * 16 + x + 6
          let expected = Float(((value - mean) / sd - bottom) / (3 - bottom))
          #expect(prepared.images.base[at * 4] == expected, "voxel \(z) \(y) \(x)")
          #expect(prepared.labels?.classes[at] == UInt8(((z * 3 + y) * 4 + x + 1) % 4))
        }
      }
    }
    // Everything else is padding.
    #expect(prepared.images.array.count { $0 != 0 } <= 12 * 4)
    let back = prepared.placement.restore(prepared.labels?.classes ?? [], fill: 0)
    for z in 0..<2 {
      for y in 0..<3 {
        for x in 0..<4 {
          let i = (z * 3 + y) * 4 + x
          #expect(back[i] == (y < 2 && x > 0 ? UInt8(i % 4) : 0))
        }
      }
    }
  }

  @Test func valuesAboveTheCeilingBecomeOne() throws {
    var small = SmallCase(scratch)
    small.dimensions = [20, 3, 2]
    for modality in Modality.allCases { small.images[modality] = (0..<120).map { Float(1 + $0 % 3) } }
    small.images[.t2]?[17] = 1000
    let prepared = try Preparation().prepare(try small.files(), commonSize: Size(16, 16, 16))
    #expect(prepared.size == Size(16, 16, 32))
    #expect(prepared.images.array.max() == 1)
    #expect(prepared.images.array.min() == 0)
  }

  @Test func aStudentsCaseIsTheSameWithoutT1ce() throws {
    var small = SmallCase(scratch)
    let whole = try Preparation().prepare(try small.files(), commonSize: Size(16, 16, 16))
    small.images[.t1ce] = nil
    let files = try small.files()
    let student = try Preparation(modalities: Modality.student).prepare(files, commonSize: Size(16, 16, 16))
    for voxel in 0..<student.size.voxels {
      #expect(student.images.base[voxel * 4 + 1] == 0)
      for c in [0, 2, 3] {
        guard student.images.base[voxel * 4 + c] == whole.images.base[voxel * 4 + c] else {
          Issue.record("voxel \(voxel), channel \(c)")
          return
        }
      }
    }
    #expect(
      fault { _ = try Preparation().prepare(files, commonSize: Size(16, 16, 16)) }
        == Fault(.missing, "BraTS19_X_1: t1ce is missing"))
  }

  @Test(arguments: [nil, Standardisation(leastSide: 4, border: 2)])
  func noBitOfAStudentsCaseComesFromT1ce(standardisation: Standardisation?) throws {
    var small = SmallCase(scratch)
    small.labels = (0..<24).map { [0, 1, 2, 4][$0 % 4] }
    let student = Preparation(modalities: Modality.student, standardisation: standardisation)
    func prepared() throws -> PreparedCase {
      try student.prepare(try small.files(), commonSize: Size(16, 16, 16))
    }
    let whole = try prepared()
    func expectTheSame(_ other: PreparedCase) {
      #expect(other.images.array == whole.images.array)
      #expect(other.labels == whole.labels && other.mask == whole.mask && other.placement == whole.placement)
    }
    // Noise everywhere, where the other sequences are 0 too.
    var random = Philox(seed: 1, .test)
    small.images[.t1ce] = (0..<24).map { _ in 1000 * random.uniform() }
    expectTheSame(try prepared())
    // A file that can't be read.
    let files = try small.files()
    try Data("no image".utf8).write(to: URL(fileURLWithPath: try #require(files.files[.t1ce])))
    expectTheSame(try student.prepare(files, commonSize: Size(16, 16, 16)))
    small.images[.t1ce] = nil
    expectTheSame(try prepared())
  }

  /// The text is part of what tells cached cases apart.
  @Test func hadNetsSettingsHaveTheTextTheyAlwaysHad() throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    let text = String(decoding: try encoder.encode(Preparation()), as: UTF8.self)
    #expect(
      text
        == #"{"ceiling":3,"mask":"student","modalities":["flair","t1ce","t1","t2"],"#
        + #""negative":"refuse","readsTruth":true,"task":"# + brats.json + "}")
    #expect(try JSONDecoder().decode(Preparation.self, from: Data(text.utf8)) == Preparation())
    let other = Preparation(standardisation: Standardisation(border: 7))
    #expect(try JSONDecoder().decode(Preparation.self, from: try encoder.encode(other)) == other)
  }

  @Test func segmentationsComeBackOnThePatientsGrid() throws {
    var small = SmallCase(scratch)
    small.labels = (0..<24).map { [0, 1, 2, 4][$0 % 4] }
    let prepared = try Preparation().prepare(try small.files(), commonSize: Size(16, 16, 16))
    let out = scratch.file("out.nii.gz"), labels = try #require(prepared.labels)
    try prepared.placement.write(labels, values: .from2023, to: out)
    let image = try NIfTIImage.read(out)
    #expect(image.header.affine == SmallCase.brats)
    #expect(Set(image.voxels) == [0, 1, 2, 3])
    try prepared.placement.write(labels, values: .upTo2021, to: out)
    #expect(try Set(NIfTIImage.read(out).voxels) == [0, 1, 2, 4])
  }

  @Test(arguments: [
    FormCodes(qform: 0, sform: 0), FormCodes(qform: 1, sform: 0), FormCodes(qform: 0, sform: 2),
    FormCodes(qform: 1, sform: 4),
  ])
  func whatIsWrittenHasTheFormCodesThatWereRead(forms: FormCodes) throws {
    let small = SmallCase(scratch), files = try small.files()
    for (modality, path) in files.files {
      try NIfTIImage.write(
        small.images[modality] ?? [], dimensions: small.dimensions, affine: SmallCase.brats, forms: forms,
        to: path)
    }
    let placement = try Preparation().prepare(files, commonSize: Size(16, 16, 16)).placement
    #expect(try JSONDecoder().decode(Placement.self, from: try JSONEncoder().encode(placement)) == placement)
    let labels = scratch.file("labels.nii"), map = scratch.file("map.nii")
    try placement.write(
      LabelVolume(placement.size, [UInt8](repeating: 1, count: placement.size.voxels)),
      values: .upTo2021,
      to: labels)
    try placement.write([Float](repeating: 1, count: placement.size.voxels), to: map)
    let own = try NIfTIHeader.read(try #require(files.files[.flair]))
    for path in [labels, map] {
      let header = try NIfTIHeader.read(path)
      #expect(header.forms == forms && header.affine == own.affine && header.orientation == own.orientation)
    }
    // Without a code the axes are taken to run to the right, to the front and up, which is worth a word.
    let survey = try Preparation().survey(files)
    #expect(survey.forms == forms && survey.hasOrientation == (forms != FormCodes(qform: 0, sform: 0)))
    #expect(own.hasOrientation == survey.hasOrientation)
    #expect(own.orientation.flipped == (own.hasOrientation ? [false, false, false] : [true, true, false]))
  }

  @Test func filesThatDoNotFitAreRefused() throws {
    func message(_ change: (inout SmallCase) -> Void, _ preparation: Preparation = Preparation()) throws
      -> String
    {
      var small = SmallCase(scratch)
      small.labels = [UInt8](repeating: 0, count: 24)
      change(&small)
      let files = try small.files()
      let found = fault { _ = try preparation.prepare(files, commonSize: Size(16, 16, 16)) }
      #expect(found?.kind == .invalid)
      return (found?.description ?? "").replacingOccurrences(of: scratch.path + "/", with: "")
    }
    #expect(
      try message {
        $0.extents[.t1ce] = [4, 3, 1]
        $0.images[.t1ce] = [Float](repeating: 1, count: 12)
      } == "BraTS19_X_1: t1ce is 4×3×1 voxels, flair is 4×3×2")
    #expect(
      try message {
        $0.affines[.t2] = SmallCase.brats
        $0.affines[.t2]?[3] = 0.5
      }
        == "BraTS19_X_1: t2 lies elsewhere than flair: their affines differ, the same voxel is up to 0.5 mm apart; "
        + "resample one onto the other's grid"
    )
    #expect(
      try message { $0.images[.t1]?[5] = -3 }
        == "BraTS19_X_1_t1.nii.gz: 1 negative voxel, 8.3 % of those that are not 0, all -3, as of a background; "
        + "negative: zero makes it 0 (data.negative of a recipe, --negative of inspect and predict)")
    #expect(
      try message { $0.images[.t1] = [Float](repeating: 0, count: 24) }
        == "BraTS19_X_1_t1.nii.gz: all voxels are 0")
    #expect(
      try message { $0.labels?[3] = 3 }
        == "BraTS19_X_1_seg.nii.gz: label 3 is none of this data set's, which are 0, 1, 2 and 4")
    #expect(
      try message { $0.images[.t2] = (0..<24).map { $0 < 12 ? 1 : 1 } }
        == "BraTS19_X_1_t2.nii.gz: all voxels of the brain have the same value")
    #expect(
      try message { $0.images[.t2] = [1] + [Float](repeating: 0, count: 23) }
        == "BraTS19_X_1: no brain: no voxel is other than 0 in all of flair, t1, t2")
  }

  @Test func inspectingListsEveryFault() throws {
    var small = SmallCase(scratch)
    small.labels = [UInt8](repeating: 7, count: 24)
    small.images[.t1]?[5] = -3
    small.images[.t2]?[5] = .nan
    let files = try small.files()
    guard case .failure(let faults) = Preparation().inspect(files) else {
      Issue.record("nothing found")
      return
    }
    #expect(faults.all.count == 3)
    small = SmallCase(scratch)
    small.images[.t2] = [1] + [Float](repeating: 0, count: 23)
    guard case .failure(let one) = Preparation().inspect(try small.files()) else {
      Issue.record("nothing found")
      return
    }
    #expect(one.all.map(\.kind) == [.invalid])
  }

  @Test func negativeVoxelsCanBeTakenAbsolute() throws {
    var small = SmallCase(scratch)
    let expected = try Preparation().prepare(try small.files(), commonSize: Size(16, 16, 16)).images.array
    let t1 = small.images[.t1] ?? []
    small.images[.t1] = t1.map { -$0 }
    let got = try Preparation(negative: .absolute).prepare(try small.files(), commonSize: Size(16, 16, 16))
    #expect(got.images.array == expected)
  }

  @Test func negativeVoxelsCanBecomeZero() throws {
    var small = SmallCase(scratch)
    let expected = try Preparation().prepare(try small.files(), commonSize: Size(16, 16, 16)).images.array
    // A background of -1.
    for modality in Modality.allCases {
      small.images[modality] = (small.images[modality] ?? []).map { $0 == 0 ? -1 : $0 }
    }
    let files = try small.files()
    let got = try Preparation(negative: .zero).prepare(files, commonSize: Size(16, 16, 16))
    #expect(got.images.array == expected)
    small.images[.t1] = [Float](repeating: -2, count: 24)
    #expect(
      fault { _ = try Preparation(negative: .zero).survey(try small.files()) }?.description
        == "\(scratch.file("BraTS19_X_1_t1.nii.gz")): no voxel is above 0")
  }

  private static func volume(_ value: (Float) -> Float) -> [Float] { (0..<1000).map { value(Float($0)) } }

  private static let negatives: [(voxels: [Float], share: String, words: String)] = [
    (volume { $0 < 10 ? -2 : $0 }, "1 %", "as an interpolation leaves them; negative: zero"),
    (volume { $0 / 500 - 0.999 }, "50 %", "already normalised?"),
    (volume { $0 < 600 ? -1 : $0 }, "60 %", "as of a background; negative: zero makes it 0"),
    (volume { $0 - 200 }, "20 %", "values from -200 to 799: already normalised?"),
    (volume { $0 - 30 }, "3 %", "values from -30 to 969; where 0 is meant, negative: zero"),
  ]

  @Test(arguments: DataCaseTests.negatives)
  func negativesAreToldByWhatTheyLookLike(voxels: [Float], share: String, words: String) {
    let told = Negatives(voxels).words
    #expect(told.contains(share) && told.contains(words), "\(told)")
    // Absolute values of z-scores would be nonsense.
    if !words.contains("interpolation") { #expect(!told.contains("abs"), "\(told)") }
  }

  @Test func theCavityOfTreatedPatientsIsNamed() throws {
    var small = SmallCase(scratch)
    small.id = "BraTS-GLI-02063-100"
    small.labels = [4] + [UInt8](repeating: 0, count: 23)
    let words = fault { _ = try Preparation().survey(try small.files()) }?.description ?? ""
    #expect(words.contains("resection cavity (RC)") && words.contains("task: brats2024"), "\(words)")
  }

  @Test func aSurveyRefusesWhatTrainingWould() throws {
    var small = SmallCase(scratch)
    // T1ce is 0 wherever the others are not.
    small.images[.t1ce] = (small.images[.t1ce] ?? []).map { $0 == 0 ? 5 : 0 }
    let files = try small.files()
    let expected = "\(scratch.file("BraTS19_X_1_t1ce.nii.gz")): all voxels of the brain have the same value"
    #expect(fault { _ = try Preparation().survey(files) }?.description == expected)
    #expect(
      fault { _ = try Preparation().prepare(files, commonSize: Size(16, 16, 16)) }?.description == expected)
    #expect(fault { _ = try Preparation(modalities: Modality.student).survey(files) } == nil)
  }

  @Test func warningsAndNotesOfADataSet() throws {
    func survey(_ id: String, _ change: (inout SmallCase) -> Void = { _ in }) throws -> CaseSurvey {
      var small = SmallCase(scratch)
      small.id = id
      small.labels = [1] + [UInt8](repeating: 0, count: 23)
      change(&small)
      return try Preparation().survey(try small.files())
    }
    func spaced(_ z: Double) -> (inout SmallCase) -> Void {
      { small in
        var affine = SmallCase.brats
        affine[10] = z
        for modality in Modality.allCases { small.affines[modality] = affine }
        small.labels = nil
      }
    }
    #expect(DatasetSurvey.warnings([try survey("A"), try survey("B", spaced(1.005))]).isEmpty)
    #expect(
      DatasetSurvey.warnings([
        try survey("C", spaced(3)), try survey("A"), try survey("B"), try survey("D", spaced(3)),
      ])
        == [
          "cases of different spacing, which a network takes for the same size; resample them to one:\n"
            + "  1×1×1 mm (x, y, z) in 2 cases: A and 1 more\n  1×1×3 mm (x, y, z) in 2 cases: C and 1 more"
        ])
    let full = try survey("E") { small in
      small.dimensions = [4, 4, 4]
      small.labels = nil
      for modality in Modality.allCases {
        small.images[modality] = (0..<64).map { i in
          [i % 4, i / 4 % 4, i / 16].allSatisfy { (1...2).contains($0) }
            ? Float(i * (modality.channel + 1)) : 1e-7
        }
      }
    }
    #expect(
      DatasetSurvey.warnings([full]) == [
        "the brain fills more than 90 % of the volume in 1 case, of E for one: the background is not 0 (flair 1e-07, "
          + "t1 1e-07, t1ce 1e-07, t2 1e-07); set it to 0, e.g. by the product with a brain mask"
      ])
    let turned = try survey("G") { small in
      small.labels = nil
      small.forms = FormCodes(qform: 0, sform: 0)
    }
    #expect(
      DatasetSurvey.warnings([turned]) == [
        "no orientation in headers (both form codes 0) in 1 case: G; their axes are taken to run to the right, to the "
          + "front and up"
      ])
    let empty = try survey("F") { $0.labels = [UInt8](repeating: 0, count: 24) }
    #expect(DatasetSurvey.notes([empty, try survey("A")]) == ["1 truth without any tumour: F"])
  }

  @Test func labelsThatAreNoWholeNumbersAreRefused() throws {
    let small = SmallCase(scratch), files = try small.files(), seg = scratch.file("half.nii")
    try NIfTIImage.write(
      [Float](repeating: 0.5, count: 24), dimensions: [4, 3, 2], affine: SmallCase.brats, to: seg)
    let half = CaseFiles(id: files.id, files: files.files, segmentation: seg)
    #expect(
      fault { _ = try Preparation().prepare(half, commonSize: Size(16, 16, 16)) }
        == Fault(.invalid, "\(seg): label 0.5 is none of this data set's, which are 0, 1, 2 and 4"))
  }

  @Test func theCommonSizeIsThatOfBraTS2019() {
    #expect(Preparation.commonSize([Size(145, 180, 137), Size(150, 192, 150)]) == Size(160, 192, 160))
    #expect(Preparation.commonSize([Size(30, 40, 50)]) == Size(64, 48, 64))
    #expect(Preparation.commonSize([]) == Size(16, 16, 16))
  }

  @Test func aCopyUnderAnotherNameIsFound() throws {
    var small = SmallCase(scratch)
    let first = try Preparation().survey(try small.files())
    small.id = "BraTS19_Y_1"
    let second = try Preparation().survey(try small.files())
    #expect(
      fault { _ = try DatasetSurvey([second, first]) }
        == Fault(
          .invalid,
          "BraTS19_X_1 and BraTS19_Y_1 are the same images (flair, t1, t1ce, t2); remove one of the two"))
    let t2 = small.images[.t2] ?? []
    for modality in [Modality.flair, .t1ce, .t1] {
      small.images[modality] = (small.images[modality] ?? []).map { $0 * 1.1 }
    }
    #expect(
      fault { _ = try DatasetSurvey([try Preparation().survey(try small.files()), first]) }?.description
        == "t2 of BraTS19_X_1 and t2 of BraTS19_Y_1 are the same image; remove one of the two")
    small.images[.t2] = t2.map { $0 * 1.1 }
    small.images[.t2] = small.images[.t1]
    let twice = try Preparation().survey(try small.files())
    #expect(
      fault { _ = try DatasetSurvey([twice]) }?.description
        == "t1 of BraTS19_Y_1 and t2 of BraTS19_Y_1 are the same image; remove one of the two")
  }

  @Test func classWeightsAreBackgroundOverClass() throws {
    var small = SmallCase(scratch)
    small.labels = [UInt8](repeating: 0, count: 24)
    small.labels?[1] = 1  // in the brain
    small.labels?[2] = 2
    small.labels?[3] = 2
    small.labels?[0] = 4  // outside
    let survey = try DatasetSurvey([try Preparation().survey(try small.files())])
    #expect(survey.cases[0].classVoxels == [9, 1, 2, 0])
    #expect(survey.classWeights(["BraTS19_X_1"]) == [1, 9, 4.5, 1])
    #expect(survey.classWeights([]) == [1, 1, 1, 1])
    #expect(survey.cases[0].box == Size(2, 2, 3))
    let copy = try JSONDecoder().decode(DatasetSurvey.self, from: try JSONEncoder().encode(survey))
    #expect(copy == survey)
  }
}
