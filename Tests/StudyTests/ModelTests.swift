import Foundation
import Testing

@testable import Compute
@testable import Files
@testable import Imaging
@testable import Networks
@testable import Study
@testable import TestSupport

@Suite struct NetworksModelTests {
  private let scratch = Scratch()

  private func model(_ modalities: [Modality] = Modality.student) -> Model {
    let network = UNet(inputs: modalities.count, k: 1)
    var preparation = Preparation(mask: .all, negative: .absolute)
    preparation.modalities = modalities
    preparation.readsTruth = false
    preparation.ceiling = 2.5
    return Model(
      .init(
        method: "HAD-Net", k: 1, dropout: 0.2, sequences: modalities, size: Size(160, 192, 160),
        preparation: preparation), .unet(network), network.initialParameters(seed: 1, part: 0))
  }

  @Test(arguments: [Modality.student, Modality.allCases])
  func whatIsWrittenIsRead(modalities: [Modality]) throws {
    let model = model(modalities), path = scratch.file("model.safetensors"),
      bytes = try model.writer.encoded()
    try bytes.write(to: URL(fileURLWithPath: path))
    let read = try Model.load(path)
    #expect(read.metadata == model.metadata)
    #expect(read.metadata.inputs == (modalities.count == 4 ? .all : .present))
    #expect(firstDifference(read.p.array, model.p.array) == nil)
    #expect(try read.writer.encoded() == bytes)
  }

  /// Those that see windows: landmarks, border and what they segment from are in the file.
  @Test(arguments: [Model.Latent?.none, .means, .sample(seed: .max)])
  func whatAFusionNetworkNeedsIsInItsFile(latent: Model.Latent?) throws {
    let network = FusionNetwork(latent == nil ? .moments : .gaussians, width: 4)
    var preparation = Preparation(
      modalities: Modality.student, readsTruth: false,
      standardisation: Standardisation(landmarks: .published, leastSide: 40, border: 6))
    preparation.negative = .absolute
    let model = Model(
      .init(
        method: "U-HVED", k: 4, dropout: 0, sequences: Modality.student, size: Size(50, 50, 50),
        preparation: preparation, latent: latent), .fusion(network),
      network.initialParameters(seed: 1, part: 0))
    let path = scratch.file("network.safetensors"), bytes = try model.writer.encoded()
    try bytes.write(to: URL(fileURLWithPath: path))
    let read = try Model.load(scratch.path)
    #expect(read.metadata == model.metadata && read.p.array == model.p.array)
    #expect(try read.writer.encoded() == bytes)
    guard case .fusion(let same) = read.network else { throw Fault(.check, "another network") }
    #expect(same.fusion == network.fusion && same.width == 4)
  }

