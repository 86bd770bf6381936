import Files
import Foundation
import Imaging

/// The challenge's curves of a method over all cases, and how often a voxel of a given uncertainty is wrong.
package struct MeanCurves: Equatable, Sendable {
  /// Of one region, a value a threshold.
  package struct Curves: Equatable, Sendable {
    /// Means over the cases.
    package var dice, ftp, ftn: [Double]
    /// Of all cases' brains together: voxels with an uncertainty up to the threshold and above the one before, and how
    /// many of them are wrong.
    package var voxels, errors: [Double]

    /// The share of wrong voxels at each threshold; NaN where there are none.
    package var errorRates: [Double] { zip(voxels, errors).map { $0 > 0 ? $1 / $0 : .nan } }

    fileprivate var columns: [[Double]] { [dice, ftp, ftn, voxels, errors] }

    fileprivate init(columns: [[Double]]) {
      dice = columns[0]
      ftp = columns[1]
      ftn = columns[2]
      voxels = columns[3]
      errors = columns[4]
    }
  }

  package let thresholds: [Double]
  /// In the order of the files.
  package let order: [Region]
  package let regions: [Region: Curves]

  /// A case's curves as numbers, so that they can be exchanged; every region has them.
  package static func numbers(_ curves: [Region: UncertaintyCurves], _ regions: [Region]) -> [Double] {
    regions.flatMap { region -> [Double] in
      guard let own = curves[region] else { return [] }
      return own.dice + own.ftp + own.ftn + own.voxels.map(Double.init) + own.errors.map(Double.init)
    }
  }

  /// From the numbers of cases that were dealt out in turn, each rank's one after the other; nil where there are none.
  /// They are added up in the order of the cases.
  package init?(dealt ranks: [[Double]], cases: Int, _ order: [Region], _ thresholds: [Double]) {
    let n = thresholds.count, width = 5 * order.count * n
    guard cases > 0, ranks.reduce(0, { $0 + $1.count }) == cases * width else { return nil }
    var sums = [Double](repeating: 0, count: width)
    for index in 0..<cases {
      let start = index / ranks.count * width
      for i in 0..<width { sums[i] += ranks[index % ranks.count][start + i] }
    }
    var regions: [Region: Curves] = [:]
    for (r, region) in order.enumerated() {
      regions[region] = Curves(
        columns: (0..<5).map { column in
          let start = (r * 5 + column) * n
          // Ratios are means, counts are sums.
          return sums[start..<start + n].map { column < 3 ? $0 / Double(cases) : $0 }
        })
    }
    self.thresholds = thresholds
    self.order = order
    self.regions = regions
  }

  private static let names = ["Dice", "FTP", "FTN", "voxels", "errors"]

  /// A line a threshold.
  package var csv: String {
    let header =
      ["threshold"]
      + order.flatMap { region in MeanCurves.names.map { csvField("\($0)_\(region.name)") } }
    let lines = thresholds.indices.map { i in
      [thresholds[i]] + order.flatMap { regions[$0]?.columns.map { $0[i] } ?? [] }
    }
    return ([header] + lines.map { $0.map { "\($0)" } }).map { $0.joined(separator: ",") + "\n" }.joined()
  }

  /// Reads what `csv` wrote. Throws `.missing` where there is no file, `.invalid` where it holds no curves.
  package static func load(_ path: String, _ order: [Region]) throws(Fault) -> MeanCurves {
    guard let data = FileManager.default.contents(atPath: path) else {
      throw Fault(.missing, "\(path): there is no such file")
    }
    let lines = String(decoding: data, as: UTF8.self).split(separator: "\n").dropFirst()
    let rows = lines.map { $0.split(separator: ",").compactMap { Double($0) } }
    guard !rows.isEmpty, rows.allSatisfy({ $0.count == 1 + 5 * order.count }) else {
      throw Fault(.invalid, "\(path): no curves of uncertainty; write them again with study")
    }
    var regions: [Region: Curves] = [:]
    for (r, region) in order.enumerated() {
      regions[region] = Curves(columns: (0..<5).map { column in rows.map { $0[1 + r * 5 + column] } })
    }
    return MeanCurves(thresholds: rows.map { $0[0] }, order, regions)
  }

  private init(thresholds: [Double], _ order: [Region], _ regions: [Region: Curves]) {
    self.thresholds = thresholds
    self.order = order
    self.regions = regions
  }
}
