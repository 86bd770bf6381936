import Files
import Foundation
import Methods

/// A stage's checkpoints: one folder an epoch, and `latest` and `best`, which lead to two of them.
///
/// `latest` and `best` are symbolic links. Where none can be made each is a text file with the epoch's name; a copy of a
/// run (`cp -rL`, `scp -r`) has whole folders there. All three are read; the next training makes links of the folders.
package struct CheckpointFolder: Sendable {
  package let path: String
  /// Whose they are; nil: anyone's.
  package let stage: Method?

  /// `path`: of the folder, which need not be there.
  package init(_ path: String, _ stage: Method? = nil) {
    self.path = path
    self.stage = stage
  }

  /// Where `best` leads to, and `latest`; nil where it is not there or leads nowhere.
  package var best: String? { target("best") }
  package var latest: String? { target("latest") }

  /// How far training had come: whole epochs, and steps of the next one.
  package struct Progress: Comparable, Sendable {
    package let epoch, step: Int

    package init(epoch: Int, step: Int = 0) {
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

    package static func < (a: Progress, b: Progress) -> Bool { (a.epoch, a.step) < (b.epoch, b.step) }

    package var name: String {
      func digits(_ n: Int) -> String { String(repeating: "0", count: max(0, 4 - "\(n)".count)) + "\(n)" }
      return "epoch-\(digits(epoch))" + (step > 0 ? "-step-\(digits(step))" : "")
    }
  }

  func folder(_ progress: Progress) -> String { "\(path)/\(progress.name)" }

  /// What there are checkpoints of, newest first.
  package func points() -> [Progress] { names().compactMap { Progress($0) }.sorted(by: >) }

  private func names() -> [String] { (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? [] }

  /// The newest good checkpoint; each damaged one on the way is told to `warn`. nil where there is none at all.
  /// Throws `.invalid` where there are some and all are damaged.
  package func newest(warn: (String) -> Void) throws -> Checkpoint? {
    let points = points()
    for (i, progress) in points.enumerated() {
      do {
        return try Checkpoint(folder(progress), of: stage)
      } catch let fault as Fault {
        if i + 1 < points.count {
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
  func point(at progress: Progress, best bestEpoch: Int?, keep: Int) throws {
    try link("latest", to: progress)
    if let bestEpoch { try link("best", to: Progress(epoch: bestEpoch)) }
    // Nothing goes while a link that the disk still has could lead to it.
    try AtomicFile.sync(path)
    let points = points()
    var old = points.filter { $0 <= progress && $0.step == 0 }.dropFirst(max(1, keep)).filter {
      $0.epoch != bestEpoch
    }
    old += points.filter { $0 < progress && $0.step > 0 }
    // Later ones were left by a run that went on from a damaged checkpoint; they are of no line.
    old += points.filter { $0 > progress }
    for old in old { try? FileManager.default.removeItem(atPath: folder(old)) }
  }

  // MARK: Links

  /// The checkpoint folder that a path stands for: its own, or, for a text file in place of a link, the one that it names.
  static func resolve(_ path: String) -> String {
    guard let status = FileStatus(path), status.isFile, status.bytes <= 64,
      let name = FileManager.default.contents(atPath: path).map({
        String(decoding: $0, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
      }), Progress(name) != nil
    else { return path }
    return AtomicFile.parent(path) + "/\(name)"
  }

  private func target(_ name: String) -> String? {
    let path = CheckpointFolder.resolve("\(path)/\(name)")
    return AtomicFile.isFolder(path) ? path : nil
  }

  /// Whether `latest` or `best` is a folder of its own and no link.
  private func isCopy(_ name: String) -> Bool {
    FileStatus("\(path)/\(name)", ofLink: true)?.isFolder == true
  }

  private func link(_ name: String, to progress: Progress) throws {
    let path = "\(path)/\(name)", temporary = "\(self.path)/.\(name)-link"
    if (try? FileManager.default.destinationOfSymbolicLink(atPath: path)) == progress.name { return }
    System.unlink(temporary)
    guard System.symlink(progress.name, temporary) == 0 else {
      // A file system without links.
      guard [EPERM, ENOTSUP, EOPNOTSUPP, ENOSYS].contains(errno) else {
        throw AtomicFile.failure("write", path, errno)
      }
      return try AtomicFile.write(path) {
        try AtomicFile.put(Data("\(progress.name)\n".utf8), to: $0, as: path)
      }
    }
    guard System.rename(temporary, path) == 0 else {
      let code = errno
      System.unlink(temporary)
      throw AtomicFile.failure("write", path, code)
    }
  }

  /// A folder in the place of a link, from a copy of the run, goes if it is the epoch's again, and becomes the epoch's
  /// where that is gone or damaged. Any other stays, under another name.
  private func adopt(_ name: String, warn: (String) -> Void) throws {
    guard isCopy(name) else { return }
    let copy = "\(path)/\(name)"
    if let checkpoint = try? Checkpoint(copy, of: stage) {
      let epoch = folder(Progress(checkpoint.state))
      guard let own = try? Checkpoint(epoch, of: stage) else {
        try? FileManager.default.removeItem(atPath: epoch)
        return try move(copy, to: epoch)
      }
      if own.fingerprint == checkpoint.fingerprint {
        return try FileManager.default.removeItem(atPath: copy)
      }
    }
    let aside = "\(copy)-copied"
    try? FileManager.default.removeItem(atPath: aside)
    try move(copy, to: aside)
    warn("\(copy) is a folder with no checkpoint of this training: now it is \(aside)")
  }

  private func move(_ from: String, to: String) throws {
    guard System.rename(from, to) == 0 else { throw AtomicFile.failure("write", to, errno) }
  }

  // MARK: After a kill, or a copy

  /// Puts the folder in order before its checkpoints are looked through: what a killed job was writing goes, what it was
  /// about to replace comes back, and whole folders in the place of links become epochs again.
  func tidy(warn: (String) -> Void) throws {
    for name in names() where name.hasPrefix(".") {
      let path = "\(self.path)/\(name)"
      if name.hasSuffix(Checkpoint.Unsealed.writingEnd) {
        try? FileManager.default.removeItem(atPath: path)
      } else if name.hasSuffix(Checkpoint.Unsealed.replacedEnd) {
        let own = "\(self.path)/\(name.dropFirst().dropLast(Checkpoint.Unsealed.replacedEnd.count))"
        if AtomicFile.isFolder(own) || System.rename(path, own) != 0 {
          try? FileManager.default.removeItem(atPath: path)
        }
      } else if AtomicFile.isTemporary(name) {
        System.unlink(path)
      }
    }
    for name in ["latest", "best"] { try adopt(name, warn: warn) }
  }

  /// Makes `latest` and `best` what the newest checkpoint's state says: a kill may have come before they were.
  func relink(_ state: TrainingState, warn: (String) -> Void) throws {
    try link("latest", to: Progress(state))
    guard let epoch = state.bestEpoch else { return }
    let best = folder(Progress(epoch: epoch))
    guard AtomicFile.isFolder(best) else {
      return warn("\(best), the best epoch's checkpoint so far, is gone")
    }
    try link("best", to: Progress(epoch: epoch))
  }
}

extension RunFolder {
  /// Makes a stage's links and history what its newest checkpoint says, as its next training would, unless a job is
  /// training it. Where that is not possible all stays as it is.
  package func mend(_ stage: Method) {
    let checkpoints = checkpoints(stage)
    guard AtomicFile.isFolder(checkpoints.path),
      let lock = try? RunLock(lock(stage), "mends the \(stage.rawValue)")
    else { return }
    defer { lock.release() }
    try? checkpoints.tidy { _ in }
    guard let state = try? checkpoints.newest(warn: { _ in })?.state else { return }
    try? checkpoints.relink(state) { _ in }
    try? Trainer.writeHistory(state, to: history(stage))
  }
}