  @Test func aCheckpointsFolderIsReadAsItsNetwork() throws {
    try scratch.put("a/teacher.safetensors", [UInt8](try model(Modality.allCases).writer.encoded()))
    #expect(try Model.load(scratch.file("a")).metadata.sequences == Modality.allCases)
    try scratch.put("a/student.safetensors", [UInt8](try model().writer.encoded()))
    #expect(try Model.load(scratch.file("a")).metadata.sequences == Modality.student)
    try scratch.put("b/other")
    let folder = scratch.file("b")
    #expect(
      fault { _ = try Model.load(folder) }
        == Fault(
          .missing,
          "\(folder): none of teacher.safetensors, student.safetensors and network.safetensors is in this folder"
        ))
    #expect(
      fault { _ = try Model.load(scratch.file("c")) }
        == Fault(.missing, "\(scratch.file("c")): no such model file or checkpoint folder"))
  }

  @Test func aCutFileIsSaid() throws {
    let bytes = [UInt8](try model().writer.encoded())
    let path = try scratch.put("m", Array(bytes.prefix(5))),
      end = "; the file is damaged or is no safetensors file"
    #expect(fault { _ = try Model.load(path) } == Fault(.invalid, "\(path): it has 5 bytes\(end)"))
    for length in stride(from: 8, to: bytes.count, by: 997) {
      try scratch.put("m", Array(bytes.prefix(length)))
      let found = fault { _ = try Model.load(path) }
      #expect(found?.kind == .invalid, "\(length) bytes: \(String(describing: found))")
      #expect(found?.description.hasPrefix("\(path): ") == true && found?.description.hasSuffix(end) == true)
    }
    var altered = bytes
    altered[bytes.count - 100] ^= 4
    try scratch.put("m", altered)
    #expect(
      fault { _ = try Model.load(path) }
        == Fault(.invalid, "\(path): its fields and numbers are not those that were written\(end)"))
  }

  /// What changes a segmentation though the file stays a model: the numbers alone do not tell.
  @Test(arguments: [
    ("\"2.5\"", "\"3.5\""), ("\"0.2\"", "\"0.3\""), ("160,192,160", "160,192,144"),
    ("\"all\"", "\"pre-contrast\""),
    ("\"abs\"", "\"refuse\""),
  ])
  func anAlteredFieldIsSaid(field: String, other: String) throws {
    let bytes = try model().writer.encoded(), scratch = Scratch()
    let length = bytes.prefix(8).enumerated().reduce(0) { $0 | Int($1.element) << (8 * $1.offset) }
    let header = String(decoding: bytes[8..<8 + length], as: UTF8.self)
    try #require(header.contains(field))
    let altered = Array(header.replacing(field, with: other).trimmingCharacters(in: .whitespaces).utf8)
    let start = (0..<8).map { UInt8(truncatingIfNeeded: altered.count >> (8 * $0)) }
    let path = try scratch.put("m", start + altered + bytes[(8 + length)...])
    for isVerified in [true, false] {
      #expect(
        fault { _ = try Model.load(path, isVerified: isVerified) }?.description.contains(
          "its fields and numbers are not those that were written") == true)
    }
  }

  @Test func aFileOfOthersIsTakenIfAsked() throws {
    let bytes = try model().writer.encoded(), scratch = Scratch()
    let length = bytes.prefix(8).enumerated().reduce(0) { $0 | Int($1.element) << (8 * $1.offset) }
    let header = String(decoding: bytes[8..<8 + length], as: UTF8.self)
    let plain = Array(header.replacing(/,"xxh3":"[0-9a-f]*"/, with: "").utf8)
    let start = (0..<8).map { UInt8(truncatingIfNeeded: plain.count >> (8 * $0)) }
    let path = try scratch.put("m", start + plain + bytes[(8 + length)...])
    #expect(fault { _ = try Model.load(path) }?.description.contains("no xxh3 in its metadata") == true)
    #expect(try Model.load(path, isVerified: false).p.array == model().p.array)
  }

  @Test(arguments: [Float.nan, .infinity, -.infinity]) func aWeightThatIsNoNumberIsSaid(value: Float) throws {
    let sound = model(), path = scratch.file("model.safetensors")
    let p = ParameterVector(copying: sound.p)
    p.values[p.count / 2] = value
    let model = Model(sound.metadata, sound.network, p)
    try model.writer.encoded().write(to: URL(fileURLWithPath: path))
    let found = fault { _ = try Model.load(path, isVerified: false) }
    #expect(
      found?.kind == .invalid && found?.description.hasSuffix(" holds what is not a finite number") == true)
  }

  /// Said before memory is asked for.
  @Test func aSizeThatNoMachineHasMemoryForIsSaid() throws {
    let model = model(), good = try Safetensors(try model.writer.encoded(), path: "m")
    var metadata = good.metadata
    metadata["size"] = "4096,4096,4096"
    let path = try scratch.put(
      "m", [UInt8](try Safetensors.Writer([.init("", model.p)], metadata: metadata).encoded()))
    let found = fault { _ = try Model.load(path) }
    #expect(found?.kind == .invalid && found?.description.hasPrefix("\(path): ") == true)
    #expect(found?.description.contains("4096×4096×4096") == true, "\(String(describing: found))")
  }

  @Test func whatIsNoModelIsSaid() throws {
    let path = try scratch.put("m", Array("a picture, a text, anything but a model".utf8))
    #expect(
      fault { _ = try Model.load(path) }
        == Fault(
          .invalid,
          "\(path): its header of 8247626262918471777 bytes does not fit in 39; the file is damaged or is no "
            + "safetensors file"))
    let golden = "\(parityFolder)/step_k2.safetensors"
    #expect(
      fault { _ = try Model.load(golden) }
        == Fault(
          .invalid,
          "\(golden): no xxh3 in its metadata, the hash that tells a damaged file: this program did not write it "
            + "(predict --unverified takes it)"))
    #expect(
      fault { _ = try Model.load(golden, isVerified: false) }
        == Fault(.invalid, "\(golden): no model file of this program: its metadata lack format"))
  }

  @Test(arguments: [
    ("format", "2", "format 2; this program reads format 1"),
    ("preparation", "0", "made with another preparation of the data than this program's"),
    ("sequences", "flair,t1", "sequences in its metadata is flair,t1"),
    ("sequences", "flair,t1,t3", "sequences in its metadata is flair,t1,t3"),
    ("size", "160,192", "size in its metadata is 160,192"),
    ("size", "160,192,15", "size in its metadata is 160,192,15"),
    ("size", "160,192,0", "size in its metadata is 160,192,0"), ("k", "0", "k in its metadata is 0"),
    ("k", "many", "k in its metadata is many"), ("dropout", "1", "dropout in its metadata is 1"),
    ("mask", "none", "mask in its metadata is none"), ("negative", "?", "negative in its metadata is ?"),
    ("ceiling", "-3", "ceiling in its metadata is -3"),
    ("k", "2", "conv_d1.conv1.conv.weight is 1×3×3×3×3, expected 2×3×3×3×3"),
    // Must be said before memory for so large a network is asked for.
    ("k", "1024", "conv_d1.conv1.conv.weight is 1×3×3×3×3, expected 1024×3×3×3×3"),
    (
      "sequences", "flair,t1ce,t1,t2", "conv_d1.conv1.conv.weight is 1×3×3×3×3, expected 1×4×3×3×3"
    ),
  ])
  func factsThatMakeNoSenseAreSaid(key: String, value: String, why: String) throws {
    let model = model(), good = try Safetensors(try model.writer.encoded(), path: "m")
    var metadata = good.metadata
    metadata[key] = value
    let path = try scratch.put(
      "m", [UInt8](try Safetensors.Writer([.init("", model.p)], metadata: metadata).encoded()))
    #expect(fault { _ = try Model.load(path) } == Fault(.invalid, "\(path): \(why)"))
    metadata[key] = nil
    try scratch.put("m", [UInt8](try Safetensors.Writer([.init("", model.p)], metadata: metadata).encoded()))
    #expect(
      fault { _ = try Model.load(path) }
        == Fault(.invalid, "\(path): no model file of this program: its metadata lack \(key)"))
  }
}
