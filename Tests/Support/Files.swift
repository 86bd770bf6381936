import CNIfTI
import Foundation
import Testing

@testable import Files

/// A folder of its own, removed with its last reference.
final class Scratch: Sendable {
  let path: String

  init() {
    path = NSTemporaryDirectory() + "hadnet-data-\(UUID().uuidString)"
    try? FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  func file(_ name: String) -> String { "\(path)/\(name)" }

  /// Writes bytes, making folders as needed.
  @discardableResult
  func put(_ name: String, _ bytes: [UInt8] = [0]) throws -> String {
    let url = URL(fileURLWithPath: file(name))
    try FileManager.default.createDirectory(
      at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
    try Data(bytes).write(to: url)
    return url.path
  }
}

/// A NIfTI file made byte by byte, so that reading isn't tested against this project's own writing.
struct RawNIfTI {
  var dimensions: [Int] = [3, 2, 2]
  var code = 4
  var bits = 16
  var big = false
  var slope: Float = 1
  var intercept: Float = 0
  var qformCode = 0
  var sformCode = 1
  var quaternion: [Float] = [0, 0, 0]
  var spacing: [Float] = [1, 1, 1]
  var qfac: Float = 1
  var affine: [Float] = [-1, 0, 0, 0, 0, -1, 0, 1, 0, 0, 1, 0]
  var magic = Array("n+1\0".utf8)
  var headerSize = 348
  var voxels: [UInt8] = []

  func number<Word: FixedWidthInteger>(_ value: Word) -> [UInt8] {
    withUnsafeBytes(of: big ? value.bigEndian : value.littleEndian) { Array($0) }
  }

  func float(_ value: Float) -> [UInt8] { number(value.bitPattern) }

  var bytes: [UInt8] {
    var header = [UInt8](repeating: 0, count: 352)
    func set(_ at: Int, _ bytes: [UInt8]) { header.replaceSubrange(at..<(at + bytes.count), with: bytes) }
    set(0, number(Int32(headerSize)))
    set(40, number(Int16(dimensions.count)))
    for (i, n) in dimensions.enumerated() { set(42 + 2 * i, number(Int16(truncatingIfNeeded: n))) }
    set(70, number(Int16(code)))
    set(72, number(Int16(bits)))
    set(76, float(qfac))
    for i in 0..<3 { set(80 + 4 * i, float(spacing[i])) }
    set(108, float(352))
    set(112, float(slope))
    set(116, float(intercept))
    set(252, number(Int16(qformCode)))
    set(254, number(Int16(sformCode)))
    for i in 0..<3 { set(256 + 4 * i, float(quaternion[i])) }
    for i in 0..<12 { set(280 + 4 * i, float(affine[i])) }
    set(344, magic)
    return header + voxels
  }

  /// The bytes of values of the type that `code` says.
  func encoded(_ values: [Double]) -> [UInt8] {
    values.flatMap { v -> [UInt8] in
      switch code {
      case 2: number(UInt8(v))
      case 256: number(Int8(v))
      case 4: number(Int16(v))
      case 512: number(UInt16(v))
      case 8: number(Int32(v))
      case 768: number(UInt32(v))
      case 1024: number(Int64(v))
      case 1280: number(UInt64(v))
      case 16: number(Float(v).bitPattern)
      default: number(v.bitPattern)
      }
    }
  }
}

/// `bytes` as a gzip file.
func gzip(_ bytes: [UInt8], to path: String) {
  var file = znzopen(path, "wb", 1)
  _ = znzwrite(bytes, 1, bytes.count, file)
  Xznzclose(&file)
}

/// The fault that `body` throws.
func fault(_ body: () throws -> Void) -> Fault? {
  do {
    try body()
    return nil
  } catch {
    return error as? Fault
  }
}
