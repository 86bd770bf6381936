import Foundation
import Testing

@testable import Evaluation
@testable import Files
@testable import Imaging
@testable import TestSupport

/// Truth, prediction, T1 and maps of one case of 4×3×2 voxels, each of which can be spoilt.
private struct Patient {
  enum File: String, CaseIterable {
    case seg, t1, prediction
    case whole, core, enhance
  }

  let scratch: Scratch
  var id = "BraTS19_X_1"
  var values: [File: [Float]] = [
    .seg: (0..<24).map { [0, 1, 2, 4][$0 % 4] }, .prediction: (0..<24).map { [0, 1, 4, 4][$0 % 4] },
    .t1: (0..<24).map { $0 < 20 ? 1 : 0 }, .whole: (0..<24).map { Float($0) * 4 },
    .core: [Float](repeating: 0, count: 24), .enhance: [Float](repeating: 100, count: 24),
  ]
  var extents: [File: [Int]] = [:]
  var affines: [File: [Double]] = [:]
  /// Files whose voxels are stored in another order than BraTS's: they lie in the same place.
  var stored: [File: Stored] = [:]

  /// The axis of x, y, z along each of the file's axes, and whether it runs the other way than BraTS's.
  struct Stored {
    let axes: [Int]
    let flipped: [Bool]
    /// Right, front, up.
    static let ras = Stored(axes: [0, 1, 2], flipped: [true, true, false])
    /// Up first, then back to front, then left to right.
    static let upFirst = Stored(axes: [2, 1, 0], flipped: [true, false, true])

    /// A volume in BraTS's order of 4×3×2 voxels as it is stored.
    func volume(_ values: [Float], _ affine: [Double]) -> (
      values: [Float], dimensions: [Int], affine: [Double]
    ) {
      let sides = [4, 3, 2], dimensions = axes.map { sides[$0] }
      var result: [Float] = [], matrix = affine
      for row in 0..<3 {
        for own in 0..<3 {
          let step = affine[row * 4 + axes[own]]
          matrix[row * 4 + own] = flipped[own] ? -step : step
          if flipped[own] { matrix[row * 4 + 3] += step * Double(dimensions[own] - 1) }
        }
      }
      for k in 0..<dimensions[2] {
        for j in 0..<dimensions[1] {
          for i in 0..<dimensions[0] {
            var at = [0, 0, 0]
            for (own, index) in [i, j, k].enumerated() {
              at[axes[own]] = flipped[own] ? dimensions[own] - 1 - index : index
            }
            result.append(values[(at[2] * 3 + at[1]) * 4 + at[0]])
          }
        }
      }
      return (result, dimensions, matrix)
    }
  }

  var truth: String { scratch.file("truth") }
  var out: String { scratch.file("out") }

  func path(_ file: File) -> String {
    switch file {
    case .seg, .t1: "\(truth)/\(id)/\(id)_\(file.rawValue).nii.gz"
    case .prediction: "\(out)/\(id).nii.gz"
    case .whole, .core, .enhance: "\(out)/\(id)_unc_\(file.rawValue).nii.gz"
    }
  }

