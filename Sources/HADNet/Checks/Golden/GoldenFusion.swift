import Compute
import Imaging
import Files
import Learning
import Methods
import Networks

/// Golden values of U-HeMIS's or U-HVED's step.
struct GoldenFusion {
  private let file: GoldenFile
  private let workers: Workers
  private let item: SlotCase
  private let network: FusionNetwork
  /// What files call the sequence of the third case.
  private let alone: String
  /// U-HVED's noise of each level.
  private let noise: [Volume]

  /// All sequences, a student's, and one alone: which are there, in the input's order.
  private let cases: [(name: String, present: [Bool])]

  init(_ file: GoldenFile, _ workers: Workers) throws {
    self.file = file
    self.workers = workers
    let count = file.sequences.count, last = "final_conv_seg_\(count)/conv_/w"
    let isHVED = file.contents.entries.keys.contains("init/VAE/ConvDecoderImg/\(last)")
    let classes = try file.classes(
      "init/VAE/ConvDecoderImg/\(isHVED ? last : "final_conv_seg/conv_/w")")
    item = try file.item(classes: classes)
    alone = FusionNetwork.name(file.sequences[file.alone])
    let width = try file.extents("init/VAE/ConvEncoder/conv_0_\(alone)_leakyrelu/conv_/w", 5)[0]
    guard width % 2 == 0, width <= 256 else {
      throw Fault(.invalid, "\(file.path): \(width) channels at full size; expected an even number up to 256")
    }
    network = FusionNetwork(
      isHVED ? .gaussians : .moments, width: width, sequences: file.sequences, classes: classes)
    let channels = 0..<count, names = file.namesSequences ? ["present", "alone"] : ["no_t1ce", "only_t1"]
    cases = [
      ("all", channels.map { _ in true }), (names[0], channels.map(file.present.contains)),
      (names[1], channels.map { $0 == file.alone }),
    ]
    noise = isHVED ? try (1...FusionNetwork.levels).map { try file.volume("noise/\($0)") } : []
    var size = item.images.size
    for (level, volume) in noise.enumerated() {
      let shape = Shape(size, network.fusedChannels(level))
      guard volume.shape == shape else {
        throw Fault(.invalid, "\(file.path): noise/\(level + 1) is \(volume.shape), expected \(shape)")
      }
      size = size.halvedUp
    }
  }

  private var isHVED: Bool { network.fusion == .gaussians }

  func groups() throws -> [Golden.Group] {
    let p = try file.load("", network.layout)
    let terms = FusionStep.terms(network.fusion), rows = try file.trace(columns: 1 + terms.count)
    let paper = HeteromodalTraining()
    // Four steps, again from the first where there are more.
    let step = FusionStep(
      network, p,
      .init(
        decay: paper.training.decay, divergence: paper.divergence, reconstruction: paper.reconstruction,
        optimiser: .init(beta1: 0.9, beta2: 0.999, isEpsilonUncorrected: true)),
      size: item.images.size,
      draw: .init { _, batch, _ in draw(cases[[0, 1, 2, 1][batch.step % 4]].present) },
      .single(),
      workers)
    var forward = GoldenFile.Worst(bound: 1e-4), losses = GoldenFile.Worst(bound: 1e-5)
    var gradients = GoldenFile.Worst(bound: 1e-3)
    for (name, present) in cases {
      try self.forward(name, present, step, &forward)
      let found = step.learn(item, draw(present))
      try compare(name, found, &losses)
      try self.gradients(name, present, step.gradient, &gradients)
    }
    if isHVED {
      try means(step, &forward)
    } else {
      try odd(p, &forward)
    }
    var groups = [forward.group("forward"), losses.group("losses"), gradients.group("gradients")]

    let loop = SlotStep(step, .single())
    let reports = try rows.indices.map {
      try loop.run(Batch(cases: [item], filled: 1, step: $0, rate: 1e-3)).means.all
    }
    for (column, name) in (["loss"] + terms.map(\.name)).enumerated() {
      groups.append(
        GoldenFile.column("trace: \(name)", reports.map { $0[column] }, rows.map { $0[column] }, bound: 1e-4))
    }
    var after = GoldenFile.Worst(bound: 1e-3)
    for parameter in network.layout.parameters where !GoldenFusion.isBeforeNorm(parameter.name) {
      let values = goldenDigest(p.numbers(of: parameter))
      after.take(
        parameter.name, try file.digest("digest/after/\(parameter.name)", of: parameter.count),
        norm: values.norm, first: values.first)
    }
    groups.append(after.group("network after \(rows.count) steps"))
    return groups
  }

