import Testing

@testable import Compute
@testable import Evaluation
@testable import Files
@testable import Imaging
@testable import Inference
@testable import Networks
@testable import TestSupport

@Suite struct InferenceDropoutSamplerTests {
  private let size = Size(32, 16, 48)

  private func model(k: Int = 4, dropout: Float = 0.2) -> Model {
    let network = UNet(inputs: 3, k: k)
    return Model(
      .init(
        method: "Student", k: k, dropout: dropout, sequences: Modality.student, size: size,
        preparation: Preparation()), .unet(network), network.initialParameters(seed: 5, part: 0).frozen)
  }

  private func prepared(_ size: Size, id: String = "A") throws -> PreparedCase {
    let images = Volume(zeros: Shape(size, 4))
    var random = Philox(seed: 8, .test)
    for i in 0..<images.shape.count { images.base[i] = random.uniform() }
    let scratch = Scratch(), files = try SmallCase(scratch).files()
    return PreparedCase(
      id: id, images: images, labels: nil, mask: [UInt8](repeating: 1, count: size.voxels),
      placement: try Preparation().prepare(files, commonSize: size).placement)
  }

  /// The first block is computed once; each sample is what a whole pass with its masks gives, bit for bit.
  @Test(arguments: [4, 8]) func aSampleIsAWholePass(k: Int) throws {
    let model = model(k: k), prepared = try prepared(size), workers = Workers(2)
    guard case .unet(let network) = model.network else { return }
    let sampler = try DropoutSampler(model, seed: 9, workers)
    var sums = SampleSums(size, samples: 3, entropies: true)
    sampler.add(0..<3, of: prepared, to: &sums)
    var plain = SampleSums(size, samples: 3, entropies: true)
    var seen: [[Float]] = []
    for sample in 0..<3 {
      let pass = UNetPass(network, size, .inference(features: false))
      InputChannels.present.copy(prepared.images, into: pass.image)
      network.forward(
        pass, model.p,
        dropout: DropoutDraw(
          probability: 0.2, seed: 9, .monteCarlo, step: sample, slot: ContentHash.number(of: "A")), workers)
      plain.add(pass.logits, workers)
      seen.append(pass.logits.array)
    }
    let isSame = sums.probabilities == plain.probabilities && sums.entropies == plain.entropies
    #expect(isSame)
    let differ = seen[0] != seen[1] && seen[1] != seen[2]
    #expect(differ)
  }

  @Test func blocksThreadsAndSizesMakeNoDifference() throws {
    let model = model()
    func sums(_ ranges: [Range<Int>], threads: Int) throws -> SampleSums {
      let workers = Workers(threads), sampler = try DropoutSampler(model, seed: 9, workers)
      var other = SampleSums(Size(16, 16, 16), samples: 1, entropies: false)
      var sums = SampleSums(size, samples: 5, entropies: false)
      for range in ranges {
        // Another case of another size in between.
        sampler.add(0..<1, of: try prepared(Size(16, 16, 16), id: "B"), to: &other)
        sampler.add(range, of: try prepared(size), to: &sums)
      }
      return sums
    }
    let plain = try sums([0..<5], threads: 1).probabilities
    // Whole arrays are long: the comparison is made before a failure would print them.
    let isSameInTwo = try sums([3..<5, 0..<3], threads: 2).probabilities == plain
    let isSameInThree = try sums([4..<5, 0..<1, 1..<4], threads: 3).probabilities == plain
    #expect(isSameInTwo && isSameInThree)
  }

  @Test func aNetworkWithoutDropoutIsRefused() {
    #expect {
      _ = try DropoutSampler(model(dropout: 0), seed: 1, Workers(1))
    } throws: {
      "\($0)" == "Student has no dropout to draw samples with; leave its uncertainty out"
    }
  }

  @Test(arguments: [1, 2, 3, 5], [1, 9, 10, 11, 100])
  func everySampleIsDrawnOnce(ranks: Int, samples: Int) {
    for cases in 1...ranks {
      let shares = SampleDeal.shares(cases: cases, samples: samples, ranks: ranks)
      #expect(shares.count == ranks && shares.allSatisfy { $0.count <= 2 })
      for item in 0..<cases {
        let drawn = shares.flatMap { $0 }.filter { $0.item == item }.flatMap { Array($0.samples) }
        #expect(drawn.sorted() == Array(0..<samples), "case \(item) of \(cases)")
      }
      let numbers = shares.map { $0.reduce(0) { $0 + ($1.samples.count + 9) / 10 } }
      #expect((numbers.max() ?? 0) - (numbers.min() ?? 0) <= 1, "\(numbers) blocks")
    }
  }
}
