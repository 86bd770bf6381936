import Testing

@testable import Compute
@testable import Imaging

@Suite struct MirrorAugmentationTests {
  private let size = Size(3, 4, 5)

  private func mirrored(_ flip: Float, seed: UInt64 = 1) -> (images: Volume, labels: LabelVolume) {
    let images = Volume(Shape(size, 4), (0..<240).map(Float.init))
    let labels = LabelVolume(size, (0..<60).map { UInt8($0 % 4) })
    var random = Philox(seed: seed, .test)
    return MirrorAugmentation(flip: flip).apply(images: images, labels: labels, random: &random)
  }

  @Test func allAxesAreMirroredAtProbabilityOne() {
    let (images, labels) = mirrored(1), values = images.array
    for v in 0..<60 {
      #expect(labels.classes[v] == UInt8((59 - v) % 4))
      for c in 0..<4 { #expect(values[4 * v + c] == Float(4 * (59 - v) + c)) }
    }
  }

  @Test func noneAtProbabilityZero() { #expect(mirrored(0).images.array == (0..<240).map(Float.init)) }

  /// Each of the eight combinations comes, about as often.
  @Test func everyCombinationComes() {
    var counts: [Float: Int] = [:]
    for seed in 0..<800 { counts[mirrored(0.5, seed: UInt64(seed)).images.array[0], default: 0] += 1 }
    #expect(counts.count == 8)
    // Seven standard deviations of a binomial number with p = 1/8.
    #expect(counts.values.allSatisfy { abs($0 - 100) < 66 }, "\(counts)")
  }
}
