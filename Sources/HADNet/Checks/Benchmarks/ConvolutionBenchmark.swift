import Compute
import Imaging
import Foundation
import Learning
import Methods
import Networks

/// Measures every distinct convolution of the networks on this machine, read as the networks read it.
package struct ConvolutionBenchmark: Sendable {
  /// A layer's rates in effective GFLOP/s: 2 · kernel³ · in · out · output voxels, however it is computed.
  package struct Row: Codable, Sendable {
    package var layer: String
    package var shape: Size
    package var inputs, outputs, kernel, stride: Int
    /// How forward and weight gradient, and how the data gradient, are computed.
    package var method: String
    package var dataMethod: String
    /// Median seconds.
    package var forwardSeconds: Double
    package var dataGradientSeconds: Double?
    package var weightGradientSeconds: Double
    package var forward: Double
    package var dataGradient: Double?
    package var weightGradient: Double
    /// GFLOP/s that the same threads reached in the same run with multiply-adds alone, and with small products.
    package var peak, products: Double
    package var kernels: String

    private enum CodingKeys: String, CodingKey {
      case layer, shape, inputs, outputs, kernel, stride, method, forward, kernels
      case dataMethod = "method_data"
      case forwardSeconds = "forward_s"
      case dataGradientSeconds = "data_gradient_s"
      case weightGradientSeconds = "weight_gradient_s"
      case dataGradient = "data_gradient"
      case weightGradient = "weight_gradient"
      case peak = "peak_gflops"
      case products = "blas_gflops"
    }
  }

  package let stage: Method
  package let size: Size
  package let k, repeats: Int

  /// The layers of U-HeMIS or U-HVED, k its width, or, for any other `stage`, of HAD-Net's networks.
  package init(_ stage: Method = .hadnet, size: Size, k: Int, repeats: Int) {
    self.stage = stage
    self.size = size
    self.k = k
    self.repeats = repeats
  }

  /// What is measured as one: a layer, or two whose outputs are added, with the channels that each reads.
  private struct Subject {
    let name: String
    let size: Size
    /// For each layer its sources: how many channels, and whether they are read upsampled.
    let sources: [[(channels: Int, upsampled: Bool)]]
    let outputs: Int
    var kernel = 3, stride = 1, padding = 1
    var hasDataGradient = true
  }

  private func subjects() throws -> [Subject] {
    // Its layers are those of any size.
    let small = Size(32, 32, 32)
    let setup = try RandomNetworks(k: k, size: small).setUp(stage, .single(), Workers(1))
    return switch setup.program.network {
    case .fusion(let network): fusionSubjects(network)
    case .unet: hadnetSubjects
    }
  }

  private func fusionSubjects(_ network: FusionNetwork) -> [Subject] {
    var sizes = [size], all: [Subject] = []
    for _ in 1..<FusionNetwork.levels { sizes.append(sizes[sizes.count - 1].halvedUp) }
    func add(_ name: String, _ level: Int, _ sources: [Int], _ outputs: Int, kernel: Int = 3) {
      all.append(
        Subject(
          name: name, size: sizes[level], sources: [sources.map { ($0, false) }], outputs: outputs,
          kernel: kernel, padding: kernel / 2, hasDataGradient: name != "encoder conv_0"))
    }
    add("encoder conv_0", 0, [1], network.width, kernel: 1)
    for (level, block) in network.encoders[0].blocks.enumerated() {
      add("encoder block_\(level + 1).conv_0", level, [block.inputs], block.inner)
      add("encoder block_\(level + 1).conv_1", level, [block.inner], block.outputs)
    }
    for (i, block) in network.decoders[0].blocks.enumerated() {
      let skip = network.fusedChannels(2 - i)
      add("decoder block_\(i + 1).conv_0", 2 - i, [block.inputs - skip, skip], block.inner)
      add("decoder block_\(i + 1).conv_1", 2 - i, [block.inner], block.outputs)
    }
    for decoder in network.decoders.prefix(2) {
      add("final_conv \(decoder.last.outputs)", 0, [decoder.last.inputs], decoder.last.outputs, kernel: 1)
    }
    return all
  }

  private var hadnetSubjects: [Subject] {
    var sizes = [size]
    for _ in 0..<4 { sizes.append(sizes[sizes.count - 1].halved) }
    var all: [Subject] = []
    func plain(_ name: String, _ level: Int, _ inputs: Int, _ outputs: Int, first: Bool = false) {
      all.append(
        Subject(
          name: name, size: sizes[level], sources: [[(inputs, false)]], outputs: outputs,
          hasDataGradient: !first))
    }
    plain("student conv_d1.conv1", 0, 3, k, first: true)
    plain("teacher conv_d1.conv1", 0, 4, k, first: true)
    for level in 0..<4 {
      if level > 0 { plain("conv_d\(level + 1).conv1", level, k << (level - 1), k << level) }
      plain("conv_d\(level + 1).conv2", level, k << level, k << level)
    }
    plain("conv_c5.conv1", 4, 8 * k, 16 * k)
    plain("conv_c5.conv2", 4, 16 * k, 8 * k)
    for level in stride(from: 3, through: 0, by: -1) {
      let c = k << level
      all.append(
        Subject(
          name: "conv_u\(level + 1) join", size: sizes[level], sources: [[(c, false)], [(c, true)]],
          outputs: c))
      if level > 0 { plain("conv_u\(level + 1).conv_out", level, c, c / 2) }
    }
    all.append(
      Subject(
        name: "conv_out", size: size, sources: [[(k, false)]], outputs: TaskPreset.brats.task.classCount,
        kernel: 1, padding: 0))
    for block in 0..<4 {
      let features = k << block
      all.append(
        Subject(
          name: "disc_\(block + 1)", size: sizes[block],
          sources: block == 0
            ? [[(TaskPreset.brats.task.classCount, false), (TaskPreset.brats.task.present.count, false)]]
            : [[(2 * features, false), (features, false), (features, true)]],
          outputs: 4 * features, kernel: 4, stride: 2))
    }
    all.append(Subject(name: "disc_5", size: sizes[4], sources: [[(32 * k, false)]], outputs: 1, kernel: 4))
    return all
  }

  /// Measures all layers, or those with `part` in their names.
  package func run(_ workers: Workers, only part: String? = nil) throws -> [Row] {
    // On a shared machine one measurement may fall into a bad moment: the best of all is the peak.
    var peak = 0.0, products = 0.0
    let subjects = try subjects(),
      chosen = subjects.filter { subject in part.map { subject.name.contains($0) } ?? true }
    var rows = chosen.map { subject in
      peak = max(peak, Peak.multiplyAdd(workers))
      products = max(products, Peak.products(workers))
      return row(subject, workers)
    }
    for i in rows.indices { (rows[i].peak, rows[i].products) = (peak, products) }
    return rows
  }

  /// For each way of computing forward, the layers that are computed so.
  package func methods() throws -> [(method: String, layers: [String])] {
    var methods: [(method: String, layers: [String])] = []
    for subject in try subjects() {
      let method = Bench(subject, volumes: false).method
      if let known = methods.firstIndex(where: { $0.method == method }) {
        methods[known].layers.append(subject.name)
      } else {
        methods.append((method, [subject.name]))
      }
    }
    return methods
  }

  /// A subject's layers with parameters and volumes of their own.
  private struct Bench {
    let layers: [Convolution]
    let layout: ParameterLayout
    let sources: [[LayerInput]]
    let output: Shape

    /// Without `volumes` only shapes matter, and nothing may be computed.
    init(_ subject: Subject, volumes: Bool) {
      var layout = ParameterLayout()
      layers = subject.sources.enumerated().map { i, sources in
        Convolution(
          "\(i)", sources.reduce(0) { $0 + $1.channels }, subject.outputs, kernel: subject.kernel,
          stride: subject.stride, padding: subject.padding, in: &layout)
      }
      self.layout = layout
      sources = subject.sources.map { sources in
        sources.map { channels, upsampled in
          let shape = Shape(upsampled ? subject.size.halved : subject.size, channels)
          let x = volumes ? Volume(zeros: shape) : Volume(unbacked: shape)
          if volumes {
            var values = x.mutableValues
            for i in values.indices { values[i] = Float(i % 251) * 0.004 - 0.5 }
          }
          return LayerInput(x, Norm(identity: channels), slope: UNet.slope, upsampled: upsampled)
        }
      }
      output = Shape(layers[0].outputSize(subject.size), subject.outputs)
    }

    var method: String {
      names(zip(layers, sources).flatMap { layer, sources in sources.map { layer.kernelName($0) } })
    }

    var dataMethod: String {
      names(
        zip(layers, sources).flatMap { layer, sources in
          sources.map { layer.dataGradientKernelName($0.channels, $0.size, upsampled: $0.upsampled) }
        })
    }

    private func names(_ all: [String]) -> String {
      var names: [String] = []
      for name in all where !names.contains(name) { names.append(name) }
      return names.joined(separator: " + ")
    }
  }

  private func row(_ subject: Subject, _ workers: Workers) -> Row {
    let bench = Bench(subject, volumes: true), layers = bench.layers, sources = bench.sources
    var random = Philox(seed: 1, .test)
    let p = ParameterVector(zeros: bench.layout), dp = ParameterVector(zeros: bench.layout)
    for parameter in bench.layout.parameters {
      var values = p.mutableValues(of: parameter)
      for i in values.indices { values[i] = random.uniform(-0.1, 0.1) }
    }
    let y = Volume(zeros: bench.output)
    let gradients = sources.map { $0.map { Volume(zeros: $0.volume.shape) } }
    let taps = Double(subject.kernel * subject.kernel * subject.kernel)
    let inputs = layers.reduce(0) { $0 + $1.inputs }
    let operations = 2 * taps * Double(inputs * subject.outputs) * Double(y.shape.voxels) / 1e9
    func median(_ body: () -> Void) -> Double {
      body()
      let times = (0..<repeats).map { _ in
        let start = ContinuousClock.now
        body()
        return (ContinuousClock.now - start) / .seconds(1)
      }.sorted()
      return (times[(times.count - 1) / 2] + times[times.count / 2]) / 2
    }
    let forward = median {
      let terms = zip(layers, sources).map { ConvolutionTerm(layer: $0, sources: $1) }
      _ = Convolution.forward([Convolution.Sum(terms, y)], p, moments: true, workers)
    }
    let weight = median {
      for (layer, sources) in zip(layers, sources) {
        layer.addWeightGradient(y, sources, into: dp, biasMatters: false, workers)
      }
    }
    let data = subject.hasDataGradient ? median { dataGradient(bench, y, p, into: gradients, workers) } : nil
    return Row(
      layer: subject.name, shape: subject.size, inputs: inputs, outputs: subject.outputs,
      kernel: subject.kernel,
      stride: subject.stride, method: bench.method, dataMethod: bench.dataMethod, forwardSeconds: forward,
      dataGradientSeconds: data, weightGradientSeconds: weight, forward: operations / forward,
      dataGradient: data.map { operations / $0 }, weightGradient: operations / weight, peak: 0, products: 0,
      kernels: BLAS.name)
  }

  private func dataGradient(
    _ bench: Bench, _ y: Volume, _ p: ParameterVector, into gradients: [[Volume]], _ workers: Workers
  ) {
    for (i, layer) in bench.layers.enumerated() {
      var first = 0
      for (source, gradient) in zip(bench.sources[i], gradients[i]) {
        layer.dataGradient(y, p, first: first, upsampled: source.upsampled, into: gradient, workers)
        first += source.channels
      }
    }
  }
}
