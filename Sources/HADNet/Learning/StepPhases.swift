import Compute

// Phases of steps by their names in `bench step` and in what is said of a rank that others wait for. A method may have more,
// in its own file.
extension Profile.Phase {
  package static let teacher = Self(rawValue: "teacher forward")
  package static let student = Self(rawValue: "student forward")
  package static let loss = Self(rawValue: "losses")
  package static let studentBackward = Self(rawValue: "student backward")
  static let update = Self(rawValue: "reduction and updates")
}