  func write(_ file: File, to path: String) throws {
    try FileManager.default.createDirectory(
      atPath: (path as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
    let affine = affines[file] ?? SmallCase.brats, values = values[file, default: []]
    let volume = stored[file]?.volume(values, affine) ?? (values, extents[file] ?? [4, 3, 2], affine)
    try NIfTIImage.write(volume.0, dimensions: volume.1, affine: volume.2, to: path)
  }

  func write() throws { for file in File.allCases { try write(file, to: path(file)) } }

  func pairs(uncertainty: Bool = true, _ values: LabelValues? = nil) throws -> [Evaluator.Pair] {
    try Evaluator.pairs(
      truth: truth, predictions: out, uncertainty: uncertainty ? out : nil, values: values)
  }

  func scores(_ values: LabelValues? = nil) throws -> CaseScores {
    try write()
    return try Evaluator().scores(#require(pairs(values).first))
  }

  /// What is said of the case.
  func fault(_ values: LabelValues? = nil) -> Fault? {
    TestSupport.fault { _ = try scores(values) }
  }
}

@Suite struct EvaluatorTests {
  private let patient = Patient(scratch: Scratch())

  // MARK: values

  @Test func goldenCasesAndTheirSummary() throws {
    let golden = try Golden.load()
    let tolerance: [Metric: Double] = [
      .dice: 1e-12, .sensitivity: 1e-12, .specificity: 1e-12, .hd95: 1e-9, .score: 1e-6,
    ]
    #expect(
      golden.tolerances == [
        "dice, sensitivity, specificity": 1e-12, "hd95": 1e-9, "t and p, relative": 1e-9, "entropy": 1e-9,
        "challenge values (it computes in float32)": 1e-6,
      ])
    let submission = Golden.folder.appending(path: "submission").path
    let pairs = try Evaluator.pairs(
      truth: Golden.folder.appending(path: "truth").path, predictions: submission, uncertainty: submission)
    #expect(pairs.map(\.id) == golden.cases.keys.sorted())
    var all = MethodEvaluation(method: "golden")
    for pair in pairs { all.cases[pair.id] = try Evaluator().scores(pair) }
    for (id, expected) in golden.cases {
      for region in Region.allCases {
        let right = try #require(expected.regions[region.name]), scores = try #require(all.cases[id])
        #expect(scores.overlaps[region] == Overlap(tp: right.tp, fp: right.fp, fn: right.fn, tn: right.tn))
        for (metric, value) in [
          (Metric.dice, right.dice), (.sensitivity, right.sensitivity), (.specificity, right.specificity),
          (.hd95, right.hd95), (.score, right.areas40.score),
        ] {
          let found = try #require(scores[region, metric]), bound = try #require(tolerance[metric])
          #expect(abs(found - value) <= bound, "\(id) (\(expected.kind)) \(region) \(metric): \(found)")
        }
      }
    }
    #expect(all.metrics == Metric.allCases)
    for region in Region.allCases {
      for metric in Metric.allCases {
        let right = try #require(golden.summary[region.name]?[metric.rawValue])
        let found = all.summary(region, metric), bound = try #require(tolerance[metric])
        for (a, b) in [(found.mean, right.mean), (found.sd, right.sd), (found.median, right.median)] {
          #expect(abs(a - b) <= bound, "\(region) \(metric): \(a), expected \(b)")
        }
      }
    }
    // Read back, it is the same in every bit.
    #expect(
      try MethodEvaluation(json: Data(all.json.utf8), file: "golden.json", method: "golden") == all)
  }

  @Test func distancesFollowTheFilesOwnAxes() throws {
    // A voxel in each, 3 apart along x: 1.5 mm a voxel there, 7 mm along z.
    var patient = patient
    for file in Patient.File.allCases {
      patient.affines[file] = [-1.5, 0, 0, 0, 0, -1, 0, 2, 0, 0, 7, 0, 0, 0, 0, 1]
    }
    patient.values[.seg] = (0..<24).map { $0 == 0 ? 4 : 0 }
    patient.values[.prediction] = (0..<24).map { $0 == 3 ? 4 : 0 }
    #expect(try patient.scores()[.et, .hd95] == 4.5)
    patient.values[.prediction] = (0..<24).map { $0 == 12 ? 4 : 0 }
    #expect(try patient.scores()[.et, .hd95] == 7)
  }

  /// What lies in the same place has the same scores, however each file is stored.
  @Test func orientationIsNoDifference() throws {
    var patient = patient
    // Distances of its own along every axis.
    for file in Patient.File.allCases {
      patient.affines[file] = [-1.5, 0, 0, 4, 0, -1, 0, 2, 0, 0, 7, -9, 0, 0, 0, 1]
    }
    let expected = try patient.scores()
    #expect(expected[.et, .hd95] ?? 0 > 1)
    for stored in [Patient.Stored.ras, .upFirst] {
      for files in [[Patient.File.seg], [.prediction, .t1], [.whole, .core], [.seg, .t1, .enhance]] {
        patient.stored = Dictionary(uniqueKeysWithValues: files.map { ($0, stored) })
        #expect(try patient.scores() == expected, "\(files)")
      }
    }
    // What really lies elsewhere is refused, in any order of its axes.
    patient.stored = [.prediction: .upFirst]
    patient.affines[.prediction]?[11] = -5
    #expect(
      patient.fault()
        == Fault(
          .invalid,
          "\(patient.path(.prediction)) lies elsewhere than the truth: their affines differ, the same voxel is up to "
            + "4 mm apart; resample one onto the other's grid"))
  }

