import CNIfTI
import Compute
import Files
import Foundation

/// How a file's axes lie against BraTS's, whose x runs to the patient's left, y to the back, z up.
package struct Orientation: Codable, Hashable, Sendable {
  /// For each of BraTS's axes x, y, z: the file's axis (0 is its fastest) that lies along it.
  package let axes: [Int]
  /// For each of BraTS's axes x, y, z: whether the file's axis runs the other way.
  package let flipped: [Bool]

  /// A file stored as BraTS stores its own.
  package static let brats = Orientation(axes: [0, 1, 2], flipped: [false, false, false])

  /// Where a BraTS grid's first voxel lies among the file's voxels, and how far apart neighbours along x, y and
  /// z are; `dimensions` are the file's, fastest first.
  func steps(_ dimensions: [Int]) -> (first: Int, x: Int, y: Int, z: Int) {
    let strides = [1, dimensions[0], dimensions[0] * dimensions[1]]
    var first = 0
    let steps = (0..<3).map { axis in
      let stride = strides[axes[axis]]
      if flipped[axis] { first += (dimensions[axes[axis]] - 1) * stride }
      return flipped[axis] ? -stride : stride
    }
    return (first, steps[0], steps[1], steps[2])
  }

  /// Where a file's first voxel lies on the BraTS grid, and how far apart there neighbours along the file's own axes
  /// are; `dimensions` are the file's, fastest first.
  func places(_ dimensions: [Int]) -> (first: Int, steps: [Int]) {
    let size = size(dimensions), strides = [1, size.x, size.x * size.y]
    var first = 0, steps = [0, 0, 0]
    for axis in 0..<3 {
      steps[axes[axis]] = flipped[axis] ? -strides[axis] : strides[axis]
      if flipped[axis] { first += (dimensions[axes[axis]] - 1) * strides[axis] }
    }
    return (first, steps)
  }

  /// The size of the BraTS grid of a file of `dimensions`, fastest first.
  func size(_ dimensions: [Int]) -> Size {
    Size(dimensions[axes[2]], dimensions[axes[1]], dimensions[axes[0]])
  }
}

