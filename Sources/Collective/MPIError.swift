import CMPI

/// An MPI call failed: the call's name and MPI's own text.
package struct MPIError: Error, CustomStringConvertible, Equatable, Sendable {
  package let description: String

  init(_ description: String) { self.description = description }
}

/// Throws what MPI says about `code`, the return value of the MPI function named `call`.
///
/// The one place that looks at MPI's return values: `try check("MPI_Bcast", MPI_Bcast(…))`.
package func check(_ call: StaticString, _ code: Int32) throws(MPIError) {
  if code == cmpi_success() { return }
  let text = text(capacity: cmpi_max_error_string()) { MPI_Error_string(code, $0, $1) }
  throw MPIError("\(call) failed: \(text ?? "error \(code)")")
}

/// The text that an MPI function writes into the buffer it is given; nil if the function fails.
func text(
  capacity: Int32, _ write: (UnsafeMutablePointer<CChar>, UnsafeMutablePointer<Int32>) -> Int32
) -> String? {
  withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(capacity) + 1) { buffer in
    var length: Int32 = 0
    guard write(buffer.baseAddress!, &length) == cmpi_success() else { return nil }
    return String(decoding: buffer.prefix(Int(length)).lazy.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}
