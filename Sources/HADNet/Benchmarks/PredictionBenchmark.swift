/// Measures forward passes of a student for inference: plain ones, and Monte-Carlo samples with dropout on.
public struct PredictionBenchmark: Sendable {
  public struct Result: Codable, Sendable {
    public var shape: Size
    public var k, threads: Int
    /// Median seconds of a plain pass; the first is not among `runs`.
    public var seconds: Double
    public var runs: [Double]
    /// Mean seconds of a sample.
    public var sampleSeconds: Double
    public var samples: Int
    /// VmHWM / 2³⁰.
    public var peakGiB: Double
    public var kernels: String

    private enum CodingKeys: String, CodingKey {
      case shape, k, threads, seconds, runs, samples, kernels
      case sampleSeconds = "sample_seconds"
      case peakGiB = "peak_gib"
    }
  }

  public let size: Size
  public let k, repeats, samples: Int

  public init(size: Size, k: Int, repeats: Int, samples: Int) {
    self.size = size
    self.k = k
    self.repeats = repeats
    self.samples = samples
  }

  public func run(_ workers: Workers) -> Result {
    let network = UNet(inputs: Modality.student.count, k: k), p = network.initialParameters(seed: 1, part: 0)
    p.freeze()
    let pass = UNetPass(network, size, .inference(features: false))
    func seconds(_ dropout: DropoutDraw?) -> Double {
      var random = Philox(seed: 1, .test)
      for i in 0..<pass.image.shape.count { pass.image.base[i] = random.uniform() }
      let start = ContinuousClock.now
      network.forward(pass, p, dropout: dropout, workers)
      return (ContinuousClock.now - start) / .seconds(1)
    }
    _ = seconds(nil)
    let runs = (0..<repeats).map { _ in seconds(nil) }, sorted = runs.sorted()
    let drawn = (0..<samples).map {
      seconds(DropoutDraw(probability: 0.2, seed: 1, .dropout, step: $0, slot: 0))
    }
    return Result(
      shape: size, k: k, threads: workers.count,
      seconds: (sorted[(repeats - 1) / 2] + sorted[repeats / 2]) / 2, runs: runs,
      sampleSeconds: drawn.reduce(0, +) / Double(samples), samples: samples, peakGiB: StepBenchmark.peakGiB(),
      kernels: BLAS.name)
  }
}
