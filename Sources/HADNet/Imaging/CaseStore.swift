import CXXHash
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
    if let value = CaseFile.read(path, id: id, fingerprint: fingerprint) { return value }
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
    text += Data("\(survey.convention.rawValue)|\(survey.dimensions)|".utf8)
    // Where the voxels lie is kept with them, for what is written back.
    text += Data("\(survey.affine)|\(survey.forms.qform)|\(survey.forms.sform)|".utf8)
    text += try encoder.encode(survey.hashes)
    return text.withUnsafeBytes { ContentHash.of($0) }
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
  static func read(_ path: String, id: String, fingerprint: String) -> PreparedCase? {
    guard let file = fopen(path, "rb") else { return nil }
    defer { fclose(file) }
    var start = [UInt8](repeating: 0, count: 32)
    guard fread(&start, 1, 32, file) == 32, Array(start[0..<8]) == magic else { return nil }
    func word<Word: FixedWidthInteger & BitwiseCopyable>(_ at: Int, _ type: Word.Type) -> Word {
      Word(littleEndian: start.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: at, as: type) })
    }
    let length = Int(word(12, UInt32.self))
    guard word(8, UInt32.self) == version, length < 1 << 20 else { return nil }
    var json = [UInt8](repeating: 0, count: length)
    guard fread(&json, 1, length, file) == length,
      let header = try? JSONDecoder().decode(Header.self, from: Data(json)),
      header.id == id, header.fingerprint == fingerprint, header.shape.count == 4,
      header.shape.allSatisfy({ (1...4096).contains($0) }), header.placement.isPossible,
      header.placement.size.array == Array(header.shape[..<3]), header.shape[3] == Modality.allCases.count
    else { return nil }
    let size = Size(header.shape[0], header.shape[1], header.shape[2])
    var status = stat()
    let voxels = size.voxels, images = voxels * header.shape[3] * 4
    guard fstat(fileno(file), &status) == 0,
      Int(status.st_size) == 32 + length + images + voxels * (header.hasLabels ? 2 : 1)
    else { return nil }

    let volume = Volume(zeros: Shape(size, header.shape[3]))
    var mask = [UInt8](repeating: 0, count: voxels)
    var classes = [UInt8](repeating: 0, count: header.hasLabels ? voxels : 0)
    guard fread(volume.base, 1, images, file) == images, fread(&mask, 1, voxels, file) == voxels,
      fread(&classes, 1, classes.count, file) == classes.count
    else { return nil }
    let hash = hash(json, volume, mask, classes)
    guard hash.low64 == word(16, UInt64.self), hash.high64 == word(24, UInt64.self),
      classes.allSatisfy({ $0 < 4 })
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
    for word in [version, UInt32(json.count)] { withUnsafeBytes(of: word.littleEndian) { start += $0 } }
    for word in [hash.low64, hash.high64] { withUnsafeBytes(of: word.littleEndian) { start += $0 } }
    try AtomicFile.write(path) { temporary in
      guard let file = fopen(temporary, "wb") else { throw AtomicFile.failure("write", path, errno) }
      errno = 0
      var isWhole = true
      func put(_ bytes: UnsafeRawBufferPointer) {
        isWhole = isWhole && fwrite(bytes.baseAddress, 1, bytes.count, file) == bytes.count
      }
      start.withUnsafeBytes(put)
      json.withUnsafeBytes(put)
      put(UnsafeRawBufferPointer(start: value.images.base, count: value.images.shape.count * 4))
      value.mask.withUnsafeBytes(put)
      if !classes.isEmpty { classes.withUnsafeBytes(put) }
      let failed = errno
      guard fclose(file) == 0, isWhole else {
        throw AtomicFile.failure("write", path, failed != 0 ? failed : errno)
      }
    }
  }

  private static func hash(_ json: [UInt8], _ images: Volume, _ mask: [UInt8], _ classes: [UInt8])
    -> XXH128_hash_t
  {
    let state = XXH3_createState()
    defer { XXH3_freeState(state) }
    XXH3_128bits_reset(state)
    XXH3_128bits_update(state, json, json.count)
    XXH3_128bits_update(state, images.base, images.shape.count * 4)
    XXH3_128bits_update(state, mask, mask.count)
    XXH3_128bits_update(state, classes, classes.count)
    return XXH3_128bits_digest(state)
  }
}
