import Foundation
import Testing

@testable import Checks
@testable import Compute
@testable import Files
@testable import Learning
@testable import Methods
@testable import Networks
@testable import TestSupport

private typealias Parity = Checks.Golden

/// A golden file of each kind, and the groups of each.
private let files = ["step_k2", "adnet_k2", "kdnet_small", "uhemis_small", "uhved_small"]

/// The same of other tasks: two classes and three sequences, two of them missing; six classes and five sequences, two of them
/// missing, and voxels that the truth leaves out. `Tests/Fixtures/parity/make-golden` makes them.
private let otherTasks = ["two", "six"].flatMap { task in
  ["step", "kdnet", "uhemis", "uhved"].map { "\($0)_\(task)" }
}

private func groups(_ file: String) -> [String] {
  func traces(_ terms: [String]) -> [String] { (["loss"] + terms).map { "trace: \($0)" } }
  return switch file.split(separator: "_")[0] {
  case "kdnet":
    ["forward", "losses", "gradient of the student"] + traces(KnowledgeStep.terms.map(\.name)) + [
      "student after 4 steps"
    ]
  case "uhemis":
    ["forward", "losses", "gradients"] + traces(FusionStep.terms(.moments).map(\.name)) + [
      "network after 4 steps"
    ]
  case "uhved":
    ["forward", "losses", "gradients"] + traces(FusionStep.terms(.gaussians).map(\.name)) + [
      "network after 4 steps"
    ]
  default: distillationGroups
  }
}

