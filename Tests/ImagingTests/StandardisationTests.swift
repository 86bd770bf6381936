import Foundation
import Testing

@testable import Compute
@testable import Files
@testable import Imaging
@testable import TestSupport

@Suite struct DataStandardisationTests {
  let scratch = Scratch()

  /// A case of 17×16×14 voxels (x, y, z) with a bright ball, hollow in T1, and labels in its upper part.
  func ball() throws -> CaseFiles {
    var small = SmallCase(scratch)
    small.dimensions = [17, 16, 14]
    var labels = [UInt8](repeating: 0, count: 17 * 16 * 14)
    for modality in Modality.allCases {
      let c = modality.channel
      var values = [Float](repeating: 0, count: labels.count)
      for z in 3..<12 {
        for y in 1..<13 {
          for x in 2..<15 {
            let h = (x * 37 + y * 61 + z * 89 + x * y * z * 7 + c * 53) % 97
            let far = (x - 6 - c) * (x - 6 - c) + (y - 6) * (y - 6) + (z - 7) * (z - 7)
            let isBright = far < 25 && !(c == 2 && far < 16), i = (z * 16 + y) * 17 + x
            values[i] = h == 13 && y < 5 ? 0 : Float(h / 4 + 20 + (isBright ? 400 + 3 * h : 0))
            if z >= 9 && y > 3 { labels[i] = [1, 2, 4][(x + y + z) % 3] }
          }
        }
      }
      small.images[modality] = values
    }
    small.labels = labels
    return try small.files()
  }

  func preparation(
    _ modalities: [Modality] = Modality.allCases, landmarks: Landmarks = .published, leastSide: Int = 11,
    border: Int = 3
  ) -> Preparation {
    Preparation(
      modalities: modalities,
      standardisation: Standardisation(landmarks: landmarks, leastSide: leastSide, border: border))
  }

  func weighted<Value>(_ values: [Value], _ number: (Value) -> Double) -> Double {
    values.enumerated().reduce(0) { $0 + number($1.element) * cos(Double($1.offset)) }
  }

  /// Expected: numpy's pad, scipy's morphology and NiftyNet 0.5.0's histogram and whitening functions in float64 on
  /// the same voxels. Values here are rounded to single precision once: 4 · 2⁻²⁴ each, 6,156 of them.
  @Test func aCaseIsTheOneOfNiftyNet() throws {
    let prepared = try preparation().prepare(try ball(), commonSize: Size(1, 1, 1))
    #expect(prepared.size == Size(18, 18, 19))
    #expect(prepared.placement.box == VoxelBox(origin: Size(2, 1, 2), size: Size(12, 12, 13)))
    #expect(prepared.placement.before == Size(3, 3, 3))
    #expect(prepared.mask.reduce(0) { $0 + Int($1) } == 729)
    #expect(prepared.mask.indices.reduce(0) { $0 + (prepared.mask[$1] != 0 ? $1 : 0) } == 2_125_628)
    let expected: [(sum: Double, weighted: Double, some: [Double], range: ClosedRange<Double>)] = [
      (
        -8325.719513666456, -3.8503775160111706,
        [-2.132621172065427, -1.0269010024175165, -0.7928672829130516, -0.1070616623619208],
        -2.132621172065427...2.9955771969306
      ),
      (
        -8379.946928963838, 6.049706621781748,
        [-2.0870445688412014, -0.9588362336573436, -0.9588362336573436, -0.6125097868358352],
        -2.0870445688412014...3.2269864822671304
      ),
      (
        -9502.159739716915, -23.331302255035517,
        [-2.4354893939589974, -1.0129879305612566, -1.1953950470533108, 0.3829134452500293],
        -2.4354893939589974...1.7586526366382778
      ),
      (
        -7256.503699729764, 5.857083701695858,
        [-1.861531939768198, -0.6989441291602361, -0.7474640250173126, -0.43000596048873463],
        -1.861531939768198...3.304472439399189
      ),
    ]
    for (c, expected) in expected.enumerated() {
      let values = prepared.images.crop(
        VoxelBox(origin: Size(0, 0, 0), size: prepared.size), channels: [c]
      ).array.map(Double.init)
      #expect(abs(values.reduce(0, +) - expected.sum) < 1e-3, "channel \(c)")
      #expect(abs(weighted(values) { $0 } - expected.weighted) < 1e-3, "channel \(c)")
      for (i, value) in zip([1000, 2000, 2907, 3500], expected.some) {
        #expect(abs(values[i] - value) < 1e-6, "channel \(c), voxel \(i): \(values[i]), expected \(value)")
      }
      #expect(abs((values.min() ?? 0) - expected.range.lowerBound) < 1e-6, "channel \(c)")
      #expect(abs((values.max() ?? 0) - expected.range.upperBound) < 1e-6, "channel \(c)")
    }
    let classes = try #require(prepared.labels).classes
    #expect((0...3).map { label in classes.count { $0 == label } } == [5643, 279, 117, 117])
    #expect(classes.indices.reduce(0) { $0 + $1 * Int(classes[$1]) } == 3_373_056)
  }

