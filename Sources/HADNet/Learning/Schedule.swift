/// How a method's learning rate runs, and how its checkpoint is chosen.
public struct Schedule: Equatable, Sendable {
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

  public static func == (a: Schedule, b: Schedule) -> Bool {
    a.rate == b.rate && a.optimiser == b.optimiser && a.validationInterval == b.validationInterval
      && a.plateau == b.plateau && a.plateauFollows == b.plateauFollows && a.steps?.factor == b.steps?.factor
      && a.steps?.every == b.steps?.every
  }

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
