import Compute

// Phases of steps by their names in `bench step` and in what is said of a rank that others wait for. A method may have more,
// in its own file.
extension Profile.Phase {
  static let teacher = Self(rawValue: "teacher forward")
  static let student = Self(rawValue: "student forward")
  static let loss = Self(rawValue: "losses")
  static let studentBackward = Self(rawValue: "student backward")
  static let update = Self(rawValue: "reduction and updates")
}
