import CMPI

/// An MPI call failed: the call's name and MPI's own text.
public struct MPIError: Error, CustomStringConvertible {
  public let description: String
}