  /// Expected: NiftyNet 0.5.0's percentiles of the same voxels.
  @Test func aSampleIsTheOneOfNiftyNet() throws {
    let sample = try preparation().landmarkSample(try ball())
    let flair = [
      0, 0, 3.4153005464480874, 3.6885245901639343, 4.098360655737705, 5.054644808743169, 5.8743169398907105,
      64.48087431693989, 72.40437158469945, 76.91256830601093, 81.61202185792352, 90.1639344262295, 100,
    ]
    let t1 = [
      0, 0, 3.159340659340659, 3.2967032967032965, 3.5714285714285716, 4.1208791208791204, 4.532967032967033,
      5.082417582417582, 5.4945054945054945, 5.769230769230769, 61.153846153846196, 82.36263736263736, 100,
    ]
    for (modality, expected) in [(Modality.flair, flair), (.t1, t1)] {
      for (value, expected) in zip(sample.values[modality] ?? [], expected) {
        #expect(abs(value - expected) < 1e-10)
      }
    }
    #expect(sample.values.count == 4 && sample.values.values.allSatisfy { $0.count == 13 })
    let copy = try JSONDecoder().decode(Landmarks.Sample.self, from: try JSONEncoder().encode(sample))
    #expect(copy == sample)
  }

  @Test func theMaskHasMeanZeroAndVarianceOne() throws {
    let prepared = try preparation().prepare(try ball(), commonSize: Size(1, 1, 1))
    for c in 0..<4 {
      let inside = prepared.mask.indices.filter { prepared.mask[$0] != 0 }
        .map { Double(prepared.images.base[$0 * 4 + c]) }
      let mean = inside.reduce(0, +) / Double(inside.count)
      let variance = inside.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(inside.count)
      #expect(abs(mean) < 1e-7 && abs(variance - 1) < 1e-6, "channel \(c): \(mean), \(variance)")
    }
  }

