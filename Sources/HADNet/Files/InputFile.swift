import Foundation

/// Text that a user gives: a file, or a pipe (`<(…)`, /dev/stdin), which is read once, and by one process.
package enum InputFile {
  /// More than any list of cases, split or evaluation has.
  static let most = 256 << 20

  /// All bytes of a file or pipe.
  ///
  /// Throws `.missing` where there is none, or a folder, `.storage` where it can't be read, and `.invalid` where it has
  /// more than `most` bytes.
  package static func bytes(_ path: String, atMost most: Int = most) throws(Fault) -> [UInt8] {
    let bytes = try prefix(path, most + 1)
    guard bytes.count <= most else { throw Fault(.invalid, "\(path) has more than \(most >> 20) MB") }
    return bytes
  }

  /// The first `count` bytes, or all where there are fewer. Throws `.missing` and `.storage` as `bytes` does.
  package static func prefix(_ path: String, _ count: Int) throws(Fault) -> [UInt8] {
    if AtomicFile.isFolder(path) { throw Fault(.missing, "\(path) is a folder; a file is needed") }
    let descriptor = opened(path)
    guard descriptor >= 0 else {
      let code = errno
      if code != ENOENT, code != ENOTDIR { throw unreadable(path, code) }
      let hint = path.hasPrefix("/dev/fd/") ? ": mpirun hands on no such pipe, give it a name (mkfifo)" : ""
      throw Fault(.missing, "\(path): no such file\(hint)")
    }
    defer { close(descriptor) }
    var bytes: [UInt8] = [], piece = [UInt8](repeating: 0, count: 1 << 16)
    while bytes.count < count {
      let wanted = min(piece.count, count - bytes.count)
      var span = piece.mutableSpan
      let some = System.read(descriptor, into: &span, 0..<wanted)
      let code = errno
      guard some >= 0 else { throw unreadable(path, code) }
      bytes += piece[..<some]
      if some < wanted { break }
    }
    return bytes
  }

  /// A descriptor to read from, below 0 where there is none. What this process has open already is not opened anew: that
  /// is not possible of a socket, and may not be allowed.
  private static func opened(_ path: String) -> Int32 {
    let own =
      path == "/dev/stdin" ? 0 : path.hasPrefix("/dev/fd/") ? Int32(path.dropFirst("/dev/fd/".count)) : nil
    if let own, !AtomicFile.isFile(path) {
      let copy = fcntl(own, F_DUPFD_CLOEXEC, 0)
      if copy < 0 { errno = ENOENT }
      return copy
    }
    return System.open(path, O_RDONLY)
  }

  private static func unreadable(_ path: String, _ code: Int32) -> Fault {
    Fault(.storage, "\(path) can't be read: \(System.words(code))")
  }
}
