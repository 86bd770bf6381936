import TestSupport
import Testing

@testable import Compute
@testable import Evaluation
@testable import Imaging
@testable import Methods
@testable import Report

@Suite struct CaseFigureTests {
  @Test func theSliceHasMostETElseMostTumour() {
    let size = Size(4, 1, 2)
    #expect(CaseFigure.slice(LabelVolume(size, [2, 2, 3, 0, 3, 3, 0, 0]), brats) == 2)
    #expect(CaseFigure.slice(LabelVolume(size, [0, 0, 1, 0, 0, 0, 1, 2]), brats) == 3)
    #expect(CaseFigure.slice(LabelVolume(size, [UInt8](repeating: 0, count: 8)), brats) == 2)
  }

  @Test func theFrontOfTheHeadIsAboveAndThePatientsLeftIsRight() {
    // A brain that fills its volume, with ET in the voxel of largest y (front) and largest x (patient's left).
    let size = Size(1, 8, 8)
    let images = Volume(zeros: Shape(size, 4))
    images.fill(0.5)
    var truth = LabelVolume(size, [UInt8](repeating: 0, count: 64))
    truth.classes[63] = 3
    let picture = CaseFigure.picture([
      CaseFigure(brats, id: "A", images: images, truth: truth, segmentations: [])
    ])
    // The truth is the fifth panel and all panels are alike, so the coloured pixels tell its corner.
    let yellow = (0..<(picture.width * (picture.height - 40))).filter { i in
      let color = picture[i % picture.width, i / picture.width]
      return Int(color.red) - Int(color.blue) > 60
    }
    let columns = yellow.map { $0 % picture.width }, rows = yellow.map { $0 / picture.width }
    #expect(yellow.count == 27 * 27)
    #expect(rows.min() == 30 && columns.max() == picture.width - 5)
  }

  @Test func onePictureHoldsCasesOfDifferentSizes() throws {
    let (images, truth) = exampleCase()
    let (small, other) = exampleCase(size: Size(24, 32, 40), tumour: Size(12, 18, 14))
    let picture = CaseFigure.picture([
      CaseFigure(
        brats, id: "BraTS19_CBICA_AAB_1", images: images, truth: truth, segmentations: [("Student", truth)]),
      CaseFigure(brats, id: "B", images: small, truth: other, segmentations: [("Student", other)]),
    ])
    #expect(picture.width > 6 * 150 && picture.height > 2 * 170)
    #expect(try decoded(picture.png()) != nil)
  }

  /// A picture travels without the page that it stood on.
  @Test(arguments: [EvaluatedSet.validation, .training]) func casesThatAreNoTestCasesAreCalledSo(
    set: EvaluatedSet
  ) throws {
    let (images, truth) = exampleCase()
    let figure = CaseFigure(brats, id: "A", images: images, truth: truth, segmentations: [("Student", truth)])
    let plain = CaseFigure.picture([figure]), named = CaseFigure.picture([figure], of: set)
    #expect(CaseFigure.picture([figure], of: .test) == plain)
    #expect(named.width == plain.width && named.height > plain.height)
    let note = try #require(set.pictured)
    #expect(note.lowercased().hasPrefix(set == .training ? "training cases" : "validation cases"))
    var expected = Picture(width: named.width, height: named.height)
    expected.draw(plain, x: 0, y: 0)
    expected.text(note, x: 6, y: plain.height)
    #expect(named == expected)
  }

  /// Thirteen pictures side by side would be too small to read on a page.
  @Test func manyMethodsStandUnderTheSequences() {
    let methods = TableColumns.methods.order
    let (images, truth) = exampleCase()
    func picture(_ methods: [String], cases: Int) -> Picture {
      CaseFigure.picture(
        (0..<cases).map { i in
          CaseFigure(
            brats, id: "case \(i)", images: images, truth: truth, segmentations: methods.map { ($0, truth) })
        })
    }
    let few = picture(Array(methods.prefix(3)), cases: 2), many = picture(methods, cases: 2)
    #expect(many.width == few.width)
    // Twice the pictures, four lines of captions for one, and a space between the cases.
    #expect(many.height == 2 * (few.height - 30 - 34) + 4 * 30 + 14 + 34)
    #expect(picture(Array(methods.prefix(4)), cases: 1).width < few.width)
  }
}
