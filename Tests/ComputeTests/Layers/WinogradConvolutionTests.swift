import Testing

@testable import Compute
@testable import TestSupport

// A tile is 4³ voxels; sizes at, below and above that, and one voxel thin.
private let sizes = [
  Size(1, 1, 1), Size(1, 1, 13), Size(2, 33, 3), Size(4, 4, 4), Size(5, 7, 3), Size(6, 10, 18),
  Size(9, 8, 11),
]
private let channels = [(1, 1), (2, 3), (3, 2), (5, 7), (7, 17), (17, 5), (20, 35), (35, 20)]
private let forms =
  sizes.flatMap { size in channels.map { Form(size, $0.0, $0.1) } } + [
    // More than a panel of 64, as rows and as columns; few blocks, so that panels are dealt too.
    Form(Size(5, 7, 3), 64, 64), Form(Size(1, 6, 13), 70, 130), Form(Size(3, 4, 6), 130, 70),
    Form(Size(2, 2, 2), 130, 17), Form(Size(6, 4, 10), 17, 64), Form(Size(4, 6, 2), 64, 17),
    // Several blocks of tiles along each axis, and many of several panels.
    Form(Size(34, 10, 70), 3, 5), Form(Size(6, 70, 40), 2, 3), Form(Size(70, 6, 6), 5, 2),
    Form(Size(4, 4, 300), 5, 70), Form(Size(3, 300, 2), 100, 3),
  ]

// As stored the sides are half of these: 16 tiles or more, where the method is chosen, and fewer.
private let foldedForms: [Form] = [
  .strided(Size(2, 2, 2), 1, 1), .strided(Size(2, 2, 26), 2, 3), .strided(Size(4, 6, 10), 3, 17),
  .strided(Size(16, 16, 8), 5, 20), .strided(Size(2, 8, 14), 20, 35), .strided(Size(6, 4, 10), 35, 7),
  .strided(Size(34, 18, 18), 3, 2), .strided(Size(2, 2, 122), 17, 64), .strided(Size(4, 6, 6), 70, 64),
  .strided(Size(2, 4, 6), 64, 130), .strided(Size(2, 6, 2), 130, 70),
]

@Suite struct LayersWinogradConvolutionTests {
  @Test(arguments: forms)
  func matchesThePlainReference(form: Form) { expectThePlainReference(.winograd, form) }

  @Test(arguments: foldedForms)
  func foldedTapsMatchThePlainReference(form: Form) { expectThePlainReference(.folded, form) }

  @Test(arguments: [
    Form(Size(34, 10, 40), 3, 5), Form(Size(4, 4, 300), 5, 70), Form(Size(9, 8, 11), 70, 130),
    Form(Size(6, 10, 18), 35, 20), Form(Size(1, 2, 3), 130, 2),
  ])
  func anyNumberOfWorkersGivesTheSameBits(form: Form) { expectSameBits(.winograd, form) }

  @Test(arguments: [.strided(Size(34, 18, 18), 3, 5), .strided(Size(4, 6, 6), 70, 130)] as [Form])
  func anyNumberOfWorkersGivesTheSameBitsOfFoldedTaps(form: Form) { expectSameBits(.folded, form) }

  @Test(arguments: [
    (Size(130, 1, 1), 32), (Size(5, 9, 301), 32), (Size(160, 192, 160), 8), (Size(7, 7, 7), 1),
  ])
  func blocksCoverEveryTileOnce(size: Size, most: Int) {
    let blocks = WinogradConvolution.Blocks(size, most: most), tiles = blocks.tiles
    #expect(tiles == Size((size.z + 3) / 4, (size.y + 3) / 4, (size.x + 3) / 4))
    var covered = [Int](repeating: 0, count: tiles.voxels)
    for i in 0..<blocks.count {
      let block = blocks[i]
      #expect(block.z.count * block.y.count * block.x.count <= most)
      for z in block.z {
        for y in block.y { for x in block.x { covered[(z * tiles.y + y) * tiles.x + x] += 1 } }
      }
    }
    #expect(covered.allSatisfy { $0 == 1 })
  }

  /// Values of mean 3, as after a bias. Sums over a plane of a block, at most 512 voxels, are of floats.
  @Test(arguments: [
    Form(Size(1, 1, 1), 2, 3), Form(Size(5, 7, 3), 3, 20), Form(Size(9, 8, 11), 2, 70),
    Form(Size(6, 40, 70), 2, 5),
    Form(Size(4, 4, 300), 2, 130),
  ])
  func momentsAreThoseOfTheOutput(form: Form) throws {
    var layout = ParameterLayout()
    let layer = form.layer(inputs: form.inputs, bias: false, in: &layout)
    let p = ParameterVector(normal: layout, 1), workers = Workers.poisoned(2),
      bias = Buffer(zeros: form.outputs + lanes)
    bias.values.update(repeating: 3)
    let y = Island(Shape(form.size, form.outputs), filled: .nan, surroundings: .nan).volume
    let source = Input(form.size, form.inputs, .activated, 2).source
    func moments(_ workers: Workers) throws -> Moments {
      try #require(
        WinogradConvolution.forward(
          [.init(layer: layer, source: source, first: 0)], p, into: y, bias: UnsafePointer(bias.base),
          moments: true,
          workers))
    }
    let found = try moments(workers), values = y.array.map(Double.init)
    for c in 0..<form.outputs {
      let places = stride(from: c, to: values.count, by: form.outputs)
      let size = places.reduce(0) { $0 + values[$1].magnitude }, sum = places.reduce(0) { $0 + values[$1] }
      let squares = places.reduce(0) { $0 + values[$1] * values[$1] }
      #expect(abs(found.sums[c] - sum) <= 1e-6 * size, "channel \(c): Σ \(found.sums[c]), expected \(sum)")
      #expect(
        abs(found.squares[c] - squares) <= 2e-6 * squares,
        "channel \(c): Σ² \(found.squares[c]), expected \(squares)")
    }
    // Sums must not depend on who did which block.
    for count in [1, 3] {
      let workers = Workers(count)
      workers.deal = { $1 - 1 - $0 }
      let again = try moments(workers)
      #expect(again.sums == found.sums && again.squares == found.squares, "\(count) workers")
    }
  }

  /// Frozen parameters keep the transform of their weights; kept or made anew, the numbers are the same. Behind
  /// dropout, kept channels' transforms are picked where tiles are many, and zeros multiplied along where they are few.
  @Test(arguments: [(Size(9, 8, 11), 18), (Size(22, 24, 24), 216)])
  func frozenParametersGiveTheSameBits(size: Size, tiles: Int) {
    var layout = ParameterLayout()
    let form = Form(size, 5, 70), layer = form.layer(inputs: 10, bias: false, in: &layout)
    #expect(WinogradConvolution.Blocks(size, most: 1).tiles.voxels == tiles)
    let p = ParameterVector(normal: layout, 1), frozen = p.frozen, bias = form.bias(2)
    // Other channels of the same layer, and with dropout, are other transforms.
    for (first, look) in [
      (0, Look.activated), (5, .activated), (0, .activatedMasked), (5, .masked), (0, .activated),
    ] {
      let source = Input(form.size, 5, look, 3).source, y = Volume(zeros: Shape(form.size, form.outputs)),
        z = Volume(zeros: y.shape)
      let workers = Workers.poisoned(2)
      for (p, y) in [(p, y), (frozen, z)] {
        Kernel.winograd.forward(
          layer, source, first: first, p, into: y, bias: UnsafePointer(bias.memory.base), workers)
      }
      #expect(firstDifference(y.array, z.array) == nil, "channels from \(first), \(look)")
    }
  }
}
