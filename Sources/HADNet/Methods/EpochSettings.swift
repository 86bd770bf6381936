import Files
import Learning

/// The section of a method that is trained by Adam in whole epochs, and validated.
package protocol EpochSettings: MethodSettings {
  var epochs: Int { get set }
  var rate: Double { get set }
  var beta1: Double { get set }
  var beta2: Double { get set }
  var epsilon: Double { get set }
  /// Epochs from one validation to the next.
  var validationInterval: Int { get set }
}

extension EpochSettings {
  package var epochCount: Int? {
    get { epochs }
    set { epochs = newValue ?? epochs }
  }

  /// The keys that such a section begins with.
  mutating func visitTraining(_ v: inout some RecipeVisitor) throws(Fault) {
    try v.value("epochs", &epochs, .whole(1...1_000_000))
    try v.value("rate", &rate, .number(above: 0, to: 1))
    try v.value("beta1", &beta1, .number(from: 0, below: 1))
    try v.value("beta2", &beta2, .number(from: 0, below: 1))
    try v.value("epsilon", &epsilon, .number(above: 0, to: 1))
  }

  /// The key that it ends with.
  mutating func visitValidation(_ v: inout some RecipeVisitor) throws(Fault) {
    try v.value("validation_interval", &validationInterval, .whole(1...1_000_000))
  }

  func adam(decay: Double = 0) -> Adam.Settings {
    .init(beta1: beta1, beta2: beta2, epsilon: epsilon, decay: decay)
  }
}
