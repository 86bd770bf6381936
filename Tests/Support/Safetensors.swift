import Foundation

@testable import Compute

extension Safetensors.Writer {
  /// The file's bytes.
  func encoded() throws -> Data {
    let scratch = Scratch(), path = scratch.file("file")
    try write(to: path, as: path)
    return try Data(contentsOf: URL(fileURLWithPath: path))
  }
}