  private func draw(_ present: [Bool]) -> FusionStep.Draw {
    .init(present: present) { level, volume in volume.copy(from: noise[level]) }
  }

  /// The 1³ convolutions of the encoders: an instance norm follows with nothing but a leaky ReLU between, so the true
  /// gradient is nearly 0.
  private static func isBeforeNorm(_ name: String) -> Bool { name.contains("/conv_0_") }

  /// Whose gradient a file holds in full, of the second case: the segmentation's decoder, all last kernels, and most of
  /// one encoder.
  private func isInFull(_ name: String) -> Bool {
    let isEncoder = name.contains("_\(alone)/") || name.contains("_\(alone)_")
    return name.contains("_seg") || (name.contains("ConvEncoder") && isEncoder && !name.contains("block_4"))
  }

  // MARK: Groups

  private func forward(
    _ name: String, _ present: [Bool], _ step: FusionStep, _ worst: inout GoldenFile.Worst
  ) throws {
    let pass = step.pass
    encode(present, samples: true, step)
    func compare(_ what: String, _ values: [Float]) throws {
      let digest = goldenDigest(values)
      worst.take(
        "\(name) \(what)", try file.digest("digest/forward/\(name).\(what)", of: values.count),
        norm: digest.norm, first: digest.first)
    }
    for level in 0..<FusionNetwork.levels {
      if isHVED {
        let shape = pass.fused[level].shape, mean = Volume(zeros: shape), logVariance = Volume(zeros: shape)
        pass.gaussians(level).posterior(mean: mean, logVariance: logVariance, workers)
        try compare("posterior.\(level + 1).mean", GoldenFusion.channelsFirst([mean]))
        try compare("posterior.\(level + 1).logvar", GoldenFusion.channelsFirst([logVariance]))
      } else {
        try compare("fused.\(level + 1)", GoldenFusion.channelsFirst([pass.fused[level]]))
      }
    }
    let outputs = decodeAll(step)
    try compare("logits", GoldenFusion.channelsFirst([outputs[0]]))
    if isHVED { try compare("recon", GoldenFusion.channelsFirst(Array(outputs.dropFirst()))) }
    guard name != cases[2].name else { return }
    try file.compare("forward/\(name).logits", outputs[0], &worst)
    if isHVED { try file.compare("forward/\(name).recon", GoldenFusion.sideBySide(outputs), &worst) }
  }

  private func encode(_ present: [Bool], samples: Bool, _ step: FusionStep) {
    for (i, image) in step.pass.images.enumerated() {
      FusionStep.copy(item.images, channel: i, into: image, workers)
    }
    for (level, volume) in step.pass.noise.enumerated() { volume.copy(from: noise[level]) }
    network.encode(step.pass, step.p, present: present, samples: samples, workers)
  }

  /// Copies of all decoders' outputs.
  private func decodeAll(_ step: FusionStep) -> [Volume] {
    network.decoders.indices.map { index in
      network.decode(index, step.pass, step.p, workers)
      let output = step.pass.output(index)
      return Volume(output.shape, output.array)
    }
  }

  private static func sideBySide(_ outputs: [Volume]) -> Volume {
    let sequences = Array(outputs.dropFirst()),
      volume = Volume(zeros: Shape(outputs[0].size, sequences.count))
    var placed = volume.mutableValues
    for (c, sequence) in sequences.enumerated() {
      let values = sequence.values
      for v in values.indices { placed[v * sequences.count + c] = values[v] }
    }
    return volume
  }

