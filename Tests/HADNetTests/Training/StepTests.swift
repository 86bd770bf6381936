import Testing

@testable import HADNet

extension SlotCase {
  /// The case of a slot: normal numbers, and classes in stretches.
  init(normal slot: Int, _ size: Size) {
    self.init(
      slot: slot, id: "case \(slot)", images: Volume(normal: Shape(size, 4), slot),
      truth: LabelVolume(size, (0..<size.voxels).map { UInt8(($0 / 37 + slot) % 4) }))
  }
}

private let size = Size(32, 32, 32)

private func makeCase(_ slot: Int) -> SlotCase { SlotCase(normal: slot, size) }

private func draw(_ purpose: Philox.Purpose, step: Int = 0) -> (Int) -> DropoutDraw? {
  { DropoutDraw(probability: 0.2, seed: 1, purpose, step: step, slot: $0) }
}

private let weights: [Float] = [1, 5, 3, 7]

/// (g0 + g1) + g2: the tree over three slots.
private func treeSum(_ g: [[Float]]) -> [Float] { g[0].indices.map { (g[0][$0] + g[1][$0]) + g[2][$0] } }

@Suite struct TrainingPretrainingStepTests {
  private let network = UNet(inputs: 3, k: 1)

  /// With β₁ = 0 the first moment is the gradient times its scale, exactly.
  private func step(slots: Int, _ workers: Workers = Workers(1)) -> PretrainingStep {
    PretrainingStep(
      network, .withoutContrast, network.initialParameters(seed: 1, part: 0),
      .init(beta1: 0, beta2: 0.999, decay: 1e-5),
      size: size, .single(slots), workers)
  }

  @Test func threeSlotsAreTheTreesSumOfTheirGradients() throws {
    let cases = (0..<3).map(makeCase)
    var gradients: [[Float]] = [], losses: [Double] = []
    for item in cases {
      let one = step(slots: 3)
      // The case sits in its slot, so that its masks are the same; one slot is filled.
      losses.append(
        try one.run([item], filled: 1, weights: weights, rate: 1e-3, dropout: draw(.dropout)).loss)
      gradients.append(one.optimiser.first.array)
    }
    #expect(gradients[0] != gradients[1])
    let three = step(slots: 3), adam = Adam(network.layout, three.optimiser.settings), p = three.p.duplicate
    let loss = try three.run(cases, filled: 3, weights: weights, rate: 1e-3, dropout: draw(.dropout)).loss
    #expect(loss == ((losses[0] + losses[1]) + losses[2]) / 3)
    let third = Float(1) / 3
    #expect(firstDifference(three.optimiser.first.array, treeSum(gradients).map { $0 * third }) == nil)
    var sum = treeSum(gradients)
    sum.withUnsafeMutableBufferPointer { adam.update(p, gradient: $0, scale: third, rate: 1e-3, Workers(1)) }
    #expect(firstDifference(three.p.array, p.array) == nil)
  }

  @Test func oneAndTwoThreadsGiveTheSameBits() throws {
    func results(_ threads: Int) throws -> (Double, [Float], [UInt8]) {
      let step = step(slots: 2, Workers(threads)), cases = (0..<2).map(makeCase)
      var loss = 0.0
      for i in 0..<2 {
        loss +=
          try step.run(cases, filled: 2, weights: weights, rate: 1e-3, dropout: draw(.dropout, step: i)).loss
      }
      return (loss, step.p.array + step.optimiser.first.array, step.segment(cases[0].images).classes)
    }
    let one = try results(1), two = try results(2)
    #expect(one.0 == two.0 && firstDifference(one.1, two.1) == nil && one.2 == two.2)
  }

  @Test func aLossThatIsNoNumberEndsTheRunBeforeTheUpdate() throws {
    let step = step(slots: 1), item = makeCase(0), before = step.p.array
    item.images.base[0] = .nan
    let found = fault {
      _ = try step.run([item], filled: 1, weights: weights, rate: 1e-3, dropout: { _ in nil })
    }
    #expect(
      found
        == Fault(
          .other,
          "the loss is not a number in a step with slot 0 (case 0); the last checkpoint is good: look at the case and run "
            + "again with --resume, or choose another --run for a recipe with a lower rate"))
    #expect(firstDifference(step.p.array, before) == nil && step.optimiser.updates == 0)
  }
}

