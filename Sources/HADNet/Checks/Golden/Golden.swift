import Compute
import Files
import Imaging
import Learning
import Networks

/// Recomputes a file of golden values (initial weights, inputs, and what a float64 program made of them) and compares
/// every group with its bound. The kind of the file (HAD-Net and AD-Net, KD-Net+, U-HeMIS, U-HVED), all sizes and the number of
/// classes are known from its keys and shapes. Its metadata names the sequences; without any they are BraTS's.
package struct Golden {
  /// One kind of value: its name, the largest error found relative to its bound's measure, the bound, and what
  /// was judged worst.
  package struct Group: Sendable {
    package let name: String
    package let error, bound: Double
    package let worst: String
    package var passes: Bool { error <= bound }
  }

  private let recompute: () throws -> [Group]

  /// Reads a safetensors file of golden values. Throws `.missing` where there is none, `.invalid` where it is damaged or
  /// has not what its kind needs.
  package init(path: String, _ workers: Workers) throws {
    let file = try GoldenFile(path), names = file.contents.entries.keys
    if names.contains(where: { $0.hasPrefix("init/VAE/") }) {
      recompute = try GoldenFusion(file, workers).groups
    } else if names.contains(where: { $0.hasPrefix("loss/kd.") }) {
      recompute = try GoldenKnowledge(file, workers).groups
    } else {
      recompute = try GoldenDistillation(file, workers).groups
    }
  }

  /// All groups of the file, in the order of the computation. Throws `.invalid` where the file lacks a value.
  package func groups() throws -> [Group] { try recompute() }
}

/// A file of golden values and what all kinds of them have in common.
struct GoldenFile {
  let contents: Safetensors
  var path: String { contents.path }

  /// The sequences of the input, in its order.
  let sequences: [Modality]
  /// Channels of those that a student sees.
  let present: [Int]
  /// The channel of the one that U-HeMIS and U-HVED see in their third case.
  let alone: Int
  /// Whether the metadata says so.
  let namesSequences: Bool

  init(_ path: String) throws {
    contents = try Safetensors(path: path)
    let metadata = contents.metadata, names = metadata["sequences"]?.split(separator: ",")
    namesSequences = names != nil
    guard let names else {
      let task = TaskPreset.brats.task
      (sequences, present, alone) = (task.sequences, task.presentChannels, 2)
      return
    }
    let sequences = names.map { Modality(rawValue: String($0)) }
    func channels(_ key: String) throws -> [Int] {
      let words = (metadata[key] ?? "").split(separator: ",")
      let found = words.compactMap { sequences.firstIndex(of: Modality(rawValue: String($0))) }
      guard !found.isEmpty, found.count == words.count, Set(found).count == found.count else {
        throw Fault(
          .invalid, "\(path): \(key) in its metadata must be some of \(names.joined(separator: ", "))")
      }
      return found.sorted()
    }
    guard (2...8).contains(sequences.count), Set(sequences).count == sequences.count else {
      throw Fault(.invalid, "\(path): sequences in its metadata must be 2 to 8 different names")
    }
    self.sequences = sequences
    present = try channels("present")
    alone = try channels("alone")[0]
  }

  /// The extents of a tensor that must be there with so many of them.
  func extents(_ name: String, _ count: Int) throws -> [Int] {
    guard let entry = contents.entries[name], entry.extents.count == count, !entry.extents.contains(0) else {
      throw Fault(
        .invalid, "\(path): \(name) is missing, empty or has another number of extents: no golden file")
    }
    return entry.extents
  }

  /// How many classes logits have by the kernel that makes them; the background's among them.
  func classes(_ kernel: String) throws -> Int {
    let count = try extents(kernel, 5)[0]
    guard (2...17).contains(count) else {
      throw Fault(.invalid, "\(path): \(kernel) makes logits of \(count) classes, expected 2…17")
    }
    return count
  }

  /// The one case of a file, as it sits in a step.
  func item(classes count: Int) throws -> SlotCase {
    let x = try extents("input/x", 4), y = try extents("input/y", 3)
    guard x[0] == sequences.count, Array(x.dropFirst()) == y else {
      throw Fault(
        .invalid,
        "\(path): input/x is \(x), input/y \(y); expected \(sequences.count) sequences of one size")
    }
    let size = Size(x[1], x[2], x[3]), classes = try contents.bytes("input/y")
    guard classes.allSatisfy({ $0 < count || $0 == LabelVolume.ignored }) else {
      throw Fault(.invalid, "\(path): input/y has a class above \(count - 1)")
    }
    return SlotCase(
      slot: 0, id: "golden", images: try volume("input/x"), truth: LabelVolume(size, classes))
  }

  /// A tensor [c, z, y, x], channels last.
  func volume(_ name: String) throws -> Volume {
    let e = try extents(name, 4), values = try contents.floats(name)
    let volume = Volume(zeros: Shape(Size(e[1], e[2], e[3]), e[0])), n = volume.shape.voxels
    var placed = volume.mutableValues
    for c in 0..<e[0] { for v in 0..<n { placed[v * e[0] + c] = values[c * n + v] } }
    return volume
  }

  func load(_ prefix: String, _ layout: ParameterLayout) throws -> ParameterVector {
    try contents.check("init/\(prefix)", layout)
    let p = ParameterVector(zeros: layout)
    try contents.read("init/\(prefix)", into: p)
    return p
  }

