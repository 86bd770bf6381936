import Foundation
import Testing

@testable import Compute
@testable import Files
@testable import TestSupport

@Suite struct MemorySafetensorsTests {
  private func vector(_ part: Int = 1) -> ParameterVector {
    var layout = ParameterLayout()
    _ = layout.add("b.weight", 2, 3)
    _ = layout.add("a \"quoted\" ü", 5)
    _ = layout.add("none", 0)
    return ParameterVector(normal: layout, part)
  }

  private func bytes() throws -> Data {
    try Safetensors.Writer(
      [.init("x.", vector()), .init("", vector(2))], metadata: ["method": "HAD-Net", "k": "2"]
    ).encoded()
  }

  /// A file with this header, as it stands, and `count` bytes of zero.
  private func file(_ header: String, _ count: Int) -> Data {
    var data = Data((0..<8).map { UInt8(truncatingIfNeeded: header.utf8.count >> (8 * $0)) })
    data.append(contentsOf: header.utf8)
    data.append(Data(count: count))
    return data
  }

  @Test func whatIsWrittenIsRead() throws {
    let file = try Safetensors(try bytes(), path: "f")
    for (prefix, expected) in [("x.", vector()), ("", vector(2))] {
      let read = ParameterVector(zeros: expected.layout)
      try file.read(prefix, into: read)
      #expect(firstDifference(read.array, expected.array) == nil)
    }
    #expect(file.metadata["method"] == "HAD-Net" && file.metadata["k"] == "2")
    #expect(file.entries["x.b.weight"]?.extents == [2, 3])
    #expect(try file.floats("b.weight") == Array(vector(2).array[..<6]))
  }

