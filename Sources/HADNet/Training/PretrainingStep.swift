import Collective

/// One case of a step: the slot of the global batch it sits in, and its data.
public struct SlotCase: Sendable {
  public let slot: Int
  public let id: String
  /// All four sequences, [z, y, x, 4] in the order of `Modality`.
  public let images: Volume
  public let truth: LabelVolume

  public init(slot: Int, id: String, images: Volume, truth: LabelVolume) {
    self.slot = slot
    self.id = id
    self.images = images
    self.truth = truth
  }
}

/// One step of pre-training a U-Net (teacher or student): cross-entropy, AdamW.
///
/// With several cases in the global batch each has its own loss; the batch's loss is their mean.
public final class PretrainingStep {
  /// Of the global batch, from before the step's update.
  public struct Report: Equatable, Sendable {
    public let loss: Double
    /// Whether any rank wants to stop after this step.
    public let stops: Bool
  }

  public let network: UNet
  public let sight: Sight
  public let p: ParameterVector
  public var optimiser: Adam { reducer.optimiser }
  private let pass: UNetPass
  private let reduction: Reduction
  private let reducer: GradientReducer
  private let workers: Workers
  private var cases: [SlotCase] = []
  /// Seconds spent waiting for other ranks or for what is exchanged with them.
  public var exposed: Double { exposure.seconds }
  private let exposure: Exposure

  public init(
    _ network: UNet, _ sight: Sight, _ p: ParameterVector, _ settings: Adam.Settings, size: Size,
    _ reduction: Reduction, _ workers: Workers
  ) {
    self.network = network
    self.sight = sight
    self.p = p
    self.reduction = reduction
    exposure = Exposure(reduction)
    self.workers = workers
    pass = UNetPass(network, size, .training(features: .none))
    reducer = GradientReducer(p, settings, reduction, workers)
  }

  /// A step over `filled` slots of the batch, of which `cases` are this rank's. `dropout` gives the masks of a slot,
  /// `wantsStop` whether this rank wants the run to stop. The update may still be under way: `settle` waits for it.
  public func run(
    _ cases: [SlotCase], filled: Int, weights: [Float], rate: Double, dropout: (Int) -> DropoutDraw?,
    wantsStop: () -> Bool = { false }
  ) throws -> Report {
    try settle()
    self.cases = cases
    reducer.begin(filled: filled)
    var losses: [[Double]] = []
    for (i, item) in cases.enumerated() {
      losses.append([forward(item, weights: weights, dropout: dropout(item.slot))])
      if i + 1 < cases.count {
        backward()
        reducer.add()
      }
    }
    let tally = Tally(losses, width: 1, filled: filled, stops: wantsStop(), reduction)
    if !cases.isEmpty {
      reducer.addLast()
      backward { self.reducer.finished($0) }
    }
    let (means, stops) = try exposure.measure { try tally.wait() }
    try guardFinite(means, ["loss"], losses, cases, reduction)
    try reducer.update(rate: rate)
    return Report(loss: means[0], stops: stops)
  }

  /// Waits until the parameters are those after the last step.
  public func settle() throws {
    try reducer.settle(cases, exposure)
  }

  /// The network's segmentation of a case as it stands, dropout off.
  public func segment(_ images: Volume) -> LabelVolume {
    sight.copy(images, into: pass.image)
    network.forward(pass, p, workers)
    return Segmentation.labels(pass.logits, workers)
  }

  /// The loss of a case, whose gradient by the logits is left in the pass.
  private func forward(_ item: SlotCase, weights: [Float], dropout: DropoutDraw?) -> Double {
    workers.phase(sight.channels.count == 4 ? .teacher : .student) {
      sight.copy(item.images, into: pass.image)
      network.forward(pass, p, dropout: dropout, workers)
    }
    return workers.phase(.loss) {
      CrossEntropy.loss(pass.logits, item.truth, weights: weights, gradient: pass.dLogits, workers)
    }
  }

  private func backward(finished: (Range<Int>) -> Void = { _ in }) {
    reducer.gradient.fill(0, workers)
    network.backward(
      pass, p, into: reducer.gradient, featureGradients: .none, workers, finished: finished)
  }
}

/// A loss that is not a number must end the run before the optimiser touches anything: throws on the rank whose case
/// it is, and the others wait for their end.
func guardFinite(
  _ means: [Double], _ names: [String], _ rows: [[Double]], _ cases: [SlotCase], _ reduction: Reduction
) throws {
  guard let column = names.indices.first(where: { !means[$0].isFinite }) else { return }
  if let own = rows.indices.first(where: { !rows[$0][column].isFinite }) {
    throw notFinite("the \(names[column]) is \(word(rows[own][column]))", [cases[own]])
  }
  // A mean of finite numbers may still be none.
  if rows.allSatisfy({ $0.allSatisfy(\.isFinite) }), let communicator = reduction.communicator,
    communicator.size > 1
  {
    try communicator.barrier()
  }
  throw notFinite("the \(names[column]) is \(word(means[column]))", cases)
}

/// Without the sign of a NaN, which says nothing.
private func word(_ value: Double) -> String { value.isNaN ? "not a number" : "\(value)" }

/// The fault of a number that is none, with the cases it may come from.
func notFinite(_ what: String, _ cases: [SlotCase]) -> Fault {
  let places = cases.map { "slot \($0.slot) (\($0.id))" }.joined(separator: ", ")
  return Fault(
    .other,
    "\(what) in a step with \(places.isEmpty ? "no case of this rank" : places); the last checkpoint is good: "
      + "look at the case and run again with --resume, or choose another --run for a recipe with a lower rate"
  )
}
