import Testing

@testable import Compute
@testable import Evaluation
@testable import Files
@testable import Learning
@testable import Methods
@testable import Networks
@testable import TestSupport

@Suite struct TrainingKnowledgeStepTests {
  private let student = UNet(inputs: 3, k: 2), teacher = UNet(inputs: 4, k: 2)
  /// Of the centre four voxels are left.
  private let size = Size(32, 32, 16)

  private func parameters(_ network: UNet, part: Int) -> ParameterVector {
    let p = network.initialParameters(seed: 3, part: part)
    // Scales and shifts that differ from channel to channel.
    for parameter in network.layout.parameters where parameter.name.contains("inst") {
      for i in 0..<parameter.count { p[parameter][i] += Float(i % 5) * 0.1 }
    }
    return p
  }

  /// With β₁ = 0 the first moment is the gradient times its scale, exactly.
  private func step(
    slots: Int = 1, lambda: Double = 0.75, alpha: Double = 10, temperature: Float = 5,
    dropout: StepDropout = someDropout, _ workers: Workers = Workers(1)
  ) -> Looped<KnowledgeStep> {
    Looped(
      KnowledgeStep(
        student: student, parameters(student, part: 0), teacher: teacher,
        parameters(teacher, part: 1).frozen,
        .init(
          temperature: temperature, lambda: lambda, alpha: alpha, optimiser: .init(beta1: 0, beta2: 0.999)),
        present: .present, size: size, dropout: dropout, .single(slots), workers), slots: slots)
  }

  /// Each of the four cubes of 16³ has its own brightness, so that the centre's voxels differ and its norms are not steep.
  private func cases(_ count: Int) -> [SlotCase] {
    (0..<count).map { slot in
      let item = SlotCase(normal: slot, size)
      for voxel in 0..<size.voxels {
        let cube = voxel / (size.x * size.y) / 16 * 2 + voxel / size.x % size.y / 16
        for c in 0..<4 { item.images.base[4 * voxel + c] += 0.7 * Float((cube * (c + 1) + slot) % 4) }
      }
      return item
    }
  }

  private let draw = DropoutDraw(probability: 0.2, seed: 1, .dropout, step: 0, slot: 0)

