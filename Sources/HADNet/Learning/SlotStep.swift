import Collective
import Compute
import Files
import Networks

/// What a method computes for a case. `SlotStep` runs it over the cases of a batch.
package protocol TrainingProgram: AnyObject {
  /// The numbers that a case has beside its loss.
  var terms: [Term] { get }
  /// What the loss is called in a message to a person.
  var lossName: String { get }
  /// The networks that learn. The first is the one that is used afterwards.
  var learners: [Learner] { get }
  var network: Model.Network { get }
  var workers: Workers { get }

  /// The part of a case's forward pass that needs the first learner's parameters alone: the others may still be updated.
  func infer(_ item: SlotCase, _ batch: Batch)
  /// Whether a case's losses are only known with the first learner's gradient.
  var lossesComeLate: Bool { get }
  /// The rest of the forward pass: the case's losses; nil where they come late.
  func losses(_ item: SlotCase, _ batch: Batch) -> StepValues?
  /// Makes a learner's gradient of the case whose losses were computed last, and tells each range of it that is final.
  /// Gives the case's losses where they come late.
  func backward(
    _ learner: Int, _ item: SlotCase, _ batch: Batch, finished: (Range<Int>) -> Void
  ) -> StepValues?
  /// Whether a learner but the first is updated after a step with these means: the same on every rank. May note it among
  /// them.
  func learns(_ learner: Int, after means: inout StepValues, always: Bool) -> Bool

  /// The segmentation of a validation case, dropout off, and its loss where the method's rate follows it.
  func judge(_ item: SlotCase) -> (labels: LabelVolume, loss: Double?)
}

extension TrainingProgram {
  package var lossName: String { "loss" }
  package var lossesComeLate: Bool { false }
  package func infer(_ item: SlotCase, _ batch: Batch) {}
  package func learns(_ learner: Int, after means: inout StepValues, always: Bool) -> Bool { true }
}

/// A network that learns: the name of its file in a checkpoint, its parameters, and what sums its gradients up and
/// updates it.
package struct Learner {
  package let name: String
  package let p: ParameterVector
  let reducer: GradientReducer

  package var optimiser: Adam { reducer.optimiser }
  /// Of the case that was computed last.
  package var gradient: ParameterVector { reducer.gradient }

  /// Makes memory for the gradient, and for the moments of this rank's shards.
  package init(
    _ name: String, _ p: ParameterVector, _ settings: Adam.Settings, _ layout: BatchLayout, _ workers: Workers
  ) {
    self.name = name
    self.p = p
    reducer = GradientReducer(p, settings, layout, workers)
  }
}

/// One case of a step: the slot of the global batch it sits in, and its data.
package struct SlotCase: Sendable {
  package let slot: Int
  package let id: String
  /// All sequences, [z, y, x, sequences] in the task's order.
  package let images: Volume
  package let truth: LabelVolume

  package init(slot: Int, id: String, images: Volume, truth: LabelVolume) {
    self.slot = slot
    self.id = id
    self.images = images
    self.truth = truth
  }
}

/// What is said of a case once it is gone.
struct CaseName {
  let slot: Int
  let id: String

  init(_ item: SlotCase) {
    slot = item.slot
    id = item.id
  }
}

/// What a step is made of.
package struct Batch {
  /// How many cases this rank has.
  let count: Int
  /// Slots of the global batch that hold a case.
  let filled: Int
  /// Epochs and steps that are done.
  package let epoch, step: Int
  let rate: Double
  /// Whether this rank wants the run to stop after the step.
  let wantsStop: () -> Bool
  /// This rank's case 0..<count. A step asks for one after the other, and lets each go before it asks for the next.
  let load: (Int) throws -> SlotCase

  /// `rate`: the learning rate of this step. The means are over `filled` cases.
  package init(
    count: Int, filled: Int, epoch: Int = 0, step: Int = 0, rate: Double,
    wantsStop: @escaping () -> Bool = { false }, load: @escaping (Int) throws -> SlotCase
  ) {
    self.count = count
    self.filled = filled
    self.epoch = epoch
    self.step = step
    self.rate = rate
    self.wantsStop = wantsStop
    self.load = load
  }

  /// Of cases that are in memory.
  package init(cases: [SlotCase], filled: Int, epoch: Int = 0, step: Int = 0, rate: Double) {
    self.init(count: cases.count, filled: filled, epoch: epoch, step: step, rate: rate) { cases[$0] }
  }
}

/// Dropout in training: masks are a function of the method's seed, the step and the slot.
package struct StepDropout: Sendable {
  let probability: Float
  let seed: UInt64

  /// `seed`: the method's.
  package init(probability: Float, seed: UInt64) {
    self.probability = probability
    self.seed = seed
  }

  /// nil: dropout is off.
  package func draw(_ purpose: Philox.Purpose, _ batch: Batch, _ item: SlotCase) -> DropoutDraw? {
    probability > 0
      ? DropoutDraw(probability: probability, seed: seed, purpose, step: batch.step, slot: item.slot) : nil
  }
}

