import Compute
import Imaging

/// Whether probabilities are as often right as they say: of one case, inside the brain, without voxels that the truth leaves
/// out. NaN without a voxel.
package struct Calibration: Equatable, Sendable {
  /// Of one region.
  package struct OfRegion: Equatable, Sendable {
    /// The mean of (q − y)², q being the region's probability and y whether the voxel is in it; 0…1.
    package let brier: Double
    /// The expected calibration error of q, 0…1.
    package let ece: Double
  }

  /// The mean of Σ over classes of (p − y)², 0…2.
  package let brier: Double
  /// The expected calibration error of the largest probability, as that of being right; 0…1.
  package let ece: Double
  /// In the order asked for.
  package let regions: [OfRegion]

  /// `probabilities`: [voxels, classes], the background's first, each voxel's in a row. `truth`: class indices. `brain`: not 0
  /// inside.
  package init(
    _ probabilities: [Float], classes: Int, truth: [UInt8], brain: [UInt8], _ regions: [Region]
  ) {
    self.init(
      classes: classes, truth: truth, brain: brain, regions, values: probabilities.count
    ) { Double(probabilities[$0]) }
  }

  /// The same of doubles.
  package init(
    _ probabilities: [Double], classes: Int, truth: [UInt8], brain: [UInt8], _ regions: [Region]
  ) {
    self.init(classes: classes, truth: truth, brain: brain, regions, values: probabilities.count) {
      probabilities[$0]
    }
  }

  private init(
    classes: Int, truth: [UInt8], brain: [UInt8], _ regions: [Region], values: Int,
    probability: (Int) -> Double
  ) {
    precondition(
      truth.count == brain.count && values == truth.count * classes && classes > 0,
      "\(values) probabilities of \(classes) classes, \(truth.count) labels, a brain of \(brain.count)")
    let members = regions.map { region in (0..<classes).filter { region.contains(UInt8(clamping: $0)) } }
    var brier = 0.0, voxels = 0
    var all = CalibrationBins(), own = regions.map { _ in CalibrationBins() }
    var regionBrier = regions.map { _ in 0.0 }
    for voxel in truth.indices where brain[voxel] != 0 && truth[voxel] != LabelVolume.ignored {
      let first = voxel * classes, right = Int(truth[voxel])
      voxels += 1
      // The lowest of equal classes, as in segmentations.
      var best = 0
      for c in 0..<classes {
        let p = probability(first + c), error = p - (c == right ? 1 : 0)
        brier += error * error
        if p > probability(first + best) { best = c }
      }
      all.add(probability(first + best), best == right)
      for (r, member) in members.enumerated() {
        let q = min(max(member.reduce(0) { $0 + probability(first + $1) }, 0), 1)
        let isIn = regions[r].contains(truth[voxel]), error = q - (isIn ? 1 : 0)
        regionBrier[r] += error * error
        own[r].add(q, isIn)
      }
    }
    self.brier = brier / Double(voxels)
    ece = all.error
    self.regions = zip(regionBrier, own).map { .init(brier: $0 / Double(voxels), ece: $1.error) }
  }
}

/// Probabilities in 15 bins ((m − 1)/15, m/15]; 0 is in the first.
private struct CalibrationBins {
  private var voxels: [Int], hits: [Int], sums: [Double]
  private static let edges = (1...15).map { Double($0) / 15 }

  init() {
    voxels = .init(repeating: 0, count: CalibrationBins.edges.count)
    hits = voxels
    sums = .init(repeating: 0, count: CalibrationBins.edges.count)
  }

  /// `isHit`: whether what the probability says came true.
  mutating func add(_ probability: Double, _ isHit: Bool) {
    let edges = CalibrationBins.edges
    // Near the right one; the edges themselves decide.
    var bin = probability > 0 ? Int(min(probability * 15, 14)) : 0
    while bin > 0 && probability <= edges[bin - 1] { bin -= 1 }
    while bin < 14 && probability > edges[bin] { bin += 1 }
    voxels[bin] += 1
    hits[bin] += isHit ? 1 : 0
    sums[bin] += probability
  }

  /// Σ n_m/N · |mean outcome − mean probability|; NaN of nothing.
  var error: Double {
    let all = Double(voxels.reduce(0, +))
    if all == 0 { return .nan }
    return voxels.indices.reduce(0) { $0 + abs(Double(hits[$1]) - sums[$1]) / all }
  }
}
