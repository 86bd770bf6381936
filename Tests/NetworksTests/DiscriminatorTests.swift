import Testing

@testable import Compute
@testable import Networks
@testable import TestSupport

@Suite struct NetworksDiscriminatorTests {
  /// By hand from the table: 64ab + b a block, and 64 · 32k of the last, which has no bias.
  @Test(arguments: [(32, true, 88_205_184), (32, false, 44_164_992), (2, true, 351_864), (1, true, 89_916)])
  func parametersAreAsManyAsTheTableSays(k: Int, hierarchical: Bool, count: Int) {
    #expect(Discriminator(k: k, hierarchical: hierarchical).layout.count == count)
    var sum = 64 * 32 * k
    for (before, features, out) in [
      (7, 0, 4 * k), (4 * k, 4 * k, 8 * k), (8 * k, 8 * k, 16 * k), (16 * k, 16 * k, 32 * k),
    ] {
      sum += 64 * (before + (hierarchical ? features : 0)) * out + out
    }
    #expect(sum == count)
  }

  @Test(arguments: [("step_k2", true), ("adnet_k2", false)])
  func namesAndShapesAreThePublishedOnes(name: String, hierarchical: Bool) throws {
    let file = try Safetensors(path: "\(parityFolder)/\(name).safetensors")
    let published = file.entries.filter { $0.key.hasPrefix("init/disc.") }.mapValues(\.extents)
    let layout = Discriminator(k: 2, hierarchical: hierarchical).layout
    #expect(
      Dictionary(uniqueKeysWithValues: layout.parameters.map { ("init/disc." + $0.name, $0.extents) })
        == published)
  }

  @Test func initialParametersFollowTheFanIn() {
    let network = Discriminator(k: 2), p = network.initialParameters(seed: 1, part: 0)
    for (name, fanIn) in [
      ("disc_1.0", 7), ("disc_2.0", 16), ("disc_3.0", 32), ("disc_4.0", 64), ("disc_5", 64),
    ] {
      let bound = (1 / Float(64 * fanIn)).squareRoot()
      for parameter in network.layout.parameters where parameter.name.hasPrefix(name) {
        let values = Array(p[parameter])
        #expect(values.allSatisfy { abs($0) <= bound }, "\(parameter.name)")
        // 3 of 4 reach half the bound's size with any sample of 8 or more.
        #expect(
          values.contains { $0 > bound / 2 } && values.contains { $0 < -bound / 2 }, "\(parameter.name)")
      }
    }
  }

  /// A network's pass whose outputs are plain numbers: logits of any sign, features as they are stored.
  private func outputs(_ size: Size, k: Int) -> UNetPass {
    let pass = UNetPass(UNet(inputs: 3, k: k), size, .training(features: .all))
    func fill(_ volume: Volume, _ part: Int, _ change: (Float) -> Float) {
      for (i, value) in normals(volume.shape.count, part).enumerated() { volume.base[i] = change(value) }
    }
    fill(pass.image, 1) { $0 }
    fill(pass.logits, 2) { $0 }
    for pair in 0..<3 {
      // Above 0, where the activation changes nothing; norms are the identity until a forward pass.
      fill(pass.encoderFeature(pair).volume, 3 + pair) { abs($0) + 0.1 }
      fill(pass.decoderFeature(pair, upsampled: true).volume, 6 + pair) { abs($0) + 0.1 }
    }
    return pass
  }

  @Test(arguments: [true, false])
  func gradientsMatchFiniteDifferences(hierarchical: Bool) {
    let size = Size(32, 48, 32), network = Discriminator(k: 1, hierarchical: hierarchical)
    let p = network.initialParameters(seed: 3, part: 0), workers = Workers.poisoned(2)
    let outputs = outputs(size, k: 1), pass = DiscriminatorPass(network, size)
    func loss() -> Double {
      network.forward([.init(pass, of: outputs)], sequences: outputs.image, p, workers)
      return LeastSquares.loss(pass.scores, target: 1, factor: 1, gradient: pass.dScores)
    }
    let dp = ParameterVector(zeros: network.layout)
    _ = loss()
    outputs.dLogits.fill(0)
    network.backward(
      [.init(pass, of: outputs)], sequences: outputs.image, p, into: dp, intoNetwork: true, workers)
    var parts = network.layout.parameters.map { ($0.name, p[$0], Array(dp[$0])) }
    func volume(_ name: String, _ volume: Volume, _ gradient: Volume) {
      parts.append(
        (name, UnsafeMutableBufferPointer(start: volume.base, count: volume.shape.count), gradient.array))
    }
    volume("logits", outputs.logits, outputs.dLogits)
    if hierarchical {
      for pair in 0..<3 {
        volume("encoder \(pair)", outputs.encoderFeature(pair).volume, outputs.encoderFeatureGradient(pair))
        volume(
          "decoder \(pair)", outputs.decoderFeature(pair, upsampled: true).volume,
          outputs.decoderFeatureGradient(pair))
      }
    }
    for (name, values, gradient) in parts {
      if ParameterLayout.isBiasBeforeNorm(name) {
        #expect(gradient.allSatisfy { $0 == 0 }, "\(name)")
        continue
      }
      let slopes = slopes(values, gradient.map(Double.init), shares: [1e-2, 1e-3, 1e-4], loss)
      #expect(slopes.error <= 0.02, "\(name): \(slopes)")
    }
  }
}
