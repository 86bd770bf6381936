import Foundation

/// Files that are whole or not there: written beside under a name of their own, then renamed.
package enum AtomicFile {
  /// Runs `write` with a temporary path in the folder of `path` (made if needed), then renames the file to
  /// `path`. Where `write` throws, nothing is left behind.
  ///
  /// The temporary name ends like `path`, begins with a dot and is unique, so that other processes may write the
  /// same file at the same time: the last whole one stays. That the name is on the disk is waited for; the numbers behind
  /// it are if `write` waits for them.
  package static func write(_ path: String, _ write: (_ temporary: String) throws -> Void) throws {
    let url = URL(fileURLWithPath: path)
    let folder = url.deletingLastPathComponent().path
    try makeFolder(folder)
    let temporary = "\(folder)/.\(UUID().uuidString)-\(url.lastPathComponent)"
    do {
      try write(temporary)
      guard System.rename(temporary, path) == 0 else { throw failure("write", path, errno) }
      try sync(folder)
    } catch {
      System.unlink(temporary)
      throw error
    }
  }

  /// Removes files that a killed process has left half written in a folder, or those of them that nobody has written to for
  /// so many seconds.
  package static func removeTemporary(from folder: String, olderThan age: Double = 0) {
    for name in (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? [] where isTemporary(name) {
      guard let status = FileStatus("\(folder)/\(name)") else { continue }
      if Date().timeIntervalSince1970 - Double(status.modified.tv_sec) >= age {
        System.unlink("\(folder)/\(name)")
      }
    }
  }

  /// Whether a file has such a temporary name.
  package static func isTemporary(_ name: String) -> Bool {
    name.count > 38 && name.hasPrefix(".") && name.dropFirst(37).first == "-"
      && UUID(uuidString: String(name.dropFirst().prefix(36))) != nil
  }

  /// The most bytes of a file's name in a folder, less what is put before it while the file is written.
  package static func longestName(in folder: String) -> Int {
    // The folder's name is there while the call runs.
    let most = unsafe pathconf(folder, Int32(_PC_NAME_MAX))
    return (most > 0 ? Int(most) : 255) - 38
  }

  /// Writes a file that is whole or not there, and on the disk when this returns. A link stays one: the file that it
  /// leads to is written. What is no file, such as /dev/stdout, is written to. Throws `.storage`.
  package static func write(_ data: Data, to path: String) throws {
    guard let status = FileStatus(path), let real = System.realPath(path) else {
      if errno == ENOENT, let target = try? FileManager.default.destinationOfSymbolicLink(atPath: path) {
        // A link to nothing yet.
        return try write(data, to: URL(fileURLWithPath: target, relativeTo: URL(fileURLWithPath: path)).path)
      }
      return try write(path) { try put(data, to: $0, as: path) }
    }
    if status.isFolder { throw failure("write", path, EISDIR) }
    if !status.isFile { return try OutputFile(path, as: path).put(data) }
    try write(real) { try put(data, to: $0, as: path) }
  }

  /// Writes a file and makes sure it is on the disk; faults name `path`, its final place.
  package static func put(_ data: Data, to temporary: String, as path: String) throws {
    let file = try OutputFile(temporary, as: path)
    try file.put(data)
    try file.sync()
  }

  /// Makes a folder and those above it, on the disk when this returns. Gives those that were not there, from above.
  /// Throws `.storage`.
  @discardableResult
  package static func makeFolder(_ path: String) throws -> [String] {
    let above = AtomicFile.parent(path)
    // mkdir itself, since Foundation's errors don't say why.
    func make() throws -> Bool {
      guard System.mkdir(path) == 0 else {
        if errno == EEXIST && isFolder(path) { return false }
        throw failure("make the folder", path, errno)
      }
      try sync(above.isEmpty ? "." : above)
      return true
    }
    let isBelowNothing = !above.isEmpty && FileStatus(above) == nil && errno == ENOENT && above != path
    let made = isBelowNothing ? try makeFolder(above) : []
    return try make() ? made + [path] : made
  }

  /// Waits until the names in a folder are on the disk. Throws `.storage`.
  package static func sync(_ folder: String) throws {
    let descriptor = System.open(folder, O_RDONLY | O_DIRECTORY)
    // Who may write in a folder need not be allowed to read it.
    guard descriptor >= 0 else {
      if errno == EACCES { return }
      throw failure("write", folder, errno)
    }
    defer { close(descriptor) }
    // Some file systems have no such thing for folders.
    guard fsync(descriptor) == 0 || [EINVAL, ENOTSUP, EROFS].contains(errno) else {
      throw failure("write", folder, errno)
    }
  }

  /// The folder that a path lies in: `a` for `a/b`, `/` for `/a`, nothing for `a`. Foundation's own traps for a name of one
  /// letter.
  package static func parent(_ path: String) -> String {
    var path = path[...]
    while path.count > 1, path.hasSuffix("/") { path = path.dropLast() }
    guard let slash = path.lastIndex(of: "/") else { return "" }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }

  /// The last name of a path.
  package static func name(_ path: String) -> String {
    path.split(separator: "/").last.map(String.init) ?? path
  }

  /// Whether a regular file is there, or a link to one.
  package static func isFile(_ path: String) -> Bool {
    FileStatus(path)?.isFile == true
  }

  /// Whether a folder is there, or a link to one. `errno` stays as it is, for whoever reports an earlier failure.
  package static func isFolder(_ path: String) -> Bool {
    let code = errno
    defer { errno = code }
    return FileStatus(path)?.isFolder == true
  }

  /// The fault of a failed system call, in words.
  package static func failure(_ what: String, _ path: String, _ code: Int32) -> Fault {
    if code == ENOENT && what == "read" { return Fault(.missing, "\(path): no such file or folder") }
    let reason = code == 0 ? "input/output error" : System.words(code)
    let remedy =
      switch code {
      case ENOSPC, EDQUOT: "; free space there or choose another folder"
      case _ where what == "read": ""
      case EISDIR, ENOTDIR, EEXIST, ENOTEMPTY: "; move away what is there, or give another place"
      case EACCES, EPERM, EROFS: "; choose a place that this user may write"
      case EFBIG: "; raise the limit on the size of files (ulimit -f)"
      default: ""
      }
    return Fault(.storage, "cannot \(what) \(path): \(reason)\(remedy)")
  }
}

/// A new file that is written; closed with the last reference. Faults name its final place.
package final class OutputFile {
  private var descriptor: Int32
  private let path: String

  /// Makes `temporary`, or empties it; `path` is its final place. Throws `.storage`.
  package init(_ temporary: String, as path: String) throws {
    self.path = path
    descriptor = System.open(temporary, O_WRONLY | O_CREAT | O_TRUNC, mode: 0o644)
    guard descriptor >= 0 else { throw AtomicFile.failure("write", path, errno) }
  }

  deinit { if descriptor >= 0 { Foundation.close(descriptor) } }

  /// Writes behind what was written before, or over what stands `offset` bytes from the start. Throws `.storage`.
  package func put(_ data: Data, at offset: Int? = nil) throws { try put(data.span, at: offset) }

  /// Writes the numbers' bytes behind what was written before, or over what stands at `offset`. Throws `.storage`.
  package func put<Value: BitwiseCopyable>(_ values: Span<Value>, at offset: Int? = nil) throws {
    let bytes = values.count * MemoryLayout<Value>.stride
    var done = 0
    while done < bytes {
      let count = System.write(descriptor, values, from: done, at: offset)
      if count < 0 && errno == EINTR { continue }
      guard count > 0 else { throw AtomicFile.failure("write", path, errno) }
      done += count
    }
  }

  /// Waits until all of it is on the disk.
  func sync() throws {
    guard fsync(descriptor) == 0 else { throw AtomicFile.failure("write", path, errno) }
  }

  /// Closes it now: some file systems tell only then that the disk is full. Throws `.storage`.
  package func close() throws {
    defer { descriptor = -1 }
    guard Foundation.close(descriptor) == 0 else { throw AtomicFile.failure("write", path, errno) }
  }
}
