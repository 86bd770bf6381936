import Collective
import Compute
import Evaluation
import Imaging
import Learning
import Networks

/// One step of training a U-Net by itself: cross-entropy. Teacher, student, and the control, which goes on from the best
/// student.
///
/// With several cases in the global batch each has its own loss; the batch's loss is their mean.
///
/// Source: HAD-Net, section 3 and published code, whose batch is one case.
package final class PretrainingStep: TrainingProgram {
  package let terms: [Term] = []
  package let learners: [Learner]
  package let workers: Workers
  private let unet: UNet
  private let inputs: InputChannels
  private let phase: Profile.Phase
  private let dropout: StepDropout
  private let weights: (_ epoch: Int) -> [Float]
  private let pass: UNetPass

  /// `name`: of the network's file. `weights`: of the classes in the cross-entropy, by epoch.
  package init(
    _ name: String, _ network: UNet, _ inputs: InputChannels, _ p: ParameterVector,
    _ settings: Adam.Settings,
    size: Size,
    dropout: StepDropout, weights: @escaping (_ epoch: Int) -> [Float], _ layout: BatchLayout,
    _ workers: Workers
  ) {
    unet = network
    self.inputs = inputs
    phase = name == Section.teacher.key ? .teacher : .student
    self.dropout = dropout
    self.weights = weights
    self.workers = workers
    pass = UNetPass(network, size, .training(features: .none))
    learners = [Learner(name, p, settings, layout, workers)]
  }

  package var network: Model.Network { .unet(unet) }

  /// Leaves the loss's gradient by the logits in the pass.
  package func losses(_ item: SlotCase, _ batch: Batch) -> StepValues? {
    workers.phase(phase) {
      inputs.copy(item.images, into: pass.image)
      unet.forward(pass, learners[0].p, dropout: dropout.draw(.dropout, batch, item), workers)
    }
    return workers.phase(.loss) {
      let loss = CrossEntropy.loss(
        pass.logits, item.truth, weights: weights(batch.epoch), gradient: pass.dLogits, workers)
      return StepValues(terms, loss: loss, [:])
    }
  }

  package func backward(
    _ learner: Int, _ item: SlotCase, _ batch: Batch, finished: (Range<Int>) -> Void
  ) -> StepValues? {
    workers.phase(.backward) {
      learners[0].gradient.fill(0, workers)
      unet.backward(
        pass, learners[0].p, into: learners[0].gradient, featureGradients: .none, workers,
        finished: finished)
    }
    return nil
  }

  package func judge(_ item: SlotCase) -> (labels: LabelVolume, loss: Double?) {
    inputs.copy(item.images, into: pass.image)
    unet.forward(pass, learners[0].p, workers)
    return (Segmentation.labels(pass.logits, workers), nil)
  }

  static func memory(_ inputs: InputSequences, _ request: MemoryRequest) -> StepMemory {
    let task = request.task
    let network = UNet(inputs: inputs.channels(task).count, k: request.k, classes: task.classCount)
    var plan = WorkspacePlan()
    _ = UNetPass.VolumePlan(network, request.size, .training(features: .none), in: &plan)
    return StepMemory(
      trained: network.layout.count, volumes: plan.count, layers: network.transforms(request.size))
  }
}

extension Profile.Phase {
  fileprivate static let backward = Self(rawValue: "backward")
}
