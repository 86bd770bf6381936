import Files

/// How a method's learning rate runs, and how its checkpoint is chosen.
package struct Schedule: Sendable {
  /// What a plateau looks at.
  package enum Signal: Sendable {
    /// The mean Dice of the validation cases.
    case score
    /// The method's own loss on them.
    case loss
  }

  /// The rate that training begins with, before it is scaled to the batch.
  var rate: Double
  package var optimiser: Adam.Settings
  /// Epochs from one validation to the next; nil: there is none, and the last weights are used.
  package var validationInterval: Int?
  /// When the rate falls for want of a better validation; nil: it does not.
  package var plateau: PlateauSettings?
  package var plateauFollows: Signal
  /// The rate falls by a factor each time so many cases, or windows, more have been seen; nil: it does not.
  var steps: (factor: Double, every: Int)?

  package init(
    rate: Double, optimiser: Adam.Settings, validationInterval: Int? = nil, plateau: PlateauSettings? = nil,
    plateauFollows: Signal = .score, steps: (factor: Double, every: Int)? = nil
  ) {
    self.rate = rate
    self.optimiser = optimiser
    self.validationInterval = validationInterval
    self.plateau = plateau
    self.plateauFollows = plateauFollows
    self.steps = steps
  }

  /// The rate of a step after which `seen` cases will have been seen, with the plateau's scale.
  package func rate(seen: Int, scale: Double) -> Double {
    var rate = rate * scale
    if let steps { for _ in 0..<seen / steps.every { rate *= steps.factor } }
    return rate
  }
}

/// When the learning rate falls.
package struct PlateauSettings: Equatable, Sendable {
  /// Epochs without a better validation score before the rate falls.
  package var patience = 30
  /// What the rate is multiplied by then.
  package var factor = 0.5

  package init(patience: Int = 30, factor: Double = 0.5) {
    self.patience = patience
    self.factor = factor
  }
}

extension PlateauSettings: RecipeSection {
  package mutating func visit(_ v: inout some RecipeVisitor) throws(Fault) {
    try v.value("patience", &patience, .whole(1...1_000_000))
    try v.value("factor", &factor, .number(above: 0, to: 1))
  }
}
