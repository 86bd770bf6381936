import Testing

@testable import Compute
@testable import TestSupport

// Pieces are of 4096 voxels and more, sums of floats of 256.
private let sizes = [Size(1, 1, 1), Size(3, 5, 7), Size(1, 9, 29), Size(17, 16, 31)]
private let channels = [(1, 1), (1, 8), (4, 4), (4, 1), (8, 8), (3, 5), (7, 2), (8, 4)]
private let forms = sizes.flatMap { size in channels.map { Form(size, $0.0, $0.1, 1, padding: 0) } }

@Suite struct LayersPointwiseConvolutionTests {
  @Test(arguments: forms)
  func matchesThePlainReference(form: Form) { expectThePlainReference(.pointwise, form) }

  @Test(arguments: [Form(Size(17, 16, 31), 4, 4, 1, padding: 0), Form(Size(40, 20, 12), 1, 8, 1, padding: 0)])
  func anyNumberOfWorkersGivesTheSameBits(form: Form) { expectSameBits(.pointwise, form) }
}
