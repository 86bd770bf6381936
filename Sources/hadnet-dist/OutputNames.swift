import Files
import Foundation
import Imaging

/// The files that cases will be written to.
struct OutputNames {
  private let cases: [(id: String, paths: [String])]

  init(_ cases: [(id: String, paths: [String])]) { self.cases = cases }

  /// Refuses, before any work, names that the file system of `folder` can't hold, names that two cases would share, and
  /// files that are read, under whatever name.
  func check(in folder: String, inputs: [String]) throws(Fault) {
    let most = OutputNames.longest(folder)
    var owners: [String: String] = [:]
    for (id, paths) in cases {
      for path in paths {
        let name = AtomicFile.name(path)
        guard name.utf8.count <= most else {
          throw Fault(
            .invalid,
            "\(id.prefix(80))…: \(name.utf8.count) bytes for the name of \(name.suffix(30)), \(most) are possible in "
              + "\(folder); shorten the patient's name")
        }
        if let other = owners.updateValue(id, forKey: name) {
          throw Fault(
            .invalid, "\(path) would be written for \(other) and for \(id); rename one of the patients")
        }
      }
    }
    // Under whatever name: links and other spellings lead to the same file.
    func identity(_ path: String) -> FileStatus.Identity? {
      FileStatus(path).flatMap { $0.isFile ? $0.identity : nil }
    }
    var read: [FileStatus.Identity: String] = [:]
    for path in inputs { if let file = identity(path) { read[file] = read[file] ?? path } }
    for path in cases.flatMap(\.paths) {
      if let file = identity(path), let input = read[file] {
        throw Fault(.invalid, "\(path) would be written over \(input), which is read; choose another --out")
      }
    }
  }

  /// The most bytes of a name in a folder, made or not, less the prefix that a file has while it is written.
  private static func longest(_ folder: String) -> Int {
    var there = folder
    while !FileManager.default.fileExists(atPath: there) {
      let above = AtomicFile.parent(there)
      if above == there || above.isEmpty { return AtomicFile.longestName(in: ".") }
      there = above
    }
    return AtomicFile.longestName(in: there)
  }
}

extension CaseFiles {
  /// All files of the case.
  var paths: [String] { files.values.sorted() + [segmentation, mask].compactMap { $0 } }
}
