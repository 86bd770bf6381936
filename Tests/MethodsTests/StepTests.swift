import Testing

@testable import Compute
@testable import Files
@testable import Learning
@testable import Methods
@testable import Networks
@testable import TestSupport

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

/// A method's program, and the loop that runs it on one rank.
struct Looped<Program: TrainingProgram> {
  let program: Program
  let loop: SlotStep

  init(_ program: Program, slots: Int) {
    self.program = program
    loop = SlotStep(program, .single(slots))
  }

  var p: ParameterVector { program.learners[0].p }
  var optimiser: Adam { program.learners[0].optimiser }
  var gradient: ParameterVector { program.learners[0].gradient }

  @discardableResult
  func run(_ cases: [SlotCase], step: Int = 0) throws -> StepValues {
    let (means, stops) = try loop.run(Batch(cases: cases, filled: cases.count, step: step, rate: 1e-3))
    #expect(!stops)
    return means
  }

  /// The losses of a case by itself, and the gradient of a learner.
  func losses(_ item: SlotCase, step: Int = 0) -> StepValues? {
    let batch = Batch(cases: [item], filled: 1, step: step, rate: 1e-3)
    program.infer(item, batch)
    return program.losses(item, batch)
  }

  @discardableResult
  func backward(_ item: SlotCase, learner: Int = 0, step: Int = 0) -> StepValues? {
    program.backward(learner, item, Batch(cases: [item], filled: 1, step: step, rate: 1e-3)) { _ in }
  }
}

extension Looped {
  /// Expects a case with such a voxel to be named, and nothing to be updated.
  func expectEndBeforeTheUpdate(
    _ item: SlotCase, nanAt index: Int, sourceLocation: SourceLocation = #_sourceLocation
  ) {
    let before = p.array
    item.images.base[index] = .nan
    #expect(
      fault { try run([item]) }
        == Fault(
          .other,
          "the loss is not a number in a step with slot 0 (case 0); the last checkpoint is good: look at the case and run "
            + "again with --resume, or choose another --run for a recipe with a lower rate"),
      sourceLocation: sourceLocation)
    #expect(
      firstDifference(p.array, before) == nil && optimiser.updates == 0, sourceLocation: sourceLocation)
  }
}

let someDropout = StepDropout(probability: 0.2, seed: 1), noDropout = StepDropout(probability: 0, seed: 1)

private let weights: [Float] = [1, 5, 3, 7]

/// (g0 + g1) + g2: the tree over three slots.
private func treeSum(_ g: [[Float]]) -> [Float] { g[0].indices.map { (g[0][$0] + g[1][$0]) + g[2][$0] } }

/// A step of three cases asks for each once the one before is gone, and for none twice; the bits are those of cases that
/// were there from the beginning.
private func expectOneAfterTheOther<Program>(_ make: () -> Looped<Program>) throws {
  let lazy = make(), whole = make()
  weak var last: Buffer?
  var asked: [Int] = []
  let batch = Batch(count: 3, filled: 3, rate: 1e-3) { i in
    #expect(last == nil, "case \(i - 1) is still there")
    let item = makeCase(i)
    last = item.images.buffer
    asked.append(i)
    return item
  }
  let loss = try lazy.loop.run(batch).means.loss
  #expect(asked == [0, 1, 2] && last == nil)
  #expect(lazy.loop.dataWait > 0)
  #expect(try loss == whole.run((0..<3).map(makeCase)).loss)
  #expect(firstDifference(lazy.p.array, whole.p.array) == nil)
}

@Suite struct TrainingPretrainingStepTests {
  private let network = UNet(inputs: 3, k: 1)

  /// With β₁ = 0 the first moment is the gradient times its scale, exactly.
  private func step(
    slots: Int, dropout: StepDropout = someDropout, _ workers: Workers = Workers(1)
  ) -> Looped<PretrainingStep> {
    Looped(
      PretrainingStep(
        "student", network, .present, network.initialParameters(seed: 1, part: 0),
        .init(beta1: 0, beta2: 0.999, decay: 1e-5), size: size, dropout: dropout, weights: { _ in weights },
        .single(slots), workers), slots: slots)
  }

