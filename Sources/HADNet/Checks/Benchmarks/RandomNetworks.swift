import Collective
import Compute
import Imaging
import Learning
import Methods
import Networks

/// In place of a run: networks that were never trained, and no cases.
struct RandomNetworks: MethodData {
  let k: Int
  let size: Size

  let trainingCases: [String] = []
  let task = TaskPreset.brats.task
  var preparation: Preparation { Preparation(task) }
  // Any weights take the same time.
  let startWeights = [Float](repeating: 1, count: TaskPreset.brats.task.classCount)
  var countedWeights: [Float] { startWeights }
  var store: CaseStore {
    CaseStore([], preparation: preparation, commonSize: size, cache: "", memoryLimit: 0)
  }

  func standardised(
    _ landmarks: LandmarkSource, leastSide: Int
  ) -> (preparation: Preparation, store: CaseStore) { (preparation, store) }

  func start(_ path: String, of method: Method, _ network: UNet) -> FrozenParameters? { nil }

  func best(_ method: Method) -> (network: UNet, p: FrozenParameters) {
    let network = UNet(inputs: method.inputs.channels(task).count, k: k, classes: task.classCount)
    let part = Int(method.stream)
    return (network, FrozenParameters(network.layout) { network.initialise($0, seed: 1, part: part) })
  }

  /// A method as the paper's recipe has it, for slots of `size` voxels and `k` channels at full size.
  func setUp(_ method: Method, _ layout: BatchLayout, _ workers: Workers) throws -> MethodSetup {
    var networks = NetworkSettings(), settings = method.section.paper
    networks.k = k
    if settings.channels != nil { settings.channels = k }
    return try method.make(
      MethodContext(
        method: method, settings: settings, networks: networks, seed: 1, size: size, slotSize: size,
        layout: layout, workers: workers, data: self))
  }
}