  private static func channelsFirst(_ volumes: [Volume]) -> [Float] {
    volumes.flatMap { volume in
      let values = volume.array, channels = volume.channels
      return (0..<channels).flatMap { c in stride(from: c, to: values.count, by: channels).map { values[$0] }
      }
    }
  }

  /// U-HVED by its means in place of samples, in the second case.
  private func means(_ step: FusionStep, _ worst: inout GoldenFile.Worst) throws {
    encode(cases[1].present, samples: false, step)
    let outputs = decodeAll(step)
    try file.compare("forward/\(cases[1].name).mean.logits", outputs[0], &worst)
    let values = GoldenFusion.channelsFirst(Array(outputs.dropFirst())), digest = goldenDigest(values)
    worst.take(
      "\(cases[1].name) mean recon",
      try file.digest("digest/forward/\(cases[1].name).mean.recon", of: values.count),
      norm: digest.norm, first: digest.first)
  }

  /// U-HeMIS on a volume of odd sizes, in the second case, in a pass for inference.
  private func odd(_ p: ParameterVector, _ worst: inout GoldenFile.Worst) throws {
    let images = try file.volume("input/odd")
    guard images.channels == network.encoders.count else {
      throw Fault(
        .invalid,
        "\(file.path): input/odd has \(images.channels) sequences, expected \(network.encoders.count)")
    }
    let pass = FusionPass(network, images.size, .inference)
    for (i, image) in pass.images.enumerated() {
      FusionStep.copy(images, channel: i, into: image, workers)
    }
    network.encode(pass, p, present: cases[1].present, workers)
    network.decode(0, pass, p, workers)
    try file.compare("forward/odd.logits", pass.output(0), &worst)
  }

  private func compare(
    _ name: String, _ found: FusionStep.CaseLosses, _ worst: inout GoldenFile.Worst
  ) throws {
    var values = [
      "total": found.values.loss, "ce": found.values[.crossEntropyOfClasses], "dice": found.values[.dice],
      "decay": found.decay,
    ]
    if isHVED {
      values["recon"] = found.values[.reconstruction]
      values["kl"] = found.values[.divergence]
      for (level, divergence) in found.divergences.enumerated() {
        values["kl.inter.\(level + 1)"] = divergence.inter
        values["kl.prior.\(level + 1)"] = divergence.prior
      }
    }
    for (term, value) in values.sorted(by: { $0.key < $1.key }) {
      let expected = try file.number("loss/\(name)/\(term)")
      worst.take("\(name) \(term)", abs(value - expected) / max(abs(expected), .leastNormalMagnitude))
    }
  }

  private func gradients(
    _ name: String, _ present: [Bool], _ gradient: ParameterVector, _ worst: inout GoldenFile.Worst
  ) throws {
    let digests = try network.layout.parameters.map { parameter in
      (parameter, try file.digest("digest/grad/\(name)/\(parameter.name)", of: parameter.count))
    }
    let largest = digests.map { $0.1.norm }.max() ?? 0
    for (parameter, digest) in digests {
      let values = gradient.numbers(of: parameter), found = goldenDigest(values),
        label = "\(name) \(parameter.name)"
      if digest.norm == 0 {
        // Norms of an encoder that was dropped.
        worst.take(label, found.norm == 0 ? 0 : .infinity)
      } else if GoldenFusion.isBeforeNorm(parameter.name) {
        worst.take(label, abs(found.norm - digest.norm) / largest, bound: 1e-4)
      } else {
        worst.take(label, digest, norm: found.norm, first: found.first)
      }
      guard name == cases[1].name && isInFull(parameter.name) else { continue }
      let expected = try file.floats("grad/\(name)/\(parameter.name)", parameter.extents)
      var difference = 0.0, norm = 0.0
      for (a, e) in zip(values, expected) {
        difference += (Double(a) - Double(e)) * (Double(a) - Double(e))
        norm += Double(e) * Double(e)
      }
      if GoldenFusion.isBeforeNorm(parameter.name) {
        worst.take(label, difference.squareRoot() / largest, bound: 1e-4)
      } else {
        worst.take(label, (difference / max(norm, .leastNormalMagnitude)).squareRoot())
      }
    }
  }
}
