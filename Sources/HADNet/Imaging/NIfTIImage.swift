import CNIfTI
import Compute
import Files
import Foundation

/// A volume read from a NIfTI-1 file, brought to BraTS's orientation.
package struct NIfTIImage: Sendable {
  package let header: NIfTIHeader
  /// [z, y, x] in BraTS's own storage order: x to the left, y to the back, z up. Integers up to 2²⁴ are exact.
  package let voxels: [Float]

  package var size: Size { header.size }

  /// A file's name or path without its ending, .nii or .nii.gz in any case; nil for another ending, or nothing before
  /// it.
  package static func stem(_ name: String) -> String? {
    let lower = name.lowercased()
    for ending in [".nii.gz", ".nii"] where lower.hasSuffix(ending) && name.count > ending.count {
      return String(name.dropLast(ending.count))
    }
    return nil
  }

  /// Reads a .nii or .nii.gz file, any integer or float datatype, either byte order.
  ///
  /// Throws what `NIfTIHeader.read` throws, and `.invalid` where the file is truncated, its checksum is wrong,
  /// data follows its voxels, or a voxel is not a finite number.
  ///
  /// `advice` ends the message where a voxel is no finite number.
  package static func read(_ path: String, ifNotFinite advice: String = "") throws -> NIfTIImage {
    let (header, voxels) = try load(NIfTIStream(path), as: Float.self, advice)
    return NIfTIImage(header: header, voxels: voxels)
  }

  /// The same from a file's bytes in memory, compressed or not; messages call the file `name`. Throws what `read` throws.
  package static func read(bytes: [UInt8], name: String) throws -> NIfTIImage {
    let (header, voxels) = try load(NIfTIStream(bytes: bytes, name: name), as: Float.self)
    return NIfTIImage(header: header, voxels: voxels)
  }

  /// The voxels in the same order, slope · stored + intercept in double precision: for values that are compared
  /// with a threshold, which a rounding to floats might move onto it. Throws what `read` throws.
  package static func doubles(_ path: String) throws -> (header: NIfTIHeader, values: [Double]) {
    try load(NIfTIStream(path), as: Double.self)
  }

  /// Bytes of a file's voxels that are read, decoded and put at their places at a time.
  private static let piece = 1 << 20

  private static func load<Value: BinaryFloatingPoint>(
    _ stream: NIfTIStream, as type: Value.Type, _ advice: String = ""
  ) throws -> (header: NIfTIHeader, values: [Value]) {
    let header = try NIfTIHeader(stream)
    try AvailableMemory.check(
      header.voxels * MemoryLayout<Value>.stride + piece,
      "\(stream.path): a volume of \(header.extents) voxels")
    try stream.skip(header.voxelOffset - 348)
    // Whole rows of the file.
    let row = header.dimensions[0] * header.datatype.bytes, rows = header.voxels / header.dimensions[0]
    let most = max(1, piece / row)
    var raw = [UInt8](repeating: 0, count: most * row)
    // Numbers of memory that nobody has written yet are any, and none is read before all rows are there: a volume of zeros
    // would be written twice.
    let values = try unsafe [Value](unsafeUninitializedCapacity: header.voxels) { out, count in
      var out = unsafe out.mutableSpan
      for first in stride(from: 0, to: rows, by: most) {
        let some = min(most, rows - first)
        let got = try stream.read(into: &raw, atMost: some * row)
        guard got == some * row else {
          throw Fault(
            .invalid,
            "\(stream.path): truncated: it ends after \(first * row + got) of \(rows * row) bytes of voxels; copy it "
              + "again"
          )
        }
        convert(raw.span, header, rows: first..<(first + some), &out)
      }
      count = header.voxels
    }
    try stream.finish()
    try checkFinite(values, header, advice)
    return (header, values)
  }

  private static func convert<Value: BinaryFloatingPoint>(
    _ raw: Span<UInt8>, _ header: NIfTIHeader, rows: Range<Int>, _ out: inout MutableSpan<Value>
  ) {
    let big = header.isBigEndian
    switch header.datatype {
    case .uint8: place(raw, UInt8.self, header, rows, &out) { Double($0) }
    case .int8: place(raw, Int8.self, header, rows, &out) { Double($0) }
    case .int16: place(raw, Int16.self, header, rows, &out) { Double(big ? Int16(bigEndian: $0) : $0) }
    case .uint16: place(raw, UInt16.self, header, rows, &out) { Double(big ? UInt16(bigEndian: $0) : $0) }
    case .int32: place(raw, Int32.self, header, rows, &out) { Double(big ? Int32(bigEndian: $0) : $0) }
    case .uint32: place(raw, UInt32.self, header, rows, &out) { Double(big ? UInt32(bigEndian: $0) : $0) }
    case .int64: place(raw, Int64.self, header, rows, &out) { Double(big ? Int64(bigEndian: $0) : $0) }
    case .uint64: place(raw, UInt64.self, header, rows, &out) { Double(big ? UInt64(bigEndian: $0) : $0) }
    case .float32:
      place(raw, UInt32.self, header, rows, &out) {
        Double(Float(bitPattern: big ? UInt32(bigEndian: $0) : $0))
      }
    case .float64:
      place(raw, UInt64.self, header, rows, &out) { Double(bitPattern: big ? UInt64(bigEndian: $0) : $0) }
    }
  }

  /// Every stored value of some of the file's rows, decoded, scaled and put at its place on the BraTS grid.
  @inline(__always)
  private static func place<Stored: BitwiseCopyable, Value: BinaryFloatingPoint>(
    _ raw: Span<UInt8>, _ type: Stored.Type, _ header: NIfTIHeader, _ rows: Range<Int>,
    _ out: inout MutableSpan<Value>, _ decode: (Stored) -> Double
  ) {
    let (start, steps) = header.orientation.places(header.dimensions)
    let width = header.dimensions[0], height = header.dimensions[1], step = steps[0]
    let slope = header.slope, intercept = header.intercept, isScaled = slope != 1 || intercept != 0
    precondition(
      raw.count >= rows.count * width * MemoryLayout<Stored>.stride && out.count >= header.voxels,
      "\(raw.count) bytes of rows \(rows) into \(out.count) voxels")
    // As just checked; places are a permutation of the header's voxels. Pointers, since a check a voxel would keep rows from
    // being converted in vectors. What is read is aligned as an array's memory is.
    unsafe raw.withUnsafeBytes { raw in
      unsafe out.withUnsafeMutableBufferPointer { out in
        // Not nil: a header's volume is never empty.
        var from = unsafe raw.assumingMemoryBound(to: Stored.self).baseAddress!
        for row in rows {
          let to = unsafe out.baseAddress! + (start + row % height * steps[1] + row / height * steps[2])
          if isScaled {
            for i in 0..<width { unsafe to[i * step] = Value(decode(from[i]) * slope + intercept) }
          } else if step == 1 {
            for i in 0..<width { unsafe to[i] = Value(decode(from[i])) }
          } else {
            for i in 0..<width { unsafe to[i * step] = Value(decode(from[i])) }
          }
          unsafe from += width
        }
      }
    }
  }

  private static func checkFinite<Value: BinaryFloatingPoint>(
    _ voxels: [Value], _ header: NIfTIHeader, _ advice: String
  ) throws {
    // x − x is 0 for a finite x and not a number else: a count without branches.
    var others = 0
    for value in voxels { others &+= value - value == 0 ? 0 : 1 }
    guard others > 0, let first = voxels.firstIndex(where: { !$0.isFinite }) else { return }
    let size = header.size
    let position = [first % size.x, first / size.x % size.y, first / size.x / size.y]
    var native = [0, 0, 0]
    for axis in 0..<3 {
      let own = header.orientation.axes[axis]
      native[own] =
        header.orientation.flipped[axis] ? header.dimensions[own] - 1 - position[axis] : position[axis]
    }
    throw Fault(
      .invalid,
      "\(header.path): voxels that are no finite numbers (NaN, infinite): \(others), the first at "
        + "(\(native.map(String.init).joined(separator: ", ")))\(advice)")
  }
}

