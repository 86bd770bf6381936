import Testing

@testable import Compute
@testable import Networks
@testable import TestSupport

@Suite struct NetworksFusionPassTests {
  /// Odd sides, of which levels make 5×4×3, 3×2×2 and 2×1×1.
  private let size = Size(9, 7, 5)
  private let present = [true, false, true, true]

  private func network(_ fusion: FusionNetwork.Fusion) -> (FusionNetwork, ParameterVector) {
    let network = FusionNetwork(fusion, width: 4)
    return (network, network.parameters(seed: 5))
  }

  /// A pass whose volumes share memory as planned, or have memory of their own each; full of NaN, so that who reads what
  /// was never written, or was written over, is found out.
  private func pass(
    _ network: FusionNetwork, _ size: Size, _ purpose: FusionPass.Purpose, shared: Bool = true
  ) -> FusionPass {
    var plan = WorkspacePlan()
    let places = FusionPass.VolumePlan(network, size, purpose, in: &plan)
    let volumes = shared ? plan.volumes() : plan.volumes().map { Volume(zeros: $0.shape) }
    for volume in volumes { volume.fill(.nan) }
    return FusionPass(places, volumes)
  }

  private func fill(_ pass: FusionPass, _ part: Int) {
    for (i, image) in pass.images.enumerated() { image.copy(from: Volume(normal: image.shape, part + i)) }
    for (i, noise) in pass.noise.enumerated() { noise.copy(from: Volume(normal: noise.shape, part + 10 + i)) }
  }

  private func logits(
    _ network: FusionNetwork, _ p: ParameterVector, _ pass: FusionPass, samples: Bool = true, part: Int = 0
  ) -> [Float] {
    fill(pass, part)
    network.encode(pass, p, present: present, samples: samples, Workers(1))
    network.decode(0, pass, p, Workers(1))
    return pass.output(0).array
  }

  /// All that a training pass gives: each decoder's output, the divergences, the gradient.
  private func results(
    _ network: FusionNetwork, _ p: ParameterVector, _ pass: FusionPass, present: [Bool], part: Int = 0
  ) -> [[Float]] {
    let workers = Workers(1), dp = ParameterVector(zeros: network.layout)
    var results: [[Float]] = []
    fill(pass, part)
    network.encode(pass, p, present: present, encodesAll: network.fusion == .gaussians, workers)
    for index in network.decoders.indices {
      network.decode(index, pass, p, workers)
      results.append(pass.output(index).array)
      let gradient = pass.outputGradient(index)
      gradient.copy(from: Volume(normal: gradient.shape, 30 + index))
      network.decodeBackward(index, pass, p, into: dp, workers)
    }
    let divergences = network.encodeBackward(pass, p, into: dp, divergenceWeight: 0.1, workers)
    results.append(divergences.flatMap { $0.inter.halves + $0.prior.halves })
    return results + [pass.images.flatMap(\.array), dp.array]
  }

  private func expectSame(
    _ a: [[Float]], _ b: [[Float]], _ location: SourceLocation = #_sourceLocation
  ) {
    #expect(a.count == b.count, sourceLocation: location)
    for (i, (a, b)) in zip(a, b).enumerated() {
      #expect(firstDifference(a, b) == nil, "result \(i) of \(a.count) numbers", sourceLocation: location)
    }
    // The halves of a number may be none.
    #expect(a.last?.allSatisfy { $0.isFinite } == true, "the gradient is no number", sourceLocation: location)
    #expect(a.first?.allSatisfy { $0.isFinite } == true, "logits are no numbers", sourceLocation: location)
  }

  @Test(arguments: FusionNetwork.Fusion.allCases, [Size(9, 7, 5), Size(16, 8, 24), Size(1, 2, 3)])
  func volumesThatShareMemoryGiveTheBitsOfVolumesThatDoNot(fusion: FusionNetwork.Fusion, size: Size) {
    let (network, p) = network(fusion)
    expectSame(
      results(network, p, pass(network, size, .training), present: present),
      results(network, p, pass(network, size, .training, shared: false), present: present))
    let a = pass(network, size, .inference), b = pass(network, size, .inference, shared: false)
    expectSame([logits(network, p, a)], [logits(network, p, b)])
  }

  /// Nothing is left of a case that went before, of its sequences or of its noise.
  @Test(arguments: FusionNetwork.Fusion.allCases)
  func aPassThatWasUsedGivesTheBitsOfAFreshOne(fusion: FusionNetwork.Fusion) {
    let (network, p) = network(fusion), used = pass(network, size, .training)
    for (part, present) in [
      (100, [true, true, true, true]), (200, [false, true, false, false]), (0, self.present),
    ] {
      expectSame(
        results(network, p, used, present: present, part: part),
        results(network, p, pass(network, size, .training), present: present, part: part))
    }
    let again = pass(network, size, .inference)
    _ = logits(network, p, again, part: 100)
    expectSame([logits(network, p, again)], [logits(network, p, pass(network, size, .inference))])
  }

  @Test(arguments: FusionNetwork.Fusion.allCases, [true, false])
  func inferenceGivesTheLogitsOfTrainingInLessMemory(fusion: FusionNetwork.Fusion, samples: Bool) {
    let (network, p) = network(fusion), training = pass(network, size, .training)
    let inference = pass(network, size, .inference)
    expectSame(
      [logits(network, p, inference, samples: samples)], [logits(network, p, training, samples: samples)])
    func memory(_ pass: FusionPass) -> Int { pass.images[0].buffer.count }
    #expect(memory(inference) < memory(training) / 2, "\(memory(inference)) and \(memory(training)) floats")
    let own = [
      inference.images, inference.noise, inference.first, inference.fused, inference.stretched,
      inference.decoderInner, inference.decoded, [inference.output(0)],
    ]
    let all = own + inference.inner + inference.maps + inference.pooled
    let sum = all.flatMap { $0 }.reduce(0) { $0 + $1.shape.count }
    #expect(memory(inference) < sum, "\(memory(inference)) of \(sum) floats")
  }

  /// Samples are not means, and are of the noise.
  @Test func noiseMakesTheSample() {
    let (network, p) = network(.gaussians), pass = pass(network, size, .inference)
    let sample = logits(network, p, pass), means = logits(network, p, pass, samples: false)
    #expect(sample != means)
    fill(pass, 0)
    for noise in pass.noise { noise.fill(0) }
    network.encode(pass, p, present: present, Workers(1))
    network.decode(0, pass, p, Workers(1))
    #expect(pass.output(0).array == means)
  }

  /// Neither its image nor its map is looked at.
  @Test(arguments: FusionNetwork.Fusion.allCases)
  func aSequenceThatIsNotThereNeedsNoImage(fusion: FusionNetwork.Fusion) {
    let (network, p) = network(fusion), pass = pass(network, size, .inference)
    let expected = logits(network, p, pass)
    fill(pass, 0)
    pass.images[1].fill(.nan)
    network.encode(pass, p, present: present, Workers(1))
    network.decode(0, pass, p, Workers(1))
    #expect(firstDifference(pass.output(0).array, expected) == nil)
  }
}
