import Compute
import Imaging

/// The thresholds at which a map of uncertainties is cut: a voxel whose uncertainty is above one leaves the computation.
package struct UncertaintyThresholds: Equatable, Sendable {
  /// The curves have the thresholds j · (100/points), j = 0…points.
  package let points: Int
  /// Where the Dice of the voxels that stay is told, from high to low.
  package let filters: [Double]

  /// Source: the challenge's program has 40 points by default, the paper's Figure 3 these filters.
  package init(points: Int = 40, filters: [Double] = [100, 75, 50, 25]) {
    precondition(points > 0 && filters.allSatisfy { $0 >= 0 && $0 <= 100 }, "\(points) points, \(filters)")
    self.points = points
    self.filters = Set(filters).sorted(by: >)
  }

  /// Those of the curves, from 0 to 100.
  package var curve: [Double] {
    // The last is 100, whatever the products round to.
    (0..<points).map { Double($0) * (100 / Double(points)) } + [100]
  }
}

/// What of a region stays at each threshold, and what is lost: the challenge's three curves for one case.
///
/// Source: the challenge's program (RagMeh11/QU-BraTS), with exact ratios where it adds 1.2e-7 to the counts.
package struct UncertaintyCurves: Equatable, Sendable {
  /// From 0 to 100.
  package let thresholds: [Double]
  /// Dice of the voxels that stay, in the brain and outside.
  package let dice: [Double]
  /// Which share of the brain's true positives is filtered, and which of its true negatives; 0 where it has none.
  package let ftp, ftn: [Double]
  /// How many of the brain's voxels have an uncertainty above the threshold before and not above this one, and how
  /// many of them are wrong.
  package let voxels, errors: [Int]
  /// Dice of the voxels that stay at each filter, from high to low.
  package let filteredDice: [UncertaintyScore.Filtered]

  /// Counts in one pass over the voxels. `brain`: not 0 in the brain; `map`: 0…100, the region's own.
  package init(
    _ region: Region, truth: LabelVolume, prediction: LabelVolume, brain: [UInt8], map: [Double],
    _ cuts: UncertaintyThresholds = .init()
  ) {
    thresholds = cuts.curve
    let all = Set(thresholds + cuts.filters).sorted()
    let counts = UncertaintyCurves.counts(region, truth, prediction, brain, map, all)
    var dice: [Double: Double] = [:], ftp: [Double] = [], ftn: [Double] = []
    // What stays at a threshold is what all bins up to its own hold.
    let whole = counts.reduce(Outcomes(), &+)
    var kept = Outcomes(), next = 0, voxels: [Int] = [], errors: [Int] = [], before = Outcomes()
    for (threshold, bin) in zip(all, counts) {
      kept &+= bin
      let overlap = Overlap(
        tp: kept[3] + kept[7], fp: kept[1] + kept[5], fn: kept[2] + kept[6], tn: kept[0] + kept[4])
      dice[threshold] = overlap.dice
      if threshold == thresholds[next] {
        ftp.append(whole[7] == 0 ? 0 : Double(whole[7] - kept[7]) / Double(whole[7]))
        ftn.append(whole[4] == 0 ? 0 : Double(whole[4] - kept[4]) / Double(whole[4]))
        let new = kept &- before
        voxels.append(new[4] + new[5] + new[6] + new[7])
        errors.append(new[5] + new[6])
        before = kept
        next += 1
      }
    }
    self.dice = thresholds.map { dice[$0] ?? .nan }
    self.ftp = ftp
    self.ftn = ftn
    self.voxels = voxels
    self.errors = errors
    filteredDice = cuts.filters.map { .init(threshold: $0, dice: dice[$0] ?? .nan) }
  }

  /// How many voxels are of each kind: 1 predicted, 2 true, 4 in the brain, added up.
  private typealias Outcomes = SIMD8<Int>

  /// The voxels of each kind in the bin of the first threshold that is not below their uncertainty.
  private static func counts(
    _ region: Region, _ truth: LabelVolume, _ prediction: LabelVolume, _ brain: [UInt8], _ map: [Double],
    _ thresholds: [Double]
  ) -> [Outcomes] {
    let voxels = map.count
    precondition(
      truth.classes.count == voxels && prediction.classes.count == voxels && brain.count == voxels,
      "\(truth.size) of truth, \(prediction.size) of prediction, \(brain.count) of brain for \(voxels) uncertainties"
    )
    // What each class adds to the kind of a voxel that is predicted so; of one that is so, it is twice that.
    let member = (0..<256).map { region.contains(UInt8($0)) ? 1 : 0 }
    // For each of many small intervals of uncertainty the first bin that can be the one. It is looked for from
    // one interval further down, so that no rounding can hide a bin.
    let intervals = 4096, scale = Double(intervals) / 100
    var firstBins: [Int] = [], bin = 0
    for interval in 0...intervals {
      while thresholds[bin] < Double(interval - 1) / scale { bin += 1 }
      firstBins.append(bin)
    }
    var counts = [Int](repeating: 0, count: thresholds.count * 8)
    let truths = truth.classes.span, predictions = prediction.classes.span, brain = brain.span, map = map.span
    for i in map.indices {
      let uncertainty = map[i]
      precondition(uncertainty >= 0 && uncertainty <= 100, "an uncertainty of \(uncertainty)")
      var bin = firstBins[Int(uncertainty * scale)]
      while uncertainty > thresholds[bin] { bin += 1 }
      let isBrain = brain[i] == 0 ? 0 : 4
      counts[bin * 8 + isBrain + 2 * member[Int(truths[i])] + member[Int(predictions[i])]] += 1
    }
    return thresholds.indices.map { bin in
      var outcomes = Outcomes()
      for kind in 0..<8 { outcomes[kind] = counts[bin * 8 + kind] }
      return outcomes
    }
  }
}

