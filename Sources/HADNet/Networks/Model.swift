import Compute
import Files
import Foundation
import Imaging

/// A trained segmentation network with all that using it needs: what a model file holds.
package struct Model {
  /// The networks there are.
  package enum Network: Sendable {
    case unet(UNet)
    case fusion(FusionNetwork)

    package var layout: ParameterLayout {
      switch self {
      case .unet(let network): network.layout
      case .fusion(let network): network.layout
      }
    }

    /// Its name in a model file.
    fileprivate var name: String {
      switch self {
      case .unet: "unet"
      case .fusion(let network): network.fusion == .moments ? "u-hemis" : "u-hved"
      }
    }
  }

  /// What U-HVED segments from.
  package enum Latent: Equatable, Sendable {
    case means
    /// One sample: its noise is a function of the seed, the case's name and the window.
    case sample(seed: UInt64)
  }

  /// What the file says about the network beside its numbers.
  package struct Metadata: Equatable, Sendable {
    /// As tables name it: Teacher, Student, HAD-Net, …
    package var method: String
    /// Channels at full size.
    package var k: Int
    package var dropout: Float
    /// What the network sees, in channel order.
    package var sequences: [Modality]
    /// The size cases are padded to; instance norm sees the padding, so it belongs to the model. With a
    /// `standardisation` in the preparation: that of the windows in which a case is segmented.
    package var size: Size
    package var preparation: Preparation
    /// U-HVED only.
    package var latent: Latent?

    package init(
      method: String, k: Int, dropout: Float, sequences: [Modality], size: Size, preparation: Preparation,
      latent: Latent? = nil
    ) {
      self.method = method
      self.k = k
      self.dropout = dropout
      self.sequences = sequences
      self.size = size
      self.preparation = preparation
      self.latent = latent
    }

    package var task: SegmentationTask { preparation.task }
    package var inputs: InputChannels {
      InputChannels(task.sequences.indices.filter { sequences.contains(task.sequences[$0]) })
    }
  }

  /// Changes when older files can no longer be read.
  static let formatVersion = "1"

  package let metadata: Metadata
  package let network: Network
  package let p: Parameters

  package init(_ metadata: Metadata, _ network: Network, _ p: Parameters) {
    self.metadata = metadata
    self.network = network
    self.p = p
  }

  /// The file: parameters under the published names, its metadata beside them.
  package var writer: Safetensors.Writer {
    var entries = [
      "format": Model.formatVersion, "network": network.name, "method": metadata.method, "k": "\(metadata.k)",
      "dropout": "\(metadata.dropout)", "task": metadata.task.json,
      "sequences": metadata.sequences.map(\.rawValue).joined(separator: ","),
      "size": metadata.size.array.map(String.init).joined(separator: ","),
      "preparation": "\(Preparation.version)", "mask": metadata.preparation.mask.rawValue,
      "negative": metadata.preparation.negative.rawValue, "ceiling": "\(metadata.preparation.ceiling)",
    ]
    if let standardisation = metadata.preparation.standardisation {
      entries["landmarks"] = standardisation.landmarks.json
      entries["least_side"] = "\(standardisation.leastSide)"
      entries["border"] = "\(standardisation.border)"
    }
    switch metadata.latent {
    case .means: entries["latent"] = "means"
    case .sample(let seed): entries["latent"] = "\(seed)"
    case nil: break
    }
    return Safetensors.Writer([.init("", p)], metadata: entries)
  }

  /// Reads a model file.
  ///
  /// `isVerified`: whether a file without the hash of its fields and numbers is refused: nothing else tells
  /// whether its ceiling, for example, is the one it was trained with.
  /// `isKnown`: whether its bytes are known to be those that were written, and not hashed again.
  ///
  /// Throws `.missing` where there is none, `.invalid` where the file is damaged, no model, or of a network that this
  /// machine has no memory for.
  package init(file path: String, isVerified: Bool = true, isKnown: Bool = false) throws {
    let file = try Safetensors(path: path, isSealed: isVerified, isKnown: isKnown)
    func fact(_ key: String) throws -> String {
      guard let value = file.metadata[key] else {
        throw Fault(.invalid, "\(path): no model file of this program: its metadata lack \(key)")
      }
      return value
    }
    func parsed<Value>(_ key: String, _ parse: (String) -> Value?) throws -> Value {
      let text = try fact(key)
      guard let value = parse(text) else {
        throw Fault(.invalid, "\(path): \(key) in its metadata is \(text)")
      }
      return value
    }
    let format = try fact("format")
    guard format == Model.formatVersion else {
      throw Fault(.invalid, "\(path): format \(format); this program reads format \(Model.formatVersion)")
    }
    guard try fact("preparation") == "\(Preparation.version)" else {
      throw Fault(.invalid, "\(path): made with another preparation of the data than this program's")
    }
    let task = try parsed("task") { SegmentationTask(json: $0) }
    let sequences = try parsed("sequences") { text -> [Modality]? in
      let all = text.split(separator: ",").map { Modality(rawValue: String($0)) }
      return all == task.sequences || all == task.present ? all : nil
    }
    let name = try fact("network"), isUNet = name == "unet"
    let size = try parsed("size") { text -> Size? in
      let sides = text.split(separator: ",").compactMap { Int($0) }
      guard sides.count == 3,
        sides.allSatisfy({ $0 > 0 && (!isUNet || $0 % UNet.multiple == 0) && $0 <= 4096 })
      else { return nil }
      return Size(sides[0], sides[1], sides[2])
    }
    let k = try parsed("k") { Int($0).flatMap { (1...1024).contains($0) ? $0 : nil } }
    var preparation = Preparation(
      task, modalities: sequences, mask: try parsed("mask") { Preparation.Mask(rawValue: $0) },
      negative: try parsed("negative") { Preparation.Negative(rawValue: $0) }, readsTruth: false,
      ceiling: try parsed("ceiling") { Double($0).flatMap { $0 > 0 ? $0 : nil } })
    var latent: Latent?
    let network: Network
    switch name {
    case "unet": network = .unet(UNet(inputs: sequences.count, k: k, classes: task.classCount))
    case "u-hemis", "u-hved":
      guard k % 2 == 0 else { throw Fault(.invalid, "\(path): k in its metadata is \(k)") }
      network = .fusion(
        FusionNetwork(
          name == "u-hemis" ? .moments : .gaussians, width: k, sequences: task.sequences,
          classes: task.classCount))
      let border = try parsed("border") { Int($0).flatMap { (0...1024).contains($0) ? $0 : nil } }
      guard size.array.allSatisfy({ $0 > 2 * border }) else {
        throw Fault(.invalid, "\(path): windows of \(size) with a border of \(border) in its metadata")
      }
      preparation.standardisation = Standardisation(
        landmarks: try parsed("landmarks") { json in
          (try? Landmarks(json: json)).flatMap { $0.cover(sequences) ? $0 : nil }
        },
        leastSide: try parsed("least_side") { Int($0).flatMap { (1...4096).contains($0) ? $0 : nil } },
        border: border)
      if name == "u-hved" {
        latent = try parsed("latent") { $0 == "means" ? .means : UInt64($0).map { .sample(seed: $0) } }
      }
    default: throw Fault(.invalid, "\(path): network in its metadata is \(name)")
    }
    let metadata = Metadata(
      method: try fact("method"), k: k,
      dropout: try parsed("dropout") { Float($0).flatMap { (0..<1).contains($0) ? $0 : nil } },
      sequences: sequences, size: size, preparation: preparation, latent: latent)
    try file.check("", network.layout)
    try AvailableMemory.check(
      network.segmentingBytes(size, task), "\(path): its network, for the \(size) voxels in its metadata,")
    let p = try FrozenParameters(network.layout) { try file.read("", into: $0) }
    if let parameter = p.firstUnfinite {
      throw Fault(.invalid, "\(path): \(parameter.name) holds what is not a finite number")
    }
    self.init(metadata, network, p)
  }
}

extension Model.Network {
  /// Bytes of a network's volumes while it segments `size` voxels, and of the case.
  fileprivate func segmentingBytes(_ size: Size, _ task: SegmentationTask) -> Int {
    var plan = WorkspacePlan()
    switch self {
    case .unet(let network): _ = UNetPass.VolumePlan(network, size, .inference(features: false), in: &plan)
    case .fusion(let network): _ = FusionPass.VolumePlan(network, size, .inference, in: &plan)
    }
    return 4 * plan.count + PreparedCase.bytes(size, sequences: task.sequences.count)
  }
}

extension Parameters {
  /// The first tensor with a number that is none, or infinite.
  fileprivate var firstUnfinite: Parameter? {
    layout.parameters.first { parameter in
      let values = self.values(of: parameter)
      return !values.indices.allSatisfy { values[$0].isFinite }
    }
  }
}