/// A type of voxel that is written.
package protocol NIfTIVoxel: BitwiseCopyable, Sendable {
  static var datatype: NIfTIHeader.Datatype { get }
}

extension UInt8: NIfTIVoxel { package static var datatype: NIfTIHeader.Datatype { .uint8 } }
extension Int16: NIfTIVoxel { package static var datatype: NIfTIHeader.Datatype { .int16 } }
extension Float: NIfTIVoxel { package static var datatype: NIfTIHeader.Datatype { .float32 } }

extension NIfTIImage {
  /// Writes a volume as .nii.gz, or as .nii where `path` doesn't end in .gz; the file is whole or not there.
  ///
  /// - `voxels`: in the file's own order, fastest axis first.
  /// - `dimensions`: fastest axis first, at most 32767 each.
  /// - `affine`: from voxel indices to mm to the right, to the front, up; 4×4, row-major.
  /// - `forms`: the codes of the two transforms, each of which holds the affine.
  /// - `range`: what viewers are to show, where the values have a scale of their own.
  /// - `compression`: zlib's level, 1 (fast) to 9 (small).
  ///
  /// Throws `.storage` where the disk is full or the folder isn't writable.
  package static func write<Voxel: NIfTIVoxel>(
    _ voxels: [Voxel], dimensions: [Int], affine: [Double], forms: FormCodes = .scanner,
    range: ClosedRange<Float>? = nil, to path: String, compression: Int = 6
  ) throws {
    precondition(
      dimensions.count == 3 && dimensions.allSatisfy { (1...32767).contains($0) }
        && voxels.count == dimensions.reduce(1, *) && affine.count == 16,
      "\(voxels.count) voxels for a file of \(dimensions), an affine of \(affine.count) numbers")
    nifti_set_debug_level(0)
    var header = header(dimensions, affine, forms, Voxel.datatype)
    if let range { (header.cal_min, header.cal_max) = (range.lowerBound, range.upperBound) }
    let isCompressed = path.lowercased().hasSuffix(".gz")
    try AtomicFile.write(path) { temporary in
      errno = 0
      // A handle of libnifti's, closed below; each call is done with what it is given when it returns.
      var file = unsafe znzopen(temporary, isCompressed ? "wb\(compression)" : "wb", isCompressed ? 1 : 0)
      guard unsafe file != nil else { throw AtomicFile.failure("write", path, errno) }
      func put<Value: BitwiseCopyable>(_ values: [Value]) -> Int {
        unsafe values.withUnsafeBytes { unsafe znzwrite($0.baseAddress, 1, $0.count, file) }
      }
      // The header, no extensions, the voxels.
      let written = put([header]) + put([UInt8](repeating: 0, count: 4)) + put(voxels)
      let failed = errno
      guard unsafe Xznzclose(&file) == 0, written == 352 + voxels.count * MemoryLayout<Voxel>.stride else {
        throw AtomicFile.failure("write", path, failed != 0 ? failed : errno)
      }
    }
  }

