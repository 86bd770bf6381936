import Testing

@testable import Compute
@testable import Networks

extension FusionNetwork.Fusion: CaseIterable, CustomTestStringConvertible {
  public static let allCases: [FusionNetwork.Fusion] = [.moments, .gaussians]
  public var testDescription: String { self == .moments ? "U-HeMIS" : "U-HVED" }
}

extension FusionNetwork {
  /// Parameters with scales and shifts that differ from channel to channel; no value sits in a kink.
  func parameters(seed: UInt64) -> ParameterVector {
    let p = initialParameters(seed: seed, part: 0)
    for (i, parameter) in layout.parameters.enumerated() where parameter.extents.count == 1 {
      for (j, value) in normals(parameter.count, i).enumerated() { p[parameter][j] += 0.3 * value }
    }
    return p
  }
}
