import Testing

@testable import Compute
@testable import TestSupport

private let forms = [
  Form(Size(1, 1, 1), 3, 4), Form(Size(2, 3, 5), 2, 1), Form(Size(4, 2, 6), 13, 16),
  Form(Size(5, 4, 1), 1, 5),
  Form(Size(5, 7, 3), 33, 13), Form(Size(1, 6, 11), 16, 33), Form(Size(2, 2, 2), 33, 70),
  Form(Size(4, 2, 6), 70, 33), Form(Size(9, 1, 13), 7, 8), Form(Size(14, 12, 16), 5, 4),
  Form(Size(40, 9, 12), 2, 3), Form(Size(2, 33, 3), 17, 20),
  // 4³ with stride 2, as the discriminator's; odd sides leave a voxel over. Up to 8 input channels' data gradients are
  // scattered, others gathered.
  .strided(Size(2, 2, 2), 1, 1), .strided(Size(5, 7, 3), 4, 5), .strided(Size(8, 6, 10), 7, 8),
  .strided(Size(2, 9, 16), 16, 33), .strided(Size(4, 6, 2), 33, 13), .strided(Size(4, 4, 4), 70, 3),
  .strided(Size(20, 18, 14), 3, 2), .strided(Size(4, 4, 4), 3, 70), .strided(Size(7, 8, 9), 17, 20),
  // 4³ with stride 1: the discriminator's last.
  Form(Size(2, 2, 2), 8, 1, 4), Form(Size(2, 3, 5), 33, 1, 4), Form(Size(10, 8, 12), 4, 3, 4),
  // 1³: the U-Net's last.
  Form(Size(1, 1, 1), 1, 4, 1, padding: 0), Form(Size(3, 5, 7), 2, 4, 1, padding: 0),
  Form(Size(16, 12, 18), 8, 4, 1, padding: 0), Form(Size(2, 4, 2), 33, 16, 1, padding: 0),
]

@Suite struct LayersGatheredConvolutionTests {
  @Test(arguments: forms)
  func matchesThePlainReference(form: Form) { expectThePlainReference(.gathered, form) }

  /// Scattered in slabs of planes, whose borders share rows of dy; long rows of many channels are multiplied in parts.
  @Test(
    arguments: [
      .strided(Size(16, 2, 4), 4, 16), .strided(Size(17, 4, 3), 3, 17), .strided(Size(26, 5, 7), 3, 20),
      .strided(Size(41, 3, 6), 7, 1), .strided(Size(18, 4, 64), 4, 130), .strided(Size(2, 3, 130), 8, 70),
    ] as [Form])
  func scatteredDataGradientMatchesThePlainReference(form: Form) { expectThePlainReference(.gathered, form) }

  @Test(arguments: [
    Form(Size(26, 18, 12), 5, 7), Form(Size(2, 2, 4), 16, 140), Form(Size(2, 2, 4), 140, 16),
    .strided(Size(20, 18, 14), 3, 8), .strided(Size(4, 4, 4), 140, 8), Form(Size(10, 8, 12), 8, 1, 4),
    .strided(Size(40, 6, 10), 4, 17), Form(Size(16, 12, 18), 8, 4, 1, padding: 0),
  ])
  func anyNumberOfWorkersGivesTheSameBits(form: Form) { expectSameBits(.gathered, form) }
}
