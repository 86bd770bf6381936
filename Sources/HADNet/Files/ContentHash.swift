import CXXHash

/// XXH3-128 in hexadecimal: tells contents apart, but doesn't guard against a forger.
package enum ContentHash {
  /// Of an array's bytes in memory.
  package static func of<Value: BitwiseCopyable>(_ values: [Value]) -> String {
    values.withUnsafeBytes { of($0) }
  }

  /// Of bytes; 32 digits.
  package static func of(_ bytes: UnsafeRawBufferPointer) -> String {
    text(XXH3_128bits(bytes.baseAddress, bytes.count))
  }

  /// 31 bits of the hash of a text: a number for what has only a name.
  package static func number(of text: String) -> Int {
    Array(text.utf8).withUnsafeBytes { Int(XXH3_128bits($0.baseAddress, $0.count).low64 >> 33) }
  }

  static func text(_ hash: XXH128_hash_t) -> String {
    [hash.high64, hash.low64].map { word in
      let digits = String(word, radix: 16)
      return String(repeating: "0", count: 16 - digits.count) + digits
    }.joined()
  }

  /// A hash of bytes that come one after the other.
  package final class Running {
    private let state = XXH3_createState()

    package init() { XXH3_128bits_reset(state) }
    deinit { XXH3_freeState(state) }

    /// Takes the bytes that come next.
    package func update(_ bytes: UnsafeRawBufferPointer) {
      XXH3_128bits_update(state, bytes.baseAddress, bytes.count)
    }
    /// Of all bytes so far.
    package var text: String { ContentHash.text(XXH3_128bits_digest(state)) }
  }
}
