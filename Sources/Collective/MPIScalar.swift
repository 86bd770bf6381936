import CMPI

/// A number that MPI can carry.
package protocol MPIScalar: BitwiseCopyable, Sendable {
  /// MPI's name for the type.
  static var mpiType: cmpi_type { get }
}

/// A number that `TreeReducer` can add.
///
/// The loop is a requirement, not a generic function: it is compiled once for each type, in lanes, whatever
/// module calls it.
package protocol Summand: MPIScalar {
  /// What a sum begins with.
  static var zero: Self { get }
  /// y[i] += x[i]. The two have the same length, and are the same memory or do not overlap.
  static func add(_ x: VectorView<Self>, to y: VectorView<Self>)
}

extension UInt8: MPIScalar {
  package static var mpiType: cmpi_type { cmpi_byte() }
}

extension Int32: MPIScalar {
  package static var mpiType: cmpi_type { cmpi_int32() }
}

extension Int64: MPIScalar {
  package static var mpiType: cmpi_type { cmpi_int64() }
}

extension Float: Summand {
  package static var mpiType: cmpi_type { cmpi_float() }

  package static func add(_ x: VectorView<Float>, to y: VectorView<Float>) { y.addEach(x) }
}

extension Double: Summand {
  package static var mpiType: cmpi_type { cmpi_double() }

  package static func add(_ x: VectorView<Double>, to y: VectorView<Double>) { y.addEach(x) }
}
