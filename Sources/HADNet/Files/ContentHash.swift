import CXXHash

/// XXH3-128 in hexadecimal: tells contents apart, but doesn't guard against a forger.
package enum ContentHash {
  /// Of an array's bytes in memory.
  package static func of<Value: BitwiseCopyable>(_ values: [Value]) -> String { of(values.span) }

  /// Of a span's bytes; 32 digits.
  package static func of<Value: BitwiseCopyable>(_ values: Span<Value>) -> String { text(words(values)) }

  /// 31 bits of the hash of a text: a number for what has only a name.
  package static func number(of text: String) -> Int { Int(words(Array(text.utf8).span).low64 >> 33) }

  private static func words<Value: BitwiseCopyable>(_ values: Span<Value>) -> XXH128_hash_t {
    // As many bytes as there are, which stay while the call runs.
    unsafe values.withUnsafeBytes { unsafe XXH3_128bits($0.baseAddress, $0.count) }
  }

  private static func text(_ hash: XXH128_hash_t) -> String {
    [hash.high64, hash.low64].map { word in
      let digits = String(word, radix: 16)
      return String(repeating: "0", count: 16 - digits.count) + digits
    }.joined()
  }

  /// A hash of bytes that come one after the other.
  // Safe: the state is this object's alone, there from `init` to `deinit`, and is nowhere given away.
  @safe package final class Running {
    private let state = unsafe XXH3_createState()

    package init() { unsafe XXH3_128bits_reset(state) }
    deinit { unsafe XXH3_freeState(state) }

    /// Takes the bytes that come next.
    package func update<Value: BitwiseCopyable>(_ values: Span<Value>) {
      // As above.
      unsafe values.withUnsafeBytes { _ = unsafe XXH3_128bits_update(state, $0.baseAddress, $0.count) }
    }

    /// Of all bytes so far.
    package var words: (low: UInt64, high: UInt64) {
      let hash = unsafe XXH3_128bits_digest(state)
      return (hash.low64, hash.high64)
    }
    package var text: String { ContentHash.text(unsafe XXH3_128bits_digest(state)) }
  }
}
