import Files
import Foundation

/// Files that commands write for users.
enum OutputFile {
  /// Writes a file whole or not at all; `-` and /dev/stdout are standard output.
  static func write(_ text: String, to path: String) throws {
    // Behind what was printed, also where that goes to a file.
    if ["-", "/dev/stdout"].contains(path) { return Output.print(text, terminator: "") }
    try AtomicFile.write(Data(text.utf8), to: path)
  }

  /// Tries what checkpoints need of a folder: write, sync, rename.
  static func probe(_ folder: String) throws {
    let path = "\(folder)/.hadnet-dist-probe-\(getpid())"
    try AtomicFile.write(Data("probe".utf8), to: path)
    System.unlink(path)
  }
}
