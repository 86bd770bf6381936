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
  /// KD-Net+.
  public var kdnet = KnowledgeDistillation()
  public var uhemis = WindowTraining()
  public var uhved = HeteromodalTraining()
  public var uncertainty = UncertaintySettings()
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
    /// It becomes 0.
    case zero
  }

  /// The data set's folder; nil: given on the command line.
  public var path: String?
  public var split = SplitSettings.ratio(train: 200, validation: 66, test: 69)
  /// Seed of a split at random; nil: the recipe's seed. Several seeds of one study share it.
  public var splitSeed: UInt64?
  /// Whether a given split may have cases of one patient in two sets.
  public var allowLeak = false
  public var mask = Mask.student
  public var negative = Negative.refuse
  /// The common size all cases are padded to, [z, y, x]; nil: found from the data (160×192×160 for BraTS 2019).
  public var size: Size?
  /// Class weights of the cross-entropy at the start of pre-training.
  public var classWeights = ClassWeights.fixed([1, 59.4507, 23.3190, 71.8481])

  public init() {}

  /// How cases are prepared.
  var preparation: Preparation {
    let negative: Preparation.Negative =
      switch negative {
      case .refuse: .refuse
      case .absolute: .absolute
      case .zero: .zero
      }
    return Preparation(mask: mask == .all ? .all : .preContrast, negative: negative)
  }
}

/// How cases are divided into training, validation and test.
public enum SplitSettings: Codable, Equatable, Sendable {
  /// At random in these proportions, HGG and LGG alike, a patient's cases together.
  case ratio(train: Int, validation: Int, test: Int)
  /// At random in the same way, so many cases each; what is left is not used.
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

  func factor(batch: Int) -> Double {
    switch self {
    case .none: 1
    case .sqrt: Double(batch).squareRoot()
    case .linear: Double(batch)
    }
  }
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

  public init(patience: Int = 30, factor: Double = 0.5) {
    self.patience = patience
    self.factor = factor
  }
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

/// KD-Net+: a softened teacher and its latent maps teach a student from random weights. The original's code was not found:
/// the numbers are this project's reading of its paper (Hu et al., MICCAI 2020).
public struct KnowledgeDistillation: Codable, Equatable, Sendable {
  public var epochs = 500
  public var rate = 1e-4
  public var beta1 = 0.9
  public var beta2 = 0.999
  public var epsilon = 1e-8
  /// On the validation loss.
  public var plateau = PlateauSettings(patience: 50, factor: 0.2)
  /// T, by which logits are divided where the teacher's are the target.
  public var temperature: Float = 5
  /// λ, the share of the softened teacher in the loss; 1 − λ is the truth's.
  public var lambda = 0.75
  /// α, the weight of the latent divergence.
  public var alpha = 10.0
  /// Probability of a flip of each axis.
  public var flip: Float = 0.5
  /// Epochs from one validation to the next.
  public var validationInterval = 1

  public init() {}
}

/// U-HeMIS: windows of cases, of which any sequences may be missing. No validation: the last weights are used.
/// Source: U-HVED's code (Dorent et al., MICCAI 2019) and NiftyNet 0.5.
public struct WindowTraining: Codable, Equatable, Sendable {
  /// Channels of the first convolution.
  public var width = 8
  /// Windows that are seen in all; the original's steps, whose batch is one.
  public var windows = 60_000
  /// Windows that are cut out of a case each time it is loaded.
  public var windowsPerCase = 32
  /// Windows that wait, from which the next is drawn.
  public var queue = 30
  /// Voxels of a window's side in training.
  public var patch = 112
  /// Voxels of a window's side at inference.
  public var window = 128
  public var rate = 1e-3
  /// What the rate is multiplied by…
  public var rateFactor = 0.25
  /// …each time so many windows more have been seen.
  public var rateInterval = 10_000
  public var beta1 = 0.9
  public var beta2 = 0.999
  public var epsilon = 1e-8
  /// Weight decay as a term of the loss, ½ Σ w², the mean over the kernels.
  public var decay = 1e-5
  /// Probability of a flip of each axis.
  public var flip: Float = 0.5
  /// Largest change of scale of each axis.
  public var scale: Float = 0.1
  /// A side of the cropped volume is widened to this.
  public var leastSide = 128
  /// Where the landmarks of histogram standardisation come from.
  public var landmarks = LandmarkSource.data

  public init() {}
}

/// Landmarks of histogram standardisation.
public enum LandmarkSource: String, Codable, CaseIterable, Sendable {
  /// Means over the training cases.
  case data
  /// Those of the authors' BraTS 2018 training set.
  case published
}

/// U-HVED: as U-HeMIS, and its own terms.
public struct HeteromodalTraining: Codable, Equatable, Sendable {
  public var training = WindowTraining()
  /// Weight of the divergences of the products of Gaussians.
  public var divergence = 0.1
  /// Weight of the reconstruction.
  public var reconstruction = 0.1
  /// Segments from the means instead of a sample.
  public var means = false

  public init() {}
}

public struct CheckpointSettings: Codable, Equatable, Sendable {
  /// How many of the newest epochs are kept, beside the best.
  public var keep = 2

  public init() {}
}
