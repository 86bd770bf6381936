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

/// The bytes of a .nii or .nii.gz file from first to last, each fault of the stream a `Fault`.
///
/// libnifti's own loader fills a truncated file with zeros and doesn't notice a wrong checksum; zlib's `gzread`
/// doesn't notice a checksum that is cut off. Hence zlib's `inflate` itself.
final class NIfTIStream {
  private enum Source {
    /// A descriptor.
    case file(Int32)
    /// Bytes, of which those from `next` on are still to come.
    case memory([UInt8], next: Int)
  }

  let path: String
  private var source: Source
  private let fileBytes: Int
  /// Nil where the file isn't compressed.
  private let inflater: Inflater?
  /// Compressed bytes that were read, and those of them that are not inflated yet.
  private var input: [UInt8] = []
  private var waiting = 0..<0
  /// Whether a gzip member has ended and no other has begun.
  private var isBetweenMembers = false

  init(_ path: String) throws {
    guard let status = FileStatus(path) else { throw AtomicFile.failure("read", path, errno) }
    guard !status.isFolder else { throw Fault(.invalid, "\(path): a folder, not a file") }
    guard status.bytes > 0 else { throw Fault(.missing, "\(path): the file is empty") }
    let file = System.open(path, O_RDONLY)
    guard file >= 0 else { throw AtomicFile.failure("read", path, errno) }
    self.path = path
    source = .file(file)
    fileBytes = status.bytes
    var start: [UInt8] = [0, 0], span = start.mutableSpan
    _ = System.read(file, into: &span)
    lseek(file, 0, SEEK_SET)
    do {
      inflater = try NIfTIStream.inflater(start)
    } catch {
      close(file)
      throw error
    }
    if inflater != nil { input = [UInt8](repeating: 0, count: 1 << 16) }
  }

  /// The same of a file's bytes in memory, which messages call `name`.
  init(bytes: [UInt8], name: String) throws {
    guard !bytes.isEmpty else { throw Fault(.missing, "\(name): the file is empty") }
    path = name
    source = .memory(bytes, next: 0)
    fileBytes = bytes.count
    inflater = try NIfTIStream.inflater(bytes)
    if inflater != nil { input = [UInt8](repeating: 0, count: 1 << 16) }
  }

  /// By content, not by name: people rename files.
  private static func inflater(_ start: [UInt8]) throws -> Inflater? {
    guard start.prefix(2) == [0x1f, 0x8b] else { return nil }
    guard let inflater = Inflater() else {
      throw Fault(.other, "zlib can't be started: is it another version than this program was built with?")
    }
    return inflater
  }

  deinit { if case .file(let file) = source { close(file) } }

  /// Refuses a file that can't hold `bytes` bytes before memory is taken for them.
  func check(holds bytes: Int, _ extents: String) throws {
    // Deflate makes nothing smaller than to 1/1032.
    guard inflater != nil ? fileBytes >= bytes / 1032 : fileBytes >= bytes else {
      throw Fault(
        .invalid, "\(path): truncated: \(fileBytes) bytes can't hold the \(extents) voxels of its header")
    }
  }

  /// Fills `bytes`, or the first `most` of them; gives back how many there were, fewer only at the end of the file.
  func read(into bytes: inout [UInt8], atMost most: Int = .max) throws -> Int {
    let count = min(bytes.count, most)
    var done = 0
    while done < count {
      let part = done..<min(done + 1 << 30, count)
      let got = inflater == nil ? try plain(&bytes, part) : try inflated(&bytes, part)
      if got == 0 { break }
      done += got
    }
    return done
  }

  private func plain(_ bytes: inout [UInt8], _ range: Range<Int>) throws -> Int {
    switch source {
    case .file(let file):
      var span = bytes.mutableSpan
      let got = System.read(file, into: &span, range)
      guard got >= 0 else { throw AtomicFile.failure("read", path, errno) }
      return got
    case .memory(let all, let next):
      let got = all[next...].prefix(range.count)
      bytes.replaceSubrange(range.prefix(got.count), with: got)
      source = .memory(all, next: got.endIndex)
      return got.count
    }
  }

