/// Recomputes a file of golden values (initial weights, inputs, and what a float64 program made of them) and compares
/// every group with its bound.
public struct Golden {
  /// One kind of value: its name, the largest error found relative to its bound's measure, the bound, and what
  /// was judged worst.
  public struct Group: Sendable {
    public let name: String
    public let error, bound: Double
    public let worst: String
    public var passes: Bool { error <= bound }
  }

  private let file: Safetensors
  private let workers: Workers
  private let size: Size
  private let student, teacher: UNet
  private let discriminator: Discriminator
  private let images: Volume
  private let truth: LabelVolume
  /// The paper's start values, with which golden files are made.
  private static let weights: [Float] = [1, 59.4507, 23.3190, 71.8481]

  /// Reads sizes and kind from the keys and shapes of the file.
  public init(path: String, _ workers: Workers) throws {
    let file = try Safetensors(path: path)
    self.file = file
    self.workers = workers
    func shape(_ name: String, _ count: Int) throws -> [Int] {
      guard let entry = file.entries[name], entry.extents.count == count else {
        throw Fault(.invalid, "\(path): \(name) is missing or has another number of extents: no golden file")
      }
      return entry.extents
    }
    let x = try shape("input/x", 4), y = try shape("input/y", 3)
    let first = try shape("init/student.conv_d1.conv1.conv.weight", 5)
    let second = try shape("init/disc.disc_2.0.weight", 5)
    let k = first[0]
    // The discriminator's last convolution needs two voxels a side, at a sixteenth of the size.
    guard x[0] == 4, Array(x.dropFirst()) == y, y.allSatisfy({ $0 >= 32 && $0 % 16 == 0 }) else {
      throw Fault(
        .invalid,
        "\(path): input/x is \(x), input/y \(y); expected 4 sequences of sides from 32 on that 16 divides")
    }
    guard (1...1024).contains(k) else { throw Fault(.invalid, "\(path): k is \(k), expected 1…1024") }
    guard second[1] == 8 * k || second[1] == 4 * k else {
      throw Fault(.invalid, "\(path): disc_2 reads \(second[1]) channels, expected \(8 * k) or \(4 * k)")
    }
    size = Size(x[1], x[2], x[3])
    student = UNet(inputs: 3, k: k)
    teacher = UNet(inputs: 4, k: k)
    discriminator = Discriminator(k: k, hierarchical: second[1] == 8 * k)
    let classes = try file.bytes("input/y")
    guard classes.allSatisfy({ $0 < 4 }) else {
      throw Fault(.invalid, "\(path): input/y has a class above 3")
    }
    truth = LabelVolume(size, classes)
    images = Golden.channelsLast(try file.floats("input/x"), Shape(size, 4))
  }

  private static func channelsLast(_ values: [Float], _ shape: Shape) -> Volume {
    let volume = Volume(zeros: shape), n = shape.voxels
    for c in 0..<shape.channels {
      for v in 0..<n { volume.base[v * shape.channels + c] = values[c * n + v] }
    }
    return volume
  }

  private func load(_ prefix: String, _ layout: ParameterLayout) throws -> ParameterVector {
    try file.check("init/\(prefix).", layout)
    let p = ParameterVector(zeros: layout)
    try file.read("init/\(prefix).", into: p)
    return p
  }

  /// All groups of the file, in the order of the computation.
  public func groups() throws -> [Group] {
    let steps = try traceSteps()
    let step = DistillationStep(
      student: student, try load("student", student.layout), teacher: teacher,
      try load("teacher", teacher.layout),
      discriminator, try load("disc", discriminator.layout),
      .init(lambda: 0.2, gate: 0.8, rate: 2e-4, optimiser: .init(beta1: 0.5, beta2: 0.999)), size: size,
      .single(), workers)
    let item = SlotCase(slot: 0, id: "golden", images: images, truth: truth)

    // The first step piece by piece, for the values that only it has.
    step.infer(item, dropout: nil)
    step.study(item, dropout: nil)
    _ = step.score(item, weights: Golden.weights)
    step.learn()
    var groups = [try forward(step), try studentGradients(step.studentGradient)]
    step.learnToJudge()
    groups.append(
      try digests(
        "digest/grad/disc.", step.discriminatorGradient, exempt: Golden.biasBeforeNorm, bound: 1e-3,
        name: "gradient of the discriminator", zeroes: true))

    var reports: [DistillationStep.Report] = []
    for _ in 0..<steps {
      reports.append(
        try step.run(
          [item], filled: 1, weights: Golden.weights, studentDropout: { _ in nil },
          teacherDropout: { _ in nil }))
    }
    groups += try trace(reports, patches: step.real.scores.shape.count)
    groups.append(
      try digests(
        "digest/after/student.", step.studentP, exempt: Golden.biasBeforeNorm, bound: 1e-3,
        name: "student after \(steps) steps"))
    groups.append(
      try digests(
        "digest/after/disc.", step.discriminatorP, exempt: Golden.biasBeforeNorm, bound: 1e-3,
        name: "discriminator after \(steps) steps"))
    return groups + (try pretraining(item))
  }

