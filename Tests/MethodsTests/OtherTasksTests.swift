import Testing

@testable import Compute
@testable import Imaging
@testable import Learning
@testable import Methods
@testable import Networks
@testable import TestSupport

/// Steps of the largest task there can be: eight sequences, of which two are present, sixteen classes beside the background, and
/// every tenth voxel left out. Tasks of other shapes have golden values.
@Suite struct TrainingOtherTasksTests {
  private let sequences = 8, classes = 17, present = InputChannels([1, 6])
  private var weights: [Float] { (0..<classes).map { 1 + Float($0) / 4 } }

  private func item(_ size: Size) -> SlotCase {
    let labels = (0..<size.voxels).map { $0 % 10 == 7 ? LabelVolume.ignored : UInt8($0 / 37 % classes) }
    return SlotCase(
      slot: 0, id: "case", images: Volume(normal: Shape(size, sequences), 3), truth: LabelVolume(size, labels)
    )
  }

  /// Slopes of every third tensor whose gradient is not 0 by itself.
  private func expect(
    _ step: Looped<some TrainingProgram>, _ layout: ParameterLayout, _ gradient: ParameterVector,
    _ loss: () -> Double
  ) {
    func norm(_ parameter: Parameter) -> Double {
      gradient[parameter].reduce(0) { $0 + Double($1) * Double($1) }.squareRoot()
    }
    let largest = layout.parameters.map(norm).max() ?? 0
    // The last tensors are those of the logits.
    for (i, parameter) in layout.parameters.enumerated()
    where i % 3 == 0 || i >= layout.parameters.count - 2 {
      if ParameterLayout.isBiasBeforeNorm(parameter.name) || norm(parameter) == 0 { continue }
      let slopes = slopes(
        step.p[parameter], gradient[parameter].map(Double.init), shares: [1e-3, 1e-4, 1e-5], loss)
      // The loss is good to 1e-7 and steps are some thousandths: small slopes drown.
      let error = slopes.found.map { abs($0 - slopes.claimed) }.min() ?? .infinity
      #expect(
        error <= max(0.05 * slopes.claimed, 1e-3 * largest),
        "\(parameter.name): \(slopes), largest \(largest)")
    }
  }

  @Test func gradientOfTheDistilledStudentMatchesFiniteDifferences() {
    let student = UNet(inputs: present.count, k: 1, classes: classes), size = Size(32, 32, 32)
    let teacher = UNet(inputs: sequences, k: 1, classes: classes)
    let judge = Discriminator(k: 1, classes: classes, sequences: present.count)
    let step = Looped(
      DistillationStep(
        student: student, student.initialParameters(seed: 1, part: 0), teacher: teacher,
        teacher.initialParameters(seed: 1, part: 1).frozen, judge,
        judge.initialParameters(seed: 1, part: 2),
        .init(lambda: 0.2, gate: 1, classWeights: weights, optimiser: .init(beta1: 0.5, beta2: 0.999)),
        present: present, size: size, dropout: noDropout, teacherDropout: false, .single(),
        Workers.poisoned(2)), slots: 1)
    let item = item(size)
    _ = step.losses(item)
    step.backward(item)
    expect(step, student.layout, ParameterVector(copying: step.gradient)) { step.losses(item)?.loss ?? .nan }
  }

  @Test func gradientOfKDNetsStudentMatchesFiniteDifferences() {
    let student = UNet(inputs: present.count, k: 2, classes: classes), size = Size(32, 32, 16)
    let teacher = UNet(inputs: sequences, k: 2, classes: classes)
    let step = Looped(
      KnowledgeStep(
        student: student, student.initialParameters(seed: 3, part: 0), teacher: teacher,
        teacher.initialParameters(seed: 3, part: 1).frozen,
        .init(temperature: 5, lambda: 0.75, alpha: 1, optimiser: .init(beta1: 0, beta2: 0.999)),
        present: present, size: size, dropout: noDropout, .single(), Workers.poisoned(2)), slots: 1)
    let item = item(size)
    _ = step.losses(item)
    step.backward(item)
    expect(step, student.layout, ParameterVector(copying: step.gradient)) { step.losses(item)?.loss ?? .nan }
  }

  @Test(arguments: FusionNetwork.Fusion.allCases)
  func gradientOfFusionMatchesFiniteDifferences(fusion: FusionNetwork.Fusion) {
    let names = (0..<sequences).map { Modality(rawValue: "s\($0)") }, size = Size(10, 9, 12)
    let network = FusionNetwork(fusion, width: 2, sequences: names, classes: classes)
    let step = Looped(
      FusionStep(
        network, network.initialParameters(seed: 1, part: 0),
        .init(
          decay: 1e-5, divergence: 0.1, reconstruction: 0.1,
          optimiser: .init(beta1: 0, beta2: 0.999, isEpsilonUncorrected: true)), size: size,
        draw: .init { _, _, _ in preconditionFailure("none is asked for") }, .single(), Workers.poisoned(2)),
      slots: 1)
    let item = item(size), present = names.indices.map(self.present.channels.contains)
    let draw = FusionStep.Draw(present: present) { level, volume in
      volume.copy(from: Volume(normal: volume.shape, level))
    }
    func loss() -> Double { step.program.learn(item, draw).values.loss }
    _ = loss()
    expect(step, network.layout, ParameterVector(copying: step.gradient), loss)
  }

  /// Names are the published ones where there are such, and the sequences' own elsewhere; the last kernels are numbered in the
  /// published order, then the task's, the segmentation's after them.
  @Test func namesOfOtherSequencesFollowThePublishedOnes() {
    let sequences = ["flair", "adc", "t1", "dwi"].map { Modality(rawValue: $0) }
    let network = FusionNetwork(.gaussians, width: 2, sequences: sequences, classes: 6)
    let names = network.layout.parameters.map(\.name)
    for name in ["Flair", "adc", "T1", "dwi"] {
      #expect(names.contains("VAE/ConvEncoder/conv_0_\(name)_leakyrelu/conv_/w"))
      #expect(names.contains("VAE/ConvDecoderImg/block_1_\(name)/conv_0/w"))
    }
    let last = network.decoders.map(\.last.weight)
    #expect(
      last.map(\.name)
        == ["_4", "_1", "_2", "", "_3"].map { "VAE/ConvDecoderImg/final_conv_seg\($0)/conv_/w" })
    #expect(last.map { $0.extents[0] } == [6, 1, 1, 1, 1])
    #expect(Set(names).count == names.count)
  }
}
