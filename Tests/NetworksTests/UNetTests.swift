import Foundation
import Testing

@testable import Compute
@testable import Networks
@testable import TestSupport

/// The values of a feature map as they are read, in memory order, in Float64.
func read(_ source: LayerInput) -> [Double] {
  source.volume.array.enumerated().map { i, stored in
    let c = i % source.channels
    let v = Double(stored) * Double(source.scale?[c] ?? 1) + Double(source.shift?[c] ?? 0)
    return v > 0 ? v : Double(source.slope) * v
  }
}

@Suite struct NetworksUNetTests {
  /// By hand from the table: a unit a→b has 27ab + 3b, an up block's join of c channels 54c² + 3c.
  @Test(arguments: [(3, 32, 16_488_324), (4, 32, 16_489_188), (3, 2, 65_004), (3, 1, 16_412)])
  func parametersAreAsManyAsTheTableSays(inputs: Int, k: Int, count: Int) {
    #expect(UNet(inputs: inputs, k: k).layout.count == count)
    func unit(_ a: Int, _ b: Int) -> Int { 27 * a * b + 3 * b }
    var sum = unit(inputs, k) + unit(k, k) + unit(8 * k, 16 * k) + unit(16 * k, 8 * k) + 4 * k + 4
    for c in [2 * k, 4 * k, 8 * k] { sum += unit(c / 2, c) + unit(c, c) }
    // conv_left has no bias.
    for (c, out) in [(8 * k, 4 * k), (4 * k, 2 * k), (2 * k, k), (k, k)] {
      sum += 54 * c * c + 3 * c + unit(c, out)
    }
    #expect(sum == count)
  }