  @Test func threeSlotsAreTheTreesSumOfTheirGradients() throws {
    let cases = (0..<3).map(makeCase)
    var gradients: [[Float]] = [], losses: [Double] = []
    for item in cases {
      let one = step(slots: 3)
      // The case sits in its slot, so that its masks are the same; one slot is filled.
      losses.append(try one.run([item]).loss)
      gradients.append(one.optimiser.first.array)
    }
    #expect(gradients[0] != gradients[1])
    let three = step(slots: 3), adam = Adam(network.layout, three.optimiser.settings),
      p = ParameterVector(copying: three.p)
    let loss = try three.run(cases).loss
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
      for i in 0..<2 { loss += try step.run(cases, step: i).loss }
      return (loss, step.p.array + step.optimiser.first.array, step.program.judge(cases[0]).labels.classes)
    }
    let one = try results(1), two = try results(2)
    #expect(one.0 == two.0 && firstDifference(one.1, two.1) == nil && one.2 == two.2)
  }

  @Test func casesComeOneAfterTheOther() throws { try expectOneAfterTheOther { step(slots: 3) } }

  /// The rate is the trainer's, whatever the method.
  @Test func aRateOfNothingChangesNothing() throws {
    let step = step(slots: 1), before = step.p.array
    _ = try step.loop.run(Batch(cases: [makeCase(0)], filled: 1, rate: 0))
    #expect(step.optimiser.updates == 1 && firstDifference(step.p.array, before) == nil)
  }

  @Test func aLossThatIsNoNumberEndsTheRunBeforeTheUpdate() throws {
    step(slots: 1, dropout: noDropout).expectEndBeforeTheUpdate(makeCase(0), nanAt: 0)
  }
}

@Suite struct TrainingDistillationStepTests {
  private let student = UNet(inputs: 3, k: 1), teacher = UNet(inputs: 4, k: 1)

  private func step(
    slots: Int, gate: Double = 1, hierarchical: Bool = true, lambda: Float = 0.2,
    dropout: StepDropout = someDropout, _ workers: Workers = Workers(1)
  ) -> Looped<DistillationStep> {
    let discriminator = Discriminator(k: 1, hierarchical: hierarchical)
    return Looped(
      DistillationStep(
        student: student, student.initialParameters(seed: 1, part: 0), teacher: teacher,
        teacher.initialParameters(seed: 1, part: 1).frozen, discriminator,
        discriminator.initialParameters(seed: 1, part: 2),
        .init(
          lambda: lambda, gate: gate, classWeights: weights, optimiser: .init(beta1: 0.5, beta2: 0.999)),
        present: .present, size: size, dropout: dropout, teacherDropout: true, .single(slots), workers),
      slots: slots)
  }

  @Test func casesComeOneAfterTheOther() throws { try expectOneAfterTheOther { step(slots: 3) } }

  /// So the control needs neither teacher nor discriminator.
  @Test func withoutTheAdversarialTermTheStudentTrainsOn() throws {
    let distillation = step(slots: 1, gate: 0, lambda: 0)
    let control = Looped(
      PretrainingStep(
        "student", student, .present, student.initialParameters(seed: 1, part: 0),
        .init(beta1: 0.5, beta2: 0.999), size: size, dropout: someDropout, weights: { _ in weights },
        .single(), Workers(1)), slots: 1)
    for i in 0..<3 {
      let item = makeCase(i), first = SlotCase(slot: 0, id: item.id, images: item.images, truth: item.truth)
      #expect(try distillation.run([first], step: i)[.crossEntropy] == control.run([first], step: i).loss)
    }
    #expect(firstDifference(distillation.p.array, control.p.array) == nil)
  }

  /// A student that learns with the rate that it is given, and a discriminator too.
  @Test func aRateOfNothingChangesNothing() throws {
    let step = step(slots: 1), before = state(step)
    _ = try step.loop.run(Batch(cases: [makeCase(0)], filled: 1, rate: 0))
    for part in [0, 3] {
      #expect(firstDifference(before[part].values, state(step)[part].values) == nil, "\(before[part].name)")
    }
    #expect(step.program.learners.map(\.optimiser.updates) == [1, 1])
  }

  private func state(_ step: Looped<DistillationStep>) -> [(name: String, values: [Float])] {
    step.program.learners.flatMap { learner in
      [
        (learner.name, learner.p.array), ("its first moments", learner.optimiser.first.array),
        ("its second moments", learner.optimiser.second.array),
      ]
    }
  }

  private func expectSame(
    _ a: Looped<DistillationStep>, _ b: Looped<DistillationStep>,
    _ location: SourceLocation = #_sourceLocation
  ) {
    for (x, y) in zip(state(a), state(b)) {
      let place = firstDifference(x.values, y.values)
      #expect(place == nil, "\(x.name)", sourceLocation: location)
    }
  }

