import Learning
import Methods

/// One epoch as the history keeps it. Nothing here depends on time, host, ranks or threads.
package struct EpochRecord: Codable, Equatable, Sendable {
  /// From 1.
  package var epoch: Int
  /// Learning rate of the epoch's first step.
  package var rate: Double
  /// Mean over the epoch's cases.
  package var loss: Double
  /// The other numbers of the stage's steps by name, means over the epoch's cases.
  package var terms: [String: Double] = [:]
  /// Of the validation cases, where the stage's rate follows it.
  package var validationLoss: Double?
  /// Mean Dice over the validation cases, in the original's smoothed form; none where the epoch was not validated.
  package var dice: [RegionDice] = []
  /// The mean of those that choose checkpoints.
  package var score: Double?

  /// A region's name and its Dice.
  package struct RegionDice: Codable, Equatable, Sendable {
    package let region: String
    package let dice: Double
  }

  package init(epoch: Int, rate: Double, loss: Double) {
    self.epoch = epoch
    self.rate = rate
    self.loss = loss
  }

  init(epoch: Int, rate: Double, _ means: StepValues) {
    self.init(epoch: epoch, rate: rate, loss: means.loss)
    for term in means.terms { terms[term.name] = means[term] }
  }

  /// Columns of a stage's history.csv.
  package static func columns(_ stage: Method, regions: [String]) -> [String] {
    ["epoch", "rate", "loss"] + stage.terms.map(\.name)
      + (hasValidationLoss(stage) ? ["validation_loss"] : [])
      + regions.map(column) + ["score"]
  }

  /// The column of a region's Dice: BraTS's are wt, tc and et.
  package static func column(_ region: String) -> String {
    let name = region.lowercased()
    return ["wt", "tc", "et"].contains(name) ? name : "dice \(name)"
  }

  /// What there is of the record, by column.
  package func numbers(_ stage: Method) -> [(column: String, value: Double)] {
    let regions = dice.map(\.region)
    return zip(EpochRecord.columns(stage, regions: regions), values(stage, regions: regions)).compactMap {
      name, value in value.map { (name, $0) }
    }
  }

  /// The values of a stage's columns.
  package func values(_ stage: Method, regions: [String]) -> [Double?] {
    [Double(epoch), rate, loss] + stage.terms.map { terms[$0.name] }
      + (EpochRecord.hasValidationLoss(stage) ? [validationLoss] : [])
      + regions.map { name in dice.first { $0.region == name }?.dice } + [score]
  }

  private static func hasValidationLoss(_ stage: Method) -> Bool {
    stage.section.paper.schedule.plateauFollows == .loss
  }

  /// The loss and terms; 0 for what is not there.
  func values(_ terms: [Term]) -> StepValues {
    StepValues(terms, all: [loss] + terms.map { self.terms[$0.name] ?? 0 })
  }
}

/// All of a stage that changes in training beside the numbers of its vectors.
package struct TrainingState: Codable, Equatable, Sendable {
  package var stage: Method
  /// Epochs done.
  package var epoch = 0
  /// Steps done.
  package var step = 0
  /// The epoch that was begun and not ended when a signal or a time limit came.
  package var begun: Begun?

  /// What is known of an epoch after some of its steps.
  package struct Begun: Codable, Equatable, Sendable {
    package var steps = 0
    /// Sums over the cases so far: of the loss and of the stage's terms.
    package var totals: [Double] = []
  }

  package var history: [EpochRecord] = []
  package var bestEpoch: Int?
  package var bestScore: Double?
  package var plateau: Plateau?
  /// Updates that each optimiser has made, by its network's name.
  package var updates: [String: Int] = [:]

  package init(_ stage: Method) { self.stage = stage }

  /// Far more than any training has, and far from where whole numbers end.
  private static let mostEpochs = 10_000_000, mostSteps = 1 << 40

  /// What no training can have come to: whoever wrote the file, nothing after it has to ask again. nil: all is well.
  var problem: String? {
    guard (0...TrainingState.mostEpochs).contains(epoch) else { return "epoch is \(epoch)" }
    guard (0...TrainingState.mostSteps).contains(step) else { return "step is \(step)" }
    if let begun {
      guard (1...TrainingState.mostSteps).contains(begun.steps), begun.steps <= step else {
        return "\(begun.steps) steps of an epoch that was begun"
      }
      guard begun.totals.count == 1 + stage.terms.count, begun.totals.allSatisfy(\.isFinite) else {
        return "sums of an epoch's losses that are none"
      }
    }
    guard history.count == epoch, history.enumerated().allSatisfy({ $1.epoch == $0 + 1 }) else {
      return "the history is not that of \(epoch) epochs"
    }
    for record in history {
      // Losses are made of single precision.
      let largest = Double(Float.greatestFiniteMagnitude), numbers = record.numbers(stage).map(\.value)
      guard numbers.allSatisfy({ abs($0) <= largest }), record.rate >= 0 else {
        return "a number of epoch \(record.epoch) is none"
      }
      guard Set(record.terms.keys) == Set(stage.terms.map(\.name)) else {
        return "epoch \(record.epoch) has other terms than a \(stage.rawValue)"
      }
    }
    if let bestEpoch {
      guard (1...max(1, epoch)).contains(bestEpoch), epoch > 0 else {
        return "the best epoch is \(bestEpoch)"
      }
      guard bestScore == nil || bestScore == history[bestEpoch - 1].score else {
        return "the best score is not that of epoch \(bestEpoch)"
      }
    } else if bestScore != nil {
      return "a best score without an epoch"
    }
    if let problem = plateau?.problem { return problem }
    for (name, count) in updates where !(0...step).contains(count) {
      return "\(count) updates of \(name.prefix(80)) in \(step) steps"
    }
    return nil
  }

  /// Takes an epoch's score: the best so far is kept, of equals the later. Gives whether it is the best.
  package mutating func observe(_ score: Double) -> Bool {
    guard bestScore.map({ score >= $0 }) ?? true else { return false }
    bestScore = score
    bestEpoch = epoch
    return true
  }
}
