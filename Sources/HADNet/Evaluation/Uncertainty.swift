import Compute

/// What is measured of a voxel's samples, and how it becomes a number of 0…100, 100 for most uncertain.
///
/// Source: the challenge asks for a map for each region and leaves the measure to the participant; HAD-Net, section
/// 3.5, takes the predictive entropy of 100 samples.
package enum UncertaintyMeasure: String, CaseIterable, Sendable {
  /// Entropy of whether the voxel belongs to a region, from the mean of the samples: a map for each region.
  case region
  /// Entropy of the four classes, from the mean of the samples: one map for all regions.
  case multiclass
  /// Mean of the samples' entropies of the four classes: one map for all regions.
  case expected
  /// `multiclass` less `expected`, in nats before it is scaled: what the samples disagree about.
  case mutual
}

/// What 0 and 100 stand for.
package enum UncertaintyScale: String, CaseIterable, Sendable {
  /// 0 and the largest value that the measure can have, ln 2 or ln 4.
  case theoretical
  /// The least and the largest value in the brains of all cases, over all regions.
  case dataset
  /// The least and the largest value in the brain of the case: cases cannot be compared.
  case `case`
}

/// Entropies in nats, 0 · ln 0 = 0.
package enum Entropy {
  static let ln2 = 0.693_147_180_559_945_3, ln4 = 1.386_294_361_119_890_6

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

  /// −Σ p · ln p.
  @inline(__always)
  static func classes(_ p: SIMD4<Double>) -> Double { -term(p[0]) - term(p[1]) - term(p[2]) - term(p[3]) }

  @inline(__always)
  private static func term(_ p: Double) -> Double { p > 0 ? p * Portable.log(p) : 0 }
}

/// The uncertainty of each voxel of a prepared case, a map a region, 0…100.
package struct UncertaintyMaps: Equatable, Sendable {
  package let size: Size
  /// [z, y, x] each.
  package private(set) var whole, core, enhancing: [Float]

  /// Maps as the measure's theoretical range has them.
  package init(_ sums: SampleSums, _ measure: UncertaintyMeasure, _ workers: Workers) {
    size = sums.size
    func map(_ value: @Sendable (_ voxel: Int) -> Double) -> [Float] {
      let pieces = Pieces(sums.size.voxels, least: 1024, limit: 1024)
      var map = [Float](repeating: 0, count: sums.size.voxels)
      workers.forEach(pieces, of: &map) { voxels, map in
        for i in map.indices { map[i] = min(max(Float(value(voxels.lowerBound + i)), 0), 100) }
      }
      return map
    }
    switch measure {
    case .region:
      func values(_ region: Region) -> [Float] {
        map { 100 * Entropy.binary(sums.probability(region, $0)) / Entropy.ln2 }
      }
      whole = values(.wt)
      core = values(.tc)
      enhancing = values(.et)
      return
    case .multiclass: whole = map { 100 * Entropy.classes(sums.probabilities($0)) / Entropy.ln4 }
    case .expected: whole = map { 100 * sums.expectedEntropy($0) / Entropy.ln4 }
    case .mutual:
      whole = map {
        100 * (Entropy.classes(sums.probabilities($0)) - sums.expectedEntropy($0)) / Entropy.ln4
      }
    }
    core = whole
    enhancing = whole
  }

  /// Maps that were read, in the order of regions.
  package init(_ size: Size, _ maps: [[Float]]) {
    precondition(maps.count == 3 && maps.allSatisfy { $0.count == size.voxels }, "maps for \(size)")
    self.size = size
    whole = maps[0]
    core = maps[1]
    enhancing = maps[2]
  }

  /// A region's map, [z, y, x].
  package subscript(region: Region) -> [Float] {
    switch region {
    case .wt: whole
    case .tc: core
    case .et: enhancing
    }
  }

  /// The least and the largest value over all regions where `mask` is not 0; nil where it is 0 everywhere.
  package func range(in mask: [UInt8]) -> ClosedRange<Float>? {
    var low = Float.infinity, high = -Float.infinity
    for map in [whole, core, enhancing] {
      for voxel in map.indices where mask[voxel] != 0 {
        low = min(low, map[voxel])
        high = max(high, map[voxel])
      }
    }
    return low <= high ? low...high : nil
  }

  /// The same with `range` stretched to 0…100.
  package func stretched(_ range: ClosedRange<Float>) -> UncertaintyMaps {
    var maps = self
    maps.whole = UncertaintyMaps.stretched(whole, range)
    maps.core = UncertaintyMaps.stretched(core, range)
    maps.enhancing = UncertaintyMaps.stretched(enhancing, range)
    return maps
  }

  /// Values with `range` stretched to 0…100, cut there; 0 where the range is a point.
  static func stretched(_ values: [Float], _ range: ClosedRange<Float>) -> [Float] {
    let low = range.lowerBound, width = range.upperBound - low
    return values.map { width > 0 ? min(max(100 * (($0 - low) / width), 0), 100) : 0 }
  }
}
