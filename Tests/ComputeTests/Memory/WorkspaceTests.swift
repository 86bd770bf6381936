import Testing

@testable import Compute
@testable import Networks

@Suite struct MemoryWorkspaceTests {
  @Test(arguments: 0..<40)
  func volumesThatLiveAtTheSameTimeDoNotOverlap(seed: Int) {
    var random = Philox(seed: UInt64(seed), .test), plan = WorkspacePlan()
    var times: [ClosedRange<Int>] = [], shapes: [Shape] = []
    for i in 0..<1 + random.below(40) {
      let start = random.below(20), end = start + random.below(20 - start)
      let shape = Shape(
        Size(1 + random.below(5), 1 + random.below(9), 1 + random.below(9)), 1 + random.below(5))
      times.append(start...end)
      shapes.append(shape)
      #expect(plan.reserve(shape, start...end) == i)
    }
    let volumes = plan.volumes()
    #expect(volumes.map(\.shape) == shapes)
    for i in volumes.indices {
      for j in 0..<i where times[i].overlaps(times[j]) {
        let a = volumes[i].offset..<volumes[i].offset + shapes[i].count
        let b = volumes[j].offset..<volumes[j].offset + shapes[j].count
        #expect(!a.overlaps(b), "\(i) at \(a) and \(j) at \(b)")
      }
    }
    func rounded(_ shape: Shape) -> Int { (shape.count + 15) / 16 * 16 }
    let total = volumes[0].buffer.count
    #expect(total <= shapes.reduce(0) { $0 + rounded($1) })
    let most = (0..<20).map { now in
      zip(times, shapes).reduce(0) { $0 + ($1.0.contains(now) ? rounded($1.1) : 0) }
    }.max()
    #expect(total >= most ?? 0)
  }

  @Test func volumesOneAfterTheOtherShareMemory() {
    var plan = WorkspacePlan()
    for i in 0..<5 { _ = plan.reserve(Shape(Size(2, 2, 4), 1), 2 * i...2 * i + 1) }
    #expect(plan.volumes()[0].buffer.count == 16)
  }

  @Test func volumesStartAt64Bytes() {
    var plan = WorkspacePlan()
    for i in 1...9 { _ = plan.reserve(Shape(Size(1, 1, i), 3), 0...1) }
    #expect(plan.volumes().allSatisfy { Int(bitPattern: $0.base) % 64 == 0 })
  }

  @Test(arguments: [true, false])
  func aUNetsPassTakesLessThanItsVolumes(features: Bool) {
    let pass = UNetPass(
      UNet(inputs: 3, k: 2, classes: 4), Size(32, 32, 32), .training(features: features ? .all : .none))
    let gradients = pass.dA + pass.dB + pass.dM + pass.dO + pass.dPooled + [pass.dLogits]
    let all = pass.a + pass.b + pass.m + pass.o + pass.pooled + [pass.image, pass.logits] + gradients
    let sum = all.reduce(0) { $0 + $1.shape.count }
    #expect(pass.image.buffer.count < sum, "\(pass.image.buffer.count) of \(sum) floats")
  }
}
