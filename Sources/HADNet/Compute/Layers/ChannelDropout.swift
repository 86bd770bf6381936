/// Channel dropout (PyTorch's `Dropout3d`): each whole channel is zeroed with probability p, the others are scaled by
/// 1/(1−p). Readers apply the factors (`LayerInput`).
package struct ChannelDropout: Sendable {
  package let probability: Float

  /// Each channel is dropped with this probability, 0..<1.
  package init(_ probability: Float) { self.probability = probability }

  /// One factor a channel, 0 or 1/(1−p); nil where nothing is dropped.
  package func mask(_ channels: Int, _ random: inout Philox) -> [Float]? {
    guard probability > 0 else { return nil }
    return (0..<channels).map { _ in random.uniform() < probability ? 0 : 1 / (1 - probability) }
  }
}