/// The loop over this rank's slots of a batch that all methods share: losses and gradients case by case, means over the
/// batch, updates.
///
/// With several ranks the first learner's update goes on behind the others' backward pass, and theirs behind the next
/// step's forward pass; `settle` waits for all. Of learners but the first, a rank with one case makes the gradient only
/// once it is known to be used; with several, those of all but the last case are made before.
package final class SlotStep {
  let program: any TrainingProgram
  /// Learners that a method may leave out of a step are always updated: for benchmarks.
  package var updatesAll = false
  private let layout: BatchLayout
  /// Of the step whose updates may be under way.
  private var cases: [CaseName] = []
  private let waiting: WaitingTime

  package init(_ program: any TrainingProgram, _ layout: BatchLayout) {
    self.program = program
    self.layout = layout
    waiting = WaitingTime(layout)
  }

  /// Seconds spent waiting for other ranks or for what is exchanged with them.
  package var exposed: Double { waiting.seconds }
  /// Seconds spent waiting for cases.
  package private(set) var dataWait = 0.0

  /// A step: means over the global batch from before its updates, and whether any rank wants to stop. Updates may still be
  /// under way afterwards.
  ///
  /// Throws before anything is updated where a loss is not a number.
  package func run(_ batch: Batch) throws -> (means: StepValues, stops: Bool) {
    let learners = program.learners, first = learners[0], others = learners.dropFirst()
    // Read while the update of the step before may still be under way.
    var item = batch.count > 0 ? try load(0, batch) : nil
    try first.reducer.settle(cases, waiting)
    let before = cases
    cases = item.map { [CaseName($0)] } ?? []
    first.reducer.begin(filled: batch.filled)
    var isSettled = false
    func settleOthers() throws {
      if isSettled { return }
      for learner in others {
        try learner.reducer.settle(before, waiting)
        learner.reducer.begin(filled: batch.filled)
      }
      isSettled = true
    }

    var rows: [StepValues] = [], means: BatchMeans?
    func send() {
      means = BatchMeans(rows, program.terms, filled: batch.filled, stops: batch.wantsStop(), layout)
    }
    func compute(_ item: SlotCase, isLast: Bool) throws {
      program.infer(item, batch)
      try settleOthers()
      if let losses = program.losses(item, batch) { rows.append(losses) }
      if !isLast {
        for (number, learner) in learners.enumerated() {
          if let losses = program.backward(number, item, batch, finished: { _ in }) { rows.append(losses) }
          learner.reducer.add()
        }
      } else {
        if !program.lossesComeLate { send() }
        first.reducer.addLast()
        let late = program.backward(0, item, batch) { first.reducer.finished($0) }
        if let late { rows.append(late) }
      }
    }
    for i in 0..<batch.count {
      if i > 0 {
        item = nil
        let next = try load(i, batch)
        cases.append(CaseName(next))
        item = next
      }
      if let item { try compute(item, isLast: i + 1 == batch.count) }
    }
    try settleOthers()
    // What ranks exchange has one order on all of them, those without a case as well.
    if batch.count == 0, program.lossesComeLate { first.reducer.finished(0..<first.p.count) }
    if means == nil { send() }
    guard let means else { preconditionFailure("a step without means") }
    var (values, stops) = try waiting.measure { try means.wait() }
    try guardFinite(values, rows)
    try program.workers.phase(.update) { try first.reducer.update(rate: batch.rate) }

    // The means are those of the whole batch, so every rank takes the same way.
    for (number, learner) in learners.enumerated().dropFirst()
    where program.learns(number, after: &values, always: updatesAll) {
      if let item {
        learner.reducer.addLast()
        _ = program.backward(number, item, batch) { learner.reducer.finished($0) }
      }
      try program.workers.phase(.update) { try learner.reducer.update(rate: batch.rate) }
    }
    return (values, stops)
  }

  /// Waits until all parameters are those after the last step. Throws where a gradient is not finite.
  package func settle() throws {
    for learner in program.learners { try learner.reducer.settle(cases, waiting) }
  }

  private func load(_ i: Int, _ batch: Batch) throws -> SlotCase {
    let start = ContinuousClock.now
    defer { dataWait += (ContinuousClock.now - start) / .seconds(1) }
    return try batch.load(i)
  }

  /// A loss that is not a number must end the run before the optimiser touches anything: throws on the rank whose case
  /// it is, and the others wait for their end.
  private func guardFinite(_ means: StepValues, _ rows: [StepValues]) throws {
    let all = means.all, names = [program.lossName] + program.terms.map(\.spoken)
    guard let column = all.firstIndex(where: { !$0.isFinite }) else { return }
    if let own = rows.indices.first(where: { !rows[$0].all[column].isFinite }) {
      throw notFinite("the \(names[column]) is \(SlotStep.word(rows[own].all[column]))", [cases[own]])
    }
    // A mean of finite numbers may still be none.
    if rows.allSatisfy({ $0.all.allSatisfy(\.isFinite) }), let communicator = layout.communicator,
      communicator.size > 1
    {
      try communicator.barrier()
    }
    throw notFinite("the \(names[column]) is \(SlotStep.word(all[column]))", cases)
  }

  /// Without the sign of a NaN, which says nothing.
  private static func word(_ value: Double) -> String { value.isNaN ? "not a number" : "\(value)" }
}

/// The fault of a number that is none, with the cases it may come from.
func notFinite(_ what: String, _ cases: [CaseName]) -> Fault {
  let names = cases.map { "slot \($0.slot) (\($0.id))" }.joined(separator: ", ")
  return Fault(
    .other,
    "\(what) in a step with \(names.isEmpty ? "no case of this rank" : names); the last checkpoint is good: "
      + "look at the case and run again with --resume, or choose another --run for a recipe with a lower rate"
  )
}
