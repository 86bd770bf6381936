import Compute
import Dispatch
import Files
import Foundation
import Synchronization

/// Prepared cases, each from where it is quickest: memory, a cache folder that the processes of a node share, or
/// the patient's files.
package final class CaseStore: Sendable {
  private let cases: [String: CaseFiles]
  private let surveys: [String: CaseSurvey]
  private let preparation: Preparation
  private let commonSize: Size
  private let cache: String?
  private let memoryLimit: Int
  private let state = Mutex(State())
  private let background = DispatchQueue(label: "hadnet.cases")

  private struct State {
    var held: [String: (value: PreparedCase, used: Int)] = [:]
    var bytes = 0
    var clock = 0
    var loading: [String: Promise<PreparedCase>] = [:]
    var damaged: [String] = []
  }

  private enum Lookup {
    case memory(PreparedCase)
    case another(Promise<PreparedCase>)
    case files(Promise<PreparedCase>)
  }

  /// - `surveys`: what is known of the cases' contents. A case without a survey isn't kept in the cache folder,
  ///   since nothing would tell whether its files have changed.
  /// - `cache`: the folder of prepared cases, made when needed; nil for none.
  /// - `memoryLimit`: bytes of prepared cases kept in memory, the longest unused go first.
  package init(
    _ cases: [CaseFiles], surveys: [CaseSurvey] = [], preparation: Preparation, commonSize: Size,
    cache: String? = nil, memoryLimit: Int
  ) {
    self.cases = Dictionary(cases.map { ($0.id, $0) }) { first, _ in first }
    self.surveys = Dictionary(surveys.map { ($0.id, $0) }) { first, _ in first }
    self.preparation = preparation
    self.commonSize = commonSize
    self.cache = cache
    self.memoryLimit = memoryLimit
  }

  /// A quarter of this node's memory, shared by its ranks, in bytes.
  package static func defaultMemoryLimit(ranksOnNode: Int) -> Int {
    Int(clamping: ProcessInfo.processInfo.physicalMemory / 4) / max(1, ranksOnNode)
  }

  /// The case, waiting for it if it is being prefetched.
  ///
  /// Throws `.missing` for an ID that isn't in the data set, what `Preparation.prepare` throws, and `.storage`
  /// where the cache folder is full or can't be written. An error of a prefetch is thrown here.
  package func load(_ id: String) throws -> PreparedCase {
    let source = state.withLock { state -> Lookup in
      state.clock += 1
      if let value = state.held[id]?.value {
        state.held[id]?.used = state.clock
        return .memory(value)
      }
      if let pending = state.loading[id] { return .another(pending) }
      let pending = Promise<PreparedCase>()
      state.loading[id] = pending
      return .files(pending)
    }
    let pending: Promise<PreparedCase>
    switch source {
    case .memory(let value): return value
    case .another(let loading): pending = loading
    case .files(let mine):
      pending = mine
      pending.finish(Result { try fetch(id) })
    }
    defer { state.withLock { if $0.loading[id] === pending { $0.loading[id] = nil } } }
    let value = try pending.value()
    keep(value)
    return value
  }

  /// Begins to load a case in the background, so that it is there when `load` asks; errors wait for `load` too.
  /// The case takes memory beyond the limit until it is loaded, so only the next one or two should be asked for.
  package func prefetch(_ id: String) {
    let pending = state.withLock { state -> Promise<PreparedCase>? in
      if state.held[id] != nil || state.loading[id] != nil { return nil }
      let pending = Promise<PreparedCase>()
      state.loading[id] = pending
      return pending
    }
    guard let pending else { return }
    background.async { [self] in pending.finish(Result { try fetch(id) }) }
  }

  /// Lets go of the cases in memory; they come from the cache folder again when they are asked for.
  package func letGo() {
    state.withLock { state in
      state.held = [:]
      state.bytes = 0
    }
  }

  /// Files of the cache folder that were found damaged since the last call; their cases were prepared anew.
  package func takeDamaged() -> [String] {
    state.withLock { state in
      defer { state.damaged = [] }
      return state.damaged
    }
  }

  private func keep(_ value: PreparedCase) {
    let bytes = CaseStore.bytes(value)
    guard bytes <= memoryLimit else { return }
    state.withLock { state in
      guard state.held[value.id] == nil else { return }
      while state.bytes + bytes > memoryLimit,
        let oldest = state.held.min(by: { $0.value.used < $1.value.used })
      {
        state.bytes -= CaseStore.bytes(oldest.value.value)
        state.held[oldest.key] = nil
      }
      state.held[value.id] = (value, state.clock)
      state.bytes += bytes
    }
  }

  private static func bytes(_ value: PreparedCase) -> Int {
    value.images.shape.count * 4 + value.mask.count + (value.labels?.classes.count ?? 0)
  }

  private func fetch(_ id: String) throws -> PreparedCase {
    guard let files = cases[id] else { throw Fault(.missing, "\(id): no such case in the data set") }
    guard let cache, let survey = surveys[id] else {
      return try preparation.prepare(files, commonSize: commonSize)
    }
    let fingerprint = try self.fingerprint(survey)
    // One file per case and fingerprint, so that runs with other settings may share the folder.
    let path = "\(cache)/\(id)-\(fingerprint.prefix(8)).case"
    let wasThere = FileManager.default.fileExists(atPath: path)
    if let value = CaseFile.read(path, id: id, fingerprint: fingerprint, task: preparation.task) {
      return value
    }
    // The name tells other data and settings apart.
    if wasThere { state.withLock { $0.damaged.append(path) } }
    let value = try preparation.prepare(files, commonSize: commonSize)
    do {
      try CaseFile.write(value, fingerprint: fingerprint, to: path)
    } catch let fault as Fault {
      throw Fault(.storage, "\(fault.description); `--cache DIR` puts prepared cases elsewhere")
    }
    return value
  }

  /// What a prepared case is made from: contents and settings.
  private func fingerprint(_ survey: CaseSurvey) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    var text = try encoder.encode(preparation)
    text += Data("|\(Preparation.version)|\(CaseFile.version)|\(commonSize.array)|\(survey.id)|".utf8)
    text += try encoder.encode(survey.values)
    text += Data("|\(survey.dimensions)|".utf8)
    // Where the voxels lie is kept with them, for what is written back.
    text += Data("\(survey.affine)|\(survey.forms.qform)|\(survey.forms.sform)|".utf8)
    text += try encoder.encode(survey.hashes)
    return ContentHash.of(text.span)
  }
}

