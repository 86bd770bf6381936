import Foundation
import Testing

@testable import Compute
@testable import Files
@testable import Imaging

@Suite struct DataAugmentationTests {
  static func random(_ size: Size, _ channels: Int) -> (Volume, LabelVolume, [UInt8]) {
    var random = Philox(seed: 1, .test)
    let images = Volume(zeros: Shape(size, channels))
    for i in 0..<images.shape.count { images.base[i] = random.uniform() }
    let labels = LabelVolume(size, (0..<size.voxels).map { _ in UInt8(random.below(4)) })
    return (images, labels, [UInt8](repeating: 1, count: size.voxels))
  }

  @Test(arguments: [1, 3, 4])
  func noFlipAndNoMapChangeNothing(channels: Int) {
    let (images, labels, mask) = Self.random(Size(5, 6, 7), channels)
    var random = Philox(seed: 1, .augmentation)
    let out = Augmentation(flip: 0, affine: 0).apply(
      images: images, labels: labels, mask: mask, random: &random, Workers(2))
    #expect(out.images.array == images.array)
    #expect(out.labels == labels)
  }

  @Test(arguments: [3, 4])
  func aFlipMirrorsX(channels: Int) {
    let size = Size(3, 4, 6), (images, labels, all) = Self.random(size, channels)
    var mask = all
    mask[8] = 0
    var random = Philox(seed: 1, .augmentation)
    let out = Augmentation(flip: 1, affine: 0).apply(
      images: images, labels: labels, mask: mask, random: &random, Workers(2))
    for row in 0..<12 {
      for x in 0..<6 {
        let from = row * 6 + 5 - x
        #expect(out.labels.classes[row * 6 + x] == labels.classes[from])
        for c in 0..<channels {
          #expect(
            out.images.base[(row * 6 + x) * channels + c]
              == (from == 8 ? 0 : images.base[from * channels + c]))
        }
      }
    }
  }

  /// A linear ramp stays one under any map: trilinear interpolation has it exactly, so the map can be read off.
  @Test func aMapMovesARampAsItsMatrixSays() {
    let size = Size(14, 16, 18), images = Volume(zeros: Shape(size, 4))
    let centre = (Float(6.5), Float(7.5), Float(8.5))
    for z in 0..<14 {
      for y in 0..<16 {
        for x in 0..<18 {
          let at = images.base + ((z * 16 + y) * 18 + x) * 4
          at[0] = Float(z) - centre.0
          at[1] = Float(y) - centre.1
          at[2] = Float(x) - centre.2
          at[3] = 1
        }
      }
    }
    var map = AffineMap(size)
    map.turn([0.06, -0.05, 0.04], shears: [0.03, -0.02, 0.01], scales: [1.03, 0.98, 1.01])
    let labels = LabelVolume(size, [UInt8](repeating: 0, count: size.voxels))
    let out = map.apply(images, labels, [UInt8](repeating: 1, count: size.voxels), Workers(2)).images
    let m = map.matrix
    for z in 3..<11 {
      for y in 3..<13 {
        for x in 3..<15 {
          let p = [Double(z) - 6.5, Double(y) - 7.5, Double(x) - 8.5]
          for c in 0..<3 {
            let expected = m[c][0] * p[0] + m[c][1] * p[1] + m[c][2] * p[2]
            // Coordinates up to 18 in single precision.
            #expect(abs(Double(out.base[((z * 16 + y) * 18 + x) * 4 + c]) - expected) < 2e-5)
          }
        }
      }
    }
  }

  @Test func aQuarterTurnAboutZMovesAVoxelRound() {
    let size = Size(3, 5, 5), images = Volume(zeros: Shape(size, 1))
    images.base[(1 * 5 + 2) * 5 + 4] = 1  // on the x axis
    var map = AffineMap(size)
    map.turn([.pi / 2, 0, 0], shears: [0, 0, 0], scales: [1, 1, 1])
    let labels = LabelVolume(size, images.array.map { UInt8($0) })
    let out = map.apply(images, labels, [UInt8](repeating: 1, count: 75), Workers(2))
    let found = out.labels.classes.firstIndex(of: 1)
    #expect(found == (1 * 5 + 4) * 5 + 2 || found == (1 * 5 + 0) * 5 + 2)
    #expect(found.map { abs(out.images.base[$0] - 1) < 1e-5 } == true)
  }

  @Test func dependsOnItsNumbersAlone() {
    let (images, labels, mask) = Self.random(Size(8, 8, 8), 4)
    func hash(_ epoch: Int) -> String {
      var random = Philox(seed: 1, .augmentation, epoch)
      let out = Augmentation(affine: 1).apply(
        images: images, labels: labels, mask: mask, random: &random, Workers(2))
      return ContentHash.of(out.images.array)
    }
    #expect(hash(1) == hash(1))
    #expect(hash(1) != hash(2))
  }

  @Test func sinesAreThoseOfTheLibrary() {
    for i in -400...400 {
      let x = Double(i) * 0.37, (sine, cosine) = Portable.sineAndCosine(x)
      #expect(abs(sine - sin(x)) < 1e-13 && abs(cosine - cos(x)) < 1e-13, "\(x)")
    }
  }
}