  private func traceSteps() throws -> Int {
    guard let entry = file.entries["trace"], entry.extents.count == 2, entry.extents[1] == 5,
      entry.extents[0] > 0
    else { throw Fault(.invalid, "\(file.path): trace is missing or not [steps][5]") }
    return entry.extents[0]
  }

  // MARK: Groups

  private func forward(_ step: DistillationStep) throws -> Group {
    var worst = Worst(bound: 1e-4)
    func compare(_ name: String, _ volume: Volume, _ source: Source? = nil) throws {
      let values = volume.array, channels = volume.channels
      let expected = try tensor(name, [channels] + volume.size.array, spatial: volume)
      let n = volume.shape.voxels
      var difference = 0.0, norm = 0.0
      for c in 0..<channels {
        for v in 0..<n {
          var value = values[v * channels + c]
          if let source, let scale = source.scale, let shift = source.shift {
            value = scale[c] * value + shift[c]
            value = max(value, source.slope * value)
          }
          let e = Double(expected[c * n + v])
          difference += (Double(value) - e) * (Double(value) - e)
          norm += e * e
        }
      }
      worst.take(name, (difference / max(norm, .leastNormalMagnitude)).squareRoot())
    }
    try compare("forward/student.logits", step.studentPass.logits)
    try compare("forward/teacher.logits", step.teacherPass.logits)
    for pair in 0..<3 {
      let encoder = step.studentPass.encoderFeature(pair)
      let decoder = step.studentPass.decoderFeature(pair, upsampled: false)
      try compare("forward/student.feature.\(pair).0", encoder.volume, encoder)
      try compare("forward/student.feature.\(pair).1", decoder.volume, decoder)
    }
    try compare("forward/disc.fake", step.fake.scores)
    try compare("forward/disc.real", step.real.scores)
    return worst.group("forward")
  }

  private func tensor(_ name: String, _ extents: [Int], spatial volume: Volume) throws -> [Float] {
    let values = try file.floats(name)
    guard file.entries[name]?.extents == extents else {
      throw Fault(
        .invalid, "\(file.path): \(name) is \(file.entries[name]?.extents ?? []), expected \(extents)")
    }
    return values
  }

  /// Gradients before an instance norm whose truth is 0.
  static func biasBeforeNorm(_ name: String) -> Bool {
    name.hasSuffix(".conv.bias") || name.hasSuffix("conv_up.bias")
      || ["disc_2.0.bias", "disc_3.0.bias", "disc_4.0.bias"].contains(name)
  }