  /// All three parts together, of every third tensor; the teacher's and the truth's alone, of every seventh.
  @Test(arguments: [(0.75, 10.0, 3), (1, 0, 7), (0, 0, 7)])
  func gradientMatchesFiniteDifferences(lambda: Double, alpha: Double, every: Int) {
    let step = step(lambda: lambda, alpha: alpha, Workers.poisoned(2)), item = cases(1)[0]
    _ = step.losses(item)
    step.backward(item)
    let gradient = ParameterVector(copying: step.gradient)
    func norm(_ parameter: Parameter) -> Double {
      gradient[parameter].reduce(0) { $0 + Double($1) * Double($1) }.squareRoot()
    }
    let largest = student.layout.parameters.map(norm).max() ?? 0
    for (i, parameter) in student.layout.parameters.enumerated() {
      if ParameterLayout.isBiasBeforeNorm(parameter.name) {
        #expect(gradient[parameter].allSatisfy { $0 == 0 }, "\(parameter.name)")
        continue
      }
      if i % every > 0 { continue }
      let slopes = slopes(
        step.p[parameter], gradient[parameter].map(Double.init), shares: [1e-4, 1e-5]
      ) { step.losses(item)?.loss ?? .nan }
      // The loss is good to 1e-7 and steps are some thousandths: small slopes drown.
      let error = slopes.found.map { abs($0 - slopes.claimed) }.min() ?? .infinity
      #expect(
        error <= max(0.05 * slopes.claimed, 1e-3 * largest),
        "\(parameter.name): \(slopes), largest \(largest)")
    }
  }

  @Test func theTotalIsTheWeightedSumOfItsTerms() throws {
    let item = cases(1)[0], step = step(), names = KnowledgeStep.terms.map(\.name)
    let report = try step.run([item])
    let terms = Dictionary(uniqueKeysWithValues: zip(names, report.all.dropFirst()))
    func term(_ name: String) -> Double { terms[name] ?? .nan }
    let total =
      0.75 * (term("kd_cross_entropy") + term("kd_dice")) + 0.25
      * (term("ref_cross_entropy") + term("ref_dice")) + 10 * term("latent")
    #expect(abs(report.loss - total) <= 1e-12 * total, "\(report)")
    // Each by the loss that it is.
    let again = self.step().program
    _ = again.losses(item, dropout: draw)
    let s = again.studentPass.logits, t = again.teacherPass.logits, workers = Workers(1)
    let hard = OverlapLoss(classes: 1..<4).losses(s, .classes(item.truth), gradient: nil, workers)
    let soft = OverlapLoss(classes: 1..<4, temperature: 5).losses(s, .logits(t), gradient: nil, workers)
    let latent = LatentDivergence.loss(
      student: again.studentPass.centre, teacher: again.teacherPass.centre, weight: 1, gradient: nil, workers)
    #expect(
      Array(report.all.dropFirst())
        == [hard.crossEntropy, hard.dice, soft.crossEntropy, soft.dice, latent])
  }

  @Test func theTeacherSeesAllSequencesWithoutDropoutAndNeverChanges() throws {
    let step = step(slots: 2), before = step.program.teacherP.array
    for i in 0..<3 { try step.run(cases(2), step: i) }
    try step.loop.settle()
    #expect(firstDifference(step.program.teacherP.array, before) == nil)
    let pass = UNetPass(teacher, size, .inference(features: false)), item = cases(2)[1]
    InputChannels.all.copy(item.images, into: pass.image)
    teacher.forward(pass, parameters(teacher, part: 1), Workers(1))
    _ = step.losses(item)
    #expect(firstDifference(step.program.teacherPass.logits.array, pass.logits.array) == nil)
  }

  @Test func twoSlotsAreTheMeanOfTheirGradients() throws {
    let cases = cases(2), parts = step()
    var gradients: [[Float]] = [], rows: [[Double]] = []
    for item in cases {
      rows.append(try #require(parts.losses(item)).all)
      parts.backward(item)
      gradients.append(parts.gradient.array)
    }
    #expect(gradients[0] != gradients[1])
    let two = step(slots: 2), report = try two.run(cases)
    try two.loop.settle()
    #expect(report.all == zip(rows[0], rows[1]).map { ($0 + $1) / 2 })
    var sum = zip(gradients[0], gradients[1]).map { $0 + $1 }
    #expect(firstDifference(two.optimiser.first.array, sum.map { $0 * 0.5 }) == nil)
    sum.withUnsafeMutableBufferPointer {
      parts.optimiser.update(parts.p, gradient: $0, scale: 0.5, rate: 1e-3, Workers(1))
    }
    #expect(firstDifference(two.p.array, parts.p.array) == nil)
  }

  /// Passes of both networks in one plan, or with memory of their own for each volume, full of NaN.
  @Test func volumesThatShareMemoryGiveTheBitsOfVolumesThatDoNot() throws {
    let item = cases(1)[0], places = KnowledgeStep.VolumePlan(student, teacher, size)
    func results(_ volumes: [Volume]) -> [[Float]] {
      for volume in volumes { volume.fill(.nan) }
      let teacherPass = UNetPass(places.teacher, volumes), pass = UNetPass(places.student, volumes)
      let workers = Workers(1), dp = ParameterVector(zeros: student.layout), p = parameters(student, part: 0)
      InputChannels.all.copy(item.images, into: teacherPass.image)
      teacher.forward(teacherPass, parameters(teacher, part: 1), workers)
      InputChannels.present.copy(item.images, into: pass.image)
      student.forward(pass, p, dropout: draw, workers)
      let results = [teacherPass.logits, pass.logits, teacherPass.centre.volume, pass.centre.volume].map(
        \.array)
      pass.dLogits.copy(from: Volume(normal: pass.dLogits.shape, 1))
      pass.centreGradient.copy(from: Volume(normal: pass.centreGradient.shape, 2))
      student.backward(pass, p, into: dp, featureGradients: .centre, workers)
      return results + [dp.array]
    }
    let volumes = places.plan.volumes()
    let shared = results(volumes), own = results(volumes.map { Volume(zeros: $0.shape) })
    for (i, (a, b)) in zip(shared, own).enumerated() {
      #expect(firstDifference(a, b) == nil, "result \(i)")
      #expect(a.allSatisfy { $0.isFinite }, "result \(i)")
    }
    // The first of both passes, which live at different times, too.
    #expect(volumes[0].buffer.count < volumes.reduce(0) { $0 + $1.shape.count })
  }

  @Test func judgingIsTheLossWithoutDropoutAndChangesNothing() throws {
    let step = step(), item = cases(1)[0], fresh = self.step()
    try step.run([item])
    try step.loop.settle()
    fresh.p.copy(from: step.p)
    let before = step.p.array + step.optimiser.first.array, judged = step.program.judge(item)
    #expect(judged.loss == fresh.program.losses(item, dropout: nil).loss)
    #expect(judged.labels == Segmentation.labels(fresh.program.studentPass.logits, Workers(1)))
    #expect(judged.loss != fresh.losses(item)?.loss)
    #expect(firstDifference(step.p.array + step.optimiser.first.array, before) == nil)
    // The next step is the one that would have been without.
    #expect(try step.run([item], step: 1) == fresh.losses(item, step: 1))
  }

  @Test func oneTwoAndThreeThreadsGiveTheSameBits() throws {
    func results(_ threads: Int) throws -> ([[Double]], [Float]) {
      let step = step(slots: 2, Workers.poisoned(threads))
      let values = try (0..<2).map { try step.run(cases(2), step: $0).all }
      try step.loop.settle()
      return (values, step.p.array + step.optimiser.first.array)
    }
    let one = try results(1)
    for threads in [2, 3] {
      let other = try results(threads)
      #expect(one.0 == other.0 && firstDifference(one.1, other.1) == nil, "\(threads) threads")
    }
  }

  @Test func aLossThatIsNoNumberEndsTheRunBeforeTheUpdate() {
    step(dropout: noDropout).expectEndBeforeTheUpdate(cases(1)[0], nanAt: 0)
  }
}
