import Collective
import Compute
import Imaging
import Learning
import Networks

/// A method that can be trained: all that others ask of it. `Methods.swift` lists them; recipe, run folder, trainer, memory
/// estimate, benchmark, tables and the command line are made from the list.
package struct Method: Sendable {
  /// Its folder in a run, its name on the command line and in files.
  package let key: String
  /// Its name in tables.
  package let title: String
  /// Keeps its random numbers apart from other methods'. Written down, so that a method that is added, or the list in
  /// another order, changes nobody's bits.
  package let stream: UInt64
  /// What its network sees once it is used; it may see more in training.
  package let inputs: InputSequences
  /// The methods whose best networks it begins with.
  package let needs: [Method]
  /// Its section of the recipe, which several may share.
  package let section: AnySection
  /// What a table says of it where the paper has no such column; it stands behind the paper's.
  let remark: String?
  /// What its steps tell beside their loss.
  package let terms: [Term]
  /// The name of the trained network's file in a checkpoint.
  package let network: String
  /// Whether its network has dropout, from which uncertainty can be sampled.
  package let hasDropout: Bool
  /// What a training step takes.
  package let memory: @Sendable (MemoryRequest) -> StepMemory
  /// Looks at the epochs so far, and says what a person should know of the last ones.
  package let watch: @Sendable (_ epochs: [StepValues]) -> String?
  /// Makes its networks, its step and the order of its cases. All ranks together.
  package let make: @Sendable (MethodContext) throws -> MethodSetup

  init(
    key: String, title: String, stream: UInt64, inputs: InputSequences = .present,
    needs: [Method] = [],
    section: AnySection, remark: String? = nil, terms: [Term] = [], network: String = "student",
    hasDropout: Bool = true,
    memory: @escaping @Sendable (MemoryRequest) -> StepMemory,
    watch: @escaping @Sendable (_ epochs: [StepValues]) -> String? = { _ in nil },
    make: @escaping @Sendable (MethodContext) throws -> MethodSetup
  ) {
    self.key = key
    self.title = title
    self.stream = stream
    self.inputs = inputs
    self.needs = needs
    self.section = section
    self.terms = terms
    self.network = network
    self.hasDropout = hasDropout
    self.memory = memory
    self.remark = remark
    self.watch = watch
    self.make = make
  }
}

extension Method: Hashable {
  package static func == (a: Method, b: Method) -> Bool { a.key == b.key }
  package func hash(into hasher: inout Hasher) { hasher.combine(key) }
}

extension Method: RawRepresentable, Codable {
  /// The method of that key; nil: there is none.
  package init?(rawValue: String) {
    guard let method = Method.allCases.first(where: { $0.key == rawValue }) else { return nil }
    self = method
  }

  package var rawValue: String { key }
}

extension Method {
  /// Whether its network has channels of its own, in pairs, and not the recipe's `network.k`.
  package var hasOwnWidth: Bool { section.paper.channels != nil }
}

// MARK: - Settings

/// A method's section of the recipe. Its start values are the paper's.
package protocol MethodSettings: RecipeSection, Equatable, Sendable {
  init()
  /// Epochs; nil where training is not counted in them. A resumed run may have more.
  var epochCount: Int? { get set }
  /// Channels of its network at full size; nil: the recipe's `network.k`.
  var channels: Int? { get set }
  var schedule: Schedule { get }
}

/// The name of a section, and what is in it.
package struct Section<Settings: MethodSettings>: Sendable {
  let key: String

  /// The section's values; it must be this section's.
  func settings(_ settings: any MethodSettings) -> Settings {
    guard let settings = settings as? Settings else { preconditionFailure("no values of the section \(key)") }
    return settings
  }
}

/// The same of any section.
package struct AnySection: Sendable {
  package let key: String
  package let paper: any MethodSettings

  init<Settings>(_ section: Section<Settings>) {
    key = section.key
    paper = Settings()
  }
}

extension MethodSettings {
  package var epochCount: Int? {
    get { nil }
    set {}
  }
  package var channels: Int? {
    get { nil }
    set {}
  }
}

// MARK: - Training

