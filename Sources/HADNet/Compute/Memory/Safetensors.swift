// Each `unsafe` here reads bytes that lie in the file, as `init` has checked of every entry's range, or is a call
// of C with memory of our own. `Content` is `@safe`, since whoever reads what it gives writes `unsafe`.

import Files
import Foundation

/// A safetensors file: named tensors, little-endian, behind a JSON header. Safe to read from anywhere: nothing in
/// it is executed, and every offset is checked.
///
/// Source: the format's description at huggingface/safetensors.
package struct Safetensors: Sendable {
  /// A type of number, by its name in the format.
  package enum Element: String, Codable, Sendable {
    case float32 = "F32"
    case float64 = "F64"
    case byte = "U8"

    var size: Int { self == .float32 ? 4 : self == .float64 ? 8 : 1 }
  }

  /// What the header says of a tensor: its type, its extents, and which bytes of the data it has.
  package struct Entry: Sendable {
    package let element: Element
    package let extents: [Int]
    let range: Range<Int>
  }

  private struct Header: Codable {
    let dtype: String
    let shape: [Int]
    let offsets: [Int]

    private enum CodingKeys: String, CodingKey {
      case dtype, shape
      case offsets = "data_offsets"
    }
  }

  package let path: String
  package let entries: [String: Entry]
  package let metadata: [String: String]
  private let data: Data
  private let start: Int
  /// Whether `data` is the file itself.
  private let isMapped: Bool

  /// Reads a file. Throws `.missing` if there is none and `.invalid` if it is damaged.
  ///
  /// - `isSealed`: whether a file without the hash of all that is in it is refused, which tells a damaged one.
  /// - `isKnown`: whether its bytes are known to be those that were written, and not hashed again.
  package init(path: String, isSealed: Bool = false, isKnown: Bool = false) throws {
    guard FileManager.default.fileExists(atPath: path) else {
      throw Fault(.missing, "\(path): no such file")
    }
    let mapped = Safetensors.mapped(path)
    guard let data = mapped ?? (try? Data(contentsOf: URL(fileURLWithPath: path))) else {
      throw Fault(.storage, "\(path) cannot be read")
    }
    try self.init(data, path: path, isSealed: isSealed, isKnown: isKnown, isMapped: mapped != nil)
  }

  /// A file's bytes, which come from it as they are read; nil where it can't be mapped, as a pipe or an empty file.
  private static func mapped(_ path: String) -> Data? {
    let descriptor = System.open(path, O_RDONLY)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    guard let status = FileStatus(descriptor), status.isFile, status.bytes > 0,
      let memory = unsafe mmap(nil, status.bytes, PROT_READ, MAP_PRIVATE, descriptor, 0),
      unsafe memory != MAP_FAILED
    else { return nil }
    let data = unsafe Data(bytesNoCopy: memory, count: status.bytes, deallocator: .unmap)
    // A copy would be no mapping.
    return unsafe data.withUnsafeBytes { unsafe $0.baseAddress == UnsafeRawPointer(memory) } ? data : nil
  }

  /// The longest header: thousands of tensors, and yet no more memory than a small machine has.
  private static let headerLimit = 1 << 22

  init(_ data: Data, path: String, isSealed: Bool = false, isKnown: Bool = false, isMapped: Bool = false)
    throws
  {
    func damaged(_ why: String) -> Fault {
      Fault(.invalid, "\(path): \(why); the file is damaged or is no safetensors file")
    }
    guard !data.isEmpty else { throw Fault(.missing, "\(path): the file is empty") }
    guard data.count >= 8 else { throw damaged("it has \(data.count) bytes") }
    let length = data.prefix(8).enumerated().reduce(UInt64(0)) { $0 | UInt64($1.element) << (8 * $1.offset) }
    guard length <= UInt64(data.count - 8) else {
      throw damaged("its header of \(length) bytes does not fit in \(data.count)")
    }
    guard length <= Safetensors.headerLimit else {
      throw damaged("its header has \(length) bytes, more than \(Safetensors.headerLimit)")
    }
    start = 8 + Int(length)
    let header = data.subdata(in: data.startIndex + 8..<data.startIndex + start)
    guard let object = try? JSONSerialization.jsonObject(with: header) as? [String: Any] else {
      throw damaged("its header is no JSON object")
    }
    // Of two of a name each reader would take another.
    if let name = Safetensors.doubled(header) { throw damaged("its header has \(name) twice") }
    var entries: [String: Entry] = [:], metadata: [String: String] = [:]
    let available = data.count - start
    for (name, value) in object {
      if name == "__metadata__" {
        guard let texts = value as? [String: String] else { throw damaged("its metadata are no texts") }
        metadata = texts
        continue
      }
      guard let fields = value as? [String: Any], let type = fields["dtype"] as? String,
        let shape = fields["shape"] as? [Int], let offsets = fields["data_offsets"] as? [Int],
        offsets.count == 2
      else { throw damaged("the header's entry \(name) is not understood") }
      guard let element = Element(rawValue: type) else {
        throw Fault(.invalid, "\(path): \(name) has numbers of type \(type); F32, F64 and U8 are known")
      }
      var count = 1
      for side in shape {
        let product = count.multipliedReportingOverflow(by: side)
        guard side >= 0, !product.overflow, product.partialValue < 1 << 40 else {
          throw damaged("\(name) has the shape \(shape)")
        }
        count = product.partialValue
      }
      guard offsets[0] >= 0, offsets[0] <= offsets[1], offsets[1] - offsets[0] == count * element.size else {
        throw damaged("\(name) of shape \(shape) has the offsets \(offsets)")
      }
      guard offsets[1] <= available else {
        throw damaged("\(name) ends at byte \(offsets[1]) of \(available)")
      }
      entries[name] = Entry(element: element, extents: shape, range: offsets[0]..<offsets[1])
    }
    // Every byte belongs to one tensor.
    var end = 0, before = "", unused = 0
    for (name, entry) in Safetensors.inOrder(entries) {
      guard entry.range.lowerBound >= end else { throw damaged("\(before) and \(name) share bytes") }
      unused += entry.range.lowerBound - end
      (end, before) = (entry.range.upperBound, name)
    }
    unused += available - end
    guard unused == 0 else { throw damaged("\(unused) bytes belong to no tensor") }
    if let hash = metadata[Safetensors.hashKey] {
      guard isKnown || hash == Safetensors.hash(metadata, entries, data, from: start) else {
        throw damaged("its fields and numbers are not those that were written")
      }
    } else if isSealed {
      throw Fault(
        .invalid,
        "\(path): no \(Safetensors.hashKey) in its metadata, the hash that tells a damaged file: this program did not "
          + "write it (predict --unverified takes it)")
    }
    self.isMapped = isMapped
    self.path = path
    self.entries = entries
    self.metadata = metadata
    self.data = data
  }

  /// Tensors in the order of their bytes.
  private static func inOrder(_ entries: [String: Entry]) -> [(key: String, value: Entry)] {
    entries.sorted {
      ($0.value.range.lowerBound, $0.value.range.upperBound, $0.key)
        < ($1.value.range.lowerBound, $1.value.range.upperBound, $1.key)
    }
  }

  /// The hash of fields and of the numbers, which begin at byte `start`.
  private static func hash(
    _ metadata: [String: String], _ entries: [String: Entry], _ data: Data, from start: Int
  ) -> String {
    let running = ContentHash.Running()
    running.update(fields(metadata, inOrder(entries).map { ($0, $1.element, $1.extents) }).span)
    running.update(data.span.extracting(start...))
    return running.text
  }

  /// What the hash covers before the numbers, whatever the header looks like: all metadata but the hash itself by their
  /// keys, then the tensors in the order of their bytes. Each text stands behind its length.
  private static func fields(
    _ metadata: [String: String], _ tensors: [(name: String, element: Element, extents: [Int])]
  ) -> Data {
    var data = Data()
    func add(_ text: String) { data.append(contentsOf: "\(text.utf8.count):\(text)".utf8) }
    let known = metadata.filter { $0.key != hashKey }
    add("\(known.count) \(tensors.count)")
    for (key, value) in known.sorted(by: { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }) {
      add(key)
      add(value)
    }
    for (name, element, extents) in tensors {
      add(name)
      add(element.rawValue)
      add(extents.map(String.init).joined(separator: ","))
    }
    return data
  }

  /// A name that an object in a JSON text has twice; nil if there is none. The text is known to be JSON.
  private static func doubled(_ json: Data) -> String? {
    let bytes = [UInt8](json)
    // The names so far of each object that is open; nil for a list.
    var open: [Set<String>?] = [], at = 0
    while at < bytes.count {
      switch bytes[at] {
      case UInt8(ascii: "{"): open.append([])
      case UInt8(ascii: "["): open.append(nil)
      case UInt8(ascii: "}"), UInt8(ascii: "]"): _ = open.popLast()
      case UInt8(ascii: "\""):
        let first = at
        repeat {
          at += bytes[at] == UInt8(ascii: "\\") ? 2 : 1
        } while at < bytes.count
          && bytes[at] != UInt8(ascii: "\"")
        var next = at + 1
        while next < bytes.count, [0x20, 0x09, 0x0A, 0x0D].contains(bytes[next]) { next += 1 }
        guard next < bytes.count, bytes[next] == UInt8(ascii: ":"), !open.isEmpty,
          let name = try? JSONDecoder().decode(String.self, from: Data(bytes[first...at]))
        else { break }
        if open[open.count - 1]?.insert(name).inserted == false { return name }
      default: break
      }
      at += 1
    }
    return nil
  }

  private func entry(_ name: String, _ element: Element) throws -> Entry {
    guard let entry = entries[name] else { throw Fault(.invalid, "\(path): \(name) is missing") }
    guard entry.element == element else {
      throw Fault(
        .invalid, "\(path): \(name) is \(entry.element.rawValue), expected \(element.rawValue)")
    }
    return entry
  }

  private func numbers<T: BitwiseCopyable>(_ name: String, _ element: Element, _ type: T.Type) throws -> [T] {
    let entry = try entry(name, element)
    let bytes = data.subdata(in: (start + entry.range.lowerBound)..<(start + entry.range.upperBound))
    return unsafe bytes.withUnsafeBytes { raw in
      (0..<raw.count / element.size).map {
        unsafe raw.loadUnaligned(fromByteOffset: $0 * element.size, as: T.self)
      }
    }
  }

  /// A tensor's numbers in the file's order. Throws `.invalid` where there is none of that name, or it is of another type.
  package func floats(_ name: String) throws -> [Float] { try numbers(name, .float32, Float.self) }
  /// The same of a tensor of doubles.
  package func doubles(_ name: String) throws -> [Double] { try numbers(name, .float64, Double.self) }
  /// The same of a tensor of bytes.
  package func bytes(_ name: String) throws -> [UInt8] { try numbers(name, .byte, UInt8.self) }

  /// Checks that the tensors PREFIX + name of a layout are there in its shapes, else throws `.invalid`: before memory
  /// is asked for, as a damaged file may speak of any size.
  package func check(_ prefix: String, _ layout: ParameterLayout) throws {
    for parameter in layout.parameters {
      let name = prefix + parameter.name, entry = try entry(name, .float32)
      guard entry.extents == parameter.extents else {
        func text(_ extents: [Int]) -> String { extents.map(String.init).joined(separator: "×") }
        throw Fault(
          .invalid, "\(path): \(name) is \(text(entry.extents)), expected \(text(parameter.extents))")
      }
    }
  }

  /// Fills `vector` from the tensors PREFIX + name of its layout. Throws `.invalid` where one is missing or has
  /// another shape.
  package func read(_ prefix: String, into vector: ParameterVector) throws {
    try check(prefix, vector.layout)
    try unsafe copy(prefix, vector.layout, 0..<vector.layout.count, to: vector.values)
  }

  /// Copies a range of the layout's vector, `[range.count]`, from the tensors PREFIX + name, which `check` has found.
  /// Throws `.invalid` as `check` does.
  package func copy(
    _ prefix: String, _ layout: ParameterLayout, _ range: Range<Int>,
    to target: UnsafeMutableBufferPointer<Float>
  ) throws {
    precondition(target.count == range.count, "\(range) into \(target.count) numbers")
    for parameter in layout.parameters where parameter.range.overlaps(range) {
      let common = parameter.range.clamped(to: range), entry = try entry(prefix + parameter.name, .float32)
      let first = start + entry.range.lowerBound + 4 * (common.lowerBound - parameter.range.lowerBound)
      let place = common.lowerBound - range.lowerBound
      unsafe data.withUnsafeBytes { raw in
        unsafe UnsafeMutableRawBufferPointer(
          UnsafeMutableBufferPointer(rebasing: target[place..<place + common.count])
        )
        .copyMemory(from: UnsafeRawBufferPointer(rebasing: raw[first..<first + 4 * common.count]))
        if isMapped { unsafe Safetensors.letGo(first..<first + 4 * common.count, of: raw) }
      }
    }
  }

  /// Gives back the memory of a mapped file's bytes, by whole pages: whoever wants them again gets them from the file.
  private static func letGo(_ range: Range<Int>, of file: UnsafeRawBufferPointer) {
    let page = Int(getpagesize()), first = (range.lowerBound + page - 1) / page, end = range.upperBound / page
    guard first < end, let base = file.baseAddress else { return }
    unsafe madvise(
      UnsafeMutableRawPointer(mutating: base) + first * page, (end - first) * page, Int32(MADV_DONTNEED))
  }

  /// A vector of a layout's numbers, to be written under names with a prefix.
  @safe package struct Content {
    let prefix: String
    let layout: ParameterLayout
    /// The numbers of a range, valid until the next call.
    let values: (Range<Int>) throws -> UnsafeBufferPointer<Float>

    /// All numbers of a vector, as they are when they are written.
    package init(_ prefix: String, _ p: Parameters) { unsafe self.init(prefix, p.layout) { unsafe p[$0] } }

    /// Numbers that lie elsewhere, or over ranks: `values` is asked for each range as it is written.
    package init(
      _ prefix: String, _ layout: ParameterLayout,
      values: @escaping (Range<Int>) throws -> UnsafeBufferPointer<Float>
    ) {
      self.prefix = prefix
      self.layout = layout
      unsafe self.values = values
    }
  }

  /// What is to be written: names in order, so that equal contents give equal bytes.
  package struct Writer {
    /// Numbers that are asked for at a time.
    package static let pieceLength = 1 << 22
    private let tensors: [(name: String, parameter: Parameter, content: Content)]
    private let metadata: [String: String]

    /// `metadata`: texts that stand beside the numbers; a hash of everything is added to them.
    package init(_ contents: [Content], metadata: [String: String] = [:]) {
      self.metadata = metadata
      tensors = contents.flatMap { content in
        content.layout.parameters.map { (content.prefix + $0.name, $0, content) }
      }.sorted { $0.0 < $1.0 }
    }

    /// Asks for all numbers in the file's order, a piece at a time. Where contents lie over ranks, all ranks ask.
    /// Throws what `take` and the contents throw.
    package func forEachPiece(_ take: (Span<Float>) throws -> Void) throws {
      for tensor in tensors {
        let range = tensor.parameter.range
        for start in stride(from: range.lowerBound, to: range.upperBound, by: Writer.pieceLength) {
          let piece = start..<min(start + Writer.pieceLength, range.upperBound)
          try take(unsafe tensor.content.values(piece).span)
        }
      }
    }

    /// All bytes before the numbers; their length does not depend on the numbers' `hash`.
    private func header(_ hash: String) throws -> Data {
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
      func json(_ value: some Encodable) throws -> String {
        String(decoding: try encoder.encode(value), as: UTF8.self)
      }
      var metadata = metadata
      metadata[hashKey] = hash
      var fields = ["\"__metadata__\":\(try json(metadata))"], offset = 0
      for (name, parameter, _) in tensors {
        let header = Header(
          dtype: Element.float32.rawValue, shape: parameter.extents,
          offsets: [offset, offset + 4 * parameter.count])
        fields.append("\(try json(name)):\(try json(header))")
        offset += 4 * parameter.count
      }
      var text = Data("{\(fields.joined(separator: ","))}".utf8)
      // The data start at a multiple of 8, padded with spaces as the format allows.
      while text.count % 8 != 0 { text.append(0x20) }
      let length = Data((0..<8).map { UInt8(truncatingIfNeeded: text.count >> (8 * $0)) })
      return length + text
    }

    /// Writes the file, not yet to the disk for good; faults name `path`, its final place.
    package func write(to temporary: String, as path: String) throws {
      let file = try OutputFile(temporary, as: path), hash = ContentHash.Running()
      try file.put(try header(hash.text))
      hash.update(
        Safetensors.fields(metadata, tensors.map { ($0.name, .float32, $0.parameter.extents) }).span)
      try forEachPiece {
        hash.update($0)
        try file.put($0)
      }
      try file.put(try header(hash.text), at: 0)
    }
  }

  /// Metadata key of the XXH3-128 of fields and numbers, which tells a damaged file.
  static let hashKey = "xxh3"
}