/// One prepared case as a file: a magic word, version and length of a JSON header, XXH3-128 of what follows, the
/// header, then images, mask and labels as they are in memory.
enum CaseFile {
  static let version: UInt32 = 2
  private static let magic = Array("HADNCASE".utf8)

  private struct Header: Codable {
    let id, fingerprint: String
    let shape: [Int]  // z, y, x, channels
    let hasLabels: Bool
    let placement: Placement
  }

  /// The case, or nil where the file is absent, damaged, or made from other data: then it is made anew.
  static func read(
    _ path: String, id: String, fingerprint: String, task: SegmentationTask
  ) -> PreparedCase? {
    let file = System.open(path, O_RDONLY)
    guard file >= 0 else { return nil }
    defer { close(file) }
    /// So many values of the file, and nil where it has fewer.
    func next<Value: BitwiseCopyable>(_ count: Int, _ zero: Value) -> [Value]? {
      var values = [Value](repeating: zero, count: count), span = values.mutableSpan
      return isRead(&span) ? values : nil
    }
    func isRead<Value: BitwiseCopyable>(_ values: inout MutableSpan<Value>) -> Bool {
      System.read(file, into: &values) == values.count * MemoryLayout<Value>.stride
    }
    guard let start = next(32, UInt8.zero), Array(start[0..<8]) == magic else { return nil }
    func word<Word: FixedWidthInteger>(_ at: Int, _ type: Word.Type) -> Word {
      start[at..<at + Word.bitWidth / 8].reversed().reduce(0) { $0 << 8 | Word($1) }
    }
    let length = Int(word(12, UInt32.self))
    guard word(8, UInt32.self) == version, length < 1 << 20 else { return nil }
    guard let json = next(length, UInt8.zero),
      let header = try? JSONDecoder().decode(Header.self, from: Data(json)),
      header.id == id, header.fingerprint == fingerprint, header.shape.count == 4,
      header.shape.allSatisfy({ (1...4096).contains($0) }), header.placement.isPossible,
      header.placement.size.array == Array(header.shape[..<3]), header.shape[3] == task.sequences.count
    else { return nil }
    let size = Size(header.shape[0], header.shape[1], header.shape[2])
    let voxels = size.voxels, images = voxels * header.shape[3] * 4
    guard
      FileStatus(file)?.bytes
        == 32 + length + images + voxels * (header.hasLabels ? 2 : 1)
    else { return nil }

    let volume = Volume(zeros: Shape(size, header.shape[3]))
    var values = volume.mutableValues
    guard isRead(&values), let mask = next(voxels, UInt8.zero),
      let classes = next(header.hasLabels ? voxels : 0, UInt8.zero)
    else { return nil }
    let hash = hash(json, volume, mask, classes)
    guard hash.low == word(16, UInt64.self), hash.high == word(24, UInt64.self),
      classes.allSatisfy({ $0 < task.classCount || $0 == LabelVolume.ignored })
    else { return nil }
    return PreparedCase(
      id: id, images: volume, labels: header.hasLabels ? LabelVolume(size, classes) : nil, mask: mask,
      placement: header.placement)
  }

  static func write(_ value: PreparedCase, fingerprint: String, to path: String) throws {
    let size = value.size, classes = value.labels?.classes ?? []
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    let json = [UInt8](
      try encoder.encode(
        Header(
          id: value.id, fingerprint: fingerprint, shape: size.array + [value.images.channels],
          hasLabels: value.labels != nil, placement: value.placement)))
    let hash = hash(json, value.images, value.mask, classes)
    var start = magic
    func add<Word: FixedWidthInteger>(_ word: Word) {
      for byte in 0..<Word.bitWidth / 8 { start.append(UInt8(truncatingIfNeeded: word >> (8 * byte))) }
    }
    add(version)
    add(UInt32(json.count))
    add(hash.low)
    add(hash.high)
    try AtomicFile.write(path) { temporary in
      let file = try OutputFile(temporary, as: path)
      try file.put(start.span)
      try file.put(json.span)
      try file.put(value.images.values)
      try file.put(value.mask.span)
      try file.put(classes.span)
      try file.close()
    }
  }

  private static func hash(_ json: [UInt8], _ images: Volume, _ mask: [UInt8], _ classes: [UInt8])
    -> (low: UInt64, high: UInt64)
  {
    let hash = ContentHash.Running()
    hash.update(json.span)
    hash.update(images.values)
    hash.update(mask.span)
    hash.update(classes.span)
    return hash.words
  }
}
