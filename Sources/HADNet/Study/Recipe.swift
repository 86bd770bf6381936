import Collective
import Compute
import Imaging
import Inference
import Learning
import Methods

/// Everything that can change a result, in one value. The defaults are the paper's, and where text and published
/// code differ, the code's (Vadacchino et al., MIDL 2021; SaverioVad/HAD_Net). A method's are in its folder; each number stands once.
///
/// As a YAML file (`Recipe.load`) every key may be left out; keys are those of each section's `visit`.
package struct Recipe: Equatable, Sendable {
  /// What the recipe is called, in logs and reports.
  package var name = "paper"
  /// Seed of all random numbers.
  package var seed: UInt64 = 1
  /// What is segmented from what, or what the data set leaves open of it; nil: as the data set tells.
  package var task: TaskRequest?
  package var data = DataSettings()
  /// Cases in one step over all ranks; nil: as many as there are ranks. The original has 1.
  package var batch: Int?
  /// How the learning rates follow the batch.
  package var scaling = RateScaling.none
  /// How gradients are summed over ranks; `mpi` gives up the same bits on any number of ranks.
  package var reduction = SumMethod.tree
  package var network = NetworkSettings()
  /// Each method's section, by its key.
  var methods = Dictionary(uniqueKeysWithValues: Recipe.sections.map { ($0.key, $0.paper) })
  package var uncertainty = UncertaintySettings()
  package var checkpoints = CheckpointSettings()

  /// The task for a data set: what the run in a folder has, else what is said, else what the data set tells. Throws what
  /// `TaskChoice` throws, and `.recipe` where class weights do not fit.
  package func choice(_ root: String, _ run: RunFolder?) throws -> TaskChoice {
    let kept = run?.hasBegun == true ? try run?.task() : nil
    let choice = try TaskChoice(root, said: task?.whole == nil ? kept.map { .whole($0) } ?? task : task)
    try checkClassWeights(choice.task)
    return choice
  }

  /// The paper's recipe.
  package init() {}

  /// The methods' sections in the order of the file: each where the first method stands that has it.
  static let sections = Method.allCases.map(\.section).reduce(into: [AnySection]()) { known, section in
    if !known.contains(where: { $0.key == section.key }) { known.append(section) }
  }

  /// The values of a method's section.
  package func settings(_ method: Method) -> any MethodSettings {
    methods[method.section.key] ?? method.section.paper
  }

  func schedule(_ method: Method) -> Schedule { settings(method).schedule }

  /// Of a method's random numbers.
  func seed(_ method: Method) -> UInt64 { seed &+ method.stream << 32 }

  /// Every key has the same value.
  package static func == (a: Recipe, b: Recipe) -> Bool { a.yaml == b.yaml }
}

/// The data set: where it is, how it is divided, how a case is prepared.
package struct DataSettings: Equatable, Sendable {
  /// Which sequences say what is brain: a voxel counts if it is non-zero in all of them.
  package enum Mask: String, CaseIterable, Sendable {
    /// FLAIR, T1 and T2: one mask for teacher and student, which T1ce never shapes.
    case student
    /// All four, as the original; for its published weights only.
    case all
  }

  /// What happens to a negative voxel.
  package enum Negative: String, CaseIterable, Sendable {
    /// The file is refused.
    case refuse
    /// Its absolute value is taken, as the original does.
    case absolute = "abs"
    /// It becomes 0.
    case zero
  }

  /// The data set's folder; nil: given on the command line.
  package var path: String?
  package var split = SplitSettings.ratio(train: 200, validation: 66, test: 69)
  /// Seed of a split at random; nil: the recipe's seed. Several seeds of one study share it.
  package var splitSeed: UInt64?
  /// Whether a given split may have cases of one patient in two sets.
  package var allowLeak = false
  package var mask = Mask.student
  package var negative = Negative.refuse
  /// The common size all cases are padded to, [z, y, x]; nil: found from the data (160×192×160 for BraTS 2019).
  package var size: Size?
  /// Class weights of the cross-entropy at the start of pre-training; nil: the paper's for BraTS's classes, and the
  /// data's for others.
  package var classWeights: ClassWeights?

  package init() {}

  /// The class weights of a task, given or not.
  package func classWeights(_ task: SegmentationTask) -> ClassWeights {
    // Source: HAD-Net's code, of BraTS 2019: background, NET, ED, ET.
    classWeights
      ?? (task.classes.map(\.name) == TaskPreset.brats.task.classes.map(\.name)
        ? .fixed([1, 59.4507, 23.3190, 71.8481]) : .data)
  }

  /// How cases of a task are prepared.
  package func preparation(_ task: SegmentationTask) -> Preparation {
    let negative: Preparation.Negative =
      switch negative {
      case .refuse: .refuse
      case .absolute: .absolute
      case .zero: .zero
      }
    return Preparation(task, mask: mask == .all ? .all : .student, negative: negative)
  }
}

/// How cases are divided into training, validation and test.
package enum SplitSettings: Equatable, Sendable {
  /// At random in these proportions, HGG and LGG alike, a patient's cases together.
  case ratio(train: Int, validation: Int, test: Int)
  /// At random in the same way, so many cases each; what is left is not used.
  case counts(train: Int, validation: Int, test: Int)
  /// One fold of a cross-validation at random: it tests, the next one validates, the others train.
  case folds(count: Int, fold: Int)
  /// As a file says, or one of its folds.
  case file(String, fold: Int? = nil)
}

/// How a learning rate follows the global batch of n cases.
package enum RateScaling: String, CaseIterable, Sendable {
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

/// Which checkpoints stay on disk.
package struct CheckpointSettings: Equatable, Sendable {
  /// How many of the newest epochs are kept, beside the best.
  package var keep = 2

  package init() {}
}
