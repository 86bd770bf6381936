import Foundation
import TestSupport
import Testing

@testable import Compute
@testable import Evaluation
@testable import Imaging

@Suite struct EvaluationUncertaintyTests {
  struct Entropies: Decodable {
    struct Region: Decodable { let probability, entropyNats, uncertainty: [Double] }
    /// [sample][voxel][class]
    let probabilities: [[[Double]]]
    let mean: [[Double]]
    let entropyNats, uncertaintyMulticlass, expectedEntropyNats, mutualInformationNats: [Double]
    let wt, tc, et: Region

    private enum CodingKeys: String, CodingKey {
      case probabilities, mean, entropyNats, uncertaintyMulticlass, expectedEntropyNats, mutualInformationNats
      case wt = "WT"
      case tc = "TC"
      case et = "ET"
    }
  }
  private struct File: Decodable {
    let entropies: [String: Entropies]
  }

  private static func golden() throws -> [String: Entropies] {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    return try decoder.decode(
      File.self, from: Data(contentsOf: Golden.folder.appending(path: "expected.json"))
    ).entropies
  }

  /// The golden file's samples as they would be summed up: logits of their logarithms.
  private func sums(_ golden: Entropies) -> SampleSums {
    let size = Size(1, 1, golden.mean.count)
    var sums = SampleSums(size, samples: golden.probabilities.count, entropies: true)
    for sample in golden.probabilities {
      let logits = Volume(zeros: Shape(size, 4))
      for (voxel, p) in sample.enumerated() {
        for c in 0..<4 { logits.base[voxel * 4 + c] = p[c] > 0 ? Float(Portable.log(p[c])) : -80 }
      }
      sums.add(logits, Workers(1))
    }
    return sums
  }

  @Test func formulasAreTheGoldenOnes() throws {
    let all = try Self.golden()
    #expect(all.count == 4)
    for (name, golden) in all {
      for voxel in golden.mean.indices {
        let mean = golden.mean[voxel], entropy = Entropy.classes(mean)
        #expect(abs(entropy - golden.entropyNats[voxel]) < 1e-9, "\(name)")
        #expect(abs(100 * entropy / Entropy.most(4) - golden.uncertaintyMulticlass[voxel]) < 1e-9, "\(name)")
        let expected =
          golden.probabilities.reduce(0) {
            $0 + Entropy.classes($1[voxel])
          } / Double(golden.probabilities.count)
        #expect(abs(expected - golden.expectedEntropyNats[voxel]) < 1e-9, "\(name)")
        #expect(abs(entropy - expected - golden.mutualInformationNats[voxel]) < 1e-9, "\(name)")
        for (region, of) in [(Region.wt, golden.wt), (.tc, golden.tc), (.et, golden.et)] {
          let q = region.classes.reduce(0) { $0 + mean[Int($1)] }
          #expect(abs(q - of.probability[voxel]) < 1e-12, "\(name)")
          let entropy = Entropy.binary(q)
          #expect(abs(entropy - of.entropyNats[voxel]) < 1e-9, "\(name)")
          #expect(abs(100 * entropy / Entropy.ln2 - of.uncertainty[voxel]) < 1e-9, "\(name)")
        }
      }
    }
  }

  /// From the sums of samples, whose probabilities are whole numbers of 2⁻²².
  @Test func mapsAreTheGoldenOnes() throws {
    for (name, golden) in try Self.golden() {
      let sums = sums(golden), workers = Workers(2)
      let region = UncertaintyMaps(sums, .region, workers)
      for (map, of) in [(region.whole, golden.wt), (region.core, golden.tc), (region.enhancing, golden.et)] {
        for voxel in map.indices {
          #expect(abs(Double(map[voxel]) - of.uncertainty[voxel]) < 2e-3, "\(name) \(voxel)")
        }
      }
      let multiclass = UncertaintyMaps(sums, .multiclass, workers)
      let expected = UncertaintyMaps(sums, .expected, workers),
        mutual = UncertaintyMaps(sums, .mutual, workers)
      for voxel in golden.mean.indices {
        let percent = 100 / Entropy.most(4)
        #expect(abs(Double(multiclass.core[voxel]) - golden.uncertaintyMulticlass[voxel]) < 2e-3, "\(name)")
        #expect(
          abs(Double(expected.whole[voxel]) - percent * golden.expectedEntropyNats[voxel]) < 2e-3, "\(name)"
        )
        #expect(
          abs(Double(mutual.enhancing[voxel]) - percent * golden.mutualInformationNats[voxel]) < 2e-3,
          "\(name)")
      }
    }
  }

  @Test func everyValueIsWithin0And100() {
    let size = Size(4, 8, 16), workers = Workers(2)
    var sums = SampleSums(size, samples: 4, entropies: true)
    var random = Philox(seed: 4, .test)
    for _ in 0..<4 {
      let logits = Volume(zeros: Shape(size, 4))
      // Certain voxels, even ones, and those in between.
      for voxel in 0..<size.voxels {
        let kind = random.below(3), width: Float = kind == 0 ? 0 : kind == 1 ? 100 : 2
        for c in 0..<4 { logits.base[voxel * 4 + c] = random.uniform(-1, 1) * width }
      }
      sums.add(logits, workers)
    }
    for measure in UncertaintyMeasure.allCases {
      let maps = UncertaintyMaps(sums, measure, workers)
      for map in Region.allCases.map({ maps[$0] }) { #expect(map.allSatisfy { (0...100).contains($0) }) }
      guard let range = maps.range(in: [UInt8](repeating: 1, count: size.voxels)) else {
        Issue.record("no range")
        continue
      }
      let stretched = maps.stretched(range)
      #expect(stretched.range(in: [UInt8](repeating: 1, count: size.voxels)) == 0...100)
      #expect(Region.allCases.allSatisfy { stretched[$0].allSatisfy { (0...100).contains($0) } })
    }
    #expect(
      UncertaintyMaps(sums, .region, workers).range(in: [UInt8](repeating: 0, count: size.voxels)) == nil)
  }

  @Test func aRangeOfOneValueIsStretchedTo0() {
    #expect(UncertaintyMaps.stretched([3, 3], 3...3) == [0, 0])
    #expect(UncertaintyMaps.stretched([-1, 2, 4, 6, 9], 2...6) == [0, 0, 50, 100, 100])
  }
}
