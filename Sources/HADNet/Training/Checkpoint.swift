import Foundation

/// A whole training state on disk: state.json and safetensors files, in a folder that is there whole or not at all.
public struct Checkpoint: Sendable {
  /// What is kept of each file, to tell a damaged one.
  private struct FileFacts: Codable, Equatable {
    let bytes: Int
    let xxh3: String
  }

  private struct Contents: Codable {
    var version = 1
    var recipe: String
    var state: TrainingState
    var files: [String: FileFacts]
  }

  /// state.json: the contents and their hash.
  private struct Envelope: Codable {
    var contents: Contents
    var xxh3: String
  }

  public let folder: String
  public let state: TrainingState
  /// Fingerprint of the recipe it was made with.
  public let recipe: String
  /// Hash of everything in it.
  public let fingerprint: String

  private static func encoder() -> JSONEncoder {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
    return encoder
  }

  private static func hash(_ data: Data) -> String { data.withUnsafeBytes { ContentHash.of($0) } }

  /// Size and hash of a file; with `sync` once it is on the disk.
  private static func facts(_ path: String, sync: Bool = false, as name: String) throws -> FileFacts {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw Replacement.failure("read", name, errno) }
    defer { close(descriptor) }
    guard !sync || fsync(descriptor) == 0 else { throw Replacement.failure("write", name, errno) }
    let hash = ContentHash.Running()
    let piece = UnsafeMutableRawBufferPointer.allocate(byteCount: 4 << 20, alignment: 64)
    defer { piece.deallocate() }
    var bytes = 0
    while true {
      let count = Foundation.read(descriptor, piece.baseAddress, piece.count)
      if count < 0 && errno == EINTR { continue }
      guard count >= 0 else { throw Replacement.failure("read", name, errno) }
      if count == 0 { return FileFacts(bytes: bytes, xxh3: hash.text) }
      hash.update(UnsafeRawBufferPointer(rebasing: piece[..<count]))
      bytes += count
    }
  }

  /// A checkpoint whose files are written, though perhaps not on the disk yet.
  struct Draft: Sendable {
    let folder: String
    private let state: TrainingState
    private let recipe: String
    private let names: [String]
    private let parent, temporary: String

    /// Writes the files beside FOLDER under another name; each is told where it is written and its final place.
    init(
      _ state: TrainingState, recipe: String,
      files: [(name: String, write: (_ temporary: String, _ path: String) throws -> Void)], to folder: String
    ) throws {
      self.folder = folder
      self.state = state
      self.recipe = recipe
      names = files.map(\.name)
      let url = URL(fileURLWithPath: folder)
      parent = url.deletingLastPathComponent().path
      temporary = "\(parent)/.\(url.lastPathComponent)-writing"
      try Replacement.makeFolder(parent)
      try? FileManager.default.removeItem(atPath: temporary)
      try undoing {
        try Replacement.makeFolder(temporary)
        for (name, write) in files { try write("\(temporary)/\(name)", "\(folder)/\(name)") }
      }
    }

    /// Waits until every file is on the disk, then makes them the checkpoint FOLDER by one rename. Where it throws
    /// (`.storage`), what was there before is untouched.
    func seal() throws {
      try undoing {
        var facts: [String: FileFacts] = [:]
        for name in names {
          facts[name] = try Checkpoint.facts("\(temporary)/\(name)", sync: true, as: "\(folder)/\(name)")
        }
        let contents = Contents(recipe: recipe, state: state, files: facts)
        let envelope = Envelope(
          contents: contents, xxh3: Checkpoint.hash(try Checkpoint.encoder().encode(contents)))
        try Replacement.put(
          try Checkpoint.encoder().encode(envelope), to: "\(temporary)/state.json", as: "\(folder)/state.json"
        )
        try Checkpoint.sync(temporary)
        if FileManager.default.fileExists(atPath: folder) {
          // A damaged one, gone back before: its epoch has been trained again.
          try FileManager.default.removeItem(atPath: folder)
        }
        guard rename(temporary, folder) == 0 else { throw Replacement.failure("write", folder, errno) }
        try Checkpoint.sync(parent)
      }
    }

    private func undoing(_ body: () throws -> Void) throws {
      do {
        try body()
      } catch {
        try? FileManager.default.removeItem(atPath: temporary)
        throw error
      }
    }
  }

  static func sync(_ folder: String) throws {
    let descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { throw Replacement.failure("write", folder, errno) }
    defer { close(descriptor) }
    guard fsync(descriptor) == 0 else { throw Replacement.failure("write", folder, errno) }
  }

  /// Reads and checks a checkpoint: every file's size and hash. Throws `.invalid` for a damaged one.
  public init(_ folder: String) throws {
    func damaged(_ why: String) -> Fault { Fault(.invalid, "\(folder): damaged checkpoint: \(why)") }
    guard let data = FileManager.default.contents(atPath: "\(folder)/state.json") else {
      throw damaged("state.json is missing")
    }
    guard let envelope = try? JSONDecoder().decode(Envelope.self, from: data) else {
      throw damaged("state.json is cut or altered")
    }
    guard envelope.contents.version == 1 else {
      throw damaged("state.json has version \(envelope.contents.version), expected 1")
    }
    guard Checkpoint.hash(try Checkpoint.encoder().encode(envelope.contents)) == envelope.xxh3 else {
      throw damaged("state.json is altered")
    }
    for (name, facts) in envelope.contents.files.sorted(by: { $0.key < $1.key }) {
      guard let found = try? Checkpoint.facts("\(folder)/\(name)", as: name) else {
        throw damaged("\(name) is missing")
      }
      guard found.bytes == facts.bytes else {
        throw damaged("\(name) has \(found.bytes) bytes, \(facts.bytes) were written")
      }
      guard found == facts else { throw damaged("\(name) is altered") }
    }
    self.folder = folder
    state = envelope.contents.state
    recipe = envelope.contents.recipe
    fingerprint = envelope.xxh3
  }
}

