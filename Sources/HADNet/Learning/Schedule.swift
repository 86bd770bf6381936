import Files

/// How a method's learning rate runs, and how its checkpoint is chosen.
public struct Schedule: Sendable {
  /// What a plateau looks at.
  enum Signal: Sendable {
    /// The mean Dice of the validation cases.
    case score
    /// The method's own loss on them.
    case loss
  }

  /// The rate that training begins with, before it is scaled to the batch.
  var rate: Double
  var optimiser: Adam.Settings
  /// Epochs from one validation to the next; nil: there is none, and the last weights are used.
  var validationInterval: Int?
  /// When the rate falls for want of a better validation; nil: it does not.
  var plateau: PlateauSettings?
  var plateauFollows = Signal.score
  /// The rate falls by a factor each time so many cases, or windows, more have been seen; nil: it does not.
  var steps: (factor: Double, every: Int)?

  /// The rate of a step after which `seen` cases will have been seen, with the plateau's scale.
  func rate(seen: Int, scale: Double) -> Double {
    var rate = rate * scale
    if let steps { for _ in 0..<seen / steps.every { rate *= steps.factor } }
    return rate
  }
}

/// When the learning rate falls.
public struct PlateauSettings: Equatable, Sendable {
  /// Epochs without a better validation score before the rate falls.
  public var patience = 30
  /// What the rate is multiplied by then.
  public var factor = 0.5

  public init(patience: Int = 30, factor: Double = 0.5) {
    self.patience = patience
    self.factor = factor
  }
}

extension PlateauSettings: RecipeSection {
  public mutating func visit(_ v: inout some RecipeVisitor) throws(Fault) {
    try v.value("patience", &patience, .whole(1...1_000_000))
    try v.value("factor", &factor, .number(above: 0, to: 1))
  }
}
