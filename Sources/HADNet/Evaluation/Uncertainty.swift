import Compute
import Imaging

/// What is measured of a voxel's samples, and how it becomes a number of 0…100, 100 for most uncertain.
///
/// Source: the challenge asks for a map for each region and leaves the measure to the participant; HAD-Net, section
/// 3.5, takes the predictive entropy of 100 samples.
package enum UncertaintyMeasure: String, CaseIterable, Sendable {
  /// Entropy of whether the voxel belongs to a region, from the mean of the samples: a map for each region.
  case region
  /// Entropy of the classes, from the mean of the samples: one map for all regions.
  case multiclass
  /// Mean of the samples' entropies of the classes: one map for all regions.
  case expected
  /// `multiclass` less `expected`, in nats before it is scaled: what the samples disagree about.
  case mutual
}

/// What 0 and 100 stand for.
package enum UncertaintyScale: String, CaseIterable, Sendable {
  /// 0 and the largest value that the measure can have: ln 2, or the logarithm of the number of classes.
  case theoretical
  /// The least and the largest value in the brains of all cases, over all regions.
  case dataset
  /// The least and the largest value in the brain of the case: cases cannot be compared.
  case `case`
}

/// Entropies in nats, 0 · ln 0 = 0.
package enum Entropy {
  static let ln2 = 0.693_147_180_559_945_3

  /// The largest entropy of so many classes.
  static func most(_ classes: Int) -> Double { classes == 4 ? 2 * ln2 : Portable.log(Double(classes)) }

  /// −q · ln q − (1 − q) · ln(1 − q), q cut to 0…1.
  @inline(__always)
  static func binary(_ q: Double) -> Double {
    let q = min(max(q, 0), 1)
    return -term(q) - term(1 - q)
  }

  /// The probability up to ½ whose binary entropy is this share of ln 2: how often a voxel is wrong if the probability
  /// behind its uncertainty is right.
  package static func smallerProbability(of share: Double) -> Double {
    var low = 0.0, high = 0.5
    for _ in 0..<60 {
      let middle = (low + high) / 2
      if binary(middle) < share * ln2 { low = middle } else { high = middle }
    }
    return (low + high) / 2
  }

  /// −Σ p · ln p over so many classes.
  @inline(__always)
  static func classes(_ count: Int, _ p: (_ index: Int) -> Double) -> Double {
    var entropy = -term(p(0))
    for c in 1..<count { entropy -= term(p(c)) }
    return entropy
  }

  /// That of a voxel's mean probabilities.
  @inline(__always)
  static func classes(_ sums: SampleSums, _ voxel: Int) -> Double {
    classes(sums.classes) { sums.probability($0, voxel) }
  }

  @inline(__always)
  private static func term(_ p: Double) -> Double { p > 0 ? p * Portable.log(p) : 0 }
}

/// The uncertainty of each voxel of a prepared case, a map a region, 0…100.
package struct UncertaintyMaps: Equatable, Sendable {
  package let size: Size
  package let regions: [Region]
  /// [z, y, x] each, in the order of `regions`.
  package private(set) var maps: [[Float]]

  /// Maps as the measure's theoretical range has them.
  package init(
    _ sums: SampleSums, _ regions: [Region], _ measure: UncertaintyMeasure, _ workers: Workers
  ) {
    size = sums.size
    self.regions = regions
    func map(_ value: @Sendable (_ voxel: Int) -> Double) -> [Float] {
      let pieces = Pieces(sums.size.voxels, least: 1024, limit: 1024)
      var map = [Float](repeating: 0, count: sums.size.voxels)
      workers.forEach(pieces, of: &map) { voxels, map in
        for i in map.indices { map[i] = min(max(Float(value(voxels.lowerBound + i)), 0), 100) }
      }
      return map
    }
    let most = Entropy.most(sums.classes)
    switch measure {
    case .region:
      maps = regions.map { region in
        map { 100 * Entropy.binary(sums.probability(region, $0)) / Entropy.ln2 }
      }
      return
    case .multiclass: maps = [map { 100 * Entropy.classes(sums, $0) / most }]
    case .expected: maps = [map { 100 * sums.expectedEntropy($0) / most }]
    case .mutual:
      maps = [
        map { 100 * (Entropy.classes(sums, $0) - sums.expectedEntropy($0)) / most }
      ]
    }
    // One for all.
    maps = regions.map { _ in maps[0] }
  }

  /// Maps that were read, in the order of regions.
  package init(_ size: Size, _ regions: [Region], _ maps: [[Float]]) {
    precondition(
      maps.count == regions.count && maps.allSatisfy { $0.count == size.voxels }, "maps for \(size)")
    self.size = size
    self.regions = regions
    self.maps = maps
  }

  /// A region's map, [z, y, x]; the region is among them.
  package subscript(region: Region) -> [Float] {
    guard let index = regions.firstIndex(of: region) else { preconditionFailure("no map of \(region.name)") }
    return maps[index]
  }

  /// The least and the largest value over all regions where `mask` is not 0; nil where it is 0 everywhere.
  package func range(in mask: [UInt8]) -> ClosedRange<Float>? {
    var low = Float.infinity, high = -Float.infinity
    for map in maps {
      for voxel in map.indices where mask[voxel] != 0 {
        low = min(low, map[voxel])
        high = max(high, map[voxel])
      }
    }
    return low <= high ? low...high : nil
  }

  /// The same with `range` stretched to 0…100.
  package func stretched(_ range: ClosedRange<Float>) -> UncertaintyMaps {
    UncertaintyMaps(size, regions, maps.map { UncertaintyMaps.stretched($0, range) })
  }

  /// Values with `range` stretched to 0…100, cut there; 0 where the range is a point.
  static func stretched(_ values: [Float], _ range: ClosedRange<Float>) -> [Float] {
    let low = range.lowerBound, width = range.upperBound - low
    return values.map { width > 0 ? min(max(100 * (($0 - low) / width), 0), 100) : 0 }
  }
}
