import Compute

/// The phases of all steps, in the order in which a step comes through them.
extension Profile.Phase: CaseIterable {
  static let teacher = Self(rawValue: "teacher forward")
  static let student = Self(rawValue: "student forward")
  static let judge = Self(rawValue: "discriminator on both")
  static let loss = Self(rawValue: "losses")
  static let through = Self(rawValue: "back through discriminator")
  static let backward = Self(rawValue: "backward")
  static let studentBackward = Self(rawValue: "student backward")
  static let discriminatorBackward = Self(rawValue: "discriminator backward")
  static let encoders = Self(rawValue: "encoders and fusion")
  static let decoders = Self(rawValue: "decoders, forward and back")
  static let encodersBackward = Self(rawValue: "encoders backward")
  static let update = Self(rawValue: "reduction and updates")

  package static let allCases: [Self] = [
    .teacher, .student, .judge, .loss, .backward, .through, .studentBackward,
    .discriminatorBackward, .encoders, .decoders, .encodersBackward, .update,
  ]
}