  private static func header(
    _ dimensions: [Int], _ affine: [Double], _ forms: FormCodes, _ datatype: NIfTIHeader.Datatype
  ) -> nifti_1_header {
    var header = nifti_1_header()
    header.sizeof_hdr = 348
    header.regular = 0x72  // "r", which Analyze 7.5 wants
    header.dim = (3, Int16(dimensions[0]), Int16(dimensions[1]), Int16(dimensions[2]), 1, 1, 1, 1)
    header.datatype = Int16(datatype.rawValue)
    header.bitpix = Int16(datatype.bytes * 8)
    header.vox_offset = 352
    header.scl_slope = 1
    header.xyzt_units = 2  // mm
    header.magic = (0x6e, 0x2b, 0x31, 0)  // n+1
    let a = affine.map(Float.init)
    header.srow_x = (a[0], a[1], a[2], a[3])
    header.srow_y = (a[4], a[5], a[6], a[7])
    header.srow_z = (a[8], a[9], a[10], a[11])
    var matrix = mat44()
    matrix.m = (header.srow_x, header.srow_y, header.srow_z, (0, 0, 0, 1))
    var qfac: Float = 1
    var spacing: (Float, Float, Float) = (1, 1, 1)
    // It writes to the variables, and keeps none.
    unsafe nifti_mat44_to_quatern(
      matrix, &header.quatern_b, &header.quatern_c, &header.quatern_d, &header.qoffset_x, &header.qoffset_y,
      &header.qoffset_z, &spacing.0, &spacing.1, &spacing.2, &qfac)
    header.pixdim = (qfac, spacing.0, spacing.1, spacing.2, 1, 1, 1, 1)
    // Both transforms, since some readers look at one only. What has no orientation gets none.
    header.qform_code = Int16(clamping: forms.qform)
    header.sform_code = Int16(clamping: forms.sform)
    return header
  }
}
