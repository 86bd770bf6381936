import Collective
import Imaging
import Testing

@testable import Compute
@testable import Files
@testable import Learning
@testable import Methods
@testable import Study
@testable import TestSupport

struct RankMemoryTests {
  private func memory(
    _ stage: Method = .hadnet, k: Int = 32, size: Size = Size(80, 96, 80), batch: Int = 1, ranks: Int = 1,
    threads: Int = 2
  ) -> RankMemory {
    var recipe = Recipe()
    recipe.network.k = k
    return RankMemory(
      stage, recipe, TaskPreset.brats.task, size: size, slots: Slots(batch, over: ranks), threads: threads)
  }

  /// Peaks of `bench step` in GiB, one rank and two threads: the estimate is a tenth above them, and not more than
  /// a fifth and what is put down for the program.
  @Test(arguments: [
    (Size(80, 96, 80), 32, 2.80), (Size(160, 192, 160), 32, 7.96), (Size(48, 64, 48), 16, 0.605),
  ])
  func isALittleMoreThanMeasured(size: Size, k: Int, measured: Double) {
    let estimate = Double(memory(k: k, size: size).training) / 0x1p30
    #expect(estimate > 1.1 * measured && estimate < 1.2 * measured + 0.125, "\(estimate) for \(measured) GiB")
  }

  @Test func ranksShareTheMoments() {
    let one = memory(), four = memory(batch: 4, ranks: 4)
    // The student's 66 MB and the discriminator's 353 MB, twice: three quarters lie elsewhere.
    #expect(abs(one.vectors - four.vectors - 628_000_000) < 2_000_000)
  }

  @Test func slotsOfARankNeedTheirSums() {
    let two = memory(batch: 2), five = memory(batch: 5)
    #expect(memory().sums == 0)
    #expect(five.sums == 3 * two.sums)
    // One case is there at a time, and the next one on its way.
    #expect(five.cases == memory().cases)
    #expect(memory(.uhemis, batch: 5).cases == 5 * memory(.uhemis).cases)
    #expect(five.volumes == memory().volumes)
  }

  @Test func whatDoesNotFitIsRefusedBeforeItIsTaken() {
    func check(_ size: Size, ranks: Int = 1, left: Int?) -> Fault? {
      fault { try memory(size: size).check(.hadnet, size: size, k: 32, ranks: ranks, left: left) }
    }
    let size = Size(80, 96, 80), least = memory(size: size).least
    #expect(check(size, left: least) == nil && check(size, left: nil) == nil)
    #expect(check(size, ranks: 2, left: least) == nil)
    let alone = check(size, left: least - 1), both = check(size, ranks: 2, left: least - 1)
    #expect(
      alone?.kind == .recipe && alone?.description.contains("80×96×80 voxels") == true,
      "\(String(describing: alone))")
    #expect(alone?.description.contains("ranks") == false)
    #expect(both?.description.contains("take fewer ranks a machine") == true, "\(String(describing: both))")
    #expect(check(Size(4096, 4096, 4096), ranks: 1 << 40, left: 1 << 40)?.kind == .recipe)
  }

  @Test func pretrainingNeedsLess() {
    #expect(memory(.student).training < memory(.teacher).training)
    #expect(memory(.teacher).training < memory().training / 2)
  }
}