  @Test func namesAndShapesAreThePublishedOnes() throws {
    let file = try Safetensors(path: "\(parityFolder)/step_k2.safetensors")
    for (prefix, layout) in [
      ("init/student.", UNet(inputs: 3, k: 2).layout), ("init/teacher.", UNet(inputs: 4, k: 2).layout),
    ] {
      let published = file.entries.filter { $0.key.hasPrefix(prefix) }.mapValues(\.extents)
      #expect(
        Dictionary(uniqueKeysWithValues: layout.parameters.map { (prefix + $0.name, $0.extents) })
          == published)
    }
  }

  @Test func initialParametersFollowTheFanIn() throws {
    let network = UNet(inputs: 3, k: 8), p = network.initialParameters(seed: 1, part: 0)
    for parameter in network.layout.parameters {
      let values = p[parameter].map(Double.init), n = Double(values.count)
      if parameter.extents.count == 5 {
        let variance = 2 / (n / Double(parameter.extents[0])), found = values.reduce(0) { $0 + $1 * $1 } / n
        // Five standard errors of a normal variable's variance.
        #expect(
          abs(found / variance - 1) <= 5 * (2 / n).squareRoot(), "\(parameter.name): \(found), \(variance)")
      } else {
        let expected = parameter.name.hasSuffix("inst.weight") ? 1.0 : 0
        #expect(values.allSatisfy { $0 == expected }, "\(parameter.name)")
      }
    }
    let first = try #require(network.layout.parameters.first)
    #expect(network.initialParameters(seed: 1, part: 0).array == p.array)
    for other in [network.initialParameters(seed: 1, part: 1), network.initialParameters(seed: 2, part: 0)] {
      #expect(Array(other.array[first.range]) != Array(p.array[first.range]))
    }
  }

  private func make(_ k: Int, _ size: Size, features: Bool) -> (UNet, ParameterVector, UNetPass, LabelVolume)
  {
    let network = UNet(inputs: 3, k: k), p = network.initialParameters(seed: 3, part: 0)
    // Scales and shifts that differ from channel to channel.
    for parameter in network.layout.parameters where parameter.name.contains("inst") {
      for i in 0..<parameter.count { p[parameter][i] += Float(i % 5) * 0.1 }
    }
    let pass = UNetPass(network, size, .training(features: features ? .all : .none))
    for (i, value) in normals(pass.image.shape.count, 1).enumerated() { pass.image.base[i] = value }
    return (network, p, pass, LabelVolume(size, (0..<size.voxels).map { UInt8($0 / 37 % 4) }))
  }

  @Test(arguments: [false, true])
  func gradientsMatchFiniteDifferences(features: Bool) throws {
    let (network, p, pass, truth) = make(2, Size(32, 32, 16), features: features),
      workers = Workers.poisoned(2)
    let draw = DropoutDraw(probability: 0.2, seed: 5, .dropout, step: 1, slot: 0)
    let gradients = (0..<3).map { pair in
      [pass.encoderFeatureGradient(pair), pass.decoderFeatureGradient(pair)].enumerated().map {
        normals($1.shape.count, 10 * pair + $0).map { 0.01 * $0 }
      }
    }
    func loss(_ gradient: Volume?) -> Double {
      network.forward(pass, p, dropout: draw, workers)
      var loss = CrossEntropy.loss(pass.logits, truth, weights: [1, 3, 2, 5], gradient: gradient, workers)
      guard features else { return loss }
      for pair in 0..<3 {
        let maps = [pass.encoderFeature(pair), pass.decoderFeature(pair, upsampled: false)]
        for (map, g) in zip(maps, gradients[pair]) {
          loss += zip(read(map), g).reduce(0) { $0 + $1.0 * Double($1.1) }
        }
      }
      return loss
    }
    _ = loss(pass.dLogits)
    if features {
      for pair in 0..<3 {
        let volumes = [pass.encoderFeatureGradient(pair), pass.decoderFeatureGradient(pair)]
        for (volume, g) in zip(volumes, gradients[pair]) {
          for (i, value) in g.enumerated() { volume.base[i] = value }
        }
      }
    }
    let dp = ParameterVector(zeros: network.layout)
    network.backward(pass, p, into: dp, featureGradients: features ? .all : .none, workers)
    for parameter in network.layout.parameters {
      let gradient = dp[parameter].map(Double.init)
      if ParameterLayout.isBiasBeforeNorm(parameter.name) {
        #expect(gradient.allSatisfy { $0 == 0 }, "\(parameter.name)")
        continue
      }
      let slopes = slopes(p[parameter], gradient, shares: [1e-3, 1e-4, 1e-5]) { loss(nil) }
      #expect(slopes.error <= 0.05, "\(parameter.name): \(slopes)")
    }
  }

  /// A loss of the centre's output alone gives what a discriminator would give that looked at nothing else.
  @Test func aGradientOfTheCentreIsThatOfOneFeature() {
    func gradient(_ features: FeatureGradients) -> [Float] {
      let network = UNet(inputs: 3, k: 2), p = network.initialParameters(seed: 3, part: 0),
        workers = Workers(2)
      let pass = UNetPass(network, Size(32, 32, 16), .training(features: features))
      pass.image.copy(from: Volume(normal: pass.image.shape, 1))
      network.forward(
        pass, p, dropout: DropoutDraw(probability: 0.2, seed: 5, .dropout, step: 1, slot: 0), workers)
      pass.dLogits.copy(from: Volume(normal: pass.dLogits.shape, 2))
      if features == .all {
        for pair in 0..<3 {
          pass.encoderFeatureGradient(pair).fill(0)
          pass.decoderFeatureGradient(pair).fill(0)
        }
      }
      if features != .none { pass.centreGradient.copy(from: Volume(normal: pass.centreGradient.shape, 3)) }
      let dp = ParameterVector(zeros: network.layout)
      network.backward(pass, p, into: dp, featureGradients: features, workers)
      return dp.array
    }
    let centre = gradient(.centre)
    #expect(firstDifference(centre, gradient(.all)) == nil)
    #expect(firstDifference(centre, gradient(.none)) != nil)
  }
}
