import Glibc

/// The system's calls on files, as C has them: at least 0 where all went well, else −1 and `errno`.
// Each is safe whatever it is given: C gets a text as its bytes with a 0 behind them, and numbers with their length, both
// there while the call runs; so the `unsafe` of this file.
package enum System {
  package static func open(_ path: String, _ flags: Int32, mode: mode_t = 0) -> Int32 {
    unsafe Glibc.open(path, flags | O_CLOEXEC, mode)
  }

  @discardableResult
  package static func rename(_ from: String, _ to: String) -> Int32 { unsafe Glibc.rename(from, to) }

  @discardableResult
  package static func unlink(_ path: String) -> Int32 { unsafe Glibc.unlink(path) }

  static func link(_ path: String, _ other: String) -> Int32 { unsafe Glibc.link(path, other) }

  package static func symlink(_ target: String, _ path: String) -> Int32 {
    unsafe Glibc.symlink(target, path)
  }

  static func mkdir(_ path: String) -> Int32 { unsafe Glibc.mkdir(path, 0o777) }

  static func rmdir(_ path: String) { unsafe Glibc.rmdir(path) }

  /// The path without links and detours; nil where it leads to nothing.
  static func realPath(_ path: String) -> String? {
    guard let real = unsafe realpath(path, nil) else { return nil }
    defer { unsafe free(real) }
    return unsafe String(cString: real)
  }

  /// An error's number in words.
  package static func words(_ code: Int32) -> String { unsafe String(cString: strerror(code)) }

  /// Reads on until the numbers' bytes, or a range of them, are filled; gives how many were there, fewer only at the end of
  /// the file.
  package static func read<Value: BitwiseCopyable>(
    _ file: Int32, into values: inout MutableSpan<Value>, _ range: Range<Int>? = nil
  ) -> Int {
    unsafe values.withUnsafeMutableBytes { bytes in
      let range = range ?? 0..<bytes.count, count = range.count
      precondition(
        range.lowerBound >= 0 && range.upperBound <= bytes.count, "\(range) of \(bytes.count) bytes")
      var done = 0
      while done < count {
        let start = unsafe bytes.baseAddress.map { unsafe $0 + range.lowerBound + done }
        let some = unsafe Glibc.read(file, start, count - done)
        if some < 0 && errno == EINTR { continue }
        if some < 0 { return -1 }
        if some == 0 { break }
        done += some
      }
      return done
    }
  }

  /// Writes the numbers' bytes from `done` on, as many as the system takes at once; at `offset` of the file, or behind what
  /// was written before.
  package static func write<Value: BitwiseCopyable>(
    _ file: Int32, _ values: Span<Value>, from done: Int = 0, at offset: Int? = nil
  ) -> Int {
    unsafe values.withUnsafeBytes { bytes in
      let rest = unsafe bytes[done...], some = unsafe min(rest.count, 1 << 30)
      let start = unsafe UnsafeRawBufferPointer(rebasing: rest).baseAddress
      guard let offset else { return unsafe Glibc.write(file, start, some) }
      return unsafe pwrite(file, start, some, off_t(offset + done))
    }
  }
}

/// What the system says of a file (stat).
package struct FileStatus {
  private var status = stat()

  /// Of the file that a path leads to, or of a link itself. nil where there is none, and `errno` says why.
  package init?(_ path: String, ofLink isOfLink: Bool = false) {
    // As in `System`.
    let code = isOfLink ? unsafe lstat(path, &status) : unsafe stat(path, &status)
    guard code == 0 else { return nil }
  }

  package init?(_ file: Int32) {
    // Written by the system, all of it.
    guard unsafe fstat(file, &status) == 0 else { return nil }
  }

  package var isFile: Bool { status.st_mode & S_IFMT == S_IFREG }
  package var isFolder: Bool { status.st_mode & S_IFMT == S_IFDIR }
  package var bytes: Int { Int(status.st_size) }
  /// When its contents, and when anything about it, last changed.
  package var modified: timespec { status.st_mtim }
  package var changed: timespec { status.st_ctim }

  /// What a file is, whatever path led to it.
  package struct Identity: Hashable, Sendable { let device, number: UInt64 }
  package var identity: Identity { Identity(device: UInt64(status.st_dev), number: UInt64(status.st_ino)) }
}
