import Foundation
import Testing

@testable import HADNet

private typealias Parity = HADNet.Golden

private let groups = [
  "forward", "gradient of the student", "gradient of the discriminator", "trace: student's loss",
  "trace: cross-entropy", "trace: discriminator's loss", "trace: accuracy (patches)", "trace: updated",
  "student after 4 steps", "discriminator after 4 steps", "pre-training: loss",
  "pre-trained student after 4 steps",
]

/// A safetensors file whose numbers can be changed.
private struct Copy {
  private(set) var data: Data
  let file: Safetensors
  private let start: Int

  init(_ name: String) throws {
    data = try Data(contentsOf: URL(fileURLWithPath: "\(parityFolder)/\(name).safetensors"))
    file = try Safetensors(data, path: name)
    start = 8 + data.prefix(8).enumerated().reduce(0) { $0 | Int($1.element) << (8 * $1.offset) }
  }

  /// All numbers of a tensor, as Float64.
  func values(_ name: String) throws -> [Double] {
    file.entries[name]?.element == .float32 ? try file.floats(name).map(Double.init) : try file.doubles(name)
  }

  func norm(_ name: String) throws -> Double {
    try values(name).reduce(0) { $0 + $1 * $1 }.squareRoot()
  }

  mutating func set(_ name: String, _ index: Int, _ value: Double) throws {
    let entry = try #require(file.entries[name])
    let bytes =
      entry.element == .float32
      ? withUnsafeBytes(of: Float(value)) { Array($0) } : withUnsafeBytes(of: value) { Array($0) }
    let at = start + entry.range.lowerBound + index * bytes.count
    data.replaceSubrange(at..<at + bytes.count, with: bytes)
  }
}

/// One judged number, and by how much it is spoilt: half as much again as its bound.
private struct Spoil: Sendable {
  let group, name: String
  let index: Int
  /// Added to the number.
  let by: @Sendable (Copy) throws -> Double
  /// What the group calls its worst, where it names a tensor.
  var worst: String?
}

private func largest(_ prefix: String, _ copy: Copy, _ norm: (String) throws -> Double) throws -> Double {
  try copy.file.entries.keys.filter { $0.hasPrefix(prefix) }.map(norm).max() ?? 0
}

/// Of the relative l2 error of a tensor, 1e-4.
private func forward(_ tensor: String, _ index: Int) -> Spoil {
  let name = "forward/\(tensor)"
  return Spoil(group: "forward", name: name, index: index, by: { 1.5e-4 * (try $0.norm(name)) }, worst: name)
}

/// Of the student's largest gradient norm, 1e-3 or, before a norm, 1e-4.
private func gradient(_ parameter: String, _ index: Int, bound: Double = 1e-3) -> Spoil {
  let prefix = "grad/student/"
  return Spoil(
    group: "gradient of the student", name: prefix + parameter, index: index,
    by: { copy in try 1.5 * bound * largest(prefix, copy) { try copy.norm($0) } }, worst: nil)
}

/// The norm in a digest of the discriminator's gradient, against the largest.
private func discriminatorNorm(_ parameter: String, bound: Double = 1e-3) -> Spoil {
  let prefix = "digest/grad/disc."
  return Spoil(
    group: "gradient of the discriminator", name: prefix + parameter, index: 1,
    by: { copy in try 1.5 * bound * largest(prefix, copy) { try copy.values($0)[1] } }, worst: parameter)
}

/// One of the first four values of a digest, 3e-3 of its norm.
private func first(_ group: String, _ prefix: String, _ parameter: String, _ value: Int) -> Spoil {
  let name = prefix + parameter
  return Spoil(
    group: group, name: name, index: 2 + value, by: { 4.5e-3 * (try $0.values(name)[1]) },
    worst: "\(parameter)[\(value)]")
}

/// The norm in a digest, 1e-3 of itself.
private func norm(_ group: String, _ prefix: String, _ parameter: String) -> Spoil {
  let name = prefix + parameter
  return Spoil(
    group: group, name: name, index: 1, by: { 1.5e-3 * (try $0.values(name)[1]) }, worst: parameter)
}

/// One step of a column of the trace, 1e-3 of itself or, where it is small, of a tenth of the column's largest.
private func trace(_ group: String, _ column: Int, step: Int) -> Spoil {
  Spoil(group: "trace: \(group)", name: "trace", index: 5 * step + column) { copy in
    let values = try copy.values("trace")
    let all = stride(from: column, to: values.count, by: 5).map { abs(values[$0]) }
    return 1.5e-3 * max(all[step], 0.1 * (all.max() ?? 0))
  }
}

