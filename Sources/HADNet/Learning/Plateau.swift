/// Lowers the learning rate when validation stops getting better: after `patience` epochs in a row without a score
/// above the best so far the rate is multiplied by `factor`, and counting starts anew.
/// Source: HAD-Net, section 3 (halved after 30 epochs without a better score).
package struct Plateau: Codable, Equatable, Sendable {
  package let patience: Int
  package let factor: Double
  package private(set) var best: Double?
  package private(set) var waited = 0
  package private(set) var scale = 1.0

  package init(patience: Int, factor: Double) {
    self.patience = patience
    self.factor = factor
  }

  /// What no training can have come to; nil: all is well.
  package var problem: String? {
    guard patience >= 1, factor > 0, factor <= 1, best?.isFinite ?? true, (0..<patience).contains(waited),
      scale > 0, scale <= 1
    else { return "a plateau of the rate that is none" }
    return nil
  }

  /// Takes the score of a validation, `epochs` after the one before; afterwards `scale` is the rate's factor for the next
  /// epoch.
  package mutating func observe(_ score: Double, epochs: Int = 1) {
    guard let best, score <= best else {
      self.best = score
      waited = 0
      return
    }
    waited += epochs
    if waited >= patience {
      scale *= factor
      waited = 0
    }
  }
}
