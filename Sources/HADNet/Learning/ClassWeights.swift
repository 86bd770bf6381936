/// Weights of the background and the task's classes in the cross-entropy.
package enum ClassWeights: Equatable, Sendable {
  /// These, the background's first.
  case fixed([Float])
  /// Background voxels over class voxels, inside the brain masks of the training cases.
  case data
}

/// The class weights of an epoch: after the first they decay by `decay` each epoch, never below `floor`.
/// Source: HAD-Net's code (0.98, floor 1).
package struct DecayingWeights: Equatable, Sendable {
  package let start: [Float]
  package let decay, floor: Float

  /// `start`: of the background and each class.
  package init(_ start: [Float], decay: Float, floor: Float) {
    self.start = start
    self.decay = decay
    self.floor = floor
  }

  /// The weights in epoch 0, 1, …; repeated products, so that an epoch's weights are the same after a resume.
  package func weights(epoch: Int) -> [Float] {
    start.map { value in
      var weight = value
      for _ in 0..<epoch { weight = max(floor, weight * decay) }
      return weight
    }
  }
}
