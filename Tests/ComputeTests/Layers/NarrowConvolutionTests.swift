import Testing

@testable import Compute
@testable import TestSupport

// The kernel works in blocks of 16 voxels and 4 channels, and in items of 8 rows × 12 planes: sizes at, just above and
// far from these, and volumes one voxel thin. Below 12 voxels along x it is never chosen.
private let sizes = [
  Size(1, 1, 12), Size(1, 9, 16), Size(13, 1, 17), Size(12, 8, 16), Size(14, 10, 12), Size(3, 17, 15),
  Size(25, 3, 13), Size(2, 2, 34),
]
private let channels = [(1, 1), (2, 3), (3, 2), (4, 4), (5, 7), (7, 5), (8, 13), (16, 8), (32, 16)]
private let forms =
  sizes.flatMap { size in channels.map { Form(size, $0.0, $0.1) } } + [
    Form(Size(1, 1, 1), 3, 4), Form(Size(2, 3, 5), 2, 1), Form(Size(4, 2, 6), 13, 16),
    Form(Size(5, 4, 1), 1, 5), Form(Size(2, 33, 3), 17, 2),
  ]

@Suite struct LayersNarrowConvolutionTests {
  @Test(arguments: forms)
  func matchesThePlainReference(form: Form) { expectThePlainReference(.narrow, form) }

  @Test(arguments: [Form(Size(26, 18, 12), 5, 7), Form(Size(12, 40, 16), 4, 4), Form(Size(13, 9, 17), 3, 2)])
  func anyNumberOfWorkersGivesTheSameBits(form: Form) { expectSameBits(.narrow, form) }
}