/// A stage's checkpoints: one folder an epoch, and the links `latest` and `best`.
public struct CheckpointFolder: Sendable {
  public let path: String

  public init(_ path: String) { self.path = path }

  public var best: String { "\(path)/best" }
  public var latest: String { "\(path)/latest" }

  /// How far training had come: whole epochs, and steps of the next one.
  public struct Mark: Comparable, Sendable {
    public let epoch, step: Int

    public init(epoch: Int, step: Int = 0) {
      self.epoch = epoch
      self.step = step
    }

    init(_ state: TrainingState) { self.init(epoch: state.epoch, step: state.begun?.steps ?? 0) }

    /// From a folder's name, `epoch-0007` or `epoch-0007-step-0012`; nil for any other.
    init?(_ name: String) {
      let numbers = name.split(separator: "-").enumerated().filter { $0.offset % 2 == 1 }.map {
        Int($0.element)
      }
      guard let epoch = numbers.first ?? nil, let step = numbers.count > 1 ? numbers[1] : 0 else {
        return nil
      }
      self.init(epoch: epoch, step: step)
      if self.name != name { return nil }
    }

    public static func < (a: Mark, b: Mark) -> Bool { (a.epoch, a.step) < (b.epoch, b.step) }

    public var name: String {
      func digits(_ n: Int) -> String { String(repeating: "0", count: max(0, 4 - "\(n)".count)) + "\(n)" }
      return "epoch-\(digits(epoch))" + (step > 0 ? "-step-\(digits(step))" : "")
    }
  }

  func folder(_ mark: Mark) -> String { "\(path)/\(mark.name)" }

  /// What there are checkpoints of, newest first.
  public func marks() -> [Mark] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
    return names.compactMap { Mark($0) }.sorted(by: >)
  }

  /// The newest good checkpoint; each damaged one on the way is told to `warn`. nil where there is none at all.
  /// Throws `.invalid` where there are some and all are damaged.
  public func newest(warn: (String) -> Void) throws -> Checkpoint? {
    let marks = marks()
    for (i, mark) in marks.enumerated() {
      do {
        return try Checkpoint(folder(mark))
      } catch let fault as Fault {
        if i + 1 < marks.count {
          warn("\(fault.description); the one before it is taken")
        } else {
          throw Fault(
            .invalid, "\(fault.description); there is none before it: remove \(path) to start the stage anew")
        }
      }
    }
    return nil
  }

  /// Points `latest`, and `best` if asked, at a checkpoint, and removes what is neither best nor among the newest
  /// `keep` epochs; one within an epoch only lasts until there is a newer one.
  func point(at mark: Mark, best bestEpoch: Int?, keep: Int) throws {
    try link("latest", to: mark.name)
    if let bestEpoch { try link("best", to: Mark(epoch: bestEpoch).name) }
    let marks = marks()
    var old = marks.filter { $0 <= mark && $0.step == 0 }.dropFirst(max(1, keep)).filter {
      $0.epoch != bestEpoch
    }
    old += marks.filter { $0 < mark && $0.step > 0 }
    // Later ones were left by a run that went on from a damaged checkpoint; they are of no line.
    old += marks.filter { $0 > mark }
    for old in old { try? FileManager.default.removeItem(atPath: folder(old)) }
    try Checkpoint.sync(path)
  }

  private func link(_ name: String, to target: String) throws {
    let temporary = "\(path)/.\(name)-link"
    unlink(temporary)
    guard symlink(target, temporary) == 0, rename(temporary, "\(path)/\(name)") == 0 else {
      throw Replacement.failure("write", "\(path)/\(name)", errno)
    }
  }
}
