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
  public let network: UNet
  public let sight: Sight
  public let p: ParameterVector
  public let optimiser: Adam
  private let pass: UNetPass
  private let gradient: ParameterVector
  private let reducer: GradientReducer
  private let workers: Workers

  public init(
    _ network: UNet, _ sight: Sight, _ p: ParameterVector, _ settings: Adam.Settings, size: Size,
    _ reduction: Reduction, _ workers: Workers
  ) {
    self.network = network
    self.sight = sight
    self.p = p
    self.workers = workers
    optimiser = Adam(network.layout, settings)
    pass = UNetPass(network, size, .training(features: false))
    gradient = ParameterVector(zeros: network.layout)
    reducer = GradientReducer(network.layout, reduction)
  }

  /// A step over `filled` slots of the batch, of which `cases` are this rank's. Gives the batch's mean loss before
  /// the update. `dropout` gives the masks of a slot.
  public func run(
    _ cases: [SlotCase], filled: Int, weights: [Float], rate: Double, dropout: (Int) -> DropoutDraw?
  ) throws -> Double {
    reducer.begin(filled: filled)
    var losses: [[Double]] = []
    for item in cases {
      losses.append([lossAndGradient(item, weights: weights, dropout: dropout(item.slot))])
      reducer.add(gradient)
    }
    let loss = try reducer.mean(losses)[0]
    try guardFinite(loss, "loss", cases)
    optimiser.update(
      p, gradient: try reducer.finish(), scale: 1 / Float(filled), rate: rate, workers)
    return loss
  }

  /// The network's segmentation of a case as it stands, dropout off.
  public func segment(_ images: Volume) -> LabelVolume {
    sight.copy(images, into: pass.image)
    network.forward(pass, p, workers)
    return Segmentation.labels(pass.logits, workers)
  }

  /// Forward and backward of one case; its gradient is left in `gradient`.
  private func lossAndGradient(_ item: SlotCase, weights: [Float], dropout: DropoutDraw?) -> Double {
    sight.copy(item.images, into: pass.image)
    network.forward(pass, p, dropout: dropout, workers)
    let loss = CrossEntropy.loss(
      pass.logits, item.truth, weights: weights, gradient: pass.dLogits, workers)
    gradient.fill(0, workers)
    network.backward(pass, p, into: gradient, featureGradients: false, workers)
    return loss
  }
}

/// A loss that is not a number must end the run before the optimiser touches anything.
func guardFinite(_ loss: Double, _ what: String, _ cases: [SlotCase]) throws {
  guard !loss.isFinite else { return }
  throw Fault(
    .other,
    "the \(what) is \(loss) in a step with \(cases.map(\.id).joined(separator: ", ")); "
      + "the last checkpoint is good: lower the learning rate and run again with --resume")
}