@Suite struct TrainingDistillationStepTests {
  private let student = UNet(inputs: 3, k: 1), teacher = UNet(inputs: 4, k: 1)

  private func step(
    slots: Int, gate: Double = 1, hierarchical: Bool = true, lambda: Float = 0.2,
    _ workers: Workers = Workers(1)
  ) -> DistillationStep {
    let discriminator = Discriminator(k: 1, hierarchical: hierarchical)
    return DistillationStep(
      student: student, student.initialParameters(seed: 1, part: 0), teacher: teacher,
      teacher.initialParameters(seed: 1, part: 1), discriminator,
      discriminator.initialParameters(seed: 1, part: 2),
      .init(lambda: lambda, gate: gate, rate: 1e-3, optimiser: .init(beta1: 0.5, beta2: 0.999)), size: size,
      .single(slots), workers)
  }

  /// So the control needs neither teacher nor discriminator.
  @Test func withoutTheAdversarialTermTheStudentTrainsOn() throws {
    let distillation = step(slots: 1, gate: 0, lambda: 0)
    let control = PretrainingStep(
      student, .withoutContrast, student.initialParameters(seed: 1, part: 0),
      .init(beta1: 0.5, beta2: 0.999), size: size, .single(), Workers(1))
    for i in 0..<3 {
      let item = makeCase(i)
      let report = try run(
        distillation, [SlotCase(slot: 0, id: item.id, images: item.images, truth: item.truth)], number: i)
      let loss = try control.run(
        [SlotCase(slot: 0, id: item.id, images: item.images, truth: item.truth)], filled: 1, weights: weights,
        rate: 1e-3, dropout: draw(.dropout, step: i)
      ).loss
      #expect(report.crossEntropy == loss)
    }
    #expect(firstDifference(distillation.studentP.array, control.p.array) == nil)
  }

  private func run(_ step: DistillationStep, _ cases: [SlotCase], number: Int = 0) throws
    -> DistillationStep.Report
  {
    try step.run(
      cases, filled: cases.count, weights: weights, studentDropout: draw(.dropout, step: number),
      teacherDropout: draw(.teacherDropout, step: number))
  }

  private func state(_ step: DistillationStep) -> [(name: String, values: [Float])] {
    [
      ("student", step.studentP.array), ("its first moments", step.studentOptimiser.first.array),
      ("its second moments", step.studentOptimiser.second.array),
      ("discriminator", step.discriminatorP.array),
      ("its first moments", step.discriminatorOptimiser.first.array),
      ("its second moments", step.discriminatorOptimiser.second.array),
    ]
  }

  private func expectSame(
    _ a: DistillationStep, _ b: DistillationStep, _ location: SourceLocation = #_sourceLocation
  ) {
    for (x, y) in zip(state(a), state(b)) {
      let place = firstDifference(x.values, y.values)
      #expect(place == nil, "\(x.name)", sourceLocation: location)
    }
  }

