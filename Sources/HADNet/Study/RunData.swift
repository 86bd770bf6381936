import Collective
import Compute
import Files
import Imaging
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

  func best(_ method: Method) throws -> (network: UNet, p: ParameterVector) {
    try communicator.rootFirst {
      let folder = try run.best(method)
      let model = try Model(file: try Checkpoint.network(in: folder, of: method))
      guard case .unet(let network) = model.network, model.facts.k == recipe.network.k,
        model.facts.size == data.commonSize
      else {
        throw Fault(
          .invalid,
          "\(folder): a network of k = \(model.facts.k) for \(model.facts.size) voxels; this run has "
            + "k = \(recipe.network.k) and \(data.commonSize)")
      }
      return (network, model.p)
    }
  }
}
