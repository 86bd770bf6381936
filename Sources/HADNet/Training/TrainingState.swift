/// One epoch as the history keeps it. Nothing here depends on time, host, ranks or threads.
public struct EpochRecord: Codable, Equatable, Sendable {
  /// From 1.
  public var epoch: Int
  /// Learning rate of the epoch.
  public var rate: Double
  /// Mean over the epoch's steps, weighted by their cases.
  public var loss: Double
  /// Distillation only.
  public var crossEntropy, discriminatorLoss, accuracy: Double?
  /// Share of the steps in which the discriminator was updated.
  public var updated: Double?
  /// Mean Dice over the validation cases, in the original's smoothed form; nil where the epoch was not validated.
  public var wt, tc, et, score: Double?

  public init(epoch: Int, rate: Double, loss: Double) {
    self.epoch = epoch
    self.rate = rate
    self.loss = loss
  }

  /// Columns of history.csv, and their values.
  public static let columns = [
    "epoch", "rate", "loss", "cross_entropy", "discriminator_loss", "accuracy", "updated", "wt", "tc", "et",
    "score",
  ]
  public var values: [Double?] {
    [Double(epoch), rate, loss, crossEntropy, discriminatorLoss, accuracy, updated, wt, tc, et, score]
  }
}

/// All of a stage that changes in training beside the numbers of its vectors.
public struct TrainingState: Codable, Equatable, Sendable {
  public var stage: Stage
  /// Epochs done.
  public var epoch = 0
  /// Steps done.
  public var step = 0
  /// The epoch that was begun and not ended when a signal or a time limit came.
  public var begun: Begun?

  /// What is known of an epoch after some of its steps.
  public struct Begun: Codable, Equatable, Sendable {
    public var steps = 0
    /// Sums over the cases so far: loss, cross-entropy, discriminator's loss, accuracy.
    public var totals = [Double](repeating: 0, count: 4)
    /// Steps that updated the discriminator.
    public var updates = 0
  }

  public var history: [EpochRecord] = []
  public var bestEpoch: Int?
  public var bestScore: Double?
  public var plateau: Plateau?
  /// Updates that each optimiser has made, by its network's name.
  public var updates: [String: Int] = [:]

  public init(_ stage: Stage) { self.stage = stage }

  /// Takes an epoch's score: the best so far is kept, of equals the later. Gives whether it is the best.
  public mutating func observe(_ score: Double) -> Bool {
    guard bestScore.map({ score >= $0 }) ?? true else { return false }
    bestScore = score
    bestEpoch = epoch
    return true
  }
}
