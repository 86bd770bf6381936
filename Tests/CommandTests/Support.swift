import Foundation
import Glibc
import Testing

/// All suites of commands, one test after the other: each starts processes that use all cores.
@Suite(.serialized) enum Commands {}

// MARK: - Processes

/// What a process left behind.
struct Outcome {
  let code: Int32
  let output: String
  let errors: String

  /// What was said on standard error, without Open MPI's own words about an abort: paragraphs between rules,
  /// lines that begin with [host:process], those of its event loop that begin with [warn], and what its reader of help
  /// texts says when two ranks abort at once; and what launchers say of a signal that they hand on.
  var messages: [String] {
    var isRule = false, lines: [String] = []
    for line in errors.split(separator: "\n").map(String.init) {
      if line.hasPrefix("-----") {
        isRule.toggle()
      } else if !isRule,
        line.firstMatch(
          of: /^(\[([^\]]+:\d+|warn)\]|fatal flex scanner|mpirun: Forwarding signal|scripts\/mpirun: )/)
          == nil
      {
        lines.append(line)
      }
    }
    return lines
  }
}

/// Expects one message of a line or two that has all of `words`, and the exit code; beside it what is said of a machine
/// with few cores.
func expectFault(
  _ outcome: Outcome, _ code: Int32, _ words: [String] = [],
  sourceLocation: SourceLocation = #_sourceLocation
) {
  #expect(outcome.code == code, "\(outcome.errors)", sourceLocation: sourceLocation)
  let messages = outcome.messages.filter {
    $0.firstMatch(of: /^warning: .* threads? on \d+ cores?: start/) == nil
  }
  #expect((1...2).contains(messages.count), "\(outcome.errors)", sourceLocation: sourceLocation)
  for word in words {
    #expect(
      messages.joined(separator: "\n").contains(word), "\(word) is not in: \(outcome.errors)",
      sourceLocation: sourceLocation)
  }
  for trace in ["Fatal error", "Stack dump", "Program crashed", " at /", ".swift:"] {
    #expect(!outcome.errors.contains(trace), "\(outcome.errors)", sourceLocation: sourceLocation)
  }
}

/// A process that was started, with all it starts itself.
final class Job {
  private let process = Process()
  private let folder: Scratch

  /// The longest that any may take, in seconds: far more than a busy machine needs, so that only a hang ends it.
  static let limit = 600.0

  init(_ command: [String], environment: [String: String] = [:]) throws {
    folder = try Scratch()
    // Output goes to files: a pipe could fill up while nobody reads it.
    let folder = folder
    func handle(_ name: String) throws -> FileHandle {
      try Data().write(to: URL(fileURLWithPath: folder / name))
      return try FileHandle(forWritingTo: URL(fileURLWithPath: folder / name))
    }
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = command
    // What a job of Slurm or a user's shell says of threads, time and ranks is not the test's.
    let inherited = ProcessInfo.processInfo.environment.filter { name, _ in
      name == "SLURM_CONF" || !["SLURM_", "OMP_", "HADNET_"].contains(where: name.hasPrefix)
    }
    process.environment = inherited.merging(environment) { $1 }
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = try handle("output")
    process.standardError = try handle("errors")
    // Who started the tests may ignore these, which a shell could not undo.
    for number in [SIGINT, SIGHUP] { _ = Foundation.signal(number, SIG_DFL) }
    // A dispatch thread blocks signals, and a process inherits that from the thread that starts it.
    var none = sigset_t(), before = sigset_t()
    sigemptyset(&none)
    pthread_sigmask(SIG_SETMASK, &none, &before)
    defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
    try process.run()
  }

  var isRunning: Bool { process.isRunning }

