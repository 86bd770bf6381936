import Compute
import Evaluation
import Foundation
import Testing

@testable import TestSupport

/// The golden evaluation: cases with all their metrics, and t-tests.
struct Golden: Decodable {
  struct Case: Decodable {
    let kind: String
    let files: [String: String]
    let regions: [String: Values]
    let spacing: [Double]
  }
  struct Values: Decodable {
    let tp, fp, fn, tn: Int
    let dice, sensitivity, specificity, hd95: Double
    /// One of the two: the second where a mask is empty.
    let hd95LargerDirection, hd95VolumeDiagonal: Double?
    /// DICE, FTP_RATIO and FTN_RATIO.
    let curve: [String: [Double]]
    let areas40, areas100, areas4: Areas
    let filteredDice: [String: Double]
  }
  struct Areas: Decodable { let dice, ftp, ftn, score: Double }
  struct Average: Decodable { let mean, sd, median: Double }
  struct Test: Decodable {
    let a, b: [Double]
    let n, df: Int
    let meanDifference, sdDifference: Double
    let t, p: Number
  }
  /// JSON has no infinity: such values are texts.
  struct Number: Decodable {
    let value: Double
    init(from decoder: any Decoder) throws {
      let container = try decoder.singleValueContainer()
      if let number = try? container.decode(Double.self) {
        value = number
      } else {
        value = Double(try container.decode(String.self)) ?? .nan
      }
    }
  }

  let cases: [String: Case]
  let tolerances: [String: Double]
  let hd95Penalty: Double
  /// Descending.
  let thresholds40: [Double]
  let summary: [String: [String: Average]]
  let tTests: [String: Test]

  static let folder = URL(fileURLWithPath: #filePath).appending(path: "../../Fixtures/parity/evaluation")
    .standardized

  static func load() throws -> Golden {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    return try decoder.decode(
      Golden.self, from: Data(contentsOf: folder.appending(path: "expected.json")))
  }

  /// The labels of a small uint8 `.nii.gz` of `folder` as class indices.
  static func labels(_ file: String) throws -> LabelVolume {
    let labels = try plainLabels(folder.appending(path: file))
    return LabelVolume(labels.size, labels.classes.map { $0 == 4 ? 3 : $0 })
  }
}

/// The values of a small uint8 `.nii.gz`, read as plainly as can be.
func plainLabels(_ file: URL) throws -> LabelVolume {
  let process = Process(), pipe = Pipe()
  process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
  process.arguments = ["gzip", "-dc", file.path]
  process.standardOutput = pipe
  try process.run()
  let bytes = [UInt8](try pipe.fileHandleForReading.readToEnd() ?? Data())
  process.waitUntilExit()
  func short(_ at: Int) -> Int { Int(bytes[at]) + 256 * Int(bytes[at + 1]) }
  #expect(short(70) == 2, "\(file.path) is not of uint8")
  let size = Size(short(46), short(44), short(42))
  return LabelVolume(size, Array(bytes[352...].prefix(size.voxels)))
}