/// One patch of the two samples' judged otherwise.
private func accuracy(step: Int) -> Spoil {
  Spoil(
    group: "trace: accuracy (patches)", name: "trace", index: 5 * step + 3,
    by: { copy in
      let patches = try copy.values("forward/disc.fake").count
      return (try copy.values("trace")[5 * step + 3]) > 0.5 ? -0.5 / Double(patches) : 0.5 / Double(patches)
    }, worst: "step \(step + 1)")
}

private func updated(step: Int) -> Spoil {
  Spoil(
    group: "trace: updated", name: "trace", index: 5 * step + 4,
    by: { 1 - 2 * (try $0.values("trace")[5 * step + 4]) }, worst: "step \(step + 1)")
}

private func pretraining(step: Int) -> Spoil {
  Spoil(group: "pre-training: loss", name: "pretrain/trace", index: step) {
    let all = try $0.values("pretrain/trace").map { abs($0) }
    return 1.5e-3 * max(all[step], 0.1 * (all.max() ?? 0))
  }
}

private let student = ("student after 4 steps", "digest/after/student.")
private let judge = ("discriminator after 4 steps", "digest/after/disc.")
private let pretrained = ("pre-trained student after 4 steps", "digest/pretrain/student.")

/// In each round at most one number of a group is spoilt.
private let rounds: [[Spoil]] = [
  [
    forward("student.logits", 12_345), gradient("conv_d1.conv1.conv.weight", 7),
    discriminatorNorm("disc_1.0.weight"),
    trace("student's loss", 0, step: 0), trace("cross-entropy", 1, step: 3),
    trace("discriminator's loss", 2, step: 1),
    accuracy(step: 0), updated(step: 3), norm(student.0, student.1, "conv_out.weight"),
    norm(judge.0, judge.1, "disc_5.weight"), pretraining(step: 0),
    norm(pretrained.0, pretrained.1, "conv_u2.inst.weight"),
  ],
  [
    forward("student.feature.0.0", 3), gradient("conv_c5.conv2.conv.bias", 1, bound: 1e-4),
    first("gradient of the discriminator", "digest/grad/disc.", "disc_2.0.weight", 3),
    trace("student's loss", 0, step: 3), trace("cross-entropy", 1, step: 0),
    trace("discriminator's loss", 2, step: 0),
    accuracy(step: 3), updated(step: 0), first(student.0, student.1, "conv_d1.conv1.conv.weight", 0),
    first(judge.0, judge.1, "disc_1.0.bias", 2), pretraining(step: 3),
    first(pretrained.0, pretrained.1, "conv_out.bias", 3),
  ],
  [
    forward("student.feature.1.1", 100), gradient("conv_u3.conv_left.weight", 20),
    discriminatorNorm("disc_3.0.bias", bound: 1e-4), first(judge.0, judge.1, "disc_4.0.weight", 1),
    norm(student.0, student.1, "conv_u4.inst.bias"),
  ],
  [forward("teacher.logits", 98_000), gradient("conv_out.bias", 0)], [forward("disc.fake", 2)],
  [forward("disc.real", 0)],
  [forward("student.feature.2.1", 0)],
]

@Suite(.serialized) struct TrainingGoldenTests {
  private let scratch = Scratch()

  private func judged(_ data: Data) throws -> [Parity.Group] {
    let path = scratch.file("golden.safetensors")
    try data.write(to: URL(fileURLWithPath: path))
    return try Parity(path: path, Workers(1)).groups()
  }

