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

  init(_ data: TrainingData, _ recipe: Recipe, _ run: RunFolder, over communicator: Communicator) {
    self.data = data
    self.recipe = recipe
    self.run = run
    self.communicator = communicator
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

  func best(_ method: Method) throws -> (network: UNet, p: FrozenParameters) {
    // Rank 0 alone opens the file, and gives the others what they need.
    let model = communicator.rank == 0 ? try read(method) : nil
    let inputs = try communicator.broadcast(model.map { [Int64($0.metadata.sequences.count)] } ?? [])
    let network = UNet(inputs: Int(inputs[0]), k: recipe.network.k, classes: data.task.classCount)
    let p = try FrozenParameters(network.layout) { p in
      if let model { p.copy(from: model.p) }
      try communicator.broadcast(p)
    }
    return (network, p)
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
