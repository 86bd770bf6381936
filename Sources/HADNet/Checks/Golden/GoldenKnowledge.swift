import Compute
import Files
import Learning
import Methods
import Networks

/// Golden values of KD-Net+'s step, dropout off.
struct GoldenKnowledge {
  private let file: GoldenFile
  private let workers: Workers
  private let item: SlotCase
  private let student, teacher: UNet

  init(_ file: GoldenFile, _ workers: Workers) throws {
    self.file = file
    self.workers = workers
    let classes = try file.classes("init/student.conv_out.weight")
    item = try file.item(classes: classes)
    let k = try file.extents("init/student.conv_d1.conv1.conv.weight", 5)[0]
    guard item.images.size.array.allSatisfy({ $0 % UNet.multiple == 0 }), (1...1024).contains(k) else {
      throw Fault(
        .invalid,
        "\(file.path): input/x is \(item.images.size) voxels, k \(k); expected sides that 16 divides, k 1…1024"
      )
    }
    student = UNet(inputs: file.present.count, k: k, classes: classes)
    teacher = UNet(inputs: file.sequences.count, k: k, classes: classes)
  }

  func groups() throws -> [Golden.Group] {
    let rows = try file.trace(columns: 1 + KnowledgeStep.terms.count)
    let step = KnowledgeStep(
      student: student, try file.load("student.", student.layout), teacher: teacher,
      try file.loadFrozen("teacher.", teacher.layout),
      .init(
        temperature: 5, lambda: 0.75, alpha: 10, optimiser: .init(beta1: 0.9, beta2: 0.999)),
      present: InputChannels(file.present), size: item.images.size, dropout: .init(probability: 0, seed: 0),
      .single(), workers)
    let batch = Batch(cases: [item], filled: 1, rate: 1e-4), losses = step.losses(item, dropout: nil)
    var forward = GoldenFile.Worst(bound: 1e-4), first = GoldenFile.Worst(bound: 1e-5)
    try file.compare("forward/student.logits", step.studentPass.logits, &forward)
    try file.compare("forward/teacher.logits", step.teacherPass.logits, &forward)
    try file.compare(
      "forward/student.latent", step.studentPass.centre.volume, as: step.studentPass.centre, &forward)
    try file.compare(
      "forward/teacher.latent", step.teacherPass.centre.volume, as: step.teacherPass.centre, &forward)
    for (name, value) in zip(["total", "ref.ce", "ref.dice", "kd.ce", "kd.dice", "latent"], losses.all) {
      let expected = try file.number("loss/\(name)")
      first.take(name, abs(value - expected) / max(abs(expected), .leastNormalMagnitude))
    }
    _ = step.backward(0, item, batch) { _ in }
    var groups = [
      forward.group("forward"), first.group("losses"), try gradients(step.learners[0].gradient),
    ]

    let loop = SlotStep(step, .single()), reports = try rows.map { _ in try loop.run(batch).means.all }
    for (column, name) in (["loss"] + KnowledgeStep.terms.map(\.name)).enumerated() {
      groups.append(
        GoldenFile.column("trace: \(name)", reports.map { $0[column] }, rows.map { $0[column] }, bound: 1e-4))
    }
    var after = GoldenFile.Worst(bound: 1e-3)
    for parameter in student.layout.parameters where !ParameterLayout.isBiasBeforeNorm(parameter.name) {
      let values = goldenDigest(step.studentP.numbers(of: parameter))
      after.take(
        parameter.name, try file.digest("digest/after/student.\(parameter.name)", of: parameter.count),
        norm: values.norm, first: values.first)
    }
    groups.append(after.group("student after \(rows.count) steps"))
    return groups
  }

  private func gradients(_ gradient: ParameterVector) throws -> Golden.Group {
    let rows = try file.gradientNorms("grad/student/", gradient)
    let largest = rows.map(\.norm).max() ?? 0
    var worst = GoldenFile.Worst(bound: 1e-3)
    for row in rows {
      if ParameterLayout.isBiasBeforeNorm(row.name) {
        // The truth is 0: absolutely.
        worst.take(row.name, row.difference / largest, bound: 1e-4)
      } else {
        worst.take(row.name, row.difference / max(row.norm, .leastNormalMagnitude))
      }
    }
    return worst.group("gradient of the student")
  }
}
