import CMPI

/// A number that MPI can carry.
package protocol MPIScalar: BitwiseCopyable, Sendable {
  /// MPI's name for the type.
  static var mpiType: MPI_Datatype { get }
}

/// A number that `TreeReducer` can add.
///
/// The loop is a requirement, not a generic function: it is compiled once for each type, in lanes, whatever
/// module calls it.
package protocol Summand: MPIScalar {
  static var zero: Self { get }
  /// y[i] += x[i] for i in 0..<count. The two are the same memory or do not overlap.
  static func add(_ x: UnsafePointer<Self>, to y: UnsafeMutablePointer<Self>, count: Int)
}

extension UInt8: MPIScalar {
  package static var mpiType: MPI_Datatype { cmpi_byte() }
}

extension Int32: MPIScalar {
  package static var mpiType: MPI_Datatype { cmpi_int32() }
}

extension Int64: MPIScalar {
  package static var mpiType: MPI_Datatype { cmpi_int64() }
}

extension Float: Summand {
  package static var mpiType: MPI_Datatype { cmpi_float() }

  package static func add(_ x: UnsafePointer<Float>, to y: UnsafeMutablePointer<Float>, count: Int) {
    for i in 0..<count { y[i] += x[i] }
  }
}

extension Double: Summand {
  package static var mpiType: MPI_Datatype { cmpi_double() }

  package static func add(_ x: UnsafePointer<Double>, to y: UnsafeMutablePointer<Double>, count: Int) {
    for i in 0..<count { y[i] += x[i] }
  }
}