/// What a method makes itself from.
package struct MethodContext {
  let method: Method
  /// The values of its section.
  let settings: any MethodSettings
  let networks: NetworkSettings
  /// Of all its random numbers.
  let seed: UInt64
  /// The size of prepared cases.
  let size: Size
  /// The size of what a slot holds; nil: the method's own choice.
  let slotSize: Size?
  let layout: BatchLayout
  let workers: Workers
  let data: any MethodData

  package init(
    method: Method, settings: any MethodSettings, networks: NetworkSettings, seed: UInt64, size: Size,
    slotSize: Size?, layout: BatchLayout, workers: Workers, data: any MethodData
  ) {
    self.method = method
    self.settings = settings
    self.networks = networks
    self.seed = seed
    self.size = size
    self.slotSize = slotSize
    self.layout = layout
    self.workers = workers
    self.data = data
  }

  func settings<Settings>(_ section: Section<Settings>) -> Settings { section.settings(settings) }

  /// What a slot holds where a method does not choose it: a whole case.
  var itemSize: Size { slotSize ?? size }

  var dropout: StepDropout { StepDropout(probability: networks.dropout, seed: seed) }

  /// Whole cases in an order of each epoch's own, changed by `augment`.
  func cases(
    _ epochs: Int,
    augment: @escaping (PreparedCase, LabelVolume, inout Philox) -> (images: Volume, labels: LabelVolume) = {
      item, truth, _ in (item.images, truth)
    }
  ) -> EpochOrder {
    EpochOrder(
      data.trainingCases, epochs: epochs, slots: layout.slots.count, seed: seed, data.store, augment: augment)
  }

  /// What the trained network is used with.
  var metadata: Model.Metadata {
    Model.Metadata(
      method: method.title, k: networks.k, dropout: networks.dropout, sequences: sequences, size: size,
      preparation: used(data.preparation))
  }

  var task: SegmentationTask { data.preparation.task }

  /// What the trained network sees.
  var sequences: [Modality] { method.inputs.modalities(task) }

  /// A preparation as it is without truth, of what the trained network sees.
  func used(_ preparation: Preparation) -> Preparation {
    var used = preparation
    used.modalities = sequences
    used.readsTruth = false
    return used
  }
}

/// The data and the earlier networks of a run, as a method sees them.
package protocol MethodData {
  var trainingCases: [String] { get }
  /// Prepared cases of the usual kind.
  var store: CaseStore { get }
  var preparation: Preparation { get }
  /// Class weights that the recipe's section `data` gives.
  var startWeights: [Float] { get }
  /// Background voxels over class voxels, inside the brain masks of the training cases.
  var countedWeights: [Float] { get }
  /// The cases with the histogram standardisation of U-HeMIS and U-HVED. All ranks together.
  func standardised(
    _ landmarks: LandmarkSource, leastSide: Int
  ) throws -> (preparation: Preparation, store: CaseStore)
  /// The parameters of the model file (or of the best network in the folder) that a method is to start from as this network;
  /// nil where the run has a checkpoint of the method to go on from. All ranks together.
  ///
  /// Throws `.recipe` where the file's network has another form or sees other sequences, and what reading it throws.
  func start(_ path: String, of method: Method, _ network: UNet) throws -> FrozenParameters?
  /// The best network of a method that was trained before in this run. All ranks together.
  func best(_ method: Method) throws -> (network: UNet, p: FrozenParameters)
}

/// What a method trains, on what, and what the network is used with afterwards.
package struct MethodSetup {
  package let program: any TrainingProgram
  package let cases: () -> any CaseOrder
  package let metadata: Model.Metadata
}

// MARK: - Memory

/// What a step's memory follows.
package struct MemoryRequest {
  let settings: any MethodSettings
  let task: SegmentationTask
  /// The recipe's `network.k`.
  let k: Int
  /// The size of prepared cases.
  let size: Size

  package init(settings: any MethodSettings, _ task: SegmentationTask, k: Int, size: Size) {
    self.settings = settings
    self.task = task
    self.k = k
    self.size = size
  }
}

/// What a training step takes of memory, counted in floats.
package struct StepMemory {
  /// Parameters that learn, and that do not.
  package let trained: Int
  package var frozen = 0
  /// Volumes of the plan.
  package let volumes: Int
  /// Transformed weights that are kept from step to step.
  package var kept = 0
  /// Transformed weights of each sum of convolutions, of which there is one at a time.
  package var layers: [Int] = []
  /// Bytes of the cases that wait for one slot; nil: one, and the next.
  package var waiting: Int?
}