  @Test func truthAndPredictionMayHaveLabelsOfTheirOwn() throws {
    var patient = patient
    let expected = try patient.scores()
    patient.values[.prediction] = patient.values[.prediction]?.map { $0 == 4 ? 3 : $0 }
    try patient.write()
    let pair = try #require(
      Evaluator.pairs(
        truth: patient.truth, predictions: patient.out, uncertainty: patient.out,
        predictionValues: .from2023
      ).first)
    #expect(pair.values == .upTo2021)
    #expect(try Evaluator().scores(pair) == expected)
  }

  @Test func withoutMapsThereIsNoScore() throws {
    try patient.write()
    let scores = try Evaluator().scores(#require(patient.pairs(uncertainty: false).first))
    #expect(scores.uncertainty.isEmpty && scores[.wt, .score] == nil && scores[.wt, .hd95] != nil)
  }

  /// T1 is above 0 in the first 20 voxels: 15 of 18 true positives of WT, and all background is true.
  @Test func eachRegionHasItsOwnMap() throws {
    let scores = try patient.scores()
    let core = try #require(scores.uncertainty[.tc]), enhance = try #require(scores.uncertainty[.et])
    #expect(core.areas.ftp == 0 && abs(core.score - core.certain) <= 1e-14)
    #expect(enhance.areas.dice > 0.98 && enhance.areas.ftp > 0.98 && enhance.filteredDice.last?.dice == 1)
    let whole = try #require(scores.uncertainty[.wt])
    #expect(whole.filteredDice.map(\.dice) == [1, 1, 1, 1] && whole.areas.ftp > 0 && whole.areas.ftp < 1)
    // The tumour outside T1 is not lost where it is filtered.
    var patient = patient
    patient.values[.t1] = (0..<24).map { $0 == 1 ? 1 : 0 }
    #expect(try patient.scores().uncertainty[.wt]?.areas.ftp == (0.5 + 1) / 40)
  }

  // MARK: names

  @Test(arguments: ["", "HGG/", "wrap/LGG/"]) func layoutsOfTheTruth(level: String) throws {
    for file in Patient.File.allCases where file != .seg && file != .t1 {
      try patient.write(file, to: patient.path(file))
    }
    let home = "\(patient.truth)/\(level)\(patient.id)"
    try patient.write(.seg, to: "\(home)/\(patient.id)_seg.nii.gz")
    try patient.write(.t1, to: "\(home)/\(patient.id)_t1.nii.gz")
    let pair = try #require(patient.pairs().first)
    #expect(pair.truth == "\(home)/\(patient.id)_seg.nii.gz" && pair.values == .upTo2021)
    #expect(pair.brain == "\(home)/\(patient.id)_t1.nii.gz" && pair.maps[.tc] == patient.path(.core))
  }

  @Test func flatFoldersAndUncompressedFiles() throws {
    for file in Patient.File.allCases {
      let path = patient.path(file).replacing("/\(patient.id)/", with: "/").dropLast(3)
      try patient.write(file, to: String(path))
    }
    let pair = try #require(patient.pairs().first)
    #expect(pair.id == patient.id && pair.maps.count == 3)
    #expect(pair.prediction == "\(patient.out)/\(patient.id).nii")
    _ = try Evaluator().scores(pair)
  }

  @Test func namesOf2023() throws {
    var patient = patient
    patient.id = "BraTS-GLI-00001-000"
    patient.values[.seg] = (0..<24).map { Float($0 % 4) }
    patient.values[.prediction] = patient.values[.seg]
    let home = "\(patient.truth)/\(patient.id)/\(patient.id)"
    try patient.write(.seg, to: "\(home)-seg.nii.gz")
    try patient.write(.t1, to: "\(home)-t1n.nii.gz")
    try patient.write(.prediction, to: patient.path(.prediction))
    // Both kinds of names for maps are read.
    try patient.write(.whole, to: "\(patient.out)/\(patient.id)-unc-whole.nii.gz")
    try patient.write(.core, to: patient.path(.core))
    try patient.write(.enhance, to: "\(patient.out)/\(patient.id)-unc-enhance.nii.gz")
    let pair = try #require(patient.pairs().first)
    #expect(pair.values == .from2023 && pair.brain == "\(home)-t1n.nii.gz")
    #expect(try Evaluator().scores(pair)[.et, .dice] == 1)
    #expect(try patient.pairs(.upTo2021).first?.values == .upTo2021)
  }

  // MARK: what is refused

  @Test func filesThatAreNotThere() throws {
    func refusal(uncertainty: Bool = true) -> Fault? {
      fault { _ = try patient.pairs(uncertainty: uncertainty) }
    }
    #expect(refusal() == Fault(.missing, "\(patient.truth): no such folder"))
    try patient.scratch.put("truth/.hidden")
    #expect(refusal() == Fault(.missing, "\(patient.truth): no truth (ID_seg.nii.gz) is in this folder"))
    try patient.write(.seg, to: patient.path(.seg))
    #expect(refusal() == Fault(.missing, "\(patient.out): no such folder"))
    try patient.scratch.put("out/.hidden")
    #expect(refusal() == Fault(.missing, "\(patient.out): no segmentation (ID.nii.gz) is in this folder"))
    try patient.write(.prediction, to: "\(patient.out)/other.nii.gz")
    #expect(
      refusal()
        == Fault(
          .missing, "\(patient.out): no segmentation of BraTS19_X_1, which has a truth in \(patient.truth)"))
    try patient.write(.prediction, to: patient.path(.prediction))
    #expect(
      refusal()
        == Fault(.missing, "\(patient.truth): no truth for other, which is segmented in \(patient.out)"))
    try FileManager.default.removeItem(atPath: "\(patient.out)/other.nii.gz")
    #expect(refusal(uncertainty: false) == nil)
    #expect(
      refusal()
        == Fault(
          .missing, "\(patient.out): no map of uncertainties (ID_unc_whole.nii.gz) is in this folder"))
    try patient.write(.whole, to: patient.path(.whole))
    try patient.write(.enhance, to: patient.path(.enhance))
    #expect(
      refusal()
        == Fault(
          .missing,
          "\(patient.out): no BraTS19_X_1_unc_core.nii.gz, the uncertainties of BraTS19_X_1"))
    try patient.write(.core, to: patient.path(.core))
    #expect(
      refusal()
        == Fault(
          .missing,
          "BraTS19_X_1: T1 is missing in \(patient.truth): it tells the brain, which the uncertainty score needs"
        ))
    try patient.write(.t1, to: patient.path(.t1))
    #expect(refusal() == nil)
    try patient.write(.core, to: "\(patient.out)/other_unc_core.nii.gz")
    #expect(
      refusal()
        == Fault(.missing, "\(patient.truth): no truth for other, which has uncertainties in \(patient.out)"))
  }

  @Test func filesThatAreThereTwice() throws {
    try patient.write()
    try patient.write(.core, to: String(patient.path(.core).dropLast(3)))
    #expect(
      fault { _ = try patient.pairs() }
        == Fault(.invalid, "\(patient.out): the map core of BraTS19_X_1 is there twice; remove one"))
    try patient.write(.prediction, to: String(patient.path(.prediction).dropLast(3)))
    #expect(
      fault { _ = try patient.pairs() }
        == Fault(
          .invalid,
          "\(patient.out): BraTS19_X_1 is there twice, as BraTS19_X_1.nii and as BraTS19_X_1.nii.gz; remove one"
        ))
    let plain = String(patient.path(.seg).dropLast(3))
    try FileManager.default.removeItem(atPath: String(patient.path(.prediction).dropLast(3)))
    try patient.write(.seg, to: plain)
    try patient.write(.seg, to: "\(patient.truth)/BraTS19_Y_1/BraTS19_Y_1_seg.nii.gz")
    try patient.write(.prediction, to: "\(patient.out)/BraTS19_Y_1.nii.gz")
    #expect(
      fault { _ = try patient.pairs() }
        == Fault(
          .invalid, "BraTS19_X_1: two files for the truth: \(plain) and \(patient.path(.seg))"))
  }

  @Test func labelsOfAnotherConvention() throws {
    for (file, option) in [(Patient.File.seg, "--truth-labels"), (.prediction, "--prediction-labels")] {
      var patient = patient
      patient.values[file]?[5] = 3
      #expect(
        patient.fault()
          == Fault(
            .invalid,
            "\(patient.path(file)): label 3 is none of 0, 1, 2 and 4; if it is ET, as from 2023 on, \(option) 2023 reads it so"
          ))
    }
    #expect(
      patient.fault(.from2023)
        == Fault(
          .invalid, "\(patient.path(.seg)): label 4 is none of this data set's, which are 0, 1, 2 and 3"))
  }

  @Test(arguments: [
    (Float(-0.5), "-0.5 to 92"), (100.00001, "0 to 100.00000762939453"),
    (0x1p101, "0 to 2.535301200456459e+30"),
  ])
  func uncertaintiesOutsideTheirRange(value: Float, range: String) throws {
    var patient = patient
    patient.values[.whole]?[7] = value
    #expect(
      patient.fault()
        == Fault(.invalid, "\(patient.path(.whole)): uncertainties from \(range); they must lie in 0…100"))
  }

  /// Fractions would pass for certainty; but a map of 0 is certain everywhere, and one that says 0…100 is believed.
  @Test func uncertaintiesThatLookLikeFractions() throws {
    var patient = patient
    for most in [Float(1), 0.5, 0.001] {
      patient.values[.core] = (0..<24).map { $0 == 7 ? most : 0 }
      #expect(
        patient.fault()
          == Fault(
            .invalid,
            "\(patient.path(.core)): no uncertainty is above \(most == 1 ? "1" : "\(Double(most))"), which looks like "
              + "fractions; they must go from 0 (certain) to 100: multiply them by 100"))
    }
    try patient.write()
    let (dimensions, values) = ([4, 3, 2], patient.values[.core] ?? [])
    try NIfTIImage.write(
      values, dimensions: dimensions, affine: SmallCase.brats, range: 0...100, to: patient.path(.core))
    let pair = try #require(patient.pairs().first)
    #expect(try Evaluator().scores(pair)[.tc, .score] != nil)
    patient.values[.core] = [Float](repeating: 0, count: 24)
    #expect(patient.fault() == nil)
    patient.values[.core]?[3] = 1.001
    #expect(patient.fault() == nil)
  }

  @Test(arguments: ["whole", "core", "enhance", "t1", "seg", "prediction"])
  func valuesThatAreNoNumbers(name: String) throws {
    var patient = patient
    let file = try #require(Patient.File(rawValue: name))
    for value in [Float.nan, .infinity] {
      patient.values[file]?[17] = value
      #expect(
        patient.fault()
          == Fault(
            .invalid,
            "\(patient.path(file)): voxels that are no finite numbers (NaN, infinite): 1, the first at (1, 1, 1)"
          ))
    }
  }

  @Test(arguments: ["whole", "core", "enhance", "t1", "prediction"]) func otherGrids(name: String) throws {
    let file = try #require(Patient.File(rawValue: name))
    var other = patient
    other.extents[file] = [3, 4, 2]
    #expect(
      other.fault() == Fault(.invalid, "\(patient.path(file)) is 3×4×2 voxels, the truth is 4×3×2"))
    other = patient
    other.affines[file] = SmallCase.brats
    // Voxels are 1 mm apart: a hundredth of that is none.
    other.affines[file]?[11] = 0.02
    #expect(
      other.fault()
        == Fault(
          .invalid,
          "\(patient.path(file)) lies elsewhere than the truth: their affines differ, the same voxel is up to 0.02 mm apart; "
            + "resample one onto the other's grid"
        ))
    other.affines[file]?[11] = 0.01
    #expect(other.fault() == nil)
    other.affines[file]?[0] = -1.009
    #expect(other.fault() == nil)
  }

  /// A hundredth of a voxel becomes several over a long volume.
  @Test func spacingsThatAddUpAreElsewhere() {
    func grid(_ side: Int, _ spacing: Double) -> Grid {
      Grid(
        dimensions: [side, 3, 2], affine: SmallCase.brats.map { $0 == -1 ? -spacing : $0 }, .brats,
        hasOrientation: true)
    }
    for (side, isRefused) in [(30, false), (240, true)] {
      let found = fault { try grid(side, 1.005).check("a", against: grid(side, 1), "b") }
      #expect((found != nil) == isRefused, "\(side)")
    }
    let none = Grid(dimensions: [4, 3, 2], affine: SmallCase.brats, .brats, hasOrientation: false)
    #expect(
      fault { try none.check("a", against: grid(4, 2), "b") }?.description
        == "a lies elsewhere than b: their affines differ, the same voxel is up to 3.606 mm apart; the header of a has "
        + "no orientation (both form codes are 0)")
  }
}
