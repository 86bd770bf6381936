import Testing

@testable import Compute
@testable import Learning
@testable import Methods
@testable import Networks
@testable import TestSupport

@Suite struct NetworksFusionNetworkTests {
  /// By hand from the tables: a block a→m→b has 27 (am + mb) weights and 2 (a + m) scales and shifts.
  @Test(arguments: [
    (FusionNetwork.Fusion.moments, 8, 565_888), (.gaussians, 8, 1_250_552), (.moments, 4, 141_896),
    (.gaussians, 2, 78_710),
  ])
  func parametersAreAsManyAsTheTableSays(fusion: FusionNetwork.Fusion, width: Int, count: Int) {
    let network = FusionNetwork(fusion, width: width), w = width, isHVED = fusion == .gaussians
    func block(_ a: Int, _ m: Int, _ b: Int) -> Int { 27 * (a * m + m * b) + 2 * (a + m) }
    // Of an encoder's block at full size half as many channels go on in U-HeMIS.
    let o = isHVED ? w : w / 2, f = isHVED ? w / 2 : w
    let encoder =
      w + block(w, w, o) + block(o, 2 * w, 2 * o) + block(2 * o, 4 * w, 4 * o) + block(4 * o, 8 * w, 8 * o)
    func decoder(_ outputs: Int) -> Int {
      block(8 * f + 4 * f, 4 * w, 2 * w) + block(2 * w + 2 * f, 2 * w, w) + block(w + f, w, w / 2)
        + w / 2 * outputs
    }
    let sum = 4 * encoder + decoder(4) + (isHVED ? 4 * decoder(1) : 0)
    #expect(network.layout.count == sum)
    #expect(sum == count)
    #expect(network.layout.parameters.count == (isHVED ? 195 : 119))
    #expect(network.kernels.count == (isHVED ? 71 : 43))
  }

