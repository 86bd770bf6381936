import Foundation
import Synchronization

/// The right to write in a part of a run: a file that names its owner, made by whoever comes first and removed at its end.
///
/// An owner that was killed leaves the file behind. On its own host it is known to be dead when there is no such process;
/// elsewhere when its Slurm job has been started again, or when the file, which a living owner touches twice a minute, is
/// five minutes old.
package final class RunLock: Sendable {
  /// Who holds a lock, as the file tells it.
  struct Owner: Codable, Equatable, Sendable {
    /// Of this lock alone.
    var id: String
    /// The file's own place, which tells a copy.
    var path: String
    var host, machine, boot, processes: String
    var process: Int32
    /// When the process began, in ticks since the host did.
    var begin: UInt64
    var job: String?
    /// What tells one start of a Slurm job from the next.
    var jobStart: String?
    var since: String

    /// `process 4711 on node7 (Slurm job 12), since 2026-05-04T12:00:00Z`.
    var description: String {
      // A file may say anything.
      func plain(_ text: String) -> String { String(text.filter { $0.isASCII && $0.isPrintable }.prefix(80)) }
      return "process \(process) on \(plain(host))\(job.map { " (Slurm job \(plain($0)))" } ?? ""), since "
        + plain(since)
    }

    /// Whether both are processes of one host whose numbers mean the same.
    fileprivate func sharesProcesses(with other: Owner) -> Bool {
      host == other.host && machine == other.machine && boot == other.boot && processes == other.processes
    }

    /// Whether the owner is no more, as `here` sees it.
    ///
    /// - `age`: seconds since it last gave a sign.
    /// - `begin`: when a process of this host began; nil: there is none of that number.
    func isDead(seenBy here: Owner, age: Double, begin: (Int32) -> UInt64?) -> Bool {
      if sharesProcesses(with: here) { return begin(process) != self.begin }
      // Started anew since.
      if host == here.host, machine == here.machine, boot != here.boot { return true }
      if let job, job == here.job, jobStart != here.jobStart { return true }
      return age > RunLock.patience
    }
  }

  /// Seconds without a sign after which an owner elsewhere is dead, and from one sign to the next.
  static let patience = 300.0, interval = 30.0

  let path: String
  private let owner: Owner
  /// Folders that were made for it.
  private let made: [String]
  private let isReleased = Mutex(false)

  /// Takes the lock, or throws `.recipe` with the name of its owner. `what` it is for: "trains the teacher".
  package init(_ path: String, _ what: String) throws {
    self.path = path
    let folder = AtomicFile.parent(path)
    made = try AtomicFile.makeFolder(folder)
    owner = RunLock.here(path)
    do {
      try RunLock.take(path, owner, in: folder, what)
    } catch {
      RunLock.remove(made)
      throw error
    }
    Signs.shared.begin(self)
  }

  deinit { release() }

  /// Gives the lock back; folders that were made for it alone go too.
  package func release() {
    let isFirst = isReleased.withLock { isReleased in
      defer { isReleased = true }
      return !isReleased
    }
    guard isFirst else { return }
    Signs.shared.end(self)
    if RunLock.read(path)?.id == owner.id { System.unlink(path) }
    RunLock.remove(made)
  }

  /// Throws where another has taken the lock over, as after a long sleep of this process.
  package func check() throws {
    guard let found = RunLock.read(path), found.id != owner.id else { return }
    throw Fault(
      .recipe,
      "\(path): \(found.description), has taken over, as this process gave no sign for \(Int(RunLock.patience / 60)) "
        + "minutes: this one ends")
  }

  private static func remove(_ folders: [String]) {
    for folder in folders.reversed() { System.rmdir(folder) }
  }

  // MARK: Taking

  private static func take(_ path: String, _ owner: Owner, in folder: String, _ what: String) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    let content = try encoder.encode(owner) + Data("\n".utf8)
    let own = temporary(folder)
    defer { System.unlink(own) }
    try AtomicFile.put(content, to: own, as: path)
    // The clock of the file system, which all hosts see alike.
    guard let now = time(own) else { throw AtomicFile.failure("read", path, errno) }
    // Each round another may be quicker, and then be gone.
    for _ in 0..<100 {
      if System.link(own, path) == 0 { return }
      switch errno {
      case EEXIST: break
      case ENOENT:
        // Whoever holds the lock has tidied the folder up.
        try AtomicFile.put(content, to: own, as: path)
        continue
      case EPERM, ENOTSUP, EOPNOTSUPP, ENOSYS, EMLINK:
        // A file system without hard links.
        let descriptor = System.open(path, O_WRONLY | O_CREAT | O_EXCL, mode: 0o644)
        if descriptor >= 0 {
          close(descriptor)
          return try AtomicFile.put(content, to: path, as: path)
        }
        guard errno == EEXIST else { throw AtomicFile.failure("write", path, errno) }
      default: throw AtomicFile.failure("write", path, errno)
      }
      guard let time = time(path) else { continue }
      if !AtomicFile.isFile(path) {
        throw Fault(.storage, "\(path): the place of a lock, and no file; remove it")
      }
      let found = FileManager.default.contents(atPath: path), holder = found.flatMap(decoded)
      // A time to come is as old: a living owner would have given a sign since the clock was set back.
      let age = abs(now - time)
      let isDead =
        holder.map { isCopy($0, path) || $0.isDead(seenBy: owner, age: age, begin: begin) }
        ?? (age > patience)
      guard isDead else {
        let name = holder?.description ?? "one that cannot be read"
        throw Fault(
          .recipe,
          "\(folder): another job \(what): \(name), last sign \(Int(age)) s ago; wait for its end, or choose another "
            + "--run (\(path))")
      }
      // Only one can move the dead one's file away; who moves another's gives it back.
      let aside = temporary(folder)
      guard System.rename(path, aside) == 0 else { continue }
      if FileManager.default.contents(atPath: aside) != found, System.link(aside, path) != 0, errno != EEXIST
      {
        System.rename(aside, path)
      }
      System.unlink(aside)
    }
    throw Fault(.storage, "\(path): the lock could not be taken")
  }

  private static func temporary(_ folder: String) -> String { "\(folder)/.\(UUID().uuidString)-lock" }

  /// Whether the file came here with a copy of the folder, and its owner holds the one that was copied.
  private static func isCopy(_ holder: Owner, _ path: String) -> Bool {
    holder.path != place(path) && read(holder.path)?.id == holder.id
  }

  private static func decoded(_ data: Data) -> Owner? { try? JSONDecoder().decode(Owner.self, from: data) }

  static func read(_ path: String) -> Owner? { FileManager.default.contents(atPath: path).flatMap(decoded) }

  /// When a file was last touched, in seconds.
  private static func time(_ path: String) -> Double? {
    guard let modified = FileStatus(path)?.modified else { return nil }
    return Double(modified.tv_sec) + Double(modified.tv_nsec) / 1e9
  }

  private static func place(_ path: String) -> String {
    guard let real = System.realPath(AtomicFile.parent(path)) else { return path }
    return real + "/" + AtomicFile.name(path)
  }

  // MARK: This process

  /// This process as the owner of a lock.
  static func here(_ path: String) -> Owner {
    let environment = ProcessInfo.processInfo.environment
    func text(_ path: String) -> String {
      ((try? String(contentsOfFile: path, encoding: .utf8)) ?? "").trimmingCharacters(
        in: .whitespacesAndNewlines)
    }
    return Owner(
      id: UUID().uuidString, path: place(path), host: hostName,
      machine: text("/etc/machine-id"), boot: text("/proc/sys/kernel/random/boot_id"),
      processes: (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/ns/pid")) ?? "",
      process: getpid(), begin: begin(getpid()) ?? 0, job: environment["SLURM_JOB_ID"],
      jobStart: environment["SLURM_JOB_ID"].map { _ in
        [environment["SLURM_RESTART_COUNT"] ?? "0", environment["SLURM_JOB_START_TIME"] ?? ""]
          .joined(separator: " ")
      },
      since: Date.now.formatted(.iso8601))
  }

  private static var hostName: String {
    var name = [CChar](repeating: 0, count: 257)
    // It writes 256 characters at most, so the last one stays 0.
    unsafe gethostname(&name, 256)
    return String(decoding: name.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
  }

  /// When a process of this host began, in ticks since the host did; nil where there is none, or it has ended and only
  /// waits for its parent.
  static func begin(_ process: Int32) -> UInt64? {
    guard let text = try? String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8),
      let end = text.lastIndex(of: ")")
    else { return nil }
    // State and what follows; the name before may hold anything.
    let fields = text[text.index(after: end)...].split(separator: " ")
    guard fields.count > 19, !["Z", "X"].contains(fields[0]) else { return nil }
    return UInt64(fields[19])
  }

  // MARK: Signs of life

  /// Touches the files of all locks that this process holds.
  func giveSign() {
    // The path is there while the call runs; nil is now.
    _ = unsafe utimensat(AT_FDCWD, path, nil, 0)
  }

  /// The thread that gives the signs.
  private final class Signs: Sendable {
    static let shared = Signs()

    private struct State {
      var held: [String: Weak] = [:]
      var isRunning = false
    }
    private struct Weak { weak var lock: RunLock? }
    private let state = Mutex(State())

    func begin(_ lock: RunLock) {
      let isNew = state.withLock { state in
        state.held[lock.path] = Weak(lock: lock)
        defer { state.isRunning = true }
        return !state.isRunning
      }
      guard isNew else { return }
      let isRunning = detachThread { [self] in
        while true {
          Thread.sleep(forTimeInterval: RunLock.interval)
          for lock in state.withLock({ $0.held.values.compactMap(\.lock) }) { lock.giveSign() }
        }
      }
      // The next lock tries again.
      if !isRunning { state.withLock { $0.isRunning = false } }
    }

    func end(_ lock: RunLock) { state.withLock { $0.held[lock.path] = nil } }
  }
}

extension Character {
  fileprivate var isPrintable: Bool { unicodeScalars.allSatisfy { $0.value >= 0x20 && $0.value != 0x7F } }
}
