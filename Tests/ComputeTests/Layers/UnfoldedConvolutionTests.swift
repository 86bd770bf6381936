import Testing

@testable import Compute
@testable import TestSupport

// Items are 64 output or 8 input channels.
private let sizes = [
  Size(1, 1, 1), Size(1, 1, 9), Size(2, 33, 3), Size(4, 4, 4), Size(5, 7, 3), Size(7, 7, 7),
]
private let channels = [(1, 2), (3, 1), (7, 5), (17, 20), (35, 64), (64, 70)]
private let forms =
  sizes.flatMap { size in channels.map { Form(size, $0.0, $0.1) } } + [
    Form(Size(2, 3, 5), 130, 70), Form(Size(4, 1, 6), 70, 130),
  ]

@Suite struct LayersUnfoldedConvolutionTests {
  @Test(arguments: forms)
  func matchesThePlainReference(form: Form) { expectThePlainReference(.unfolded, form) }

  @Test(arguments: [Form(Size(5, 7, 3), 70, 130), Form(Size(4, 4, 4), 35, 64)])
  func anyNumberOfWorkersGivesTheSameBits(form: Form) { expectSameBits(.unfolded, form) }
}
