import Foundation
import Testing

@testable import Compute
@testable import Files
@testable import Imaging
@testable import TestSupport

@Suite struct DataNIfTITests {
  let scratch = Scratch()

  static let types: [(code: Int, bits: Int, low: Double, high: Double)] = [
    (2, 8, 0, 255), (256, 8, -128, 127), (4, 16, -32768, 32767), (512, 16, 0, 65535),
    (8, 32, -16_777_216, 16_777_215), (768, 32, 0, 16_777_215), (1024, 64, -16_777_216, 16_777_215),
    (1280, 64, 0, 16_777_215), (16, 32, -0.5, 1e20), (64, 64, -0.25, 3.5),
  ]

  @Test(arguments: 0..<10, [false, true])
  func readsEveryDatatypeInBothByteOrdersPlainAndCompressed(type: Int, big: Bool) throws {
    let (code, bits, low, high) = DataNIfTITests.types[type]
    var raw = RawNIfTI(code: code, bits: bits, big: big)
    let values = [0, 1, low, high, 2, 3, 4, 5, 6, 7, 8, 100]
    raw.voxels = raw.encoded(values)
    let plain = try scratch.put("\(code)\(big).nii", raw.bytes), packed = scratch.file("\(code)\(big).nii.gz")
    gzip(raw.bytes, to: packed)
    for path in [plain, packed] {
      let image = try NIfTIImage.read(path)
      #expect(image.voxels == values.map { Float($0) })
      #expect(image.size == Size(2, 2, 3))
      #expect(image.header.isBigEndian == big)
      #expect(image.header.orientation == .brats)
    }
  }

  @Test func appliesSlopeAndIntercept() throws {
    var raw = RawNIfTI(slope: 0.5, intercept: -3)
    raw.voxels = raw.encoded((0..<12).map(Double.init))
    let path = try scratch.put("a.nii", raw.bytes)
    #expect(try NIfTIImage.read(path).voxels == (0..<12).map { Float($0) * 0.5 - 3 })
    raw.slope = 0
    let none = try scratch.put("b.nii", raw.bytes)
    #expect(try NIfTIImage.read(none).voxels == (0..<12).map { Float($0) })
  }

