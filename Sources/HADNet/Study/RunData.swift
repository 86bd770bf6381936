import Collective
import Compute
import Files
import Imaging
import Learning
import Methods
import Networks

/// A run's data and earlier networks, as a method asks for them.
struct RunData: MethodData {
  private let data: TrainingData
  private let recipe: Recipe
  private let run: RunFolder
  private let communicator: Communicator
  private let tell: (TrainingEvent) -> Void

  /// `tell` hears, on rank 0, what a network is started from.
  init(
    _ data: TrainingData, _ recipe: Recipe, _ run: RunFolder, over communicator: Communicator,
    tell: @escaping (TrainingEvent) -> Void
  ) {
    self.data = data
    self.recipe = recipe
    self.run = run
    self.communicator = communicator
    self.tell = tell
  }

  var trainingCases: [String] { data.split.train }
  var store: CaseStore { data.store }
  var preparation: Preparation { data.preparation }
  var startWeights: [Float] { data.startWeights }
  var countedWeights: [Float] { data.survey.classWeights(data.split.train) }

  func standardised(
    _ landmarks: LandmarkSource, leastSide: Int
  ) throws -> (preparation: Preparation, store: CaseStore) {
    try data.standardised(landmarks, leastSide: leastSide, run, over: communicator)
  }

  func start(_ path: String, of method: Method, _ network: UNet) throws -> FrozenParameters? {
    guard try communicator.all(run.checkpoints(method).latest == nil) else { return nil }
    // Rank 0 alone opens the file, and gives the others what they need.
    guard communicator.rank == 0 else { return try broadcast(nil, network) }
    let model = try Model.load(Model.resolve(path))
    if let difference = difference(model, method) {
      throw Fault(.recipe, "\(method.rawValue).start: \(path): \(difference)")
    }
    sayStart(path, model, method)
    return try broadcast(model.p, network)
  }

  /// Why a model is none that a method could start from; nil where it is.
  private func difference(_ model: Model, _ method: Method) -> String? {
    let task = data.task, sequences = method.inputs.modalities(task)
    guard case .unet = model.network else {
      return
        "a network of \(model.metadata.method), which the \(method.rawValue) is not; give one of a teacher, "
        + "a student or a method that learns from them"
    }
    func list(_ sequences: [Modality]) -> String { sequences.map(\.rawValue).joined(separator: ", ") }
    let seen = model.metadata.sequences
    if seen != sequences {
      return "its first layer sees \(list(seen)), and the \(method.rawValue)'s sees \(list(sequences)): "
        + "give a network of these sequences in this order"
    }
    if model.metadata.k != recipe.network.k {
      return "a network of k = \(model.metadata.k), and network.k is \(recipe.network.k): set it to that"
    }
    let theirs = model.metadata.task
    if theirs.classCount != task.classCount {
      return
        "it tells \(theirs.classNames) apart, and this task \(task.classNames): its last layer does not fit"
    }
    return nil
  }

  private func sayStart(_ path: String, _ model: Model, _ method: Method) {
    let theirs = model.metadata.task, task = data.task
    tell(
      .note(
        "the \(method.rawValue) starts from \(path) (\(model.metadata.method))"
          + (theirs.classes.map(\.name) == task.classes.map(\.name)
            ? "" : "; its classes were \(theirs.classNames), and are \(task.classNames) here")))
  }

  func best(_ method: Method) throws -> (network: UNet, p: FrozenParameters) {
    // Rank 0 alone opens the file, and gives the others what they need.
    let model = communicator.rank == 0 ? try read(method) : nil
    let inputs = try communicator.broadcast(model.map { [Int64($0.metadata.sequences.count)] } ?? [])
    let network = UNet(inputs: Int(inputs[0]), k: recipe.network.k, classes: data.task.classCount)
    return (network, try broadcast(model?.p, network))
  }

  /// Rank 0's parameters on all ranks.
  private func broadcast(_ own: Parameters?, _ network: UNet) throws -> FrozenParameters {
    try FrozenParameters(network.layout) { p in
      if let own { p.copy(from: own) }
      try communicator.broadcast(p)
    }
  }

  /// The best network of an earlier method, once it is known to be of this run's size.
  private func read(_ method: Method) throws -> Model {
    let folder = try run.best(method)
    let model = try Model(file: try Checkpoint.network(in: folder, of: method), isKnown: true)
    guard case .unet = model.network, model.metadata.k == recipe.network.k,
      model.metadata.size == data.commonSize
    else {
      throw Fault(
        .invalid,
        "\(folder): a network of k = \(model.metadata.k) for \(model.metadata.size) voxels; this run has "
          + "k = \(recipe.network.k) and \(data.commonSize)")
    }
    return model
  }
}
