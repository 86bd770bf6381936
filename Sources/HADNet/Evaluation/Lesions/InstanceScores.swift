import Compute
import Imaging

/// Values in a mean and a standard deviation ÷ n, both NaN of none; with an infinite one the deviation is NaN.
package struct LesionSpread: Equatable, Sendable {
  package let mean, sd: Double

  package init(mean: Double, sd: Double) {
    self.mean = mean
    self.sd = sd
  }

  package init(_ values: [Double]) {
    let center = Evaluation.mean(values)
    mean = center
    // As for n − 1: the mean of equal numbers may round to another one.
    if let first = values.first, first.isFinite, values.allSatisfy({ $0 == first }) {
      sd = 0
    } else {
      let squares = values.reduce(0) { $0 + ($1 - center) * ($1 - center) }
      sd = (squares / Double(values.count)).squareRoot()
    }
  }
}

/// The scores of 2026 of one region of one case: parts of truth and prediction as pairs, and the whole masks. NaN where a
/// value is not defined, infinite distances where nothing fits.
///
/// Source: brats-evaluation 0.0.10 on panoptica 2.1.7, but with each axis's own spacing.
package struct InstanceScores: Equatable, Sendable {
  /// How two masks agree.
  package struct Agreement: Equatable, Sendable {
    /// Dice; the share of borders that lie within a tolerance of each other; HD95 as MedPy's, mm or voxels.
    package let dsc, nsd, hd95: Double

    static let undefined = Agreement(dsc: .nan, nsd: .nan, hd95: .nan)
    static let none = Agreement(dsc: 0, nsd: 0, hd95: .infinity)
  }

  /// A part of the truth.
  package struct Lesion: Equatable, Sendable {
    package let voxels: Int
    /// mm³.
    package let volume: Double
    /// With the predicted part that is its pair; nil where it has none.
    package let match: Agreement?
  }

  /// In the order of their first voxels.
  package let lesions: [Lesion]
  /// Parts of the prediction.
  package let predictions: Int
  /// Of the whole masks, mm: as the program has it, but for HD95. NSD is the share of border voxels that are border in
  /// both.
  package let whole: Agreement
  /// HD95 of the whole masks, voxels, as the program has it.
  package let wholeHD95Voxels: Double

  package var tp: Int { lesions.count { $0.match != nil } }
  package var fp: Int { predictions - tp }
  package var fn: Int { lesions.count - tp }

  package var precision: Double { Double(tp) / Double(predictions) }
  package var recall: Double { Double(tp) / Double(lesions.count) }
  package var f1: Double { Double(2 * tp) / Double(predictions + lesions.count) }

  /// Over pairs. Without one the mean is that of nothing in common, and NaN where there is no part at all.
  package var lesionDSC: LesionSpread { spread(\.dsc) }
  package var lesionNSD: LesionSpread { spread(\.nsd) }
  package var lesionHD95: LesionSpread { spread(\.hd95) }

  private func spread(_ value: KeyPath<Agreement, Double>) -> LesionSpread {
    let values = lesions.compactMap { $0.match?[keyPath: value] }
    if !values.isEmpty { return LesionSpread(values) }
    let nothing = predictions + lesions.count == 0 ? Agreement.undefined : .none
    return LesionSpread(mean: nothing[keyPath: value], sd: .nan)
  }

  package init(_ pair: MaskPair) {
    let truth = Components(pair.truth), prediction = Components(pair.prediction)
    let spacing = pair.truth.spacing
    var edges = [[Matching.Edge]](repeating: [], count: truth.count)
    for (own, other, voxels) in truth.overlaps(prediction) {
      let dsc = Double(2 * voxels) / Double(truth.voxels[own] + prediction.voxels[other])
      if dsc >= InstanceScores.least {
        edges[own].append(.init(column: other, weight: dsc + InstanceScores.least))
      }
    }
    let partners = Matching(columns: prediction.count, edges).columns
    lesions = (0..<truth.count).map { index in
      let match = partners[index].map { partner in
        let box = truth.boxes[index].union(prediction.boxes[partner])
        return MaskPair(
          truth: truth.mask([index], in: box, spacing: spacing),
          prediction: prediction.mask([partner], in: box, spacing: spacing)
        ).agreement(spacing, tolerance: spacing.min() ?? 0)
      }
      return Lesion(
        voxels: truth.voxels[index], volume: Double(truth.voxels[index]) * pair.truth.voxelVolume,
        match: match)
    }
    predictions = prediction.count
    let overlap = pair.overlap
    if overlap.tp == 0 {
      whole = overlap.fp + overlap.fn == 0 ? .undefined : .none
      wholeHD95Voxels = whole.hd95
    } else {
      let box = Components.box(around: [truth, prediction])
      let masks = MaskPair(truth: pair.truth.cropped(to: box), prediction: pair.prediction.cropped(to: box))
      // The program gives no spacing here, and half of its smallest side as the tolerance.
      let voxels = masks.agreement([1, 1, 1], tolerance: 0.5)
      let hd95 = spacing == [1, 1, 1] ? voxels.hd95 : masks.agreement(spacing, tolerance: 0).hd95
      whole = Agreement(dsc: voxels.dsc, nsd: voxels.nsd, hd95: hd95)
      wholeHD95Voxels = voxels.hd95
    }
  }

  /// Pairs have at least this Dice, and each counts by so much more than its Dice.
  private static let least = 1e-6
}

extension MaskPair {
  /// Of masks that are not empty. `spacing` along z, y, x; `tolerance`: how far borders may lie apart.
  fileprivate func agreement(_ spacing: [Double], tolerance: Double) -> InstanceScores.Agreement {
    let borders = (LatticePoints(borderOf: truth), LatticePoints(borderOf: prediction))
    let there = borders.0.distances(to: borders.1, spacing),
      back = borders.1.distances(to: borders.0, spacing)
    func share(_ distances: [Double]) -> Double {
      Double(distances.count { $0 <= tolerance }) / Double(distances.count)
    }
    return .init(
      dsc: overlap.dice, nsd: (share(there) + share(back)) / 2,
      hd95: quantile(0.95, of: (there + back).sorted()))
  }
}