  @Test(arguments: [true, false])
  func threeSlotsAreTheTreesSumOfTheirGradients(hierarchical: Bool) throws {
    let cases = (0..<3).map(makeCase), parts = step(slots: 1, hierarchical: hierarchical)
    var students: [[Float]] = [], judges: [[Float]] = [], rows: [[Double]] = []
    for item in cases {
      parts.infer(item, dropout: draw(.teacherDropout)(item.slot))
      parts.study(item, dropout: draw(.dropout)(item.slot))
      let row = parts.score(item, weights: weights)
      parts.learn()
      students.append(parts.studentGradient.array)
      rows.append(row)
      parts.learnToJudge()
      judges.append(parts.discriminatorGradient.array)
    }
    let three = step(slots: 3, hierarchical: hierarchical), report = try run(three, cases)
    let means = (0..<12).map { ((rows[0][$0] + rows[1][$0]) + rows[2][$0]) / 3 }
    #expect(
      report
        == .init(
          loss: means[0], crossEntropy: means[1], discriminatorLoss: means[2], accuracy: means[3],
          updated: true, diagnostics: Array(means[4...]), stops: false))
    #expect(means[0] > means[1])
    func update(_ adam: Adam, _ p: ParameterVector, _ gradients: [[Float]]) {
      var sum = treeSum(gradients)
      sum.withUnsafeMutableBufferPointer {
        adam.update(p, gradient: $0, scale: Float(1) / 3, rate: 1e-3, Workers(1))
      }
    }
    update(parts.studentOptimiser, parts.studentP, students)
    update(parts.discriminatorOptimiser, parts.discriminatorP, judges)
    expectSame(three, parts)
  }

  /// One slot a rank: the discriminator's gradient is made after the gate. Several: before it. A batch of the same case
  /// twice, without dropout, has twice the gradient of one and the same mean, exactly.
  @Test func theGradientBeforeTheGateIsTheOneAfterIt() throws {
    let one = step(slots: 1), two = step(slots: 2), item = makeCase(0)
    let twin = SlotCase(slot: 1, id: "twin", images: item.images, truth: item.truth)
    for _ in 0..<2 {
      let a = try one.run(
        [item], filled: 1, weights: weights, studentDropout: { _ in nil }, teacherDropout: { _ in nil })
      let b = try two.run(
        [item, twin], filled: 2, weights: weights, studentDropout: { _ in nil }, teacherDropout: { _ in nil })
      #expect(a == b && a.updated)
    }
    expectSame(one, two)
  }

  /// A batch that is not full, as an epoch's last.
  @Test func anEmptySlotIsNoCase() throws {
    let one = step(slots: 1), three = step(slots: 3), item = makeCase(0)
    #expect(try run(one, [item]) == run(three, [item]))
    expectSame(one, three)
  }

  @Test(arguments: [1, 2])
  func aboveTheGateTheDiscriminatorIsLeftAlone(slots: Int) throws {
    let closed = step(slots: slots, gate: -0.1), open = step(slots: slots), cases = (0..<slots).map(makeCase)
    let before = state(closed), report = try run(closed, cases)
    #expect(!report.updated && report.accuracy > -0.1)
    for (x, y) in zip(before, state(closed)).dropFirst(3) {
      #expect(firstDifference(x.values, y.values) == nil, "\(x.name)")
    }
    #expect(closed.discriminatorOptimiser.updates == 0 && closed.studentOptimiser.updates == 1)
    // The student learns all the same.
    let learnt = try run(open, cases)
    #expect(learnt.updated && learnt.loss == report.loss && learnt.accuracy == report.accuracy)
    #expect(firstDifference(open.studentP.array, closed.studentP.array) == nil)
    #expect(firstDifference(before[0].values, closed.studentP.array) != nil)
    #expect(firstDifference(before[3].values, open.discriminatorP.array) != nil)
  }

  @Test func atTheGateTheDiscriminatorStillLearns() throws {
    let accuracy = try run(step(slots: 1), [makeCase(0)]).accuracy
    let at = try run(step(slots: 1, gate: accuracy), [makeCase(0)])
    #expect(at.accuracy == accuracy && at.updated)
    #expect(!(try run(step(slots: 1, gate: accuracy.nextDown), [makeCase(0)]).updated))
  }

  @Test func theTeacherNeverChanges() throws {
    let step = step(slots: 2), before = step.teacherP.array
    for i in 0..<3 { _ = try run(step, (0..<2).map(makeCase), number: i) }
    #expect(firstDifference(step.teacherP.array, before) == nil)
  }

  @Test(arguments: [1, 2])
  func oneAndTwoThreadsGiveTheSameBits(slots: Int) throws {
    let one = step(slots: slots), two = step(slots: slots, Workers.poisoned(2))
    for i in 0..<2 {
      let cases = (0..<slots).map(makeCase)
      #expect(try run(one, cases, number: i) == run(two, cases, number: i))
    }
    expectSame(one, two)
    let images = makeCase(5).images
    #expect(one.segment(images) == two.segment(images))
  }

  @Test func aStepIsAFunctionOfItsNumber() throws {
    let item = makeCase(0), a = try run(step(slots: 1), [item], number: 3)
    let b = try run(step(slots: 1), [item], number: 4)
    #expect(a.crossEntropy != b.crossEntropy, "dropout is another in another step")
    #expect(try run(step(slots: 1), [item], number: 3) == a)
  }
}
