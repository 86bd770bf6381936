import Foundation
import Testing

@testable import Compute
@testable import Files
@testable import Imaging
@testable import TestSupport

@Suite struct DataPhantomTests {
  /// The same bits on every machine: a change of this hash is a change of everybody's demo.
  @Test func aCaseHasKnownBits() {
    let (images, classes) = PhantomCase(index: 3, shape: Size(24, 32, 28), seed: 7).draw()
    let all = images.flatMap { $0 } + classes.map { Int16($0) }
    #expect(ContentHash.of(all) == "4b7f567509e44f0a5b2d95815d7f6cf3")
  }

  @Test func aCaseDependsOnSeedAndNumberAlone() {
    func hash(_ index: Int, _ seed: UInt64) -> String {
      ContentHash.of(PhantomCase(index: index, shape: Size(24, 24, 24), seed: seed).draw().images[0])
    }
    #expect(hash(1, 5) == hash(1, 5))
    #expect(hash(1, 5) != hash(2, 5))
    #expect(hash(1, 5) != hash(1, 6))
  }

  @Test func gradesAreSpreadEvenly() {
    #expect((0..<100).count { Phantom.isLowGrade($0) } == 23)
    #expect((0..<40).count { Phantom.isLowGrade($0) } == 9)
    #expect((0..<8).contains { Phantom.isLowGrade($0) })
  }

  @Test func theRimIsPlainInT1ceAndHardWithoutIt() {
    var contrast = [[Double]](repeating: [], count: 4)
    for index in 0..<12 where !Phantom.isLowGrade(index) {
      let (images, classes) = PhantomCase(index: index, shape: Size(40, 40, 40), seed: 1).draw()
      for (c, image) in images.enumerated() {
        func mean(_ label: UInt8) -> Double {
          let chosen = classes.indices.filter { classes[$0] == label }
          return chosen.reduce(0.0) { $0 + Double(image[$1]) } / Double(chosen.count)
        }
        contrast[c].append(mean(3) / mean(1) - 1)
      }
    }
    let means = contrast.map { $0.reduce(0, +) / Double($0.count) }
    #expect(means[1] > 0.4)
    for c in [0, 2, 3] { #expect(abs(means[c]) < 0.2, "sequence \(c): \(means[c])") }
  }

  @Test func aRimMayBeMadeEasierAndRarer() {
    func share(_ rim: Phantom.Rim) -> (difference: Double, rim: Double) {
      var difference = 0.0, voxels = 0
      for index in 0..<8 where !Phantom.isLowGrade(index) {
        let (images, classes) = PhantomCase(index: index, shape: Size(40, 40, 40), seed: 1, rim: rim).draw()
        func mean(_ label: UInt8) -> Double {
          let chosen = classes.indices.filter { classes[$0] == label }
          return chosen.reduce(0.0) { $0 + Double(images[0][$1]) } / Double(chosen.count)
        }
        difference += mean(3) / mean(1) - 1
        voxels += classes.count { $0 == 3 }
      }
      return (difference, Double(voxels))
    }
    let plain = share(.init()), easy = share(.init(contrast: 4)), rare = share(.init(gaps: 0.3))
    #expect(easy.difference > plain.difference + 0.3)
    #expect(easy.rim == plain.rim)
    #expect(rare.rim < 0.75 * plain.rim)
    // Nothing changes what T1ce shows.
    func t1ce(_ rim: Phantom.Rim) -> [Int16] {
      PhantomCase(index: 1, shape: Size(40, 40, 40), seed: 1, rim: rim).draw().images[1]
    }
    #expect(t1ce(.init(contrast: 0)) == t1ce(.init(contrast: 3)))
  }

  @Test func headsFitAndTumoursAreLargeEnough() {
    for index in 0..<12 {
      let shape = Size(36, 40, 44),
        (images, classes) = PhantomCase(index: index, shape: shape, seed: 2).draw()
      let brain = images[2].map { UInt8($0 > 0 ? 1 : 0) }
      let box = VoxelBox(brain, shape)
      #expect((box?.origin.z ?? 0) >= 1 && (box?.origin.y ?? 0) >= 1 && (box?.origin.x ?? 0) >= 1)
      let voxels = brain.count { $0 == 1 }, tumour = classes.count { $0 != 0 }
      #expect(voxels > shape.voxels / 8, "\(index): \(voxels)")
      #expect(tumour > voxels / 60, "\(index): \(tumour) of \(voxels)")
      for i in brain.indices where brain[i] == 0 {
        #expect(images.allSatisfy { $0[i] == 0 } && classes[i] == 0)
        if images[0][i] != 0 { break }
      }
    }
  }

  @Test(arguments: Phantom.Layout.allCases)
  func isFoundAndReadAsADataSet(layout: Phantom.Layout) throws {
    let scratch = Scratch()
    try Phantom.write(to: scratch.path, cases: 5, shape: Size(20, 24, 22), seed: 3, layout: layout)
    let data = try Dataset.find(scratch.path, needsTruth: true)
    #expect(data.cases.count == 5)
    #expect(data.layout.rawValue == layout.rawValue)
    #expect(data.cases.contains { $0.grade == .lgg } == (layout == .brats2019))
    let surveys = try DatasetSurvey(data.cases.map { try Preparation().survey($0) })
    #expect(surveys.commonSize.y % 16 == 0)
    #expect(surveys.classWeights(surveys.cases.map(\.id)).allSatisfy { $0 >= 1 })
    let header = try NIfTIHeader.read(try #require(data.cases[0].files[.flair]))
    #expect(header.affine == [-1, 0, 0, 0, 0, -1, 0, 23, 0, 0, 1, 0, 0, 0, 0, 1])
    #expect(header.dimensions == [22, 24, 20])
    #expect(header.datatype == .int16)
  }

  @Test func shapesThatCannotBeAreRefused() {
    let scratch = Scratch()
    #expect(
      fault {
        try Phantom.write(to: scratch.path, cases: 1, shape: Size(8, 48, 48), seed: 1, layout: .brats2019)
      } == Fault(.usage, "a phantom of 48×48×8 voxels; each side must be 16 to 1024"))
  }
}
