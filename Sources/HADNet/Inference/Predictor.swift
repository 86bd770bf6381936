/// Segments prepared cases with a trained network, dropout off.
public final class Predictor {
  public let model: Model
  private let workers: Workers
  private var pass: UNetPass

  public init(_ model: Model, _ workers: Workers) {
    self.model = model
    self.workers = workers
    model.p.freeze()
    pass = UNetPass(model.network, model.facts.size, .inference(features: false))
  }

  /// The class of each voxel of a case on its prepared grid. A case larger than the model's common size is not cut:
  /// the network is fully convolutional.
  public func segment(_ images: Volume) -> LabelVolume {
    if pass.size != images.size { pass = UNetPass(model.network, images.size, .inference(features: false)) }
    model.facts.sight.copy(images, into: pass.image)
    model.network.forward(pass, model.p, workers)
    return Segmentation.labels(pass.logits, workers)
  }

  /// Segments the files of a case and writes DIR/ID.nii.gz on the patient's own grid with the data set's labels.
  /// Gives whether the case was larger than the model's common size.
  public func write(_ prepared: PreparedCase, convention: LabelConvention, into folder: String) throws -> Bool
  {
    try prepared.placement.write(
      segment(prepared.images), convention: convention, to: "\(folder)/\(prepared.id).nii.gz")
    return prepared.size != model.facts.size
  }
}
