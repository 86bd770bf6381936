/// A part of a study: what is trained, from what, and how its method is called in tables.
public enum Stage: String, CaseIterable, Codable, Sendable {
  case teacher, student, hadnet
  /// The student trained on as HAD-Net is, without the adversarial term: tells what distillation gives from what more
  /// training gives. The paper has no such column.
  case control
  /// HAD-Net with a discriminator that sees logits and sequences only.
  case adnet
  /// KD-Net+.
  case kdnet
  case uhemis, uhved

  /// The name in tables.
  public var method: String {
    switch self {
    case .teacher: "Teacher"
    case .student: "Student"
    case .hadnet: "HAD-Net"
    case .control: "Control"
    case .adnet: "AD-Net"
    case .kdnet: "KD-Net+"
    case .uhemis: "U-HeMIS"
    case .uhved: "U-HVED"
    }
  }

  /// What the trained network sees once it is used; the modality-agnostic ones see all sequences in training.
  public var sight: Sight { self == .teacher ? .all : .withoutContrast }

  /// The stages whose best checkpoints this one starts from.
  public var builds: [Stage] {
    switch self {
    case .teacher, .student, .uhemis, .uhved: []
    case .hadnet, .adnet: [.teacher, .student]
    case .control: [.student]
    case .kdnet: [.teacher]
    }
  }

  /// Whether its network has dropout, from which uncertainty can be sampled.
  var hasDropout: Bool { self != .uhemis && self != .uhved }

  /// The file of the trained network in a checkpoint.
  var file: String {
    switch self {
    case .teacher: "teacher"
    case .student, .hadnet, .control, .adnet, .kdnet: "student"
    case .uhemis, .uhved: "network"
    }
  }

  /// Keeps the stages' random numbers apart.
  var index: Int { Stage.allCases.firstIndex(of: self) ?? 0 }

  func seed(_ recipe: Recipe) -> UInt64 { recipe.seed &+ UInt64(index + 1) << 32 }

  /// The recipe's settings where a U-Net is trained from random weights by itself.
  func pretraining(_ recipe: Recipe) -> Pretraining? {
    switch self {
    case .teacher: recipe.teacher
    case .student: recipe.student
    case .hadnet, .control, .adnet, .kdnet, .uhemis, .uhved: nil
    }
  }

  /// The recipe's settings where a network is trained on windows.
  func windows(_ recipe: Recipe) -> WindowTraining? {
    switch self {
    case .uhemis: recipe.uhemis
    case .uhved: recipe.uhved.training
    case .teacher, .student, .hadnet, .control, .adnet, .kdnet: nil
    }
  }

  /// Epochs from one validation to the next; nil: there is none, and the last weights are used.
  func validationInterval(_ recipe: Recipe) -> Int? {
    switch self {
    case .teacher: recipe.teacher.validationInterval
    case .student: recipe.student.validationInterval
    case .hadnet, .control, .adnet: recipe.hadnet.validationInterval
    case .kdnet: recipe.kdnet.validationInterval
    case .uhemis, .uhved: nil
    }
  }

  /// The rate that a stage begins with.
  func rate(_ recipe: Recipe) -> Double {
    switch self {
    case .teacher: recipe.teacher.rate
    case .student: recipe.student.rate
    case .hadnet, .control, .adnet: recipe.hadnet.rate
    case .kdnet: recipe.kdnet.rate
    case .uhemis: recipe.uhemis.rate
    case .uhved: recipe.uhved.training.rate
    }
  }

  /// When the rate falls for want of a better validation; nil: it does not.
  func plateau(_ recipe: Recipe) -> PlateauSettings? {
    switch self {
    case .teacher: recipe.teacher.plateau
    case .student: recipe.student.plateau
    case .kdnet: recipe.kdnet.plateau
    case .hadnet, .control, .adnet, .uhemis, .uhved: nil
    }
  }

  func optimiser(_ recipe: Recipe) -> Adam.Settings {
    switch self {
    case .teacher, .student:
      let s = self == .teacher ? recipe.teacher : recipe.student
      return .init(beta1: s.beta1, beta2: s.beta2, epsilon: s.epsilon, decay: s.decay)
    case .hadnet, .control, .adnet:
      return .init(beta1: recipe.hadnet.beta1, beta2: recipe.hadnet.beta2, epsilon: recipe.hadnet.epsilon)
    case .kdnet:
      return .init(beta1: recipe.kdnet.beta1, beta2: recipe.kdnet.beta2, epsilon: recipe.kdnet.epsilon)
    case .uhemis, .uhved:
      let s = self == .uhemis ? recipe.uhemis : recipe.uhved.training
      return .init(
        beta1: s.beta1, beta2: s.beta2, epsilon: s.epsilon, isEpsilonUncorrected: true)
    }
  }

  /// Names of what a stage's steps tell after their loss.
  var terms: [String] {
    switch self {
    case .teacher, .student, .control: []
    case .hadnet, .adnet: DistillationStep.terms
    case .kdnet: KnowledgeStep.terms
    case .uhemis: FusionStep.terms(.moments)
    case .uhved: FusionStep.terms(.gaussians)
    }
  }
}