/// The challenge's score of a map of uncertainties for one region of one case.
package struct UncertaintyScore: Equatable, Sendable {
  /// Areas under the three curves over thresholds from 0 to 100, divided by 100.
  package struct Areas: Equatable, Sendable {
    package let dice, ftp, ftn: Double

    package init(dice: Double, ftp: Double, ftn: Double) {
      self.dice = dice
      self.ftp = ftp
      self.ftn = ftn
    }
  }

  /// The Dice of the voxels whose uncertainty is at most a threshold.
  package struct Filtered: Equatable, Sendable {
    package let threshold, dice: Double

    package init(threshold: Double, dice: Double) {
      self.threshold = threshold
      self.dice = dice
    }
  }

  /// (AUC of Dice + (1 − AUC of FTP) + (1 − AUC of FTN)) / 3, in 0…1, higher is better.
  ///
  /// Source: equation 1 of the QU-BraTS paper.
  package let score: Double
  /// The score of a map that is 0 everywhere, (Dice + 2) / 3: what claiming certainty would bring.
  package let certain: Double
  package let areas: Areas
  /// From high to low thresholds.
  package let filteredDice: [Filtered]

  package init(score: Double, certain: Double, areas: Areas, filteredDice: [Filtered]) {
    self.score = score
    self.certain = certain
    self.areas = areas
    self.filteredDice = filteredDice
  }

  /// Areas by trapezoids.
  package init(_ curves: UncertaintyCurves) {
    /// By trapezoids; thresholds are equally far apart.
    func area(_ values: [Double]) -> Double {
      let ends = (values[0] + values[values.count - 1]) / 2
      return (ends + values.dropFirst().dropLast().reduce(0, +)) / Double(values.count - 1)
    }
    areas = Areas(dice: area(curves.dice), ftp: area(curves.ftp), ftn: area(curves.ftn))
    score = (areas.dice + (1 - areas.ftp) + (1 - areas.ftn)) / 3
    certain = ((curves.dice.last ?? .nan) + 2) / 3
    filteredDice = curves.filteredDice
  }
}
