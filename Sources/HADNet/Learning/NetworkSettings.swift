import Files

/// What teacher, student and discriminator have in common.
public struct NetworkSettings: Equatable, Sendable {
  /// Channels at full size; all others are multiples of it.
  public var k = 32
  /// Probability that a whole channel is dropped.
  public var dropout: Float = 0.2

  public init() {}
}

/// Weights of (background, NET, ED, ET) in the cross-entropy.
public enum ClassWeights: Equatable, Sendable {
  /// These four.
  case fixed([Float])
  /// Background voxels over class voxels, inside the brain masks of the training cases.
  case data
}

extension NetworkSettings: RecipeSection {
  public mutating func visit(_ v: inout some RecipeVisitor) throws(Fault) {
    try v.value("k", &k, .whole(1...256))
    try v.value("dropout", &dropout, .number(from: 0, below: 1))
  }
}

extension PlateauSettings: RecipeSection {
  public mutating func visit(_ v: inout some RecipeVisitor) throws(Fault) {
    try v.value("patience", &patience, .whole(1...1_000_000))
    try v.value("factor", &factor, .number(above: 0, to: 1))
  }
}
