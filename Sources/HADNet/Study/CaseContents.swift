import Compute
import Files
import Foundation
import Imaging

extension CaseSurvey {
  /// Whether a survey that was read may be one: its numbers are counted with.
  var isPlausible: Bool {
    let sides = dimensions + box.array, most = 32767
    guard dimensions.count == 3, spacing.count == 3, affine.count == 16, affine.allSatisfy(\.isFinite),
      sides.allSatisfy({ (1...most).contains($0) }),
      spacing.allSatisfy({ $0.isFinite && $0 > 0 }), (0...box.voxels).contains(brainVoxels)
    else { return false }
    guard let classVoxels else { return true }
    return (2...17).contains(classVoxels.count) && classVoxels.allSatisfy { (0...brainVoxels).contains($0) }
  }

  /// What a case consists of, in one line: `flair=0123… grid=… seg=… t1=… t1ce=… t2=…`, each with half of its hash; the
  /// grid is what FLAIR's header says of its place.
  var contents: String {
    let grid = "\(dimensions) \(spacing) \(affine) \(forms)"
    return hashes.merging(["grid": ContentHash.of(Array(grid.utf8))]) { own, _ in own }
      .sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value.prefix(16))" }.joined(separator: " ")
  }
}

extension TrainingData {
  /// Of these cases, by ID.
  func contents(_ ids: [String]) -> [String: String] {
    let wanted = Set(ids)
    return Dictionary(
      survey.cases.filter { wanted.contains($0.id) }.map { ($0.id, $0.contents) },
      uniquingKeysWith: { first, _ in first })
  }

  /// The first difference between what cases consisted of and what they do now, in words; nil where there is none.
  func change(from old: [String: String], to new: [String: String]) -> String? {
    let changed = Set(old.keys).union(new.keys).filter { old[$0] != new[$0] }.sorted()
    guard let id = changed.first else { return nil }
    let more = changed.count > 1 ? " (and \(changed.count - 1) more case\(changed.count > 2 ? "s" : ""))" : ""
    guard let before = old[id], let now = new[id] else {
      return "\(id.prefix(80)) was \(old[id] == nil ? "not " : "")among its cases\(more)"
    }
    func parts(_ text: String) -> Set<Substring> { Set(text.split(separator: " ")) }
    let part = parts(now).subtracting(parts(before)).union(parts(before).subtracting(parts(now))).min() ?? ""
    let name = String(part.prefix { $0 != "=" })
    let files = dataset[id]
    let path =
      name == "mask"
      ? files?.mask : name == "seg" ? files?.segmentation : files?.files[Modality(rawValue: name)]
    return "\(id): \(path ?? name) has changed\(more)"
  }
}

/// The data with which a stage is kept although it was trained with others: a file beside its checkpoints.
struct AcceptedData: Codable {
  var cases: [String: String]

  init(cases: [String: String]) { self.cases = cases }

  /// What was accepted so far; nothing where the file is absent or damaged.
  init(_ path: String) {
    let data = FileManager.default.contents(atPath: path)
    self = data.flatMap { try? JSONDecoder().decode(AcceptedData.self, from: $0) } ?? AcceptedData(cases: [:])
  }

  func write(_ path: String) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
    try AtomicFile.write(try encoder.encode(self) + Data("\n".utf8), to: path)
  }
}
