import Compute
import Evaluation
import Imaging
import Networks

/// Measures forward passes of a student for inference: plain ones, and Monte-Carlo samples with dropout on.
package struct PredictionBenchmark: Sendable {
  /// What a run found.
  package struct Result: Codable, Sendable {
    package var shape: Size
    package var k, threads: Int
    /// Median seconds of a plain pass; the first is not among `runs`.
    package var seconds: Double
    package var runs: [Double]
    /// Mean seconds of a sample.
    package var sampleSeconds: Double
    package var samples: Int
    /// VmHWM / 2³⁰.
    package var peakGiB: Double
    package var kernels: String

    private enum CodingKeys: String, CodingKey {
      case shape, k, threads, seconds, runs, samples, kernels
      case sampleSeconds = "sample_seconds"
      case peakGiB = "peak_gib"
    }
  }

  package let size: Size
  package let k, repeats, samples: Int

  /// `repeats` plain passes and `samples` dropout samples of a student with `k` channels at full size, on a volume of
  /// `size` voxels.
  package init(size: Size, k: Int, repeats: Int, samples: Int) {
    self.size = size
    self.k = k
    self.repeats = repeats
    self.samples = samples
  }

  /// Measures on these threads, with random weights and a random image.
  package func run(_ workers: Workers) -> Result {
    let network = UNet(
      inputs: TaskPreset.brats.task.present.count, k: k, classes: TaskPreset.brats.task.classCount)
    let p = FrozenParameters(network.layout) { network.initialise($0, seed: 1, part: 0) }
    func seconds(_ purpose: UNetPass.Purpose, _ body: (UNetPass) -> Void) -> Double {
      let pass = UNetPass(network, size, purpose), image = pass.image
      var random = Philox(seed: 1, .test)
      var values = image.mutableValues
      for i in values.indices { values[i] = random.uniform() }
      let start = ContinuousClock.now
      body(pass)
      return (ContinuousClock.now - start) / .seconds(1)
    }
    func plain() -> Double {
      seconds(.inference(features: false)) { network.forward($0, p, workers) }
    }
    /// As `DropoutSampler` draws them, the sums included.
    func sampled(_ numbers: Range<Int>, of samples: Int) -> Double {
      var sums = SampleSums(
        size, classes: network.classes, samples: samples, entropies: false)
      return seconds(.sampling) { pass in
        network.begin(pass, p, workers)
        for sample in numbers {
          let draw = DropoutDraw(probability: 0.2, seed: 1, .monteCarlo, step: sample, slot: 0)
          network.finish(pass, p, dropout: draw, workers)
          sums.add(pass.logits, workers)
        }
      }
    }
    _ = plain()
    _ = sampled(0..<1, of: 1)
    // Turn and turn about, so that what else the machine does meets both.
    var runs: [Double] = [], drawn = 0.0
    let blocks = Pieces(samples, least: 10, limit: max(1, repeats))
    for turn in 0..<max(repeats, blocks.count) {
      if turn < repeats { runs.append(plain()) }
      if turn < blocks.count { drawn += sampled(blocks[turn], of: samples) }
    }
    let sorted = runs.sorted()
    return Result(
      shape: size, k: k, threads: workers.count,
      seconds: (sorted[(repeats - 1) / 2] + sorted[repeats / 2]) / 2, runs: runs,
      sampleSeconds: drawn / Double(samples), samples: samples, peakGiB: StepBenchmark.peakGiB(),
      kernels: BLAS.name)
  }
}
