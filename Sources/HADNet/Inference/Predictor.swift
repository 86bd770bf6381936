import Compute
import Evaluation
import Files
import Imaging
import Networks

/// Segments prepared cases with a trained network, dropout off.
package final class Predictor {
  package let model: Model
  private let engine: any Engine

  /// How one kind of network segments a case on its prepared grid.
  private protocol Engine {
    func segment(_ prepared: PreparedCase) -> LabelVolume
    /// Refuses a case that is too large for the memory there is.
    func checkMemory(for prepared: PreparedCase) throws(Fault)
  }

  package init(_ model: Model, _ workers: Workers) {
    self.model = model
    switch model.network {
    case .unet(let network): engine = WholeVolume(model, network, workers)
    case .fusion(let network): engine = Windows(model, network, workers)
    }
  }

  /// The class of each voxel of a case on its prepared grid.
  package func segment(_ prepared: PreparedCase) -> LabelVolume { engine.segment(prepared) }

  /// Segments the files of a case and writes DIR/ID.nii.gz on the patient's own grid with the data set's labels.
  /// Gives whether the case was larger than the model's common size. Throws `.invalid` where the case is too large
  /// for the memory there is, `.storage` where the file can't be written.
  package func write(_ prepared: PreparedCase, values: LabelValues, into folder: String) throws -> Bool {
    try engine.checkMemory(for: prepared)
    try prepared.placement.write(
      segment(prepared), values: values, to: "\(folder)/\(prepared.id).nii.gz")
    return model.metadata.preparation.standardisation == nil && prepared.size != model.metadata.size
  }

  /// A U-Net sees the whole case at once. One that is larger than the model's common size is not cut: the network is
  /// fully convolutional.
  private final class WholeVolume: Engine {
    private let model: Model
    private let network: UNet
    private let workers: Workers
    private var pass: UNetPass

    init(_ model: Model, _ network: UNet, _ workers: Workers) {
      self.model = model
      self.network = network
      self.workers = workers
      pass = UNetPass(network, model.metadata.size, .inference(features: false))
    }

    func checkMemory(for prepared: PreparedCase) throws(Fault) {
      if pass.size != prepared.size {
        try UNetPass.checkMemory(
          network, prepared.size, .inference(features: false), "\(prepared.id): the network's pass")
      }
    }

    func segment(_ prepared: PreparedCase) -> LabelVolume {
      let images = prepared.images
      if pass.size != images.size { pass = UNetPass(network, images.size, .inference(features: false)) }
      model.metadata.inputs.copy(images, into: pass.image)
      network.forward(pass, model.p, workers)
      return Segmentation.labels(pass.logits, workers)
    }
  }

  /// A modality-agnostic network sees window after window, of the sequences that the model names.
  private final class Windows: Engine {
    private let model: Model
    private let network: FusionNetwork
    private let workers: Workers
    private var pass: FusionPass
    private let present: [Bool]
    private let border: Int

    init(_ model: Model, _ network: FusionNetwork, _ workers: Workers) {
      self.model = model
      self.network = network
      self.workers = workers
      present = model.metadata.task.sequences.map(model.metadata.sequences.contains)
      border = model.metadata.preparation.standardisation?.border ?? 0
      pass = FusionPass(network, model.metadata.size, .inference)
    }

    /// A window is never larger than the model's.
    func checkMemory(for prepared: PreparedCase) throws(Fault) {}

    func segment(_ prepared: PreparedCase) -> LabelVolume {
      let grid = WindowGrid(prepared.size, window: model.metadata.size, border: border)
      var result = LabelVolume(prepared.size, [UInt8](repeating: 0, count: prepared.size.voxels))
      for (index, window) in grid.windows.enumerated() {
        if pass.size != window.size { pass = FusionPass(network, window.size, .inference) }
        for channel in present.indices where present[channel] {
          prepared.images.copy(window, channels: [channel], into: pass.images[channel])
        }
        var samples = false
        if case .sample(let seed) = model.metadata.latent {
          samples = true
          let name = ContentHash.number(of: prepared.id)
          for (level, noise) in pass.noise.enumerated() {
            // All of the volume, and no more.
            unsafe Philox(seed: seed, .noise, name, index, part: level)
              .fillNormal(noise.base, count: noise.shape.count, workers)
          }
        }
        network.encode(pass, model.p, present: present, samples: samples, workers)
        network.decode(0, pass, model.p, workers)
        grid.write(Segmentation.labels(pass.output(0), workers), ofWindow: index, into: &result)
      }
      return result
    }
  }
}

extension Predictor {
  /// Refuses a model whose passes do not fit into the memory there is; `path`: its file.
  package static func checkMemory(_ model: Model, _ path: String) throws(Fault) {
    let size = model.metadata.size
    switch model.network {
    case .unet(let network):
      try UNetPass.checkMemory(network, size, .inference(features: false), "\(path): the network's pass")
    case .fusion(let network):
      var plan = WorkspacePlan()
      _ = FusionPass.VolumePlan(network, size, .inference, in: &plan)
      try AvailableMemory.check(
        4 * plan.count, "\(path): the network's pass over a window of \(size) voxels (x, y, z)")
    }
  }
}

extension UNetPass {
  /// Refuses a size for which the volumes of a pass do not fit into the memory there is.
  static func checkMemory(_ network: UNet, _ size: Size, _ purpose: Purpose, _ what: String) throws(Fault) {
    var plan = WorkspacePlan()
    _ = VolumePlan(network, size, purpose, in: &plan)
    try AvailableMemory.check(4 * plan.count, "\(what) over a brain of \(size) voxels (x, y, z)")
  }
}