  @Test(arguments: [true, false])
  func threeSlotsAreTheTreesSumOfTheirGradients(hierarchical: Bool) throws {
    let cases = (0..<3).map(makeCase), parts = step(slots: 1, hierarchical: hierarchical)
    var students: [[Float]] = [], judges: [[Float]] = [], rows: [StepValues] = []
    for item in cases {
      rows.append(try #require(parts.losses(item)))
      parts.backward(item)
      students.append(parts.gradient.array)
      parts.backward(item, learner: 1)
      judges.append(parts.program.learners[1].gradient.array)
    }
    let three = step(slots: 3, hierarchical: hierarchical), report = try three.run(cases)
    let all = rows.map(\.all)
    var means = StepValues(
      rows[0].terms, all: all[0].indices.map { ((all[0][$0] + all[1][$0]) + all[2][$0]) / 3 })
    means[.updated] = 1
    #expect(report == means)
    #expect(report.loss > report[.crossEntropy])
    func update(_ adam: Adam, _ p: ParameterVector, _ gradients: [[Float]]) {
      var sum = treeSum(gradients)
      sum.withUnsafeMutableBufferPointer {
        adam.update(p, gradient: $0, scale: Float(1) / 3, rate: 1e-3, Workers(1))
      }
    }
    for (learner, gradients) in zip(parts.program.learners, [students, judges]) {
      update(learner.optimiser, learner.p, gradients)
    }
    expectSame(three, parts)
  }

  /// One slot a rank: the discriminator's gradient is made after the gate. Several: before it. A batch of the same case
  /// twice, without dropout, has twice the gradient of one and the same mean, exactly.
  @Test func theGradientBeforeTheGateIsTheOneAfterIt() throws {
    let one = step(slots: 1, dropout: noDropout), two = step(slots: 2, dropout: noDropout), item = makeCase(0)
    let twin = SlotCase(slot: 1, id: "twin", images: item.images, truth: item.truth)
    for _ in 0..<2 {
      let a = try one.run([item]), b = try two.run([item, twin])
      #expect(a == b && a[.updated] == 1)
    }
    expectSame(one, two)
  }

  /// A batch that is not full, as an epoch's last.
  @Test func anEmptySlotIsNoCase() throws {
    let one = step(slots: 1), three = step(slots: 3), item = makeCase(0)
    #expect(try one.run([item]) == three.run([item]))
    expectSame(one, three)
  }

  @Test(arguments: [1, 2])
  func aboveTheGateTheDiscriminatorIsLeftAlone(slots: Int) throws {
    let closed = step(slots: slots, gate: -0.1), open = step(slots: slots), cases = (0..<slots).map(makeCase)
    let before = state(closed), report = try closed.run(cases)
    #expect(report[.updated] == 0 && report[.accuracy] > -0.1)
    for (x, y) in zip(before, state(closed)).dropFirst(3) {
      #expect(firstDifference(x.values, y.values) == nil, "\(x.name)")
    }
    #expect(closed.program.learners.map(\.optimiser.updates) == [1, 0])
    // The student learns all the same.
    let learnt = try open.run(cases)
    #expect(
      learnt[.updated] == 1 && learnt.loss == report.loss && learnt[.accuracy] == report[.accuracy])
    #expect(firstDifference(open.p.array, closed.p.array) == nil)
    #expect(firstDifference(before[0].values, closed.p.array) != nil)
    #expect(firstDifference(before[3].values, open.program.discriminatorP.array) != nil)
    // A benchmark measures the whole step.
    let forced = step(slots: slots, gate: -0.1)
    forced.loop.updatesAll = true
    #expect(try forced.run(cases)[.updated] == 1)
    expectSame(forced, open)
  }

  @Test func atTheGateTheDiscriminatorStillLearns() throws {
    let accuracy = try step(slots: 1).run([makeCase(0)])[.accuracy]
    let at = try step(slots: 1, gate: accuracy).run([makeCase(0)])
    #expect(at[.accuracy] == accuracy && at[.updated] == 1)
    #expect(try step(slots: 1, gate: accuracy.nextDown).run([makeCase(0)])[.updated] == 0)
  }

  @Test func theTeacherNeverChanges() throws {
    let step = step(slots: 2), before = step.program.teacherP.array
    for i in 0..<3 { try step.run((0..<2).map(makeCase), step: i) }
    #expect(firstDifference(step.program.teacherP.array, before) == nil)
  }

  @Test(arguments: [1, 2])
  func oneAndTwoThreadsGiveTheSameBits(slots: Int) throws {
    let one = step(slots: slots), two = step(slots: slots, Workers.poisoned(2))
    for i in 0..<2 {
      let cases = (0..<slots).map(makeCase)
      #expect(try one.run(cases, step: i) == two.run(cases, step: i))
    }
    expectSame(one, two)
    let item = makeCase(5)
    #expect(one.program.judge(item).labels == two.program.judge(item).labels)
  }

  @Test func aStepIsAFunctionOfItsNumber() throws {
    let item = makeCase(0), a = try step(slots: 1).run([item], step: 3)
    let b = try step(slots: 1).run([item], step: 4)
    #expect(a[.crossEntropy] != b[.crossEntropy], "dropout is another in another step")
    #expect(try step(slots: 1).run([item], step: 3) == a)
  }
}
