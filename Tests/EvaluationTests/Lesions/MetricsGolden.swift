import Foundation
import Testing

@testable import Compute
@testable import Evaluation
@testable import Imaging

/// What brats-evaluation, the program of 2023 and scikit-learn give; the file says which versions.
struct MetricsGolden {
  struct Case {
    let id: String
    let truth, prediction: LabelVolume
    /// Along z, y, x.
    let spacing: [Double]
    let regions: [Region]
    let settings: LesionSettings?
    let expected: Value

    func pair(_ region: Region) -> MaskPair {
      MaskPair(truth: truth, prediction: prediction, region, spacing: spacing)
    }
  }

  /// JSON, with its infinities and NaN, which it has as texts.
  indirect enum Value: Decodable {
    case number(Double), flag(Bool), list([Value]), object([String: Value])

    init(from decoder: any Decoder) throws {
      if let members = try? [String: Value](from: decoder) {
        self = .object(members)
      } else if let elements = try? [Value](from: decoder) {
        self = .list(elements)
      } else if let flag = try? Bool(from: decoder) {
        self = .flag(flag)
      } else if let number = try? Double(from: decoder) {
        self = .number(number)
      } else {
        self = .number(Double(try String(from: decoder)) ?? .nan)
      }
    }

    subscript(key: String) -> Value? { members[key] }
    var members: [String: Value] { if case .object(let members) = self { members } else { [:] } }
    var list: [Value] { if case .list(let elements) = self { elements } else { [] } }
    var numbers: [Double] { list.compactMap(\.number) }
    var number: Double? {
      switch self {
      case .number(let number): number
      case .flag(let flag): flag ? 1 : 0
      default: nil
      }
    }
  }

  let root: Value
  let cases: [Case]

  private static let folder = URL(fileURLWithPath: #filePath).appending(path: "../../../Fixtures/metrics")
    .standardized

  init() throws {
    let root = try JSONDecoder().decode(
      Value.self, from: Data(contentsOf: MetricsGolden.folder.appending(path: "expected.json")))
    self.root = root
    cases = try #require(root["cases"]).members.sorted { $0.key < $1.key }.map { id, expected in
      // Texts are read as numbers: the task is told by the name.
      let task = id.contains("-PED-") ? "ped" : id.contains("-MET-") ? "met" : "gli"
      let facts = try #require(root["tasks"]?[task])
      let regions = try #require(facts["regions"]).members.map { name, classes in
        Region(name, classes.numbers.map { UInt8($0) })
      }
      var settings: LesionSettings?
      if let dilation = facts["dilation"]?.number, let volume = facts["threshold_mm3"]?.number {
        settings = LesionSettings(dilation: Int(dilation), volume: volume)
      }
      return Case(
        id: id, truth: try plainLabels(MetricsGolden.folder.appending(path: "truth/\(id)-seg.nii.gz")),
        prediction: try plainLabels(MetricsGolden.folder.appending(path: "predictions/\(id).nii.gz")),
        spacing: try #require(expected["spacing"]).numbers.reversed(),
        regions: regions.sorted { $0.name < $1.name }, settings: settings, expected: expected)
    }
  }
}

/// Whether two numbers are as near as the golden file asks: mm and mm³ 1e-6, all else 1e-9, counts being whole anyway. NaN and
/// infinity are themselves.
func agree(_ found: Double, _ expected: Double, _ name: String) -> Bool {
  if expected.isNaN || expected.isInfinite { return found == expected || found.isNaN && expected.isNaN }
  let isLength = name.contains("hd95") || name.contains("volume")
  return abs(found - expected) <= (isLength ? 1e-6 : 1e-9)
}

/// A mask of some voxels [z, y, x].
func mask(_ size: Size, _ places: [[Int]], spacing: [Double] = [1, 1, 1]) -> RegionMask {
  var voxels = [UInt8](repeating: 0, count: size.voxels)
  for place in places { voxels[(place[0] * size.y + place[1]) * size.x + place[2]] = 1 }
  return RegionMask(size, spacing: spacing, voxels)
}

/// The voxels of a box.
func block(_ z: ClosedRange<Int>, _ y: ClosedRange<Int>, _ x: ClosedRange<Int>) -> [[Int]] {
  z.flatMap { z in y.flatMap { y in x.map { [z, y, $0] } } }
}

/// Voxels at random, a share of all.
func randomMask(_ size: Size, _ share: Double, spacing: [Double] = [1, 1, 1], _ seed: Int) -> RegionMask {
  var random = Philox(seed: UInt64(seed), .test, size.voxels)
  return RegionMask(
    size, spacing: spacing, (0..<size.voxels).map { _ in Double(random.uniform()) < share ? 1 : 0 })
}
