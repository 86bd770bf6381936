import Files

/// What teacher, student and discriminator have in common.
package struct NetworkSettings: Equatable, Sendable {
  /// Channels at full size; all others are multiples of it.
  package var k = 32
  /// Probability that a whole channel is dropped.
  package var dropout: Float = 0.2

  package init() {}
}

extension NetworkSettings: RecipeSection {
  package mutating func visit(_ v: inout some RecipeVisitor) throws(Fault) {
    try v.value("k", &k, .whole(1...256))
    try v.value("dropout", &dropout, .number(from: 0, below: 1))
  }
}
