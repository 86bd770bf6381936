import Foundation

/// Measures every distinct convolution of the networks on this machine.
public struct ConvolutionBenchmark: Sendable {
  /// A layer's rates in effective GFLOP/s: 2 · kernel³ · in · out · output voxels, however it is computed.
  public struct Row: Codable, Sendable {
    public var layer: String
    public var shape: Size
    public var inputs, outputs, kernel, stride: Int
    /// Median seconds.
    public var forwardSeconds: Double
    public var dataGradientSeconds: Double?
    public var weightGradientSeconds: Double
    public var forward: Double
    public var dataGradient: Double?
    public var weightGradient: Double
    public var kernels: String

    private enum CodingKeys: String, CodingKey {
      case layer, shape, inputs, outputs, kernel, stride, forward, kernels
      case forwardSeconds = "forward_s"
      case dataGradientSeconds = "data_gradient_s"
      case weightGradientSeconds = "weight_gradient_s"
      case dataGradient = "data_gradient"
      case weightGradient = "weight_gradient"
    }
  }

  public let size: Size
  public let k, repeats: Int

  public init(size: Size, k: Int, repeats: Int) {
    self.size = size
    self.k = k
    self.repeats = repeats
  }

  public func run(_ workers: Workers) -> [Row] {
    var rows: [Row] = [], seen: Set<String> = []
    func measure(_ layer: Convolution, _ input: Size, needsDataGradient: Bool) {
      let key = "\(input) \(layer.inputs) \(layer.outputs) \(layer.kernel) \(needsDataGradient)"
      guard seen.insert(key).inserted else { return }
      rows.append(row(layer, input, needsDataGradient: needsDataGradient, workers))
    }
    let student = UNet(inputs: 3, k: k), teacher = UNet(inputs: 4, k: k)
    var sizes = [size]
    for _ in 0..<4 { sizes.append(sizes[sizes.count - 1].halved) }
    for level in 0..<5 {
      measure(student.down[level].first.convolutions[0], sizes[level], needsDataGradient: level > 0)
      if level == 0 { measure(teacher.down[0].first.convolutions[0], size, needsDataGradient: false) }
      measure(student.down[level].second.convolutions[0], sizes[level], needsDataGradient: true)
    }
    for level in 0..<4 {
      measure(student.up[level].second.convolutions[0], sizes[level], needsDataGradient: true)
    }
    measure(student.last, size, needsDataGradient: true)
    let discriminator = Discriminator(k: k)
    for (i, block) in discriminator.blocks.enumerated() {
      measure(block.convolutions[0], sizes[i], needsDataGradient: true)
    }
    measure(discriminator.last, sizes[4], needsDataGradient: true)
    return rows
  }

  private func row(_ layer: Convolution, _ input: Size, needsDataGradient: Bool, _ workers: Workers) -> Row {
    // The benchmark's own parameters: the layer's ranges point into its network's layout.
    var layout = ParameterLayout()
    let name = layer.weight.name.replacingOccurrences(of: ".weight", with: "")
    let own = Convolution(
      name, layer.inputs, layer.outputs, kernel: layer.kernel, stride: layer.stride, padding: layer.padding,
      bias: layer.bias != nil, in: &layout)
    var random = Philox(seed: 1, .test)
    let p = ParameterVector(zeros: layout), dp = ParameterVector(zeros: layout)
    for i in 0..<p.count { p.values[i] = random.uniform(-0.1, 0.1) }
    let x = Volume(zeros: Shape(input, layer.inputs)),
      y = Volume(zeros: Shape(layer.outputSize(input), layer.outputs))
    for i in 0..<x.shape.count { x.base[i] = Float(i % 251) * 0.004 - 0.5 }
    let dx = Volume(zeros: x.shape)
    let operations =
      2 * Double(layer.kernel * layer.kernel * layer.kernel) * Double(layer.inputs * layer.outputs)
      * Double(y.shape.voxels) / 1e9
    func median(_ body: () -> Void) -> Double {
      body()
      let times = (0..<repeats).map { _ in
        let start = ContinuousClock.now
        body()
        return (ContinuousClock.now - start) / .seconds(1)
      }.sorted()
      return (times[(times.count - 1) / 2] + times[times.count / 2]) / 2
    }
    let forward = median { own.forward([Source(x)], p, into: y, workers) }
    let weight = median { own.addWeightGradient(y, [Source(x)], into: dp, biasMatters: false, workers) }
    let data = needsDataGradient ? median { own.dataGradient(y, p, into: dx, workers) } : nil
    return Row(
      layer: name, shape: input, inputs: layer.inputs, outputs: layer.outputs, kernel: layer.kernel,
      stride: layer.stride, forwardSeconds: forward, dataGradientSeconds: data, weightGradientSeconds: weight,
      forward: operations / forward, dataGradient: data.map { operations / $0 },
      weightGradient: operations / weight, kernels: "direct, \(BLAS.name)")
  }
}