  /// Waits for the end.
  func outcome() throws -> Outcome {
    let end = Date(timeIntervalSinceNow: Job.limit)
    while process.isRunning {
      if Date() > end {
        kill()
        Issue.record("\(process.arguments ?? []) did not end")
        break
      }
      usleep(5000)
    }
    process.waitUntilExit()
    // As a shell has it: 128 + the signal that ended the process.
    let code = process.terminationStatus + (process.terminationReason == .uncaughtSignal ? 128 : 0)
    return Outcome(code: code, output: try text(folder / "output"), errors: try text(folder / "errors"))
  }

  /// Sends a signal to the process that was started: under mpirun to the launcher.
  func signal(_ number: Int32) { _ = Foundation.kill(process.processIdentifier, number) }

  /// The processes of the program itself, in the order of their numbers: its ranks under mpirun.
  var ranks: [Int32] {
    Job.family(of: process.processIdentifier).filter { id in
      (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(id)/exe"))
        == URL(fileURLWithPath: Program.path).resolvingSymlinksInPath().path
    }.sorted()
  }

  /// Ends the process and all it has started with SIGKILL, and waits until they are gone.
  func kill() {
    // A launcher's ranks are not of its process group.
    let all = Job.family(of: process.processIdentifier)
    for id in all { _ = Foundation.kill(id, SIGKILL) }
    process.waitUntilExit()
    for id in all {
      for _ in 0..<2000 where Job.isAlive(id) { usleep(5000) }
    }
  }

  /// A process and its descendants, as /proc has them.
  private static func family(of root: Int32) -> [Int32] {
    var children: [Int32: [Int32]] = [:]
    for name in (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? [] {
      guard let id = Int32(name), let fields = status(id), let parent = Int32(fields[1]) else { continue }
      children[parent, default: []].append(id)
    }
    var family = [root], next = 0
    while next < family.count {
      family += children[family[next]] ?? []
      next += 1
    }
    return family
  }

  /// Whether none of some processes is left, after a while.
  static func areGone(_ ids: [Int32]) -> Bool {
    for _ in 0..<4000 {
      if !ids.contains(where: isAlive) { return true }
      usleep(5000)
    }
    return false
  }

  /// Whether, after a while, no process of the program is left that was given something in `folder`.
  static func areGone(_ folder: Scratch) -> Bool {
    let ids = ((try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []).compactMap { Int32($0) }
    return areGone(
      ids.filter { id in
        guard let line = FileManager.default.contents(atPath: "/proc/\(id)/cmdline") else { return false }
        return line.range(of: Data(folder.path.utf8)) != nil
      })
  }

  private static func isAlive(_ id: Int32) -> Bool { status(id).map { $0[0] != "Z" } ?? false }

  /// State, parent and what follows in /proc/ID/stat.
  private static func status(_ id: Int32) -> [String]? {
    // The name before them is in brackets and may hold anything.
    guard let text = try? String(contentsOfFile: "/proc/\(id)/stat", encoding: .utf8),
      let end = text.lastIndex(of: ")")
    else { return nil }
    let fields = text[text.index(after: end)...].split(separator: " ").map(String.init)
    return fields.count > 1 ? fields : nil
  }
}

/// The built program.
enum Program {
  static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().path
  static let fixtures = "\(root)/Tests/Fixtures"

  /// Beside the test runner.
  static let path: String = {
    let products = URL(fileURLWithPath: CommandLine.arguments[0]).resolvingSymlinksInPath()
      .deletingLastPathComponent()
    let candidates = [products, products.deletingLastPathComponent(), Bundle.main.bundleURL]
      .map { $0.appendingPathComponent("hadnet-dist").path }
    guard let path = candidates.first(where: FileManager.default.isExecutableFile(atPath:)) else {
      preconditionFailure("no hadnet-dist in \(candidates)")
    }
    return path
  }()

  /// The command line: under mpirun if `ranks` is given.
  static func command(_ arguments: [String], ranks: Int? = nil) -> [String] {
    (ranks.map { ["\(root)/scripts/mpirun", "-n", "\($0)"] } ?? []) + [path] + arguments
  }

  static func start(_ arguments: [String], ranks: Int? = nil) throws -> Job {
    try Job(command(arguments, ranks: ranks))
  }

  static func run(_ arguments: String..., ranks: Int? = nil) throws -> Outcome {
    try start(arguments, ranks: ranks).outcome()
  }
}

/// A terminal without a screen: the end that a person would sit at, and the path of the other.
func pseudoTerminal() throws -> (file: Int32, path: String) {
  let file = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC)
  var lock: Int32 = 0, number: Int32 = 0
  // TIOCSPTLCK and TIOCGPTN; the functions made of them are hidden from Swift.
  try #require(file >= 0 && ioctl(file, 0x4004_5431, &lock) == 0 && ioctl(file, 0x8004_5430, &number) == 0)
  return (file, "/dev/pts/\(number)")
}

/// Runs another program, which must end well.
@discardableResult
func tool(_ command: String...) throws -> String {
  let outcome = try Job(command).outcome()
  try #require(outcome.code == 0, "\(command): \(outcome.errors)")
  return outcome.output
}

// MARK: - Files

/// A folder of its own, removed with its last reference.
final class Scratch: Sendable {
  let path: String

  init() throws {
    path = NSTemporaryDirectory() + "hadnet-commands-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  static func / (folder: Scratch, name: String) -> String { "\(folder.path)/\(name)" }

  /// Copies a file or folder into this one.
  @discardableResult
  func copy(_ from: String, _ name: String) throws -> String {
    try FileManager.default.copyItem(atPath: from, toPath: self / name)
    return self / name
  }

  @discardableResult
  func put(_ text: String, _ name: String) throws -> String {
    try Data(text.utf8).write(to: URL(fileURLWithPath: self / name))
    return self / name
  }

  @discardableResult
  func folder(_ name: String) throws -> String {
    try FileManager.default.createDirectory(atPath: self / name, withIntermediateDirectories: true)
    return self / name
  }
}

func exists(_ path: String) -> Bool { FileManager.default.fileExists(atPath: path) }

func bytes(_ path: String) throws -> Data { try Data(contentsOf: URL(fileURLWithPath: path)) }

func text(_ path: String) throws -> String { String(decoding: try bytes(path), as: UTF8.self) }

/// Cuts a file to half its length.
func cut(_ path: String) throws {
  let whole = try bytes(path)
  try Data(whole.prefix(whole.count / 2)).write(to: URL(fileURLWithPath: path))
}

/// Changes the bytes inside a .nii.gz file.
func edit(_ path: String, _ change: (inout [UInt8]) -> Void) throws {
  try tool("gzip", "-d", path)
  let plain = String(path.dropLast(3))
  var content = [UInt8](try bytes(plain))
  change(&content)
  try Data(content).write(to: URL(fileURLWithPath: plain))
  try tool("gzip", plain)
}

/// Every file below a folder by its path in it.
func contents(_ folder: String) throws -> [String: Data] {
  var files: [String: Data] = [:]
  let folder = URL(fileURLWithPath: folder).resolvingSymlinksInPath().path
  for name in try FileManager.default.subpathsOfDirectory(atPath: folder) {
    var isFolder: ObjCBool = false
    let path = "\(folder)/\(name)"
    if FileManager.default.fileExists(atPath: path, isDirectory: &isFolder), !isFolder.boolValue {
      files[name] = try bytes(path)
    }
  }
  return files
}

/// Expects two folders to hold the same files with the same bytes.
func expectSame(
  _ a: String, _ b: String, sourceLocation: SourceLocation = #_sourceLocation
) throws {
  let first = try contents(a), second = try contents(b)
  #expect(!first.isEmpty, "nothing in \(a)", sourceLocation: sourceLocation)
  #expect(first.keys.sorted() == second.keys.sorted(), sourceLocation: sourceLocation)
  for (name, data) in first {
    #expect(data == second[name], "\(name) differs in \(a) and \(b)", sourceLocation: sourceLocation)
  }
}

/// A JSON object.
func json(_ text: String) throws -> [String: Any] {
  try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any], "\(text)")
}