  private func studentGradients(_ gradient: ParameterVector) throws -> Group {
    var rows: [(name: String, difference: Double, norm: Double)] = []
    for parameter in gradient.layout.parameters {
      let name = "grad/student/\(parameter.name)"
      let expected = try file.floats(name)
      guard file.entries[name]?.extents == parameter.extents else {
        throw Fault(.invalid, "\(file.path): \(name) is not \(parameter.extents)")
      }
      var difference = 0.0, norm = 0.0
      for (a, e) in zip(gradient[parameter], expected) {
        difference += (Double(a) - Double(e)) * (Double(a) - Double(e))
        norm += Double(e) * Double(e)
      }
      rows.append((parameter.name, difference.squareRoot(), norm.squareRoot()))
    }
    let largest = rows.map(\.norm).max() ?? 0
    let judged = rows.filter { !Golden.biasBeforeNorm($0.name) }
    var worst = Worst(bound: 1e-3)
    for row in rows {
      if Golden.biasBeforeNorm(row.name) {
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
  ) throws -> Group {
    var worst = Worst(bound: bound)
    var norms: [(parameter: Parameter, digest: [Double])] = []
    for parameter in vector.layout.parameters {
      let digest = try file.doubles(prefix + parameter.name)
      guard digest.count >= 2 + min(4, parameter.count) else {
        throw Fault(.invalid, "\(file.path): \(prefix + parameter.name) has \(digest.count) numbers")
      }
      norms.append((parameter, digest))
    }
    let largest = norms.map { $0.digest[1] }.max() ?? 0
    for (parameter, digest) in norms {
      let values = vector[parameter]
      let norm = values.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
      if exempt(parameter.name) {
        if zeroes { worst.take(parameter.name, abs(norm - digest[1]) / largest, bound: 1e-4) }
        continue
      }
      // A gradient that is small beside the network's largest is judged against that, as full tensors are.
      let measure = digest[1] == 0 ? largest : digest[1]
      let relative = abs(norm - digest[1]) / measure
      worst.take(parameter.name, zeroes ? min(relative, abs(norm - digest[1]) / largest) : relative)
      for i in 0..<min(4, parameter.count) {
        worst.take(
          "\(parameter.name)[\(i)]", abs(Double(values[i]) - digest[2 + i]) / measure, bound: 3 * bound)
      }
    }
    return worst.group(name)
  }

  private func trace(_ reports: [DistillationStep.Report], patches: Int) throws -> [Group] {
    let expected = try file.doubles("trace")
    let columns = [
      ("student's loss", reports.map(\.loss)), ("cross-entropy", reports.map(\.crossEntropy)),
      ("discriminator's loss", reports.map(\.discriminatorLoss)),
    ]
    var groups: [Group] = []
    for (column, (name, values)) in columns.enumerated() {
      groups.append(relative("trace: \(name)", values, reports.indices.map { expected[5 * $0 + column] }))
    }
    var worst = Worst(bound: 0)
    for (i, report) in reports.enumerated() {
      // Accuracies are counts of patches, two samples a step.
      let counts = Double(2 * patches)
      worst.take("step \(i + 1)", abs((report.accuracy - expected[5 * i + 3]) * counts).rounded())
    }
    groups.append(worst.group("trace: accuracy (patches)"))
    worst = Worst(bound: 0)
    for (i, report) in reports.enumerated() {
      worst.take("step \(i + 1)", abs((report.updated ? 1 : 0) - expected[5 * i + 4]))
    }
    groups.append(worst.group("trace: updated"))
    return groups
  }

  /// A column of a trace, relative l2; and each value by itself, against itself or, where it is small, a tenth of
  /// the column's largest.
  private func relative(_ name: String, _ values: [Double], _ expected: [Double]) -> Group {
    let difference = zip(values, expected).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
    let norm = expected.reduce(0) { $0 + $1 * $1 }
    var worst = Worst(bound: 1e-3)
    worst.take("\(expected.count) steps", (difference / max(norm, .leastNormalMagnitude)).squareRoot())
    let largest = expected.map { abs($0) }.max() ?? 0
    for (i, (value, truth)) in zip(values, expected).enumerated() {
      worst.take("step \(i + 1)", abs(value - truth) / max(abs(truth), 0.1 * largest, .leastNormalMagnitude))
    }
    return worst.group(name)
  }

  /// The same initial student alone: AdamW, class weights × 0.98 from the second step on.
  private func pretraining(_ item: SlotCase) throws -> [Group] {
    let expected = try file.doubles("pretrain/trace")
    let step = PretrainingStep(
      student, .withoutContrast, try load("student", student.layout),
      .init(beta1: 0.9, beta2: 0.999, decay: 1e-5), size: size, .single(), workers)
    let weights = DecayingWeights(Golden.weights, decay: 0.98, floor: 1)
    var losses: [Double] = []
    for epoch in 0..<expected.count {
      losses.append(
        try step.run(
          [item], filled: 1, weights: weights.weights(epoch: epoch), rate: 2e-4, dropout: { _ in nil }
        ).loss)
    }
    return [
      relative("pre-training: loss", losses, expected),
      try digests(
        "digest/pretrain/student.", step.p, exempt: Golden.biasBeforeNorm, bound: 1e-3,
        name: "pre-trained student after \(expected.count) steps"),
    ]
  }

  /// Keeps what is furthest beyond, or nearest to, its bound; a bound of its own is scaled to the group's.
  private struct Worst {
    let bound: Double
    var error = 0.0
    var name = "–"

    init(bound: Double) { self.bound = bound }

    mutating func take(_ name: String, _ error: Double, bound own: Double? = nil) {
      let scaled = own.map { error / $0 * bound } ?? error
      // Not a number is never within a bound.
      let value = scaled.isNaN ? Double.infinity : scaled
      if value > self.error || self.name == "–" {
        self.error = value
        self.name = name
      }
    }

    func group(_ name: String) -> Group {
      Group(name: name, error: error, bound: bound, worst: self.name)
    }
  }
}
