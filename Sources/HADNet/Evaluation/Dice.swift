import Compute

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

/// The overlaps of the three regions of one case.
package struct Overlaps: Equatable, Sendable {
  package let wt, tc, et: Overlap

  /// Counts voxels of two label volumes of one size.
  package init(truth: LabelVolume, prediction: LabelVolume) {
    precondition(truth.size == prediction.size, "truth is \(truth.size), prediction \(prediction.size)")
    // One pass: how often each pair of classes occurs says all of every region.
    var pairs = InlineArray<16, Int>(repeating: 0)
    var bits: UInt8 = 0
    let truths = truth.classes.span, predictions = prediction.classes.span
    for i in truths.indices {
      bits |= truths[i] | predictions[i]
      pairs[Int((truths[i] & 3) << 2 | predictions[i] & 3)] += 1
    }
    precondition(bits <= 3, "a class index above 3")
    func overlap(_ region: Region) -> Overlap {
      var result = Overlap(tp: 0, fp: 0, fn: 0, tn: 0)
      for index in pairs.indices {
        switch (region.contains(UInt8(index >> 2)), region.contains(UInt8(index & 3))) {
        case (true, true): result.tp += pairs[index]
        case (false, true): result.fp += pairs[index]
        case (true, false): result.fn += pairs[index]
        case (false, false): result.tn += pairs[index]
        }
      }
      return result
    }
    wt = overlap(.wt)
    tc = overlap(.tc)
    et = overlap(.et)
  }

  /// That of one region.
  package subscript(region: Region) -> Overlap {
    switch region {
    case .wt: wt
    case .tc: tc
    case .et: et
    }
  }

  /// The mean of the three smoothed Dice; its mean over cases is the validation score.
  package var score: Double { (wt.smoothedDice + tc.smoothedDice + et.smoothedDice) / 3 }
}