  /// The same of a network that does not learn.
  func loadFrozen(_ prefix: String, _ layout: ParameterLayout) throws -> FrozenParameters {
    try contents.check("init/\(prefix)", layout)
    return try FrozenParameters(layout) { try contents.read("init/\(prefix)", into: $0) }
  }

  /// The relative l2 error of a volume, as `source` reads it, against a tensor [c, z, y, x].
  func compare(_ name: String, _ volume: Volume, as source: LayerInput? = nil, _ worst: inout Worst) throws {
    let channels = volume.channels, n = volume.shape.voxels
    let expected = try floats(name, [channels] + volume.size.array)
    let source = source ?? LayerInput(volume)
    var difference = 0.0, norm = 0.0
    for c in 0..<channels {
      for v in 0..<n {
        let e = Double(expected[c * n + v]), value = Double(source.value(v, c))
        difference += (value - e) * (value - e)
        norm += e * e
      }
    }
    worst.take(name, (difference / max(norm, .leastNormalMagnitude)).squareRoot())
  }

  /// The l2 norms of a gradient's tensors under `prefix`, and of what ours differ by.
  func gradientNorms(
    _ prefix: String, _ gradient: ParameterVector
  ) throws -> [(name: String, difference: Double, norm: Double)] {
    try gradient.layout.parameters.map { parameter in
      let expected = try floats(prefix + parameter.name, parameter.extents)
      var difference = 0.0, norm = 0.0
      for (a, e) in zip(gradient.numbers(of: parameter), expected) {
        difference += (Double(a) - Double(e)) * (Double(a) - Double(e))
        norm += Double(e) * Double(e)
      }
      return (parameter.name, difference.squareRoot(), norm.squareRoot())
    }
  }

  /// A tensor of these extents.
  func floats(_ name: String, _ extents: [Int]) throws -> [Float] {
    let values = try contents.floats(name)
    guard contents.entries[name]?.extents == extents else {
      throw Fault(
        .invalid, "\(path): \(name) is \(contents.entries[name]?.extents ?? []), expected \(extents)")
    }
    return values
  }

  /// A digest of `count` values: their sum, for information, their l2 norm and the first four.
  func digest(_ name: String, of count: Int) throws -> (norm: Double, values: [Double]) {
    let digest = try contents.doubles(name)
    guard digest.count >= 2 + min(4, count) else {
      throw Fault(.invalid, "\(path): \(name) has \(digest.count) numbers")
    }
    return (digest[1], Array(digest[2..<2 + min(4, count)]))
  }

  /// A single number.
  func number(_ name: String) throws -> Double {
    guard let value = try contents.doubles(name).first else {
      throw Fault(.invalid, "\(path): \(name) is empty")
    }
    return value
  }

  /// The steps of a trace of so many columns.
  func trace(columns: Int) throws -> [[Double]] {
    let e = try extents("trace", 2)
    guard e[1] == columns else {
      throw Fault(.invalid, "\(path): trace is \(e), expected \(columns) columns")
    }
    let values = try contents.doubles("trace")
    return (0..<e[0]).map { Array(values[$0 * columns..<($0 + 1) * columns]) }
  }

  /// Keeps what is furthest beyond, or nearest to, its bound; a bound of its own is scaled to the group's.
  struct Worst {
    let bound: Double
    private var error = 0.0
    private var name = "–"

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

    /// A digest: the norm at the bound, each of the first values within three times that of the norm.
    mutating func take(
      _ name: String, _ digest: (norm: Double, values: [Double]), norm: Double, first: [Double],
      measure: Double? = nil
    ) {
      let measure = measure ?? max(digest.norm, .leastNormalMagnitude)
      take(name, abs(norm - digest.norm) / measure)
      for (i, value) in digest.values.enumerated() {
        take("\(name)[\(i)]", abs(first[i] - value) / measure, bound: 3 * bound)
      }
    }

    func group(_ name: String) -> Golden.Group {
      Golden.Group(name: name, error: error, bound: bound, worst: self.name)
    }
  }

  /// A column of a trace, relative l2; and each value by itself, against itself or, where it is small, a tenth of
  /// the column's largest.
  static func column(
    _ name: String, _ values: [Double], _ expected: [Double], bound: Double = 1e-3
  ) -> Golden.Group {
    let difference = zip(values, expected).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
    let norm = expected.reduce(0) { $0 + $1 * $1 }
    var worst = Worst(bound: bound)
    worst.take("\(expected.count) steps", (difference / max(norm, .leastNormalMagnitude)).squareRoot())
    let largest = expected.map { abs($0) }.max() ?? 0
    for (i, (value, truth)) in zip(values, expected).enumerated() {
      worst.take("step \(i + 1)", abs(value - truth) / max(abs(truth), 0.1 * largest, .leastNormalMagnitude))
    }
    return worst.group(name)
  }
}

extension ParameterVector {
  /// A copy of a tensor's numbers.
  func numbers(of parameter: Parameter) -> [Float] {
    // Copied while this vector is there.
    unsafe Array(self[parameter])
  }
}

/// l2 norm and the first four values of a volume's or a parameter's numbers.
func goldenDigest(_ values: some Sequence<Float>) -> (norm: Double, first: [Double]) {
  var sum = 0.0, first: [Double] = []
  for value in values {
    sum += Double(value) * Double(value)
    if first.count < 4 { first.append(Double(value)) }
  }
  return (sum.squareRoot(), first)
}