private let distillationGroups = [
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

  /// The file without a tensor, or with it as one of another type or shape (of whatever numbers).
  func changing(_ name: String, to entry: (type: String, extents: [Int])?) throws -> Data {
    let header = data[8..<start]
    var bytes = data[start...]
    var entries = try #require(try JSONSerialization.jsonObject(with: header) as? [String: Any])
    // Every byte belongs to one tensor: its old ones to one that nobody asks for, those of the new one stand at the end.
    let old = try #require(file.entries[name]).range
    entries[name] = nil
    entries["old"] = ["dtype": "U8", "shape": [old.count], "data_offsets": [old.lowerBound, old.upperBound]]
    if let entry {
      let size = (entry.type == "F64" ? 8 : entry.type == "F32" ? 4 : 1) * entry.extents.reduce(1, *)
      entries[name] = [
        "dtype": entry.type, "shape": entry.extents,
        "data_offsets": [bytes.count, bytes.count + size],
      ]
      bytes += Data(count: size)
    }
    let changed = try JSONSerialization.data(withJSONObject: entries)
    return Data((0..<8).map { UInt8(truncatingIfNeeded: changed.count >> (8 * $0)) }) + changed + bytes
  }

  /// Sets the first voxel's class.
  mutating func label(_ value: UInt8) throws {
    data[start + (try #require(file.entries["input/y"])).range.lowerBound] = value
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
private func trace(
  _ group: String, _ column: Int, step: Int, columns: Int = 5, bound: Double = 1e-3
) -> Spoil {
  Spoil(group: "trace: \(group)", name: "trace", index: columns * step + column) { copy in
    let values = try copy.values("trace")
    let all = stride(from: column, to: values.count, by: columns).map { abs(values[$0]) }
    return 1.5 * bound * max(all[step], 0.1 * (all.max() ?? 0))
  }
}

/// All columns of a trace of four steps.
private func traces(_ terms: [String], step: Int) -> [Spoil] {
  (["loss"] + terms).enumerated().map {
    trace($1, $0, step: ($0 + step) % 4, columns: terms.count + 1, bound: 1e-4)
  }
}

/// A loss of the first step, 1e-5 of itself.
private func loss(_ name: String, _ worst: String) -> Spoil {
  Spoil(
    group: "losses", name: "loss/\(name)", index: 0, by: { 1.5e-5 * (try $0.values("loss/\(name)")[0]) },
    worst: worst)
}

/// Of a gradient in full, 1e-3 of its norm.
private func whole(_ group: String, _ prefix: String, _ parameter: String, _ index: Int, worst: String)
  -> Spoil
{
  let name = prefix + parameter
  return Spoil(group: group, name: name, index: index, by: { 1.5e-3 * (try $0.norm(name)) }, worst: worst)
}

/// The norm (nil) or one of the first values in a digest of U-HeMIS's or U-HVED's, with a bound of the norm.
private func digest(_ group: String, _ name: String, _ label: String, _ value: Int?, bound: Double) -> Spoil {
  Spoil(
    group: group, name: name, index: value.map { 2 + $0 } ?? 1,
    by: { (value == nil ? 1.5 : 4.5) * bound * (try $0.values(name)[1]) },
    worst: value.map { "\(label)[\($0)]" } ?? label)
}

private func forward(_ name: String, _ what: String, _ value: Int?) -> Spoil {
  digest("forward", "digest/forward/\(name).\(what)", "\(name) \(what)", value, bound: 1e-4)
}

private func gradient(_ name: String, _ parameter: String, _ value: Int?) -> Spoil {
  digest("gradients", "digest/grad/\(name)/\(parameter)", "\(name) \(parameter)", value, bound: 1e-3)
}

/// The norm of a gradient that is nearly 0, against the largest of its case.
private func nearlyZero(_ name: String, _ parameter: String) -> Spoil {
  let prefix = "digest/grad/\(name)/"
  return Spoil(
    group: "gradients", name: prefix + parameter, index: 1,
    by: { copy in try 1.5e-4 * largest(prefix, copy) { try copy.values($0)[1] } },
    worst: "\(name) \(parameter)")
}

private func after(_ parameter: String, _ value: Int?) -> Spoil {
  digest("network after 4 steps", "digest/after/\(parameter)", parameter, value, bound: 1e-3)
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

/// Numbers of a file that are spoilt at the same time, at most one of a group.
private struct Round: Sendable, CustomTestStringConvertible {
  let file: String
  let spoils: [Spoil]

  init(_ file: String, _ spoils: [Spoil]) {
    self.file = file
    self.spoils = spoils
  }

  var testDescription: String { "\(file): \(spoils.map(\.name).joined(separator: ", "))" }
}

private let encoder = "VAE/ConvEncoder/", decoder = "VAE/ConvDecoderImg/"
private let terms = KnowledgeStep.terms.map(\.name), moments = FusionStep.terms(.moments).map(\.name)
private let gaussians = FusionStep.terms(.gaussians).map(\.name)

/// The first of each file spoils all groups.
private let rounds: [Round] =
  distillationRounds.map { Round("step_k2", $0) } + [
    Round(
      "kdnet_small",
      [
        forward("student.logits", 12_345), loss("total", "total"),
        whole(
          "gradient of the student", "grad/student/", "conv_d1.conv1.conv.weight", 7,
          worst: "conv_d1.conv1.conv.weight"), norm(student.0, student.1, "conv_out.weight"),
      ] + traces(terms, step: 0)),
    Round(
      "kdnet_small",
      [
        forward("teacher.latent", 5), loss("latent", "latent"),
        gradient("conv_c5.conv2.conv.bias", 1, bound: 1e-4),
        first(student.0, student.1, "conv_d1.conv1.conv.weight", 0),
      ] + traces(terms, step: 1)),
    Round(
      "kdnet_small",
      [
        forward("student.latent", 90), loss("ref.ce", "ref.ce"),
        whole("gradient of the student", "grad/student/", "conv_out.bias", 2, worst: "conv_out.bias"),
        first(student.0, student.1, "conv_u3.inst.bias", 3),
      ] + traces(terms, step: 2)),
    Round(
      "uhemis_small",
      [
        forward("all.logits", 7), loss("all/total", "all total"),
        whole(
          "gradients", "grad/no_t1ce/", "\(decoder)block_2_seg/conv_1/w", 100,
          worst: "no_t1ce \(decoder)block_2_seg/conv_1/w"),
        after("\(encoder)block_4_T1c/in_0/InstanceNorm/gamma", nil),
      ] + traces(moments, step: 0)),
    Round(
      "uhemis_small",
      [
        forward("odd.logits", 5000), loss("no_t1ce/decay", "no_t1ce decay"),
        nearlyZero("all", "\(encoder)conv_0_T2_leakyrelu/conv_/w"),
        after("\(decoder)final_conv_seg/conv_/w", 3),
      ] + traces(moments, step: 1)),
    Round(
      "uhemis_small",
      [
        forward("only_t1", "fused.4", nil), loss("only_t1/ce", "only_t1 ce"),
        gradient("only_t1", "\(encoder)block_3_T1/conv_1/w", 2),
        after("\(encoder)block_1_Flair/conv_0/w", 1),
      ] + traces(moments, step: 2)),
    Round(
      "uhemis_small",
      [
        forward("no_t1ce", "logits", 1), loss("all/dice", "all dice"),
        // The decay of a dropped encoder's kernel.
        gradient("no_t1ce", "\(encoder)block_2_T1c/conv_0/w", nil),
      ] + traces(moments, step: 3)),
    Round(
      "uhved_small",
      [
        forward("no_t1ce.mean.logits", 77), loss("no_t1ce/kl", "no_t1ce kl"),
        whole(
          "gradients", "grad/no_t1ce/", "\(decoder)final_conv_seg_2/conv_/w", 1,
          worst: "no_t1ce \(decoder)final_conv_seg_2/conv_/w"),
        after("\(encoder)block_4_T1c/conv_1/w", nil),
      ] + traces(gaussians, step: 0)),
    Round(
      "uhved_small",
      [
        forward("no_t1ce.recon", 123), loss("all/kl.inter.3", "all kl.inter.3"),
        gradient("only_t1", "\(encoder)block_4_T2/in_1/InstanceNorm/beta", nil),
        after("\(decoder)final_conv_seg_3/conv_/w", 0),
      ] + traces(gaussians, step: 1)),
    Round(
      "uhved_small",
      [
        forward("only_t1", "posterior.2.logvar", 3), loss("only_t1/kl.prior.1", "only_t1 kl.prior.1"),
        nearlyZero("no_t1ce", "\(encoder)conv_0_T1c_leakyrelu/conv_/w"),
        after("\(decoder)block_2_T1c/in_0/InstanceNorm/beta", 2),
      ] + traces(gaussians, step: 2)),
    Round(
      "uhved_small",
      [
        forward("all", "posterior.4.mean", nil), loss("all/recon", "all recon"),
        gradient("all", "\(decoder)block_1_Flair/conv_0/w", 1),
      ] + traces(gaussians, step: 3)),
  ]

/// Of the other tasks.
private let otherRounds = [
  Round(
    "step_six",
    [
      forward("student.logits", 196_000), gradient("conv_out.bias", 5), discriminatorNorm("disc_1.0.weight"),
      trace("student's loss", 0, step: 1), trace("cross-entropy", 1, step: 2), accuracy(step: 0),
      norm(student.0, student.1, "conv_out.weight"), pretraining(step: 1),
    ]),
  Round(
    "kdnet_two",
    [
      forward("teacher.logits", 16_000), loss("kd.dice", "kd.dice"),
      whole("gradient of the student", "grad/student/", "conv_out.bias", 1, worst: "conv_out.bias"),
      norm(student.0, student.1, "conv_out.weight"),
    ]),
  Round(
    "uhemis_two",
    [
      forward("odd.logits", 3000), loss("present/ce", "present ce"),
      whole(
        "gradients", "grad/present/", "\(decoder)final_conv_seg/conv_/w", 3,
        worst: "present \(decoder)final_conv_seg/conv_/w"),
      after("\(encoder)block_4_adc/conv_1/w", nil),
    ]),
  Round(
    "uhved_six",
    [
      forward("alone", "recon", nil), loss("all/kl.inter.4", "all kl.inter.4"),
      gradient("alone", "\(decoder)final_conv_seg_4/conv_/w", 0),
      after("\(decoder)final_conv_seg_5/conv_/w", 2),
    ]),
]

private let distillationRounds: [[Spoil]] = [
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

  @Test(arguments: files + otherTasks)
  func everyGroupIsThereAndPasses(name: String) throws {
    let found = try Parity(path: "\(parityFolder)/\(name).safetensors", Workers(1)).groups()
    #expect(found.map(\.name) == groups(name))
    for group in found { #expect(group.passes, "\(group)") }
  }

  @Test(arguments: rounds + otherRounds)
  private func aNumberBeyondItsBoundFailsItsGroupAndNoOther(round: Round) throws {
    var copy = try Copy(round.file)
    for spoil in round.spoils {
      try copy.set(spoil.name, spoil.index, try copy.values(spoil.name)[spoil.index] + (try spoil.by(copy)))
    }
    let found = try judged(copy.data)
    #expect(Set(found.filter { !$0.passes }.map(\.name)) == Set(round.spoils.map(\.group)))
    for spoil in round.spoils {
      let group = found.first { $0.name == spoil.group }
      // The bound is what it is said to be: half as much again fails, and by no more than that.
      if let group, group.bound > 0 { #expect(group.error < 2 * group.bound, "\(group)") }
      if let worst = spoil.worst {
        #expect(group?.worst == worst, "\(spoil.name) is spoilt: \(String(describing: group))")
      }
    }
  }

  @Test(
    arguments: [rounds[0], rounds[1]]
      + files.dropFirst(2).compactMap { file in rounds.first { $0.file == file } })
  private func whatIsNotANumberFails(round: Round) throws {
    var copy = try Copy(round.file)
    for spoil in round.spoils { try copy.set(spoil.name, spoil.index, .nan) }
    #expect(try judged(copy.data).filter { !$0.passes }.map(\.name) == groups(round.file))
  }

  /// The norms of an encoder that U-HeMIS does not fuse have a gradient of exactly 0; nothing else will do.
  @Test func aGradientThatIsZeroIsHeldToBeZero() throws {
    let name = "digest/grad/no_t1ce/\(encoder)block_2_T1c/in_0/InstanceNorm/gamma"
    let decayed = "digest/grad/no_t1ce/\(encoder)block_2_T1c/conv_0/w"
    for (name, value) in [(name, 1e-12), (decayed, 0)] {
      var copy = try Copy("uhemis_small")
      #expect((try copy.values(name)[1] == 0) == (value != 0))
      for i in 1..<6 { try copy.set(name, i, i == 1 ? value : 0) }
      let failed = try judged(copy.data).filter { !$0.passes }
      #expect(
        failed.map(\.name) == ["gradients"] && name.hasSuffix(failed[0].worst.dropFirst(8)), "\(failed)")
    }
  }

  /// Each tensor within 1e-3 of the largest norm, and still the gradient is wrong.
  @Test func gradientsAreAlsoJudgedAsOneVector() throws {
    var copy = try Copy("step_k2")
    let prefix = "grad/student/", names = copy.file.entries.keys.filter { $0.hasPrefix(prefix) }
    let most = try names.map(copy.norm).max() ?? 0
    for name in names where !ParameterLayout.isBiasBeforeNorm(String(name.dropFirst(prefix.count))) {
      try copy.set(name, 0, try copy.values(name)[0] + 0.9e-3 * most)
    }
    let failed = try judged(copy.data).filter { !$0.passes }
    #expect(failed.map(\.name) == ["gradient of the student"] && failed[0].worst == "all as one vector")
  }

  /// 14 units and 4 joins of the student, of HAD-Net's twice and with 3 blocks of the discriminator; the first convolutions
  /// of four encoders.
  @Test(arguments: [
    ("step_k2", 2 * 18 + 3), ("kdnet_small", 18), ("uhemis_small", 4), ("uhved_small", 4),
  ])
  func sumsAndWhatAdamMakesOfNoiseAreNotJudged(file: String, tensors: Int) throws {
    var copy = try Copy(file), spoilt = 0
    for (name, entry) in copy.file.entries where name.hasPrefix("digest/") {
      try copy.set(name, 0, .nan)
      let parameter = name.split(separator: ".", maxSplits: 1).last ?? ""
      let isNoise =
        file.hasPrefix("uh") ? name.contains("/conv_0_") : ParameterLayout.isBiasBeforeNorm(String(parameter))
      guard !name.hasPrefix("digest/grad"), isNoise else { continue }
      for i in 0..<entry.extents.reduce(1, *) { try copy.set(name, i, 1e6) }
      spoilt += 1
    }
    #expect(spoilt == tensors)
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

  private func file(
    _ entries: [String: (type: String, extents: [Int])], metadata: [String: String] = [:]
  ) -> (data: Data, header: Int) {
    var numbers = Data()
    let pairs = metadata.map { "\"\($0)\":\"\($1)\"" }
    var fields = metadata.isEmpty ? [] : ["\"__metadata__\":{\(pairs.joined(separator: ","))}"]
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
    #expect(found.map(\.name) == groups("step_k2").map { $0.replacing("4 steps", with: "1 steps") })
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

  @Test(arguments: [
    (
      "kdnet_small",
      [
        "input/x", "input/y", "trace", "init/student.conv_u2.inst.bias", "init/teacher.conv_out.bias",
        "init/student.conv_d1.conv1.conv.weight", "forward/student.logits", "forward/teacher.latent",
        "loss/total", "loss/kd.dice", "grad/student/conv_c5.conv1.inst.weight",
        "digest/after/student.conv_out.bias",
      ]
    ),
    (
      "uhemis_small",
      [
        "input/x", "input/y", "input/odd", "trace", "init/\(encoder)conv_0_T1_leakyrelu/conv_/w",
        "init/\(decoder)block_2_seg/in_1/InstanceNorm/beta", "digest/forward/all.fused.2",
        "digest/forward/only_t1.logits", "forward/all.logits", "forward/no_t1ce.logits",
        "forward/odd.logits", "loss/only_t1/decay", "digest/grad/only_t1/\(encoder)block_4_T2/conv_0/w",
        "grad/no_t1ce/\(encoder)block_3_T1/conv_1/w", "grad/no_t1ce/\(decoder)block_1_seg/conv_0/w",
        "digest/after/\(encoder)block_4_T2/conv_0/w",
      ]
    ),
    (
      "uhved_small",
      [
        "noise/1", "noise/4", "digest/forward/all.recon", "digest/forward/no_t1ce.posterior.3.mean",
        "digest/forward/only_t1.posterior.1.logvar", "forward/no_t1ce.recon",
        "forward/no_t1ce.mean.logits", "digest/forward/no_t1ce.mean.recon", "loss/all/kl.inter.4",
        "loss/no_t1ce/recon", "grad/no_t1ce/\(decoder)final_conv_seg/conv_/w",
        "digest/grad/all/\(decoder)block_3_T1c/in_0/InstanceNorm/gamma",
      ]
    ),
  ])
  func whatIsMissingOrOfAnotherShapeOrTypeIsSaidInOneSentence(file: String, names: [String]) throws {
    let copy = try Copy(file), path = scratch.file("golden.safetensors")
    for (i, name) in names.enumerated() {
      let entry = try #require(copy.file.entries[name]), type = entry.element == .float32 ? "F64" : "F32"
      let isNumbers = name.hasPrefix("digest") || name.hasPrefix("loss")
      // Each is wrong in one of four ways.
      let ways: [(String, (type: String, extents: [Int])?)] = [
        ("missing", nil), ("type", (type, entry.extents)),
        ("shape", (entry.element.rawValue, isNumbers ? [0] : entry.extents + [2])),
        ("extents", (entry.element.rawValue, isNumbers ? [0] : entry.extents.map { $0 + 1 })),
      ]
      let (what, changed) = ways[i % 4]
      let data = try copy.changing(name, to: changed), found = fault { _ = try judged(data) }
      let words = found?.description ?? "nothing"
      #expect(
        found?.kind == .invalid && words.hasPrefix("\(path): ") && !words.contains("\n")
          && words.contains(name), "\(name), \(what): \(words)")
    }
  }

  @Test func anOddVolumeOfOtherSequencesIsSaid() throws {
    let copy = try Copy("uhemis_small"), path = scratch.file("golden.safetensors")
    for count in [1, 5] {
      let data = try copy.changing("input/odd", to: ("F32", [count, 12, 28, 20]))
      #expect(
        fault { _ = try judged(data) }
          == Fault(.invalid, "\(path): input/odd has \(count) sequences, expected 4"))
    }
  }

  @Test func widthsThatNoNetworkHasAreSaid() throws {
    let copy = try Copy("uhved_small"), path = scratch.file("golden.safetensors")
    for width in [3, 258] {
      let data = try copy.changing(
        "init/\(encoder)conv_0_T1_leakyrelu/conv_/w", to: ("F32", [width, 1, 1, 1, 1]))
      #expect(
        fault { _ = try judged(data) }
          == Fault(
            .invalid, "\(path): \(width) channels at full size; expected an even number up to 256"))
    }
    #expect(
      fault { _ = try judged(try copy.changing("noise/2", to: ("F32", [4, 16, 12, 9]))) }
        == Fault(.invalid, "\(path): noise/2 is 16×12×9×4, expected 16×12×8×4"))
  }

  @Test func sizesThatNoNetworkHasAreSaid() throws {
    let path = scratch.file("golden.safetensors")
    func said(_ entries: [String: (type: String, extents: [Int])]) -> Fault? {
      fault { _ = try judged(file(entries).data) }
    }
    #expect(
      said(entries(size: 16))
        == Fault(.invalid, "\(path): input/x is 16×16×16 voxels; expected sides from 32 on that 16 divides"))
    var odd = entries()
    odd["input/y"] = ("U8", [32, 32, 31])
    #expect(
      said(odd)
        == Fault(
          .invalid,
          "\(path): input/x is [4, 32, 32, 32], input/y [32, 32, 31]; expected 4 sequences of one size"))
    let first = "init/student.conv_d1.conv1.conv.weight"
    var large = entries()
    large[first] = ("F32", [1025, 1, 1, 1, 1])
    #expect(said(large) == Fault(.invalid, "\(path): k is 1025, expected 1…1024"))
    // As large as can be said, and nothing behind it.
    large[first] = ("F32", [1 << 33, 0, 3, 3, 3])
    #expect(
      said(large)
        == Fault(
          .invalid, "\(path): \(first) is missing, empty or has another number of extents: no golden file"))
  }

  @Test(arguments: [
    ("a", "a", "a", "sequences in its metadata must be 2 to 8 different names"),
    ("a,b,a", "a", "a", "sequences in its metadata must be 2 to 8 different names"),
    ("a,b,c,d,e,f,g,h,i", "a", "a", "sequences in its metadata must be 2 to 8 different names"),
    ("a,b", "c", "a", "present in its metadata must be some of a, b"),
    ("a,b", "b,b", "a", "present in its metadata must be some of a, b"),
    ("a,b", "b", "", "alone in its metadata must be some of a, b"),
    (
      "a,b", "b", "a",
      "input/x is [4, 32, 32, 32], input/y [32, 32, 32]; expected 2 sequences of one size"
    ),
  ]) func sequencesThatNoTaskHasAreSaid(names: String, present: String, alone: String, words: String) throws {
    let metadata = ["sequences": names, "present": present, "alone": alone]
    #expect(
      fault { _ = try judged(file(entries(), metadata: metadata).data) }
        == Fault(.invalid, "\(scratch.file("golden.safetensors")): \(words)"))
  }

  @Test func classesThatNoTaskHasAreSaid() throws {
    let path = scratch.file("golden.safetensors"), kernel = "init/student.conv_out.weight"
    for count in [1, 18] {
      var entries = entries()
      entries[kernel] = ("F32", [count, 1, 1, 1, 1])
      #expect(
        fault { _ = try judged(file(entries).data) }
          == Fault(.invalid, "\(path): \(kernel) makes logits of \(count) classes, expected 2…17"))
    }
    // Other classes than four have no weights of the paper's.
    var three = entries()
    three[kernel] = ("F32", [3, 1, 1, 1, 1])
    let found = fault { _ = try judged(file(three).data) }
    #expect(found?.kind == .invalid && found?.description.contains("input/weights") == true)
    var copy = try Copy("kdnet_two")
    #expect(copy.file.entries["input/y"]?.extents == [32, 48, 16])
    try copy.label(2)
    #expect(fault { _ = try judged(copy.data) } == Fault(.invalid, "\(path): input/y has a class above 1"))
  }
}