  @Test(arguments: [(FusionNetwork.Fusion.moments, "uhemis_small"), (.gaussians, "uhved_small")])
  func namesAndShapesAreThePublishedOnes(fusion: FusionNetwork.Fusion, name: String) throws {
    let file = try Safetensors(path: "\(parityFolder)/\(name).safetensors")
    let published = file.entries.filter { $0.key.hasPrefix("init/") }.mapValues(\.extents)
    let layout = FusionNetwork(fusion, width: 4).layout
    #expect(
      Dictionary(uniqueKeysWithValues: layout.parameters.map { ("init/" + $0.name, $0.extents) }) == published
    )
  }

  /// Ranges that are told one after the other are the whole vector, each number once.
  @Test(arguments: FusionNetwork.Fusion.allCases)
  func encodersAndDecodersShareOutTheParameters(fusion: FusionNetwork.Fusion) {
    let network = FusionNetwork(fusion, width: 2)
    let ranges = network.encoders.map(\.parameters) + network.decoders.map(\.parameters)
    #expect(ranges.flatMap { Array($0) } == Array(0..<network.layout.count))
    for (modality, encoder) in zip(["_Flair", "_T1c", "_T1", "_T2"], network.encoders) {
      #expect(encoder.blocks[0].parameters.lowerBound == encoder.first.weight.range.upperBound)
      #expect(encoder.first.weight.name.contains("\(modality)_leakyrelu"), "\(encoder.first.weight.name)")
    }
    #expect(network.decoders.first?.last.outputs == 4)
    #expect(network.decoders.dropFirst().allSatisfy { $0.last.outputs == 1 })
  }

  /// The published checkpoints number the last kernels in the order T1, T1c, T2, Flair, seg.
  @Test func theLastKernelsOfUHVEDAreThoseOfTheirDecoders() {
    let network = FusionNetwork(.gaussians, width: 2)
    let names = network.decoders.map { decoder in
      let block = network.layout.parameters.first { $0.range.lowerBound == decoder.parameters.lowerBound }
      return
        "\(block?.name.split(separator: "/")[2] ?? "") \(decoder.last.weight.name.split(separator: "/")[2])"
    }
    #expect(
      names == [
        "block_1_seg final_conv_seg_4", "block_1_Flair final_conv_seg_3", "block_1_T1c final_conv_seg_1",
        "block_1_T1 final_conv_seg", "block_1_T2 final_conv_seg_2",
      ])
  }

  @Test func initialParametersAreCutNormalNumbersByTheFanIn() throws {
    let network = FusionNetwork(.moments, width: 8), p = network.initialParameters(seed: 1, part: 0)
    for parameter in network.layout.parameters {
      let values = p[parameter].map(Double.init), n = Double(values.count)
      if parameter.extents.count == 5 {
        let sd = (2 / (n / Double(parameter.extents[0]))).squareRoot()
        let found = values.reduce(0) { $0 + $1 * $1 } / n / (sd * sd)
        // Five standard errors of the variance of a normal variable that is cut at two standard deviations: E x⁴ is
        // 2.366 (E x²)².
        #expect(abs(found - 1) <= 5 * (1.366 / n).squareRoot(), "\(parameter.name): \(found)")
        let most = 2 * sd / 0.879_625_66 * (1 + 1e-6)
        #expect(values.allSatisfy { abs($0) <= most }, "\(parameter.name)")
        // 7 % of the numbers lie in the last tenth of the range, where there are enough of them.
        #expect(n < 500 || values.contains { abs($0) > 0.9 * most }, "\(parameter.name)")
      } else {
        let expected = parameter.name.hasSuffix("gamma") ? 1.0 : 0
        #expect(values.allSatisfy { $0 == expected }, "\(parameter.name)")
      }
    }
    #expect(network.initialParameters(seed: 1, part: 0).array == p.array)
    let first = try #require(network.kernels.first)
    for other in [network.initialParameters(seed: 1, part: 1), network.initialParameters(seed: 2, part: 0)] {
      #expect(Array(other[first]) != Array(p[first]))
    }
    // Encoders do not begin alike.
    let same = network.encoders.map { Array(p[$0.first.weight]) }
    #expect(Set(same).count == 4)
  }

  // MARK: Gradients

  /// A network, what it reads, and which sequences it fuses.
  private struct Example {
    let step: FusionStep
    let item: SlotCase
    let present: [Bool]
    let workers: Workers
    var network: FusionNetwork { step.fusion }
    var pass: FusionPass { step.pass }

    init(_ fusion: FusionNetwork.Fusion, _ size: Size, _ present: [Bool], _ workers: Workers) {
      let network = FusionNetwork(fusion, width: 4)
      step = FusionStep(
        network, network.parameters(seed: 3),
        .init(decay: 0.02, divergence: 0.1, reconstruction: 0.1, optimiser: .init(beta1: 0.9, beta2: 0.999)),
        size: size, draw: .random(4, seed: 1), .single(), workers)
      item = SlotCase(normal: 0, size)
      self.present = present
      self.workers = workers
    }

    var draw: FusionStep.Draw {
      .init(present: present) { level, volume in volume.copy(from: Volume(normal: volume.shape, 50 + level)) }
    }

    /// The network in Float64.
    var plain: PlainFusionNetwork {
      let noise = pass.noise.enumerated().map { normals($1.shape.count, 50 + $0).map(Double.init) }
      return PlainFusionNetwork(
        fusion: network.fusion, size: pass.size, item: item, present: present, noise: noise, decay: 0.02)
    }
  }

  /// Of every tensor, or every so many, along its gradient and a random direction at once. The plain network in Float64 is moved by steps
  /// that floats can take, some of their last digits: no kink lies in between but by chance. At the smaller sizes
  /// one voxel is left on the fourth level, which its norms make a constant: gradients before them are 0.
  @Test(arguments: [
    (FusionNetwork.Fusion.moments, Size(6, 5, 7), [true, false, true, true], 1),
    (.moments, Size(9, 8, 10), [true, true, true, true], 3),
    (.moments, Size(3, 17, 2), [false, false, true, false], 2),
    (.gaussians, Size(6, 5, 7), [true, false, true, false], 1),
    (.gaussians, Size(3, 17, 2), [false, false, true, false], 4),
  ])
  func gradientsMatchFiniteDifferencesOfThePlainNetwork(
    fusion: FusionNetwork.Fusion, size: Size, present: [Bool], every: Int
  ) {
    let example = Example(fusion, size, present, Workers.poisoned(2)), step = example.step
    let plain = example.plain, expected = plain.result(step.p)
    let found = step.learn(example.item, example.draw).values.all
    for (value, truth) in zip(found, expected.losses) {
      #expect(abs(value - truth) <= 1e-5 * truth, "\(found), expected \(expected.losses)")
    }
    let gradient = step.gradient.array, p = step.p
    func norm(_ range: Range<Int>) -> Double {
      gradient[range].reduce(0) { $0 + Double($1) * Double($1) }.squareRoot()
    }
    let largest = step.fusion.layout.parameters.map { norm($0.range) }.max() ?? 0
    for (i, parameter) in step.fusion.layout.parameters.enumerated() where i % every == 0 {
      let range = parameter.range, g = gradient[range].map(Double.init)
      let norm = norm(range)
      var random = normals(parameter.count, i).map(Double.init)
      if zip(random, g).reduce(0, { $0 + $1.0 * $1.1 }) < 0 { random = random.map { -$0 } }
      let length = random.reduce(0) { $0 + $1 * $1 }.squareRoot()
      let start = Array(p.values[range])
      let h = 5e-7 * start.reduce(0) { $0 + Double($1) * Double($1) }.squareRoot()
      // What the floats really move by.
      var moved = g, way = 0.0
      func place(_ sign: Double) {
        for j in start.indices {
          let direction = (norm > 0 ? g[j] / norm : 0) + random[j] / length
          p.values[range.lowerBound + j] = Float(Double(start[j]) + sign * h * direction)
        }
      }
      place(1)
      let above = plain.result(p).losses[0], high = Array(p.values[range])
      place(-1)
      let below = plain.result(p).losses[0]
      for j in start.indices {
        moved[j] = Double(high[j]) - Double(p.values[range.lowerBound + j])
        way += moved[j] * moved[j]
        p.values[range.lowerBound + j] = start[j]
      }
      let claimed = zip(g, moved).reduce(0) { $0 + $1.0 * $1.1 }
      let error = abs(above - below - claimed) / way.squareRoot()
      // Gradients in floats through norms of a few voxels, which are steep.
      #expect(
        error <= 3e-3 * norm + 1e-6 * largest, "\(parameter.name): \(error) of \(norm), largest \(largest)")
    }
  }

  /// Nothing but the decay of its kernels reaches the encoder of a sequence that U-HeMIS does not fuse; in U-HVED it takes
  /// part in the divergences.
  @Test(arguments: FusionNetwork.Fusion.allCases)
  func aDroppedEncoderOfUHeMISHasNoGradientButDecay(fusion: FusionNetwork.Fusion) {
    let size = Size(6, 5, 7), present = [false, true, false, true]
    let example = Example(fusion, size, present, Workers(1)), step = example.step
    // The gradient of another choice of sequences stands there before.
    _ = step.learn(example.item, .init(present: [true, true, true, true], noise: example.draw.noise))
    _ = step.learn(example.item, example.draw)
    let factor = Float(0.02 / Double(example.network.kernels.count))
    for (i, encoder) in example.network.encoders.enumerated() {
      var isDecayAlone = true
      for parameter in example.network.layout.parameters
      where encoder.parameters.contains(parameter.range.lowerBound) {
        let isKernel = parameter.extents.count == 5, p = step.p[parameter], g = step.gradient[parameter]
        for j in 0..<parameter.count where g[j] != (isKernel ? factor * p[j] : 0) { isDecayAlone = false }
      }
      #expect(isDecayAlone == (fusion == .moments && !present[i]), "encoder \(i)")
    }
  }

  @Test(arguments: FusionNetwork.Fusion.allCases)
  func anyNumberOfWorkersGivesTheSameBits(fusion: FusionNetwork.Fusion) {
    expectSameBits(["losses", "gradient"]) { workers in
      let example = Example(fusion, Size(13, 11, 14), [true, false, true, true], workers)
      let losses = example.step.learn(example.item, example.draw)
      let all =
        losses.values.all + [losses.decay] + losses.divergences.map(\.inter) + losses.divergences.map(\.prior)
      return [all.flatMap(\.halves), example.step.gradient.array]
    }
  }
}