/// What the header of a NIfTI-1 file (.nii or .nii.gz) says.
///
/// Source: the standard's nifti1.h.
package struct NIfTIHeader: Equatable, Sendable {
  /// The types of voxel that are read; the raw values are NIfTI's codes.
  package enum Datatype: Int, Sendable {
    case uint8 = 2
    case int16 = 4
    case int32 = 8
    case float32 = 16
    case float64 = 64
    case int8 = 256
    case uint16 = 512
    case uint32 = 768
    case int64 = 1024
    case uint64 = 1280

    var bytes: Int {
      switch self {
      case .uint8, .int8: 1
      case .int16, .uint16: 2
      case .int32, .uint32, .float32: 4
      case .int64, .uint64, .float64: 8
      }
    }
  }

  package let path: String
  /// The file's own extents, fastest axis first.
  package let dimensions: [Int]
  /// Distances of neighbours along the file's own axes, mm, fastest axis first.
  package let spacing: [Double]
  /// From the file's voxel indices (i, j, k, 1) to mm to the right, to the front, up: 4×4, row-major.
  package let affine: [Double]
  package let orientation: Orientation
  /// As they were read.
  package let forms: FormCodes
  package let datatype: Datatype
  /// value = slope · stored + intercept.
  package let slope, intercept: Double
  package let isBigEndian: Bool
  /// The value that viewers are to show brightest; 0 where the file leaves it open.
  package let displayMaximum: Double
  let voxelOffset: Int

  /// The extents once brought to BraTS's orientation.
  package var size: Size { orientation.size(dimensions) }
  package var voxels: Int { dimensions[0] * dimensions[1] * dimensions[2] }

  /// `240×240×155`: the file's own extents, fastest first.
  package var extents: String { dimensions.map(String.init).joined(separator: "×") }

  /// Whether the header says how the file's axes lie; else they are taken to run right, front, up.
  package var hasOrientation: Bool { forms.hasOrientation }

  /// Where the voxels lie, whatever the order they are stored in.
  package var grid: Grid {
    Grid(dimensions: dimensions, affine: affine, orientation, hasOrientation: hasOrientation)
  }

  /// Distances of neighbours along z, y, x of the grid brought to BraTS's orientation, mm.
  package var bratsSpacing: [Double] { [2, 1, 0].map { spacing[orientation.axes[$0]] } }

  /// Reads the header alone.
  ///
  /// Throws `.missing` where there is no such file or it is empty, `.invalid` where it isn't a NIfTI-1 file with
  /// one volume of a known datatype on an axis-aligned grid, `.storage` where it can't be read.
  package static func read(_ path: String) throws -> NIfTIHeader {
    try NIfTIHeader(NIfTIStream(path))
  }

  /// The most voxels a file may have: far beyond any head, small enough for any index.
  static let limit = 1 << 31

  init(_ stream: NIfTIStream) throws {
    let path = stream.path
    var bytes = [UInt8](repeating: 0, count: 348)
    let got = try stream.read(into: &bytes)
    guard got == 348 else {
      throw Fault(.invalid, "\(path): not a NIfTI file: it ends after \(got) of the 348 bytes of a header")
    }
    /// Bytes of the header as a number, the first the highest or the lowest.
    func number<Word: FixedWidthInteger>(_ at: Int, _ big: Bool) -> Word {
      let word = bytes[at..<at + Word.bitWidth / 8].reduce(Word.zero) { $0 << 8 | Word($1) }
      return big ? word : word.byteSwapped
    }
    func word(_ at: Int, _ big: Bool) -> UInt32 { number(at, big) }
    let size = [word(0, false), word(0, true)]
    if size.contains(540) {
      throw Fault(
        .invalid, "\(path): a NIfTI-2 file; only NIfTI-1 is read, convert it (e.g. nifti_tool, nibabel)")
    }
    let magic = Array(bytes[344..<348])
    guard size.contains(348), magic == Array("n+1\0".utf8) || magic == Array("ni1\0".utf8) else {
      throw Fault(.invalid, "\(path): not a NIfTI file: its header has the wrong magic number")
    }
    guard magic == Array("n+1\0".utf8) else {
      throw Fault(
        .invalid, "\(path): the header of a .hdr/.img pair; only single .nii files are read, convert it")
    }
    let big = size[1] == 348
    func short(_ at: Int) -> Int { Int(Int16(bitPattern: number(at, big))) }
    func float(_ at: Int) -> Double { Double(Float(bitPattern: word(at, big))) }

    let count = short(40)
    guard (1...7).contains(count) else {
      throw Fault(.invalid, "\(path): its header says \(count) dimensions; 3 are expected")
    }
    let all = (1...7).map { $0 <= count ? short(40 + 2 * $0) : 1 }
    guard all.allSatisfy({ $0 > 0 }) else {
      throw Fault(
        .invalid, "\(path): its header says \(all[0..<count].map(String.init).joined(separator: "×")) voxels")
    }
    let volumes = all[3...].reduce(1) { $0.multipliedReportingOverflow(by: $1).partialValue }
    guard volumes == 1 else {
      throw Fault(
        .invalid, "\(path): holds \(volumes) volumes; a sequence is one volume, write each to a file")
    }
    // Three factors below 2^15 can't overflow 64 bits.
    let voxels = all[0] * all[1] * all[2]
    guard voxels <= NIfTIHeader.limit else {
      throw Fault(
        .invalid, "\(path): its header says \(all[0])×\(all[1])×\(all[2]) voxels, more than can be meant")
    }
    let code = short(70)
    guard let datatype = Datatype(rawValue: code) else {
      throw Fault(
        .invalid,
        "\(path): its voxels are \(NIfTIHeader.name(ofDatatype: code)); integers and floats are read")
    }
    let offset = float(108)
    guard offset == 0 || (offset >= 348 && offset <= 0x1p31 && offset == offset.rounded()) else {
      throw Fault(.invalid, "\(path): its header says that the voxels begin at byte \(offset)")
    }
    // NIfTI: a slope of 0 means no scaling; a slope that isn't a number is taken for the same, as nibabel does.
    var slope = float(112), intercept = float(116)
    if slope == 0 || !slope.isFinite { (slope, intercept) = (1, 0) }
    guard intercept.isFinite else {
      throw Fault(.invalid, "\(path): its header's scl_inter is not a number")
    }

    self.path = path
    self.datatype = datatype
    dimensions = Array(all[0..<3])
    isBigEndian = big
    displayMaximum = float(124)
    voxelOffset = offset == 0 ? 352 : Int(offset)
    self.slope = slope
    self.intercept = intercept
    forms = FormCodes(qform: short(252), sform: short(254))
    affine = NIfTIHeader.affine(forms, float)
    (orientation, spacing) = try NIfTIHeader.orientation(affine, path)
    try stream.check(holds: voxelOffset + voxels * datatype.bytes, extents)
  }

  /// The sform, else the qform, else the spacing alone, as NIfTI ranks them. An sform of zeros beside a qform is none,
  /// whatever its code: some programs leave it so.
  private static func affine(_ forms: FormCodes, _ float: (Int) -> Double) -> [Double] {
    let sform = (0..<12).map { float(280 + 4 * $0) }
    if forms.sform > 0, forms.qform <= 0 || sform.contains(where: { $0 != 0 }) {
      return sform + [0, 0, 0, 1]
    }
    // As libnifti has them: a distance has no sign.
    let spacing = (1...3).map { abs(float(76 + 4 * $0)) }
    if forms.qform > 0 {
      let q = (0..<6).map { Float(float(256 + 4 * $0)) }, qfac: Float = float(76) < 0 ? -1 : 1
      let m = nifti_quatern_to_mat44(
        q[0], q[1], q[2], q[3], q[4], q[5], Float(spacing[0]), Float(spacing[1]), Float(spacing[2]), qfac
      ).m
      let rows = [m.0, m.1, m.2].flatMap { [$0.0, $0.1, $0.2, $0.3] }
      return rows.map(Double.init) + [0, 0, 0, 1]
    }
    return [spacing[0], 0, 0, 0, 0, spacing[1], 0, 0, 0, 0, spacing[2], 0, 0, 0, 0, 1]
  }

  /// The largest part of a unit step that may point along another axis: rounding of a rotation by 90°, not a
  /// tilt.
  private static let tilt = 1e-3

  private static func orientation(_ affine: [Double], _ path: String) throws -> (Orientation, [Double]) {
    var axes = [-1, -1, -1], flipped = [false, false, false], spacing = [0.0, 0, 0]
    guard affine.allSatisfy({ abs($0) < 1e9 }) else {
      throw Fault(
        .invalid, "\(path): its affine holds what is no distance: a number beyond all bounds, or none")
    }
    let towards = [-1.0, -1, 1]  // BraTS: left, back, up, where the affine counts right, front, up
    for own in 0..<3 {
      let column = (0..<3).map { affine[$0 * 4 + own] }
      let length = column.reduce(0) { $0 + $1 * $1 }.squareRoot()
      guard length > 1e-6 else {
        throw Fault(.invalid, "\(path): its affine is singular: axis \(own) has no length")
      }
      spacing[own] = length
      let main = (0..<3).max { abs(column[$0]) < abs(column[$1]) } ?? 0
      for row in 0..<3 where row != main && abs(column[row]) > tilt * length {
        throw Fault(
          .invalid, "\(path): an oblique grid (its affine is no axis-aligned one); resample it first")
      }
      guard axes[main] == -1 else {
        throw Fault(.invalid, "\(path): its affine is singular: two of its axes run the same way")
      }
      axes[main] = own
      flipped[main] = column[main] * towards[main] < 0
    }
    return (Orientation(axes: axes, flipped: flipped), spacing)
  }

  private static func name(ofDatatype code: Int) -> String {
    switch code {
    case 1: "single bits"
    case 32, 1792, 2048: "complex numbers"
    case 128, 2304: "colours"
    case 1536: "128-bit floats"
    default: "of an unknown datatype (\(code))"
    }
  }
}
