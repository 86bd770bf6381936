/// A part of a study: what is trained, from what, and how its method is called in tables.
public enum Stage: String, CaseIterable, Codable, Sendable {
  case teacher, student, hadnet
  /// The student trained on as HAD-Net is, without the adversarial term: tells what distillation gives from what more
  /// training gives. The paper has no such column.
  case control
  /// HAD-Net with a discriminator that sees logits and sequences only.
  case adnet

  /// The name in tables.
  public var method: String {
    switch self {
    case .teacher: "Teacher"
    case .student: "Student"
    case .hadnet: "HAD-Net"
    case .control: "Control"
    case .adnet: "AD-Net"
    }
  }

  /// What the trained network sees.
  public var sight: Sight { self == .teacher ? .all : .withoutContrast }

  /// The stages whose best checkpoints this one starts from.
  public var builds: [Stage] {
    switch self {
    case .teacher, .student: []
    case .hadnet, .adnet: [.teacher, .student]
    case .control: [.student]
    }
  }

  /// The file of the trained network in a checkpoint.
  var file: String { self == .teacher ? "teacher" : "student" }

  /// Keeps the stages' random numbers apart.
  var index: Int { Stage.allCases.firstIndex(of: self) ?? 0 }

  func seed(_ recipe: Recipe) -> UInt64 { recipe.seed &+ UInt64(index + 1) << 32 }

  /// The recipe's settings where a network is trained from random weights; nil: distillation's hold.
  func pretraining(_ recipe: Recipe) -> Pretraining? {
    switch self {
    case .teacher: recipe.teacher
    case .student: recipe.student
    case .hadnet, .control, .adnet: nil
    }
  }

  func epochs(_ recipe: Recipe) -> Int { pretraining(recipe)?.epochs ?? recipe.hadnet.epochs }

  func validationInterval(_ recipe: Recipe) -> Int {
    pretraining(recipe)?.validationInterval ?? recipe.hadnet.validationInterval
  }
}
