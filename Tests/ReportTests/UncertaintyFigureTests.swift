import TestSupport
import Testing

@testable import Compute
@testable import Evaluation
@testable import Imaging
@testable import Report

@Suite struct ReportUncertaintyFigureTests {
  private typealias Category = UncertaintyFigure.Category

  @Test func aVoxelOnTheThresholdStays() {
    func category(_ truth: Bool, _ prediction: Bool, _ uncertainty: Float) -> Category? {
      Category(truth: truth, prediction: prediction, uncertainty: uncertainty, threshold: 50)
    }
    #expect(category(true, true, 50) == .truePositive && category(true, true, 50.01) == .uncertain)
    #expect(category(true, false, 0) == .falseNegative && category(false, true, 12) == .falsePositive)
    #expect(category(true, false, 99) == .uncertain && category(false, true, 99) == .uncertain)
    #expect(category(false, false, 99) == nil && category(false, false, 0) == nil)
  }

  /// Every category that there is has its colour on the picture, and falls away with its threshold.
  @Test func aRowAMethodAndAColumnAThreshold() {
    let size = Size(3, 24, 24), images = Volume(zeros: Shape(size, 4))
    for i in 0..<images.shape.count { images.base[i] = 0.5 }
    var truth = [UInt8](repeating: 0, count: size.voxels), prediction = truth
    var map = [Float](repeating: 0, count: size.voxels)
    let slice = 24 * 24
    for y in 4..<20 {
      for x in 0..<24 {
        let voxel = slice + y * 24 + x
        // Columns of true positives, misses and false alarms; every other row is uncertain.
        if x < 12 { truth[voxel] = 3 }
        if x >= 6 && x < 18 { prediction[voxel] = 3 }
        map[voxel] = y % 2 == 0 ? 60 : 10
      }
    }
    func figure(_ count: Int, of set: EvaluatedSet = .test) -> Picture {
      UncertaintyFigure(
        brats, id: "A", images: images, truth: LabelVolume(size, truth),
        methods: (0..<count).map { .init("method \($0)", LabelVolume(size, prediction), map: map) }
      ).picture(of: set)
    }
    let one = figure(1), two = figure(2)
    #expect(figure(1, of: .validation) == one.noted(EvaluatedSet.validation.pictured))
    #expect(figure(1, of: .validation).height > one.height)
    #expect(two.width == one.width && two.height - one.height > 200)
    // The brain is one grey, nine pixels a voxel's side.
    let grey = SliceView(images, z: 1).grey(1)[100, 100]
    func pixels(_ category: Category) -> Int {
      let color = grey.mixed(0.6, with: category.color)
      return (0..<one.width).reduce(0) { sum, x in
        sum + (0..<one.height).reduce(0) { $0 + (one[x, $1] == color ? 1 : 0) }
      }
    }
    // Each is 6 voxels wide; the rows of 60 stay at 100 and 75 and go at 50 and 25.
    let stays = 81 * 6 * (16 + 16 + 8 + 8)
    #expect(pixels(.truePositive) == stays && pixels(.falseNegative) == stays)
    #expect(pixels(.falsePositive) == stays && pixels(.uncertain) == 81 * 18 * (8 + 8))
  }
}