  @Test func equalContentsGiveEqualBytes() throws {
    let first = try bytes()
    #expect(try bytes() == first)
    // Whatever the order.
    #expect(
      try Safetensors.Writer(
        [.init("", vector(2)), .init("x.", vector())], metadata: ["k": "2", "method": "HAD-Net"]
      ).encoded() == first)
    #expect((first.count - 2 * 4 * 11) % 8 == 0)
  }

  @Test func everyFlippedBitOfTheNumbersIsFound() throws {
    let good = try bytes(), numbers = good.count - 2 * 4 * 11
    for at in numbers..<good.count {
      var bad = good
      bad[at] ^= 1 << (at % 8)
      #expect(
        fault { _ = try Safetensors(bad, path: "f") }
          == Fault(
            .invalid,
            "f: its fields and numbers are not those that were written; the file is damaged or is no safetensors file"
          ))
    }
  }

  /// Whatever a flipped bit of the header does: it is found, or it changes nothing that is read.
  @Test func everyFlippedBitOfTheHeaderIsFound() throws {
    let good = try bytes(), header = good.count - 2 * 4 * 11, whole = try Safetensors(good, path: "f")
    var found = 0
    for at in 0..<header {
      for bit in 0..<8 {
        var bad = good
        bad[at] ^= 1 << bit
        guard let file = try? Safetensors(bad, path: "f", isSealed: true) else {
          found += 1
          continue
        }
        #expect(file.metadata == whole.metadata, "byte \(at), bit \(bit)")
        #expect(file.entries.mapValues(\.extents) == whole.entries.mapValues(\.extents))
        #expect(file.entries.mapValues(\.range) == whole.entries.mapValues(\.range))
      }
    }
    // All but spaces that become other spaces.
    #expect(found > 8 * header - 100, "\(8 * header - found) of \(8 * header)")
  }

  /// Python's library writes the same fields in another order and form: the hash is that of what they say.
  @Test func theHashDoesNotDependOnTheHeadersForm() throws {
    let good = try bytes(), header = 8 + Int(good[0]) + Int(good[1]) << 8
    let object = try JSONSerialization.jsonObject(with: good[8..<header])
    let other = try JSONSerialization.data(withJSONObject: object, options: .prettyPrinted)
    let again = file(String(decoding: other, as: UTF8.self), 0) + good[header...]
    #expect(try Safetensors(again, path: "f", isSealed: true).metadata["k"] == "2")
  }

  @Test func aFileWithoutTheHashIsOnlyReadUnsealed() throws {
    let plain = file(#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, 4)
    #expect(try Safetensors(plain, path: "f").floats("a") == [0])
    #expect(
      fault { _ = try Safetensors(plain, path: "f", isSealed: true) }
        == Fault(
          .invalid,
          "f: no xxh3 in its metadata, the hash that tells a damaged file: this program did not write it "
            + "(predict --unverified takes it)"))
  }

  /// With so many bytes of numbers.
  @Test(arguments: [
    (
      8,
      #"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#,
      "a and b share bytes"
    ),
    (
      8,
      #"{"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
      "b and a share bytes"
    ),
    (8, #"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#, "4 bytes belong to no tensor"),
    (
      12,
      #"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}"#,
      "4 bytes belong to no tensor"
    ),
    (
      4,
      #"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
      "its header has a twice"
    ),
    (
      4,
      #"{"__metadata__":{"ceiling":"3","c\u0065iling" : "4"},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
      "its header has ceiling twice"
    ),
    (
      4, #"{"__metadata__":{"k":2},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
      "its metadata are no texts"
    ),
  ])
  func everyByteBelongsToOneTensor(count: Int, header: String, why: String) {
    let found = fault { _ = try Safetensors(file(header, count), path: "f") }
    #expect(
      found?.description.hasPrefix("f: ") == true && found?.description.contains(why) == true,
      "\(String(describing: found))")
  }

  @Test func everyTruncationIsFound() throws {
    let good = try bytes()
    for length in 0..<good.count {
      let found = fault { _ = try Safetensors(good.prefix(length), path: "f") }
      // An empty file is as good as none.
      #expect(
        found?.kind == (length == 0 ? .missing : .invalid),
        "\(length) of \(good.count) bytes: \(String(describing: found))")
    }
    let longer = good + Data([0])
    #expect(
      fault { _ = try Safetensors(longer, path: "f") }
        == Fault(.invalid, "f: 1 bytes belong to no tensor; the file is damaged or is no safetensors file"))
  }

  /// A changed header is a fault or another readable file, never a crash; then every tensor it names can be read.
  @Test func flippedBitsOfTheHeaderNeverCrash() throws {
    let good = try bytes(), header = good.count - 2 * 4 * 11
    var random = Philox(seed: 1, .test), faults = 0
    for round in 0..<2000 {
      var bad = good
      for _ in 0..<1 + round % 3 { bad[random.below(header)] ^= 1 << UInt8(random.below(8)) }
      do {
        let file = try Safetensors(bad, path: "f")
        for (name, entry) in file.entries where entry.element == .float32 {
          #expect(try file.floats(name).count == entry.extents.reduce(1, *))
        }
      } catch let fault as Fault {
        #expect(fault.kind == .invalid, "\(fault)")
        faults += 1
      }
    }
    #expect(faults > 1000)
  }

  @Test(arguments: [
    ("", "its header is no JSON object"), ("[]", "its header is no JSON object"),
    ("{", "its header is no JSON object"),
    (#"{"a":1}"#, "the header's entry a is not understood"),
    (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}}"#, "the header's entry a is not understood"),
    (#"{"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}}"#, "the header's entry a is not understood"),
    (#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#, "a has the shape [-1]"),
    (#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#, "a of shape [2] has the offsets [0, 4]"),
    (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#, "a of shape [1] has the offsets [4, 0]"),
    (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}"#, "a of shape [1] has the offsets [-4, 0]"),
    (#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, "a ends at byte 8 of 4"),
    (
      #"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}"#,
      "a has the shape [4294967296, 4294967296]"
    ),
    (#"{}"#, "4 bytes belong to no tensor"),
  ])
  func nonsenseIsSaid(header: String, why: String) {
    #expect(
      fault { _ = try Safetensors(file(header, 4), path: "f") }
        == Fault(.invalid, "f: \(why); the file is damaged or is no safetensors file"))
  }

  @Test func messagesNameFileTensorAndShape() throws {
    let file = try Safetensors(try bytes(), path: "f"), scratch = Scratch()
    var layout = ParameterLayout()
    _ = layout.add("b.weight", 3, 2)
    let vector = ParameterVector(zeros: layout)
    #expect(fault { try file.read("", into: vector) } == Fault(.invalid, "f: b.weight is 2×3, expected 3×2"))
    #expect(fault { try file.read("y.", into: vector) } == Fault(.invalid, "f: y.b.weight is missing"))
    #expect(fault { _ = try file.bytes("b.weight") } == Fault(.invalid, "f: b.weight is F32, expected U8"))
    let other = #"{"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}"#
    #expect(
      fault { _ = try Safetensors(self.file(other, 4), path: "f") }
        == Fault(.invalid, "f: a has numbers of type BF16; F32, F64 and U8 are known"))
    let path = scratch.file("none.safetensors")
    #expect(fault { _ = try Safetensors(path: path) } == Fault(.missing, "\(path): no such file"))
  }

  @Test func aHeaderLongerThanTheFileIsSaid() {
    let data = Data([255, 255, 255, 255, 255, 255, 255, 255, 0, 0])
    #expect(
      fault { _ = try Safetensors(data, path: "f") }
        == Fault(
          .invalid,
          "f: its header of 18446744073709551615 bytes does not fit in 10; the file is damaged or is no safetensors file"
        ))
  }
}
