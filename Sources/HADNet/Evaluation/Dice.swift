import Compute
import Imaging

/// How a predicted region lies on the true one, in voxels of the whole volume.
package struct Overlap: Equatable, Sendable {
  /// In both; only predicted; only true; in neither.
  package var tp, fp, fn, tn: Int

  package init(tp: Int, fp: Int, fn: Int, tn: Int) {
    self.tp = tp
    self.fp = fp
    self.fn = fn
    self.tn = tn
  }

  /// 2·TP / (2·TP + FP + FN); 1 where both are empty, 0 where one is.
  package var dice: Double {
    tp + fp + fn == 0 ? 1 : Double(2 * tp) / Double(2 * tp + fp + fn)
  }

  /// TP / (TP + FN); with an empty truth 1 if the prediction is empty too, else 0.
  package var sensitivity: Double {
    tp + fn == 0 ? (fp == 0 ? 1 : 0) : Double(tp) / Double(tp + fn)
  }

  /// TN / (TN + FP); 1 where the truth fills the volume.
  package var specificity: Double {
    tn + fp == 0 ? 1 : Double(tn) / Double(tn + fp)
  }

  /// TP / (TP + FP + FN); 1 where both are empty.
  package var iou: Double { tp + fp + fn == 0 ? 1 : Double(tp) / Double(tp + fp + fn) }

  /// The names that nnU-Net has for the counts: the four, then the voxels of the prediction and of the truth.
  static let names = ["TP", "FP", "FN", "TN", "n_pred", "n_ref"]
  var counts: [(name: String, voxels: Int)] {
    zip(Overlap.names, [tp, fp, fn, tn, tp + fp, tp + fn]).map { (name: $0, voxels: $1) }
  }

  /// (2·TP + 1) / (|T| + |P| + 1), by which checkpoints are chosen. Unlike `dice` it isn't 0 where one is empty.
  ///
  /// Source: the published code's validation.
  package var smoothedDice: Double { Double(2 * tp + 1) / Double(2 * tp + fp + fn + 1) }
}

/// The overlaps of the regions of one case.
package struct Overlaps: Equatable, Sendable {
  package let regions: [Region]
  /// In the order of `regions`.
  package let values: [Overlap]

  package init(_ regions: [Region], _ values: [Overlap]) {
    precondition(regions.count == values.count, "\(values.count) overlaps of \(regions.count) regions")
    self.regions = regions
    self.values = values
  }

  /// Counts voxels of two label volumes of one size, but for those that the truth leaves out (`LabelVolume.ignored`).
  package init(truth: LabelVolume, prediction: LabelVolume, regions: [Region]) {
    precondition(truth.size == prediction.size, "truth is \(truth.size), prediction \(prediction.size)")
    // One pass: how often each pair of classes occurs says all of every region.
    let most = 32
    var pairs = [Int](repeating: 0, count: most * most)
    let truths = truth.classes.span, predictions = prediction.classes.span
    for i in truths.indices where truths[i] != LabelVolume.ignored {
      let predicted = predictions[i] == LabelVolume.ignored ? 0 : predictions[i]
      pairs[Int(truths[i]) * most + Int(predicted)] += 1
    }
    self.regions = regions
    values = regions.map { region in
      var result = Overlap(tp: 0, fp: 0, fn: 0, tn: 0)
      for index in pairs.indices where pairs[index] != 0 {
        switch (region.contains(UInt8(index / most)), region.contains(UInt8(index % most))) {
        case (true, true): result.tp += pairs[index]
        case (false, true): result.fp += pairs[index]
        case (true, false): result.fn += pairs[index]
        case (false, false): result.tn += pairs[index]
        }
      }
      return result
    }
  }

  /// That of one region, which is among them.
  package subscript(region: Region) -> Overlap {
    guard let index = regions.firstIndex(of: region) else {
      preconditionFailure("no overlap of \(region.name)")
    }
    return values[index]
  }

  /// The mean of the regions' smoothed Dice; its mean over cases is the validation score.
  package func score(_ regions: [Region]) -> Double {
    regions.reduce(0) { $0 + self[$1].smoothedDice } / Double(regions.count)
  }
}