  /// A float is too short for some: 25 times the float next to 0.1 is above 2.5, its own float is not.
  @Test func doublesAreNotRounded() throws {
    var raw = RawNIfTI(slope: 0.1, intercept: 0)
    raw.voxels = raw.encoded((20..<32).map(Double.init))
    let path = try scratch.put("a.nii", raw.bytes)
    let (header, values) = try NIfTIImage.doubles(path)
    #expect(values == (20..<32).map { Double($0) * Double(Float(0.1)) } && header.size == Size(2, 2, 3))
    #expect(values[5] > 2.5)
    #expect(try NIfTIImage.read(path).voxels[5] == 2.5)
    var deep = RawNIfTI(code: 64, bits: 64)
    deep.voxels = deep.encoded([Double](repeating: 100.0.nextUp, count: 12))
    #expect(
      try NIfTIImage.doubles(scratch.put("b.nii", deep.bytes)).values
        == [Double](repeating: 100.0.nextUp, count: 12))
  }

  /// All 48 ways in which a box's axes can lie: each voxel's value says where it is in space.
  @Test func bringsAllOrientationsToBraTSAndBack() throws {
    let sides = [2, 3, 4]  // left to right, back to front, up
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
      for signs in 0..<8 {
        // File axis j runs along world axis order[j], backwards where its bit is set.
        var raw = RawNIfTI()
        raw.dimensions = order.map { sides[$0] }
        raw.affine = [Float](repeating: 0, count: 12)
        for j in 0..<3 {
          let back = signs >> j & 1 == 1
          raw.affine[order[j] * 4 + j] = back ? -1 : 1
          raw.affine[order[j] * 4 + 3] = back ? Float(sides[order[j]] - 1) : 0
        }
        var values: [Double] = []
        for k in 0..<raw.dimensions[2] {
          for j in 0..<raw.dimensions[1] {
            for i in 0..<raw.dimensions[0] {
              var world = [0, 0, 0]
              for (axis, index) in [i, j, k].enumerated() {
                let back = signs >> axis & 1 == 1
                world[order[axis]] = back ? sides[order[axis]] - 1 - index : index
              }
              values.append(Double(world[0] * 100 + world[1] * 10 + world[2]))
            }
          }
        }
        raw.voxels = raw.encoded(values)
        let path = try scratch.put("o.nii", raw.bytes)
        let image = try NIfTIImage.read(path)
        #expect(image.size == Size(4, 3, 2))
        var expected: [Float] = []
        for z in 0..<4 {
          for y in 0..<3 {
            for x in 0..<2 { expected.append(Float((1 - x) * 100 + (2 - y) * 10 + z)) }
          }
        }
        #expect(image.voxels == expected, "order \(order), signs \(signs)")
        #expect(image.header.grid.affine == [-1, 0, 0, 1, 0, -1, 0, 2, 0, 0, 1, 0, 0, 0, 0, 1])
        // Back on the file's own grid every voxel has its own value again.
        let box = try #require(VoxelBox([UInt8](repeating: 1, count: 24), image.size))
        let placement = Placement(image.header, box, Size(16, 16, 16))
        #expect(
          placement.restore(placement.crop(image.voxels, fill: -1), fill: -2) == values.map { Float($0) })
      }
    }
  }

  @Test func takesTheQformWhereThereIsNoSform() throws {
    // Half a turn about z: x to the left, y to the back, as BraTS's.
    var raw = RawNIfTI(qformCode: 1, sformCode: 0, quaternion: [0, 0, 1], spacing: [1, 2, 3])
    raw.voxels = raw.encoded((0..<12).map(Double.init))
    let header = try NIfTIHeader.read(try scratch.put("q.nii", raw.bytes))
    #expect(header.orientation == .brats)
    #expect(header.spacing.map { ($0 * 1000).rounded() } == [1000, 2000, 3000])
    // An sform of zeros is none, whatever its code.
    raw.sformCode = 2
    raw.affine = [Float](repeating: 0, count: 12)
    let zeros = try NIfTIHeader.read(try scratch.put("z.nii", raw.bytes))
    #expect(zeros.affine == header.affine && zeros.forms == FormCodes(qform: 1, sform: 2))
    // Neither: the spacing alone, x to the right.
    raw.sformCode = 0
    raw.qformCode = 0
    let none = try NIfTIHeader.read(try scratch.put("n.nii", raw.bytes))
    #expect(none.orientation.flipped == [true, true, false] && !none.hasOrientation && header.hasOrientation)
    #expect(none.spacing == [1, 2, 3])
  }

  @Test func refusesObliqueGridsButNotRoundingNoise() throws {
    var raw = RawNIfTI()
    raw.voxels = raw.encoded((0..<12).map(Double.init))
    raw.affine[1] = 0.0005
    #expect(try NIfTIHeader.read(try scratch.put("n.nii", raw.bytes)).orientation == .brats)
    raw.affine[1] = 0.1
    let path = try scratch.put("o.nii", raw.bytes)
    #expect(
      fault { _ = try NIfTIImage.read(path) }
        == Fault(
          .invalid, "\(path): an oblique grid (its affine is no axis-aligned one); resample it first"))
  }

  @Test func missingAndEmptyFilesAreNamed() throws {
    let none = scratch.file("none.nii.gz"), empty = try scratch.put("empty.nii", [])
    #expect(fault { _ = try NIfTIImage.read(none) } == Fault(.missing, "\(none): no such file or folder"))
    #expect(fault { _ = try NIfTIImage.read(empty) } == Fault(.missing, "\(empty): the file is empty"))
  }

  @Test func truncatedGzipNamesTheFile() throws {
    var raw = RawNIfTI(dimensions: [40, 40, 40], code: 2, bits: 8)
    var random = Philox(seed: 1, .test)
    raw.voxels = (0..<64000).map { _ in UInt8(truncatingIfNeeded: random.next()) }
    let whole = scratch.file("whole.nii.gz")
    gzip(raw.bytes, to: whole)
    let bytes = Array(try #require(FileManager.default.contents(atPath: whole)))
    for cut in [bytes.count / 2, bytes.count - 3, bytes.count - 9] {
      let path = try scratch.put("cut.nii.gz", Array(bytes[..<cut]))
      let found = fault { _ = try NIfTIImage.read(path) }
      #expect(found?.kind == .invalid)
      #expect(
        found?.description.hasPrefix("\(path): truncated: ") == true, "\(cut): \(String(describing: found))")
    }
    var wrong = bytes
    wrong[bytes.count - 6] ^= 1
    let path = try scratch.put("crc.nii.gz", wrong)
    #expect(
      fault { _ = try NIfTIImage.read(path) }
        == Fault(
          .invalid, "\(path): damaged: its gzip data or checksum is wrong; copy or download it again"))
    wrong = bytes
    for i in 0..<50 { wrong[bytes.count / 2 + i] ^= 0x5a }
    let middle = try scratch.put("middle.nii.gz", wrong)
    #expect(fault { _ = try NIfTIImage.read(middle) }?.kind == .invalid)
  }

  @Test func shortAndLongPlainFilesAreRefused() throws {
    var raw = RawNIfTI()
    raw.voxels = raw.encoded((0..<11).map(Double.init))
    let short = try scratch.put("s.nii", raw.bytes)
    #expect(
      fault { _ = try NIfTIImage.read(short) }
        == Fault(.invalid, "\(short): truncated: 374 bytes can't hold the 3×2×2 voxels of its header"))
    raw.voxels = raw.encoded((0..<13).map(Double.init))
    let long = try scratch.put("l.nii", raw.bytes)
    #expect(
      fault { _ = try NIfTIImage.read(long) }
        == Fault(.invalid, "\(long): holds more bytes than the voxels its header speaks of"))
  }

  /// Of files that are filled up with zeros, as nibabel reads them too.
  @Test func paddingOfZerosIsReadOver() throws {
    var raw = RawNIfTI()
    raw.voxels = raw.encoded((0..<12).map(Double.init))
    let packed = scratch.file("p.nii.gz")
    for padding in [1, 10_000, 200_000] {
      let zeros = [UInt8](repeating: 0, count: padding), expected = (0..<12).map { Float($0) }
      #expect(try NIfTIImage.read(try scratch.put("v.nii", raw.bytes + zeros)).voxels == expected)
      gzip(raw.bytes + zeros, to: packed)
      #expect(try NIfTIImage.read(packed).voxels == expected)
      gzip(raw.bytes, to: packed)
      let whole = Array(try #require(FileManager.default.contents(atPath: packed)))
      let path = try scratch.put("s.nii.gz", whole + zeros)
      #expect(try NIfTIImage.read(path).voxels == expected)
      #expect(
        fault { _ = try NIfTIImage.read(try scratch.put("s.nii.gz", whole + zeros + [1])) }
          == Fault(.invalid, "\(path): truncated: its gzip data ends too early; copy or download it again"))
    }
  }

  /// Voxels are decoded in pieces: this is more than one, in an order of axes of its own.
  @Test func piecesAreOneVolume() throws {
    var raw = RawNIfTI(dimensions: [120, 70, 90])
    raw.affine = [0, 0, -1, 89, 1, 0, 0, 0, 0, 1, 0, 0]
    raw.voxels = raw.encoded((0..<756_000).map { Double($0 % 30_011) })
    let image = try NIfTIImage.read(bytes: raw.bytes, name: "memory")
    #expect(image.size == Size(70, 120, 90) && image.header.path == "memory")
    for (x, y, z) in [(0, 0, 0), (1, 2, 3), (89, 119, 69), (44, 100, 30)] {
      let stored = (x * 70 + z) * 120 + (119 - y)
      #expect(image.voxels[(z * 120 + y) * 90 + x] == Float(stored % 30_011))
    }
    let packed = scratch.file("p.nii.gz")
    gzip(raw.bytes, to: packed)
    #expect(try NIfTIImage.read(packed).voxels == image.voxels)
    let bytes = Array(try #require(FileManager.default.contents(atPath: packed)))
    #expect(try NIfTIImage.read(bytes: bytes, name: "memory").voxels == image.voxels)
    #expect(
      fault { _ = try NIfTIImage.read(bytes: [], name: "memory") }
        == Fault(.missing, "memory: the file is empty"))
  }

  /// No header makes the program take memory that its file can't fill, or end without a word.
  @Test func forgedHeadersAreFaults() throws {
    var random = Philox(seed: 5, .test), raw = RawNIfTI()
    raw.voxels = raw.encoded((0..<12).map(Double.init))
    let good = raw.bytes
    for at in [40, 42, 44, 46, 48, 70, 76, 80, 84, 108, 112, 116, 252, 254, 256, 280, 292] {
      for word: UInt32 in [
        0, 1, 0x7fff, 0x8000, 0xffff, 0x7fff_7fff, 0x7fc0_0000, 0xff80_0000, 0x4f00_0000, 0x4eff_ffff,
      ] {
        var bytes = good
        for i in 0..<4 { bytes[at + i] = UInt8(truncatingIfNeeded: word >> (8 * i)) }
        do { _ = try NIfTIImage.read(bytes: bytes, name: "forged") } catch { #expect(error is Fault) }
      }
    }
    for _ in 0..<2000 {
      var bytes = good
      for _ in 0..<3 { bytes[Int(random.next() % 352)] = UInt8(truncatingIfNeeded: random.next()) }
      do { _ = try NIfTIImage.read(bytes: bytes, name: "forged") } catch { #expect(error is Fault) }
    }
  }

  @Test func headersThatCannotBeAreRefused() throws {
    func message(_ change: (inout RawNIfTI) -> Void) throws -> String {
      var raw = RawNIfTI()
      raw.voxels = raw.encoded((0..<12).map(Double.init))
      change(&raw)
      let path = try scratch.put("h.nii", raw.bytes), found = fault { _ = try NIfTIImage.read(path) }
      #expect(found?.kind == .invalid)
      return (found?.description ?? "").replacingOccurrences(of: "\(path): ", with: "")
    }
    #expect(
      try message { $0.magic = [1, 2, 3, 4] } == "not a NIfTI file: its header has the wrong magic number")
    #expect(
      try message { $0.headerSize = 540 }
        == "a NIfTI-2 file; only NIfTI-1 is read, convert it (e.g. nifti_tool, nibabel)")
    #expect(
      try message { $0.magic = Array("ni1\0".utf8) }
        == "the header of a .hdr/.img pair; only single .nii files are read, convert it")
    #expect(
      try message { $0.dimensions = [32767, 32767, 32767] }
        == "its header says 32767×32767×32767 voxels, more than can be meant")
    #expect(try message { $0.dimensions = [3, -2, 2] } == "its header says 3×-2×2 voxels")
    #expect(
      try message { $0.dimensions = [3, 2, 1, 2] }
        == "holds 2 volumes; a sequence is one volume, write each to a file")
    #expect(try message { $0.code = 128 } == "its voxels are colours; integers and floats are read")
    #expect(try message { $0.code = 32 } == "its voxels are complex numbers; integers and floats are read")
    #expect(
      try message { $0.affine = [Float](repeating: 0, count: 12) }
        == "its affine is singular: axis 0 has no length")
    for number in [Float.nan, .infinity, 1e30] {
      #expect(
        try message { $0.affine[3] = number }
          == "its affine holds what is no distance: a number beyond all bounds, or none")
    }
    let junk = try scratch.put("j.nii", [1, 2, 3])
    #expect(
      fault { _ = try NIfTIImage.read(junk) }?.description
        == "\(junk): not a NIfTI file: it ends after 3 of the 348 bytes of a header")
  }

  @Test func voxelsThatAreNoNumbersAreCountedAndPlaced() throws {
    var raw = RawNIfTI(code: 16, bits: 32)
    var values = (0..<12).map(Double.init)
    values[7] = .nan
    values[9] = -.infinity
    raw.voxels = raw.encoded(values)
    let path = try scratch.put("n.nii", raw.bytes)
    #expect(
      fault { _ = try NIfTIImage.read(path) }
        == Fault(
          .invalid, "\(path): voxels that are no finite numbers (NaN, infinite): 2, the first at (1, 0, 1)"))
  }

  @Test(arguments: ["a.nii", "a.nii.gz"])
  func whatIsWrittenIsReadBack(name: String) throws {
    let path = scratch.file(name)
    let affine: [Double] = [0, 2, 0, -5, -1, 0, 0, 7, 0, 0, 3, 1, 0, 0, 0, 1]
    let floats: [Float] = (0..<24).map { Float($0) * 0.37 - 2 }
    try NIfTIImage.write(floats, dimensions: [2, 3, 4], affine: affine, to: path)
    let image = try NIfTIImage.read(path)
    #expect(image.header.affine == affine)
    #expect(image.header.dimensions == [2, 3, 4])
    #expect(image.header.spacing == [1, 2, 3])
    #expect(image.size == Size(4, 2, 3))
    #expect(image.voxels.sorted() == floats.sorted())
    try NIfTIImage.write([Int16](-12..<12), dimensions: [2, 3, 4], affine: affine, to: path)
    #expect(try NIfTIImage.read(path).voxels.min() == -12)
    #expect(try FileManager.default.contentsOfDirectory(atPath: scratch.path).count == 1)
  }

  @Test func severalGzipFilesInARowAreOne() throws {
    var raw = RawNIfTI()
    raw.voxels = raw.encoded((0..<12).map(Double.init))
    let bytes = raw.bytes, a = scratch.file("a.gz"), b = scratch.file("b.gz")
    gzip(Array(bytes[..<360]), to: a)
    gzip(Array(bytes[360...]), to: b)
    let both = [a, b].flatMap { FileManager.default.contents(atPath: $0).map(Array.init) ?? [] }
    #expect(
      try NIfTIImage.read(try scratch.put("ab.nii.gz", both)).voxels == (0..<12).map { Float($0) })
  }

  @Test func whatCannotBeWrittenIsSaid() throws {
    let file = try scratch.put("file"), path = "\(file)/a.nii.gz"
    let found = fault {
      try NIfTIImage.write([UInt8(1)], dimensions: [1, 1, 1], affine: SmallCase.brats, to: path)
    }
    #expect(
      found
        == Fault(
          .storage,
          "cannot make the folder \(file): File exists; move away what is there, or give another place"))
    let below = fault {
      try NIfTIImage.write([UInt8(1)], dimensions: [1, 1, 1], affine: SmallCase.brats, to: "\(file)/b/a.nii")
    }
    #expect(
      below
        == Fault(
          .storage,
          "cannot make the folder \(file)/b: Not a directory; move away what is there, or give another place")
    )
    let deep = scratch.file("p/q/r/a.nii")
    try NIfTIImage.write([UInt8(1)], dimensions: [1, 1, 1], affine: SmallCase.brats, to: deep)
    #expect(FileManager.default.fileExists(atPath: deep))
  }
}
