import Collective

/// Everything that can change a result, in one value. The defaults are the paper's, and where text and published
/// code differ, the code's (Vadacchino et al., MIDL 2021; SaverioVad/HAD_Net); no other file repeats these numbers.
///
/// As a YAML file (`Recipe.load`) every key may be left out; keys are the names below in snake_case.
public struct Recipe: Codable, Equatable, Sendable {
  /// What the recipe is called, in logs and reports.
  public var name = "paper"
  /// Seed of all random numbers.
  public var seed: UInt64 = 1
  public var data = DataSettings()
  /// Cases in one step over all ranks; nil: as many as there are ranks. The original has 1.
  public var batch: Int?
  /// How the learning rates follow the batch.
  public var scaling = RateScaling.none
  /// How gradients are summed over ranks; `mpi` gives up the same bits on any number of ranks.
  public var reduction = SumMethod.tree
  public var network = NetworkSettings()
  /// Pre-training of the teacher, which sees all four sequences.
  public var teacher = Pretraining()
  /// Pre-training of the student, which sees three.
  public var student = Pretraining()
  /// Distillation, also for the control (λ = 0) and AD-Net.
  public var hadnet = Distillation()
  public var checkpoints = CheckpointSettings()

  /// The paper's recipe.
  public init() {}
}

/// The data set: where it is, how it is divided, how a case is prepared.
public struct DataSettings: Codable, Equatable, Sendable {
  /// Which sequences say what is brain: a voxel counts if it is non-zero in all of them.
  public enum Mask: String, Codable, CaseIterable, Sendable {
    /// FLAIR, T1 and T2: one mask for teacher and student, which T1ce never shapes.
    case student
    /// All four, as the original; for its published weights only.
    case all
  }

  /// What happens to a negative voxel.
  public enum Negative: String, Codable, CaseIterable, Sendable {
    /// The file is refused.
    case refuse
    /// Its absolute value is taken, as the original does.
    case absolute = "abs"
  }

  /// The data set's folder; nil: given on the command line.
  public var path: String?
  public var split = SplitSettings.counts(train: 200, validation: 66, test: 69)
  /// Seed of a split at random; nil: the recipe's seed. Several seeds of one study share it.
  public var splitSeed: UInt64?
  public var mask = Mask.student
  public var negative = Negative.refuse
  /// The common size all cases are padded to, [z, y, x]; nil: found from the data (160×192×160 for BraTS 2019).
  public var size: Size?
  /// Class weights of the cross-entropy at the start of pre-training.
  public var classWeights = ClassWeights.fixed([1, 59.4507, 23.3190, 71.8481])

  public init() {}

  /// How cases are prepared.
  var preparation: Preparation {
    Preparation(
      mask: mask == .all ? .all : .preContrast, negative: negative == .absolute ? .absolute : .refuse)
  }
}

/// How cases are divided into training, validation and test.
public enum SplitSettings: Codable, Equatable, Sendable {
  /// At random in these proportions, HGG and LGG alike.
  case counts(train: Int, validation: Int, test: Int)
  /// As a JSON file says.
  case file(String)
}

/// Weights of (background, NET, ED, ET) in the cross-entropy.
public enum ClassWeights: Codable, Equatable, Sendable {
  /// These four.
  case fixed([Float])
  /// Background voxels over class voxels, inside the brain masks of the training cases.
  case data
}

/// How a learning rate follows the global batch of n cases.
public enum RateScaling: String, Codable, CaseIterable, Sendable {
  /// The rate as it stands.
  case none
  /// Times √n.
  case sqrt
  /// Times n.
  case linear
}

/// What teacher, student and discriminator have in common.
public struct NetworkSettings: Codable, Equatable, Sendable {
  /// Channels at full size; all others are multiples of it.
  public var k = 32
  /// Probability that a whole channel is dropped.
  public var dropout: Float = 0.2

  public init() {}
}

/// Training of a network by itself: AdamW, augmentation, decaying class weights.
public struct Pretraining: Codable, Equatable, Sendable {
  public var epochs = 400
  public var rate = 2e-4
  public var beta1 = 0.9
  public var beta2 = 0.999
  public var epsilon = 1e-8
  /// Decoupled weight decay.
  public var decay = 1e-5
  public var plateau = PlateauSettings()
  /// Class weights are multiplied by it in each epoch after the first…
  public var classWeightDecay: Float = 0.98
  /// …but never fall below it.
  public var classWeightFloor: Float = 1
  public var augmentation = AugmentationSettings()
  /// Epochs from one validation to the next.
  public var validationInterval = 1

  public init() {}
}

/// When the learning rate falls.
public struct PlateauSettings: Codable, Equatable, Sendable {
  /// Epochs without a better validation score before the rate falls.
  public var patience = 30
  /// What the rate is multiplied by then.
  public var factor = 0.5

  public init() {}
}

/// Random changes of a case in pre-training.
public struct AugmentationSettings: Codable, Equatable, Sendable {
  public var enabled = true
  /// Probability of a flip of x.
  public var flip: Float = 0.5
  /// Probability of an affine map.
  public var affine: Float = 0.8
  /// Largest rotation about each axis, degrees.
  public var rotation: Float = 4
  /// Largest shear.
  public var shear: Float = 0.04
  /// Largest change of scale.
  public var scale: Float = 0.04

  public init() {}
}

/// Distillation from teacher to student against a discriminator: two Adam optimisers with the same settings.
public struct Distillation: Codable, Equatable, Sendable {
  public var epochs = 800
  public var rate = 2e-4
  public var beta1 = 0.5
  public var beta2 = 0.999
  public var epsilon = 1e-8
  /// λ, the share of the adversarial term in the student's loss.
  public var lambda = 0.2
  /// The discriminator learns only while its accuracy is at most this.
  public var gate = 0.8
  /// Whether the teacher's dropout is on, as in the original.
  public var teacherDropout = true
  /// Class weights, fixed for the whole stage; nil: those that pre-training starts with.
  public var classWeights: ClassWeights?
  /// Epochs from one validation to the next.
  public var validationInterval = 1

  public init() {}
}

public struct CheckpointSettings: Codable, Equatable, Sendable {
  /// How many of the newest epochs are kept, beside the best.
  public var keep = 2

  public init() {}
}