  @Test(arguments: ["step_k2", "adnet_k2"])
  func everyGroupIsThereAndPasses(name: String) throws {
    let found = try Parity(path: "\(parityFolder)/\(name).safetensors", Workers(1)).groups()
    #expect(found.map(\.name) == groups)
    for group in found { #expect(group.passes, "\(group)") }
  }

  @Test(arguments: rounds.indices)
  func aNumberBeyondItsBoundFailsItsGroupAndNoOther(round: Int) throws {
    var copy = try Copy("step_k2")
    for spoil in rounds[round] {
      try copy.set(spoil.name, spoil.index, try copy.values(spoil.name)[spoil.index] + (try spoil.by(copy)))
    }
    let found = try judged(copy.data)
    #expect(Set(found.filter { !$0.passes }.map(\.name)) == Set(rounds[round].map(\.group)))
    for spoil in rounds[round] {
      let group = found.first { $0.name == spoil.group }
      // The bound is what it is said to be: half as much again fails, and by no more than that.
      if let group, group.bound > 0 { #expect(group.error < 2 * group.bound, "\(group)") }
      if let worst = spoil.worst {
        #expect(group?.worst == worst, "\(spoil.name) is spoilt: \(String(describing: group))")
      }
    }
  }

  @Test(arguments: [0, 1])
  func whatIsNotANumberFails(round: Int) throws {
    var copy = try Copy("step_k2")
    for spoil in rounds[round] { try copy.set(spoil.name, spoil.index, .nan) }
    #expect(try judged(copy.data).filter { !$0.passes }.map(\.name) == groups)
  }

  /// Each tensor within 1e-3 of the largest norm, and still the gradient is wrong.
  @Test func gradientsAreAlsoJudgedAsOneVector() throws {
    var copy = try Copy("step_k2")
    let prefix = "grad/student/", names = copy.file.entries.keys.filter { $0.hasPrefix(prefix) }
    let most = try names.map(copy.norm).max() ?? 0
    for name in names where !Parity.biasBeforeNorm(String(name.dropFirst(prefix.count))) {
      try copy.set(name, 0, try copy.values(name)[0] + 0.9e-3 * most)
    }
    let failed = try judged(copy.data).filter { !$0.passes }
    #expect(failed.map(\.name) == ["gradient of the student"] && failed[0].worst == "all as one vector")
  }

  @Test func sumsAndWhatAdamMakesOfNoiseAreNotJudged() throws {
    var copy = try Copy("step_k2"), spoilt = 0
    for (name, entry) in copy.file.entries where name.hasPrefix("digest/") {
      try copy.set(name, 0, .nan)
      let parameter = name.split(separator: ".", maxSplits: 1)[1]
      guard !name.hasPrefix("digest/grad"), Parity.biasBeforeNorm(String(parameter)) else { continue }
      for i in 0..<entry.extents.reduce(1, *) { try copy.set(name, i, 1e6) }
      spoilt += 1
    }
    // 14 units and 4 joins of the student, twice, and 3 blocks of the discriminator.
    #expect(spoilt == 2 * 18 + 3)
    for group in try judged(copy.data) { #expect(group.passes, "\(group)") }
  }

  // MARK: Files that are none

  @Test func truncatedFilesAreSaid() throws {
    let data = try Copy("step_k2").data, path = scratch.file("golden.safetensors")
    var random = Philox(seed: 1, .test)
    for length in [0, 7, 8, 9, 43_983, 43_984, data.count - 1]
      + (0..<20).map({ _ in random.below(data.count) })
    {
      try data.prefix(length).write(to: URL(fileURLWithPath: path))
      let found = fault { _ = try Parity(path: path, Workers(1)) }
      // An empty file is as good as none.
      #expect(
        found?.kind == (length == 0 ? .missing : .invalid), "\(length) bytes: \(String(describing: found))")
    }
  }

  /// Entries of a golden file of k = 1 whose numbers are nonsense: type and shape by name.
  private func entries(size: Int = 32) -> [String: (type: String, extents: [Int])] {
    var entries: [String: (type: String, extents: [Int])] = [
      "input/x": ("F32", [4, size, size, size]), "input/y": ("U8", [size, size, size]),
      "trace": ("F64", [1, 5]),
      "pretrain/trace": ("F64", [1]),
    ]
    let student = UNet(inputs: 3, k: 1).layout, teacher = UNet(inputs: 4, k: 1).layout
    let judge = Discriminator(k: 1).layout
    for (network, layout) in [("student", student), ("teacher", teacher), ("disc", judge)] {
      for parameter in layout.parameters {
        entries["init/\(network).\(parameter.name)"] = ("F32", parameter.extents)
      }
    }
    for parameter in student.parameters {
      entries["grad/student/\(parameter.name)"] = ("F32", parameter.extents)
      entries["digest/after/student.\(parameter.name)"] = ("F64", [6])
      entries["digest/pretrain/student.\(parameter.name)"] = ("F64", [6])
    }
    for parameter in judge.parameters {
      for kind in ["grad", "after"] { entries["digest/\(kind)/disc.\(parameter.name)"] = ("F64", [6]) }
    }
    for network in ["student", "teacher"] {
      entries["forward/\(network).logits"] = ("F32", [4, size, size, size])
    }
    for pair in 0..<3 {
      let encoder = size >> (pair + 1), channels = 2 << pair
      entries["forward/student.feature.\(pair).0"] = ("F32", [channels, encoder, encoder, encoder])
      entries["forward/student.feature.\(pair).1"] = (
        "F32", [channels, encoder / 2, encoder / 2, encoder / 2]
      )
    }
    for sample in ["fake", "real"] {
      entries["forward/disc.\(sample)"] = ("F32", [1, size / 16 - 1, size / 16 - 1, size / 16 - 1])
    }
    return entries
  }

  private func file(_ entries: [String: (type: String, extents: [Int])]) -> (data: Data, header: Int) {
    var fields: [String] = [], numbers = Data()
    for (name, entry) in entries.sorted(by: { $0.key < $1.key }) {
      let count = entry.extents.reduce(1, *), start = numbers.count
      // 0, 0.5 and 1 in float; 2⁻¹ in float64; classes 0 and 1.
      switch entry.type {
      case "F32":
        for i in 0..<count { withUnsafeBytes(of: Float(i * i % 3) / 2) { numbers.append(contentsOf: $0) } }
      case "F64": for _ in 0..<count { withUnsafeBytes(of: 0.5) { numbers.append(contentsOf: $0) } }
      default: numbers.append(contentsOf: (0..<count).map { UInt8($0 % 2) })
      }
      fields.append(
        "\"\(name)\":{\"dtype\":\"\(entry.type)\",\"shape\":\(entry.extents),\"data_offsets\":[\(start),\(numbers.count)]}"
      )
    }
    let header = Data("{\(fields.joined(separator: ","))}".utf8)
    return (
      Data((0..<8).map { UInt8(truncatingIfNeeded: header.count >> (8 * $0)) }) + header + numbers,
      header.count + 8
    )
  }

  @Test func nonsenseInAWholeFileFailsEveryGroup() throws {
    let found = try judged(file(entries()).data)
    #expect(found.count == groups.count)
    // One step by chance updates or not, and hits its accuracy or not.
    for group in found where !group.name.hasPrefix("trace: ") { #expect(!group.passes, "\(group)") }
  }

  @Test func flippedBitsOfTheHeaderNeverCrash() throws {
    let (good, header) = file(entries())
    var random = Philox(seed: 2, .test), faults = 0
    for _ in 0..<60 {
      var bad = good
      bad[random.below(header)] ^= 1 << UInt8(random.below(8))
      do {
        _ = try judged(bad)
      } catch let fault as Fault {
        #expect(fault.kind == .invalid, "\(fault)")
        faults += 1
      }
    }
    #expect(faults > 30)
  }

  @Test(arguments: [
    "input/x", "input/y", "trace", "pretrain/trace", "init/student.conv_u2.inst.bias",
    "init/disc.disc_2.0.weight",
    "init/teacher.conv_out.bias", "forward/student.logits", "forward/student.feature.2.0",
    "forward/disc.real",
    "grad/student/conv_c5.conv1.inst.weight", "digest/grad/disc.disc_5.weight",
    "digest/after/student.conv_out.bias",
    "digest/after/disc.disc_1.0.bias", "digest/pretrain/student.conv_d3.conv2.inst.weight",
  ])
  func whatIsMissingOrOfAnotherShapeOrTypeIsSaid(name: String) throws {
    let good = entries(), entry = try #require(good[name])
    var missing = good, type = good, shape = good
    missing[name] = nil
    type[name] = (entry.type == "F32" ? "F64" : "F32", entry.extents)
    shape[name] = (entry.type, name.hasPrefix("digest") ? [3] : entry.extents + [2])
    for (what, entries) in [("missing", missing), ("type", type), ("shape", shape)] {
      // The loss of pre-training has any number of steps.
      if name == "pretrain/trace" && what == "shape" { continue }
      let found = fault { _ = try judged(file(entries).data) }
      #expect(
        found?.kind == .invalid && found?.description.contains(name) == true,
        "\(what): \(String(describing: found))")
    }
  }

  @Test func sizesThatNoNetworkHasAreSaid() throws {
    let path = scratch.file("golden.safetensors")
    #expect(
      fault { _ = try judged(file(entries(size: 16)).data) }
        == Fault(
          .invalid,
          "\(path): input/x is 16×16×16 voxels; expected sides from 32 on that 16 divides"))
    var huge = entries()
    huge["init/student.conv_d1.conv1.conv.weight"] = ("F32", [1 << 33, 0, 3, 3, 3])
    huge["init/disc.disc_2.0.weight"] = ("F32", [1, 8 << 33, 0, 4, 4])
    #expect(
      fault { _ = try judged(file(huge).data) }
        == Fault(
          .invalid,
          "\(path): init/student.conv_d1.conv1.conv.weight is missing or has another number of extents: no golden file"
        ))
  }
}