  /// Grey values times a factor and plus an offset are the same sequence: only their order and spacing count.
  @Test func aLinearChangeOfGreyValuesChangesNothing() throws {
    var small = SmallCase(scratch)
    small.dimensions = [6, 5, 4]
    for modality in Modality.allCases {
      small.images[modality] = (0..<120).map { Float(64 + ($0 * 37 + modality.channel * 11) % 64) }
    }
    let preparation = preparation(leastSide: 1, border: 2)
    let first = try preparation.prepare(try small.files(), commonSize: Size(1, 1, 1))
    let t2 = small.images[.t2] ?? []
    small.images[.t2] = t2.map { 4 * $0 - 128 }
    let second = try preparation.prepare(try small.files(), commonSize: Size(1, 1, 1))
    for (a, b) in zip(first.images.array, second.images.array) { #expect(abs(a - b) < 1e-6) }
    #expect(first.mask == second.mask)
  }

  @Test func segmentationsComeBackOnThePatientsGrid() throws {
    let files = try ball(), prepared = try preparation().prepare(files, commonSize: Size(1, 1, 1))
    let out = scratch.file("out.nii.gz")
    try prepared.placement.write(try #require(prepared.labels), values: .upTo2021, to: out)
    let image = try NIfTIImage.read(out)
    #expect(image.voxels == (try NIfTIImage.read(try #require(files.segmentation))).voxels)
    #expect(image.header.affine == SmallCase.brats)
  }

  @Test func theSurveyIsHADNets() throws {
    let files = try ball()
    #expect(try preparation().survey(files) == Preparation().survey(files))
  }

  @Test func anySequenceWidensTheBox() throws {
    var small = SmallCase(scratch)
    small.dimensions = [6, 6, 6]
    for modality in Modality.allCases {
      var values = [Float](repeating: 0, count: 216)
      for i in 0..<3 { values[(2 * 6 + 2 + i % 2) * 6 + 2] = Float(1 + i) }
      // One voxel of its own for each sequence.
      values[[1, 5, 6 * 4, 36 * 3][modality.channel]] = 5
      small.images[modality] = values
    }
    let files = try small.files()
    func box(_ modalities: [Modality]) throws -> VoxelBox {
      try preparation(modalities, leastSide: 1, border: 2).prepare(files, commonSize: Size(1, 1, 1)).placement
        .box
    }
    #expect(try box(Modality.allCases) == VoxelBox(origin: Size(0, 0, 0), size: Size(4, 5, 6)))
    #expect(try box(Modality.student) == VoxelBox(origin: Size(0, 0, 0), size: Size(4, 5, 3)))
    #expect(try box([.t2]) == VoxelBox(origin: Size(2, 0, 0), size: Size(2, 4, 3)))
  }

  @Test(arguments: [
    (50, 126, 240, 49, 129), (50, 127, 240, 50, 128), (50, 128, 240, 50, 128), (10, 190, 240, 10, 190),
    (3, 100, 240, 0, 129), (130, 20, 155, 26, 129), (40, 60, 128, 0, 128), (60, 40, 100, 0, 100),
    (0, 1, 1, 0, 1),
  ])
  func aShortSideIsWidened(origin: Int, side: Int, whole: Int, toOrigin: Int, toSide: Int) {
    let box = VoxelBox(origin: Size(origin, 0, 0), size: Size(side, 200, 200))
      .widened(to: 128, in: Size(whole, 200, 200))
    #expect(box == VoxelBox(origin: Size(toOrigin, 0, 0), size: Size(toSide, 200, 200)))
  }

  @Test func paddingIsTheLeastOfEachLine() throws {
    var small = SmallCase(scratch)
    small.dimensions = [5, 4, 3]
    for modality in Modality.allCases { small.images[modality] = (0..<60).map { Float(1 + $0) } }
    let placement = try preparation(leastSide: 1, border: 2)
      .prepare(try small.files(), commonSize: Size(1, 1, 1)).placement
    #expect(placement.size == Size(7, 8, 9))
    var random = Philox(seed: 1, .test)
    var values = (0..<placement.size.voxels).map { _ in random.below(1000) }
    let before = values
    placement.padWithMinima(&values)
    func axis(_ i: Int, _ side: Int) -> Range<Int> { i < 2 || i >= side + 2 ? 2..<(side + 2) : i..<(i + 1) }
    for z in 0..<7 {
      for y in 0..<8 {
        for x in 0..<9 {
          var least = Int.max
          for oz in axis(z, 3) {
            for oy in axis(y, 4) {
              for ox in axis(x, 5) { least = min(least, before[(oz * 8 + oy) * 9 + ox]) }
            }
          }
          #expect(values[(z * 8 + y) * 9 + x] == least)
        }
      }
    }
  }

  @Test func casesWithoutForegroundAreRefused() throws {
    var small = SmallCase(scratch)
    small.dimensions = [9, 1, 1]
    for modality in Modality.allCases { small.images[modality] = [9, 1, 1, 1, 1, 1, 1, 1, 1] }
    func message(_ preparation: Preparation) throws -> String {
      let files = try small.files()
      let found = fault { _ = try preparation.prepare(files, commonSize: Size(1, 1, 1)) }
      #expect(found?.kind == .invalid)
      return (found?.description ?? "").replacingOccurrences(of: scratch.path + "/", with: "")
    }
    small.images[.t2] = [1, 1, 1, 1, 1, 1, 1, 1, 9]
    #expect(
      try message(preparation(leastSide: 1, border: 0))
        == "BraTS19_X_1: no voxel is in the foreground of all of flair, t1ce, t1, t2")
    small.images[.t2] = [Float](repeating: 7, count: 9)
    #expect(
      try message(preparation(leastSide: 1, border: 0))
        == "BraTS19_X_1_t2.nii.gz: all voxels of the brain's box have the same value")
    #expect(
      fault {
        _ = try Landmarks.Sample(id: "A", [(.t1, "A_t1.nii", [Double](repeating: 3, count: 13))])
      } == Fault(.invalid, "A_t1.nii: all voxels of the foreground have the same value"))
    #expect(
      fault { _ = try preparation([]).prepare(CaseFiles(id: "A", files: [:]), commonSize: Size(1, 1, 1)) }
        == Fault(.missing, "A: no sequence is to be read"))
    #expect(
      fault { _ = try preparation([.t1]).prepare(CaseFiles(id: "A", files: [:]), commonSize: Size(1, 1, 1)) }
        == Fault(.missing, "A: t1 is missing"))
  }

  @Test(arguments: [[1, 9, 1], [1, 1, 9], [9, 1, 1], [2, 1, 1]])
  func thinVolumesArePrepared(dimensions: [Int]) throws {
    var small = SmallCase(scratch)
    small.dimensions = dimensions
    let count = dimensions.reduce(1, *)
    for modality in Modality.allCases { small.images[modality] = (0..<count).map { Float(1 + $0) } }
    let prepared = try preparation(leastSide: 4, border: 1).prepare(
      try small.files(), commonSize: Size(1, 1, 1))
    #expect(prepared.size.array == dimensions.reversed().map { $0 + 2 })
    #expect(prepared.images.array.allSatisfy { $0.isFinite })
  }

  // MARK: Landmarks

  @Test func thePublishedLandmarksAreThoseOfTheFile() {
    #expect(Landmarks.published[.flair][2...4] == [32.21012, 38.026333, 40.970592])
    #expect(Landmarks.published[.t1ce][5] == 40.679466)
    #expect(Landmarks.published[.t1][9] == 79.08507)
    #expect(Landmarks.published[.t2][8] == 45.29694)
    for modality in Modality.allCases {
      let values = Landmarks.published[modality]
      #expect(values.count == Landmarks.percentiles.count && values.first == 0 && values.last == 100)
    }
  }

  func sample(_ id: String, _ shift: Double) throws -> Landmarks.Sample {
    try Landmarks.Sample(
      id: id,
      Modality.allCases.map { modality in
        (modality, "", (0..<13).map { 7 + shift + (1 + shift) * Double($0 * $0 + modality.channel * $0) })
      })
  }

  @Test func aSampleRunsFromZeroToAHundredWhateverTheGreyValues() throws {
    let a = try sample("A", 0), b = try sample("A", 3)
    for modality in Modality.allCases {
      let values = try #require(a.values[modality])
      #expect(values.first == 0 && values.last == 100)
      let top = Double(144 + 12 * modality.channel)
      #expect(abs(values[5] - 100 * Double(25 + 5 * modality.channel) / top) < 1e-12)
      for (x, y) in zip(values, b.values[modality] ?? []) { #expect(abs(x - y) < 1e-12) }
    }
  }

  @Test func landmarksAreTheMeanOfTheSamplesInAnyOrder() throws {
    var samples: [Landmarks.Sample] = []
    for (i, id) in ["C", "A", "B", "E", "D"].enumerated() {
      samples.append(
        try Landmarks.Sample(
          id: id,
          Modality.allCases.map { modality in
            (modality, "", (0..<13).map { Double($0) + ($0 > 4 ? 0.1 * Double(i) : 0) })
          }))
    }
    let mean = try Landmarks.mean(samples)
    for _ in 0..<4 {
      samples.append(samples.removeFirst())
      #expect(try Landmarks.mean(samples) == mean)
    }
    let values = samples.map { $0.values[.t1] ?? [] }
    // Percentiles 0.1, 10, 20, 30, …, 70, 80, 90, 99.9 of the thirteen: 25 and 75 have no landmark.
    for (i, index) in [0, 1, 2, 4, 5, 6, 7, 8, 10, 11, 12].enumerated() {
      #expect(abs(mean[.t1][i] - values.reduce(0) { $0 + $1[index] } / 5) < 1e-12)
    }
  }

  @Test func aMeanNeedsCasesAndAllSequences() throws {
    #expect(
      fault { _ = try Landmarks.mean([]) } == Fault(.missing, "landmarks: no case to take them from"))
    let part = try Landmarks.Sample(id: "A", [(.t1, "", (0..<13).map(Double.init))])
    #expect(
      fault { _ = try Landmarks.mean([part]) }
        == Fault(.missing, "A: no percentiles of flair for the landmarks"))
  }

  @Test func landmarksSurviveTheirText() throws {
    let landmarks = try Landmarks.mean([try sample("A", 0.1), try sample("B", 0.7)])
    #expect(try Landmarks(json: landmarks.json) == landmarks)
    #expect(Landmarks.published.json.hasPrefix(#"{"flair":[0,15.476687,32.21012,38.026333"#))
    func message(_ text: String) -> String? { fault { _ = try Landmarks(json: text) }?.description }
    #expect(message("{}") == "landmarks: there are none")
    #expect(message("[1]") == "landmarks: not JSON of lists of 11 numbers")
    #expect(message("x") == "landmarks: not JSON of lists of 11 numbers")
    let text = Landmarks.published.json
    #expect(
      message(text.replacingOccurrences(of: "[0,15.476687,", with: "["))
        == "landmarks: 9 values for flair, expected 11")
    #expect(
      message(text.replacingOccurrences(of: "15.476687", with: "99"))
        == "landmarks: the values for flair don't ascend")
  }

  // MARK: Percentiles and the map

  @Test func percentilesAreLinearBetweenNeighbours() {
    let percentiles = Percentiles([4, 9, 1, 2, 9, 3], [1, 0, 1, 1, 0, 1])
    for (percent, value) in [
      (0, 1), (0.1, 1.003), (25, 1.75), (50, 2.5), (75, 3.25), (99.9, 3.997), (100, 4),
    ]
      as [(Double, Double)]
    {
      #expect(abs(percentiles.value(at: percent) - value) < 1e-12, "\(percent)")
    }
    #expect(Percentiles([5], [1]).value(at: 99.9) == 5)
  }

  @Test func theMapGoesThroughTheLandmarksAndOn() {
    let map = HistogramMap(from: [10, 20, 60, 70], to: [0, 30, 40, 100])
    for (value, expected) in [
      (10, 0), (20, 30), (60, 40), (70, 100), (15, 15), (40, 35), (65, 70), (0, -30), (80, 160),
    ] as [(Float, Double)] {
      #expect(abs(map(value) - expected) < 1e-12, "\(value)")
    }
  }

  @Test func equalPercentilesHaveSlopeZero() {
    let map = HistogramMap(from: [10, 10, 20, 20, 30, 30], to: [0, 1, 2, 3, 4, 5])
    for (value, expected) in [
      (0, 0), (9.75, 0), (10, 1), (15, 1.5), (20, 3), (25, 3.5), (30, 4), (99, 4),
    ] as [(Float, Double)] {
      #expect(abs(map(value) - expected) < 1e-12, "\(value)")
    }
  }

  // MARK: Foreground

  @Test func dilationGoesOverFacesOnly() {
    var mask = [UInt8](repeating: 0, count: 125)
    mask[62] = 1
    let size = Size(5, 5, 5), once = Foreground.dilated(mask, size), twice = Foreground.dilated(once, size)
    for i in 0..<125 {
      let steps = abs(i / 25 - 2) + abs(i / 5 % 5 - 2) + abs(i % 5 - 2)
      #expect(once[i] == (steps <= 1 ? 1 : 0) && twice[i] == (steps <= 2 ? 1 : 0))
    }
    mask = [UInt8](repeating: 0, count: 6)
    mask[2] = 1
    #expect(Foreground.dilated(mask, Size(1, 2, 3)) == [0, 1, 1, 0, 0, 1])
  }

  @Test func onlyClosedHolesAreFilled() {
    let size = Size(5, 5, 5)
    func filled(_ open: [Int]) -> [UInt8] {
      // The middle 3×3×3 without its middle.
      var mask = (0..<125).map { i in
        UInt8([i / 25, i / 5 % 5, i % 5].allSatisfy { (1...3).contains($0) } && i != 62 ? 1 : 0)
      }
      for voxel in open { mask[voxel] = 0 }
      Foreground.fillHoles(&mask, size)
      return mask
    }
    #expect(filled([])[62] == 1 && filled([]).reduce(0) { $0 + Int($1) } == 27)
    // Through a face the hole is open, through a corner of the shell it stays closed.
    #expect(filled([61])[62] == 0)
    #expect(filled([31])[62] == 1)
    // A cavity at the volume's edge is open.
    var edge = [UInt8](repeating: 1, count: 27)
    edge[4] = 0
    Foreground.fillHoles(&edge, Size(3, 3, 3))
    #expect(edge[4] == 0)
    edge[13] = 0
    Foreground.fillHoles(&edge, Size(3, 3, 3))
    #expect(edge[13] == 0)
  }

  @Test func theForegroundIsAboveTheMeanWidened() throws {
    // The mean is 1.2, so two voxels are above it; the gap between them is no hole, for it lies at the edge.
    let values: [Float] = [0, 0, 0, 8, 0, 0, 0, 0, 1, 3]
    #expect(try Foreground.mask(values, Size(1, 1, 10), "") == [0, 1, 1, 1, 1, 1, 0, 1, 1, 1])
    #expect(
      fault { _ = try Foreground.mask([2, 2, 2], Size(1, 1, 3), "A.nii") }
        == Fault(.invalid, "A.nii: all voxels of the brain's box have the same value"))
  }
}
