/// A part of a study: what is trained, from what, and how its method is called in tables.
public enum Stage: String, CaseIterable, Codable, Sendable {
  case teacher, student, hadnet

  /// The name in tables.
  public var method: String {
    switch self {
    case .teacher: "Teacher"
    case .student: "Student"
    case .hadnet: "HAD-Net"
    }
  }

  /// What the trained network sees.
  public var sight: Sight { self == .teacher ? .all : .withoutContrast }

  /// The stages whose best checkpoints this one starts from.
  public var builds: [Stage] { self == .hadnet ? [.teacher, .student] : [] }

  /// The file of the trained network in a checkpoint.
  var file: String { self == .teacher ? "teacher" : "student" }

  /// Keeps the stages' random numbers apart.
  var index: Int { Stage.allCases.firstIndex(of: self) ?? 0 }

  func seed(_ recipe: Recipe) -> UInt64 { recipe.seed &+ UInt64(index + 1) << 32 }

  func epochs(_ recipe: Recipe) -> Int {
    switch self {
    case .teacher: recipe.teacher.epochs
    case .student: recipe.student.epochs
    case .hadnet: recipe.hadnet.epochs
    }
  }

  func validationInterval(_ recipe: Recipe) -> Int {
    switch self {
    case .teacher: recipe.teacher.validationInterval
    case .student: recipe.student.validationInterval
    case .hadnet: recipe.hadnet.validationInterval
    }
  }
}
