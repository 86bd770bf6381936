import CNIfTI
import Compute
import Files
import Foundation

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
