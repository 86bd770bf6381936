import Compute
import Files
import Learning
import Methods
import Networks

/// Golden values of HAD-Net's or AD-Net's step, and of the student's pre-training.
struct GoldenDistillation {
  private let file: GoldenFile
  private let workers: Workers
  private let size: Size
  private let student, teacher: UNet
  private let discriminator: Discriminator
  private let item: SlotCase
  private let weights: [Float]
  /// The paper's start values, for a file that says none.
  private static let paper: [Float] = [1, 59.4507, 23.3190, 71.8481]

  init(_ file: GoldenFile, _ workers: Workers) throws {
    self.file = file
    self.workers = workers
    let classes = try file.classes("init/student.conv_out.weight"), path = file.path
    item = try file.item(classes: classes)
    size = item.images.size
    let k = try file.extents("init/student.conv_d1.conv1.conv.weight", 5)[0]
    let second = try file.extents("init/disc.disc_2.0.weight", 5)
    // The discriminator's last convolution needs two voxels a side, at a sixteenth of the size.
    guard size.array.allSatisfy({ $0 >= 32 && $0 % 16 == 0 }) else {
      throw Fault(.invalid, "\(path): input/x is \(size) voxels; expected sides from 32 on that 16 divides")
    }
    guard (1...1024).contains(k) else { throw Fault(.invalid, "\(path): k is \(k), expected 1…1024") }
    guard second[1] == 8 * k || second[1] == 4 * k else {
      throw Fault(.invalid, "\(path): disc_2 reads \(second[1]) channels, expected \(8 * k) or \(4 * k)")
    }
    let isBraTS = classes == 4 && file.contents.entries["input/weights"] == nil
    weights = try isBraTS ? GoldenDistillation.paper : file.floats("input/weights", [classes])
    student = UNet(inputs: file.present.count, k: k, classes: classes)
    teacher = UNet(inputs: file.sequences.count, k: k, classes: classes)
    discriminator = Discriminator(
      k: k, classes: classes, sequences: file.present.count, hierarchical: second[1] == 8 * k)
  }

  /// All groups of the file, in the order of the computation.
  func groups() throws -> [Golden.Group] {
    let rows = try file.trace(columns: 5)
    let step = DistillationStep(
      student: student, try file.load("student.", student.layout), teacher: teacher,
      try file.loadFrozen("teacher.", teacher.layout),
      discriminator, try file.load("disc.", discriminator.layout),
      .init(
        lambda: 0.2, gate: 0.8, classWeights: weights,
        optimiser: .init(beta1: 0.5, beta2: 0.999)), present: InputChannels(file.present), size: size,
      dropout: .init(probability: 0, seed: 0), teacherDropout: false, .single(), workers)
    let batch = Batch(cases: [item], filled: 1, rate: 2e-4)

    // The first step piece by piece, for the values that only it has.
    step.infer(item, batch)
    _ = step.losses(item, batch)
    _ = step.backward(0, item, batch) { _ in }
    var groups = [try forward(step), try studentGradients(step.learners[0].gradient)]
    _ = step.backward(1, item, batch) { _ in }
    groups.append(
      try digests(
        "digest/grad/disc.", step.learners[1].gradient, exempt: ParameterLayout.isBiasBeforeNorm, bound: 1e-3,
        name: "gradient of the discriminator", zeroes: true))

    let loop = SlotStep(step, .single())
    let reports = try rows.map { _ in try loop.run(batch).means }
    groups += trace(reports, rows, patches: step.real.scores.shape.count)
    groups.append(
      try digests(
        "digest/after/student.", step.studentP, exempt: ParameterLayout.isBiasBeforeNorm, bound: 1e-3,
        name: "student after \(rows.count) steps"))
    groups.append(
      try digests(
        "digest/after/disc.", step.discriminatorP, exempt: ParameterLayout.isBiasBeforeNorm, bound: 1e-3,
        name: "discriminator after \(rows.count) steps"))
    return groups + (try pretraining())
  }

  // MARK: Groups

  private func forward(_ step: DistillationStep) throws -> Golden.Group {
    var worst = GoldenFile.Worst(bound: 1e-4)
    try file.compare("forward/student.logits", step.studentPass.logits, &worst)
    try file.compare("forward/teacher.logits", step.teacherPass.logits, &worst)
    for pair in 0..<3 {
      let encoder = step.studentPass.encoderFeature(pair)
      let decoder = step.studentPass.decoderFeature(pair, upsampled: false)
      try file.compare("forward/student.feature.\(pair).0", encoder.volume, as: encoder, &worst)
      try file.compare("forward/student.feature.\(pair).1", decoder.volume, as: decoder, &worst)
    }
    try file.compare("forward/disc.fake", step.fake.scores, &worst)
    try file.compare("forward/disc.real", step.real.scores, &worst)
    return worst.group("forward")
  }