  /// Some of the bytes that follow; none only at the end of a whole file. At most 2³⁰ are asked for.
  private func inflated(_ bytes: inout [UInt8], _ range: Range<Int>) throws -> Int {
    guard let inflater else { return 0 }
    var rest = range
    while rest == range {
      if waiting.isEmpty {
        let got = try plain(&input, input.indices)
        guard got > 0 else {
          if isBetweenMembers { return 0 }
          throw Fault(
            .invalid, "\(path): truncated: its gzip data ends too early; copy or download it again")
        }
        waiting = 0..<got
      }
      if isBetweenMembers {
        // Tapes and some disks fill up their last block with zeros.
        waiting = (waiting.first { input[$0] != 0 } ?? waiting.upperBound)..<waiting.upperBound
        if waiting.isEmpty { continue }
        // Files made by parallel compressors are several gzip files in a row.
        inflater.reset()
        isBetweenMembers = false
      }
      switch inflater.inflate(input, &waiting, into: &bytes, &rest) {
      case Z_OK, Z_BUF_ERROR: break
      case Z_STREAM_END: isBetweenMembers = true
      default:
        throw Fault(
          .invalid, "\(path): damaged: its gzip data or checksum is wrong; copy or download it again")
      }
    }
    return range.count - rest.count
  }

  /// Passes over `count` bytes.
  func skip(_ count: Int) throws {
    var left = count, bytes = [UInt8](repeating: 0, count: 4096)
    while left > 0 {
      let got = try read(into: &bytes, atMost: left)
      guard got > 0 else { throw Fault(.invalid, "\(path): truncated: it ends before its first voxel") }
      left -= got
    }
  }

  /// Reads on to the end, so that the checksum is compared, and refuses what follows the voxels unless it is zeros:
  /// padding.
  func finish() throws {
    var bytes = [UInt8](repeating: 0, count: 4096)
    while true {
      let got = try read(into: &bytes)
      guard bytes[..<got].allSatisfy({ $0 == 0 }) else {
        throw Fault(.invalid, "\(path): holds more bytes than the voxels its header speaks of")
      }
      if got < bytes.count { return }
    }
  }
}

/// zlib's state while it inflates a gzip file.
// Safe: the state is this object's alone, at one place from `init` to `deinit` as zlib wants it, and points to bytes only
// while `inflate` runs, which keeps to the ranges that it is told of.
@safe private final class Inflater {
  private let stream = UnsafeMutablePointer<z_stream>.allocate(capacity: 1)

  /// Nil where zlib refuses.
  init?() {
    unsafe stream.initialize(to: z_stream())
    // 15 bits of window, 16 more for gzip's header and checksum.
    guard unsafe inflateInit2_(stream, 31, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK else {
      return nil
    }
  }

  deinit {
    unsafe inflateEnd(stream)
    unsafe stream.deallocate()
  }

  /// Begins another gzip member.
  func reset() { unsafe inflateReset(stream) }

  /// Inflates bytes `from` of `input` into bytes `to` of `output`, and cuts off what was read and written of the two.
  func inflate(
    _ input: [UInt8], _ from: inout Range<Int>, into output: inout [UInt8], _ to: inout Range<Int>
  ) -> Int32 {
    precondition(
      input.indices.contains(from) && output.indices.contains(to),
      "bytes \(from) of \(input.count) into \(to) of \(output.count)")
    return unsafe input.withUnsafeBufferPointer { input in
      unsafe output.withUnsafeMutableBufferPointer { output in
        unsafe stream.pointee.next_in = UnsafeMutablePointer(
          mutating: input.baseAddress.map { unsafe $0 + from.lowerBound })
        unsafe stream.pointee.avail_in = UInt32(from.count)
        unsafe stream.pointee.next_out = output.baseAddress.map { unsafe $0 + to.lowerBound }
        unsafe stream.pointee.avail_out = UInt32(to.count)
        let code = unsafe CNIfTI.inflate(stream, Z_NO_FLUSH)
        from = unsafe from.upperBound - Int(stream.pointee.avail_in)..<from.upperBound
        to = unsafe to.upperBound - Int(stream.pointee.avail_out)..<to.upperBound
        return code
      }
    }
  }
}

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
