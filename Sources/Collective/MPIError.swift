import CMPI

/// An MPI call failed: the call's name and MPI's own text.
package struct MPIError: Error, CustomStringConvertible, Equatable, Sendable {
  /// Such as "MPI_Ibcast failed: MPI_ERR_ROOT: invalid root".
  package let description: String

  init(_ description: String) { self.description = description }
}

/// Throws what MPI says about `code`, the return value of the MPI function named `call`.
///
/// The one place that looks at MPI's return values: `try check("MPI_Bcast", MPI_Bcast(…))`.
package func check(_ call: StaticString, _ code: Int32) throws(MPIError) {
  if code == cmpi_success() { return }
  // There is room for what MPI writes at most.
  let text = unsafe text(capacity: cmpi_max_error_string()) { unsafe MPI_Error_string(code, $0, $1) }
  throw MPIError("\(call) failed: \(text ?? "error \(code)")")
}

/// The text that an MPI function writes into the buffer it is given; nil if the function fails.
@unsafe package func text(
  capacity: Int32, _ write: (UnsafeMutablePointer<CChar>, UnsafeMutablePointer<Int32>) -> Int32
) -> String? {
  var characters = [CChar](repeating: 0, count: Int(capacity) + 1)
  var length: Int32 = 0
  // It writes `capacity` characters at most, which is the caller's to know.
  guard unsafe write(&characters, &length) == cmpi_success() else { return nil }
  return String(decoding: characters.prefix(Int(length)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
}