  private func studentGradients(_ gradient: ParameterVector) throws -> Golden.Group {
    let rows = try file.gradientNorms("grad/student/", gradient)
    let largest = rows.map(\.norm).max() ?? 0
    let judged = rows.filter { !ParameterLayout.isBiasBeforeNorm($0.name) }
    var worst = GoldenFile.Worst(bound: 1e-3)
    for row in rows {
      if ParameterLayout.isBiasBeforeNorm(row.name) {
        // The truth is 0: absolutely, 1e-4 of the largest norm.
        worst.take(row.name, row.difference / largest, bound: 1e-4)
      } else {
        worst.take(row.name, min(row.difference / row.norm, row.difference / largest))
      }
    }
    let all = judged.reduce(0) { $0 + $1.difference * $1.difference }
    let norm = judged.reduce(0) { $0 + $1.norm * $1.norm }
    worst.take("all as one vector", (all / norm).squareRoot())
    return worst.group("gradient of the student")
  }

  /// Digests (sum, l2 norm, first four values): the norm at `bound`, the values within 3e-3 of the norm; the sum
  /// is for information. `zeroes`: exempt tensors are held to 1e-4 of the largest norm, else left out.
  private func digests(
    _ prefix: String, _ vector: ParameterVector, exempt: (String) -> Bool, bound: Double, name: String,
    zeroes: Bool = false
  ) throws -> Golden.Group {
    var worst = GoldenFile.Worst(bound: bound)
    let norms = try vector.layout.parameters.map { parameter in
      (parameter, try file.digest(prefix + parameter.name, of: parameter.count))
    }
    let largest = norms.map { $0.1.norm }.max() ?? 0
    for (parameter, digest) in norms {
      let values = vector.numbers(of: parameter)
      let norm = values.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
      if exempt(parameter.name) {
        if zeroes { worst.take(parameter.name, abs(norm - digest.norm) / largest, bound: 1e-4) }
        continue
      }
      // A gradient that is small beside the network's largest is judged against that, as full tensors are.
      let measure = digest.norm == 0 ? largest : digest.norm
      let relative = abs(norm - digest.norm) / measure
      worst.take(parameter.name, zeroes ? min(relative, abs(norm - digest.norm) / largest) : relative)
      for i in digest.values.indices {
        worst.take(
          "\(parameter.name)[\(i)]", abs(Double(values[i]) - digest.values[i]) / measure, bound: 3 * bound)
      }
    }
    return worst.group(name)
  }

  private func trace(
    _ reports: [StepValues], _ rows: [[Double]], patches: Int
  ) -> [Golden.Group] {
    let columns = [
      ("student's loss", reports.map(\.loss)), ("cross-entropy", reports.map { $0[.crossEntropy] }),
      ("discriminator's loss", reports.map { $0[.discriminatorLoss] }),
    ]
    var groups: [Golden.Group] = []
    for (column, (name, values)) in columns.enumerated() {
      groups.append(GoldenFile.column("trace: \(name)", values, rows.map { $0[column] }))
    }
    var worst = GoldenFile.Worst(bound: 0)
    for (i, report) in reports.enumerated() {
      // Accuracies are counts of patches, two samples a step.
      let counts = Double(2 * patches)
      worst.take("step \(i + 1)", abs((report[.accuracy] - rows[i][3]) * counts).rounded())
    }
    groups.append(worst.group("trace: accuracy (patches)"))
    worst = GoldenFile.Worst(bound: 0)
    for (i, report) in reports.enumerated() {
      worst.take("step \(i + 1)", abs(report[.updated] - rows[i][4]))
    }
    groups.append(worst.group("trace: updated"))
    return groups
  }

  /// The same initial student alone: AdamW, class weights × 0.98 from the second step on.
  private func pretraining() throws -> [Golden.Group] {
    let expected = try file.contents.doubles("pretrain/trace")
    let weights = DecayingWeights(self.weights, decay: 0.98, floor: 1)
    let step = PretrainingStep(
      "student", student, InputChannels(file.present), try file.load("student.", student.layout),
      .init(beta1: 0.9, beta2: 0.999, decay: 1e-5), size: size, dropout: .init(probability: 0, seed: 0),
      weights: { weights.weights(epoch: $0) }, .single(), workers)
    let loop = SlotStep(step, .single())
    let losses = try expected.indices.map { epoch in
      try loop.run(Batch(cases: [item], filled: 1, epoch: epoch, rate: 2e-4)).means.loss
    }
    return [
      GoldenFile.column("pre-training: loss", losses, expected),
      try digests(
        "digest/pretrain/student.", step.learners[0].p, exempt: ParameterLayout.isBiasBeforeNorm, bound: 1e-3,
        name: "pre-trained student after \(expected.count) steps"),
    ]
  }
}
