import Compute
import Files
import Foundation
import Methods
import Networks

/// A whole training state on disk: state.json and safetensors files, in a folder that is there whole or not at all.
package struct Checkpoint: Sendable {
  /// What a stage was made from.
  package struct Origin: Codable, Equatable, Sendable {
    /// Hashes of the images and the truth of each case that trains or validates, as `CaseSurvey.contents` has them.
    var cases: [String: String]
    /// Fingerprints of the networks that the stage began with, by the stages they come from.
    var networks: [String: String]

    init(cases: [String: String] = [:], networks: [String: String] = [:]) {
      self.cases = cases
      self.networks = networks
    }
  }

  /// What is kept of each file, to tell a damaged one.
  private struct FileFacts: Codable, Equatable {
    let bytes: Int
    let xxh3: String
  }

  private struct Contents: Codable {
    var version = Checkpoint.version
    var recipe: String
    var origin: Origin
    var state: TrainingState
    var files: [String: FileFacts]
  }

  /// state.json: the contents and their hash.
  private struct Envelope: Codable {
    var contents: Contents
    var xxh3: String
  }

  /// What can be read of any version.
  private struct AnyVersion: Decodable {
    struct Contents: Decodable { let version: Int }
    let contents: Contents
  }

  /// Changes when older states can no longer be read.
  private static let version = 2

  package let folder: String
  package let state: TrainingState
  /// Fingerprint of the recipe it was made with.
  package let recipe: String
  let origin: Origin
  /// Hash of everything in it.
  package let fingerprint: String
  private let facts: [String: FileFacts]

  /// Names of its files beside state.json.
  var files: Set<String> { Set(facts.keys) }

  private static func encoder() -> JSONEncoder {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
    return encoder
  }

  private static func hash(_ data: Data) -> String { ContentHash.of(data.span) }

  /// Size and hash of a file; with `sync` once it is on the disk.
  private static func facts(_ path: String, sync: Bool = false, as name: String) throws -> FileFacts {
    let descriptor = System.open(path, O_RDONLY)
    guard descriptor >= 0 else { throw AtomicFile.failure("read", name, errno) }
    defer { close(descriptor) }
    guard !sync || fsync(descriptor) == 0 else { throw AtomicFile.failure("write", name, errno) }
    let hash = ContentHash.Running()
    var piece = [UInt8](repeating: 0, count: 4 << 20), bytes = 0
    while true {
      var span = piece.mutableSpan
      let count = System.read(descriptor, into: &span)
      guard count >= 0 else { throw AtomicFile.failure("read", name, errno) }
      if count == 0 { return FileFacts(bytes: bytes, xxh3: hash.text) }
      hash.update(piece.span.extracting(..<count))
      bytes += count
    }
  }

  /// A checkpoint whose files are written, though perhaps not on the disk yet.
  struct Unsealed: Sendable {
    let folder: String
    private let state: TrainingState
    private let recipe: String
    private let origin: Origin
    private let names: [String]
    private let parent, temporary, aside: String

    /// Ends of the names, which begin with a dot, of what is being written and of what is being replaced.
    static let writingEnd = "-writing", replacedEnd = "-replaced"

    /// Writes the files beside FOLDER under another name; each is told where it is written and its final place.
    init(
      _ state: TrainingState, recipe: String, origin: Origin,
      files: [(name: String, write: (_ temporary: String, _ path: String) throws -> Void)], to folder: String
    ) throws {
      self.folder = folder
      self.state = state
      self.recipe = recipe
      self.origin = origin
      names = files.map(\.name)
      let url = URL(fileURLWithPath: folder)
      parent = url.deletingLastPathComponent().path
      temporary = "\(parent)/.\(url.lastPathComponent)\(Unsealed.writingEnd)"
      aside = "\(parent)/.\(url.lastPathComponent)\(Unsealed.replacedEnd)"
      try AtomicFile.makeFolder(parent)
      try? FileManager.default.removeItem(atPath: temporary)
      try undoing {
        try AtomicFile.makeFolder(temporary)
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
        let contents = Contents(recipe: recipe, origin: origin, state: state, files: facts)
        let envelope = Envelope(
          contents: contents, xxh3: Checkpoint.hash(try Checkpoint.encoder().encode(contents)))
        try AtomicFile.put(
          try Checkpoint.encoder().encode(envelope), to: "\(temporary)/state.json", as: "\(folder)/state.json"
        )
        try AtomicFile.sync(temporary)
        // A damaged one, gone back before: its epoch has been trained again. Until the new one is in its place the old
        // one is only aside, where `CheckpointFolder.tidy` would find it.
        try? FileManager.default.removeItem(atPath: aside)
        let isReplaced = System.rename(folder, aside) == 0
        guard isReplaced || errno == ENOENT else { throw AtomicFile.failure("write", folder, errno) }
        guard System.rename(temporary, folder) == 0 else {
          let code = errno
          if isReplaced { System.rename(aside, folder) }
          throw AtomicFile.failure("write", folder, code)
        }
        try AtomicFile.sync(parent)
        if isReplaced { try? FileManager.default.removeItem(atPath: aside) }
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

  private static func damaged(_ folder: String, _ why: String) -> Fault {
    Fault(.invalid, "\(folder): damaged checkpoint: \(why)")
  }

  /// Reads state.json and checks it; of the other files nothing yet.
  ///
  /// `stage`: whose it must be; nil: any.
  private init(stateOf folder: String, _ stage: Method?) throws {
    func damaged(_ why: String) -> Fault { Checkpoint.damaged(folder, why) }
    guard let data = FileManager.default.contents(atPath: "\(folder)/state.json") else {
      throw damaged("state.json is missing")
    }
    let decoder = JSONDecoder()
    if let version = try? decoder.decode(AnyVersion.self, from: data).contents.version,
      version != Checkpoint.version
    {
      throw damaged("state.json has version \(version), expected \(Checkpoint.version)")
    }
    guard let envelope = try? decoder.decode(Envelope.self, from: data) else {
      throw damaged("state.json is cut or altered")
    }
    guard Checkpoint.hash(try Checkpoint.encoder().encode(envelope.contents)) == envelope.xxh3 else {
      throw damaged("state.json is altered")
    }
    let contents = envelope.contents
    if let stage, contents.state.stage != stage {
      throw damaged("it is of the stage \(contents.state.stage.rawValue), not \(stage.rawValue)")
    }
    if let problem = contents.state.problem { throw damaged("state.json: \(problem)") }
    let name = URL(fileURLWithPath: folder).lastPathComponent
    if let progress = CheckpointFolder.Progress(name), progress != CheckpointFolder.Progress(contents.state) {
      throw damaged("state.json is of \(CheckpointFolder.Progress(contents.state).name)")
    }
    for (name, facts) in contents.files.sorted(by: { $0.key < $1.key }) {
      guard name.wholeMatch(of: /[A-Za-z0-9_][A-Za-z0-9_.\-]*/) != nil, facts.bytes >= 0 else {
        throw damaged("state.json names a file that no checkpoint has")
      }
    }
    guard contents.files[Checkpoint.networkFile(contents.state.stage)] != nil else {
      throw damaged("state.json names no \(Checkpoint.networkFile(contents.state.stage))")
    }
    self.folder = folder
    state = contents.state
    recipe = contents.recipe
    origin = contents.origin
    fingerprint = envelope.xxh3
    facts = contents.files
  }

  /// Reads and checks a checkpoint: its state, every file's size and hash. Throws `.invalid` for a damaged one, for one
  /// whose state is not that of the folder's name, and for one of another stage than `stage`, where that is given.
  package init(_ folder: String, of stage: Method? = nil) throws {
    try self.init(stateOf: folder, stage)
    for name in facts.keys.sorted() { try check(name) }
  }

  /// One of its files. They were hashed with the checkpoint, and are not again.
  func file(_ name: String, isSealed: Bool = false) throws -> Safetensors {
    try Safetensors(path: "\(folder)/\(name)", isSealed: isSealed, isKnown: true)
  }

  private func check(_ name: String) throws {
    guard let facts = facts[name], let found = try? Checkpoint.facts("\(folder)/\(name)", as: name) else {
      throw Checkpoint.damaged(folder, "\(name) is missing")
    }
    guard found.bytes == facts.bytes else {
      throw Checkpoint.damaged(folder, "\(name) has \(found.bytes) bytes, \(facts.bytes) were written")
    }
    guard found == facts else { throw Checkpoint.damaged(folder, "\(name) is altered") }
  }

  /// The file of a stage's trained network.
  private static func networkFile(_ stage: Method) -> String { "\(stage.network).safetensors" }

  /// The file of the network in the checkpoint FOLDER, once it is known to be the one that was written. Nothing else
  /// need be there: the network is used, not trained on.
  static func network(in folder: String, of stage: Method? = nil) throws -> String {
    let checkpoint = try Checkpoint(stateOf: folder, stage), file = networkFile(checkpoint.state.stage)
    try checkpoint.check(file)
    return "\(folder)/\(file)"
  }

  /// What the state of a stage's checkpoint FOLDER says; its files are not looked at.
  static func facts(of folder: String, _ stage: Method) throws -> (fingerprint: String, origin: Origin) {
    let checkpoint = try Checkpoint(stateOf: folder, stage)
    return (checkpoint.fingerprint, checkpoint.origin)
  }
}

extension Model {
  /// Reads a model file, or the network of a checkpoint folder.
  ///
  /// - `stage`: whose checkpoint it must be; nil: anyone's.
  /// - `isVerified`: whether a model file without the hash of its contents is refused.
  ///
  /// Throws `.missing` where there is none, `.invalid` where it is damaged or no model.
  package static func load(_ path: String, of stage: Method? = nil, isVerified: Bool = true) throws -> Model {
    let path = CheckpointFolder.resolve(path)
    guard let status = FileStatus(path) else {
      throw Fault(.missing, "\(path): no such model file or checkpoint folder")
    }
    guard status.isFolder else { return try Model(file: path, isVerified: isVerified) }
    if FileManager.default.fileExists(atPath: "\(path)/state.json") {
      return try Model(file: try Checkpoint.network(in: path, of: stage), isKnown: true)
    }
    // Taken out of its checkpoint: the file itself says what it is. What learns from another comes before it.
    let files = Method.networks.map { "\($0).safetensors" }
    guard
      let file = files.reversed().map({ "\(path)/\($0)" })
        .first(where: FileManager.default.fileExists(atPath:))
    else {
      throw Fault(
        .missing,
        "\(path): none of \(files.dropLast().joined(separator: ", ")) and \(files.last ?? "") is in this folder"
      )
    }
    return try Model(file: file, isVerified: isVerified)
  }
}
