import Foundation
import HADNet
import Synchronization

/// Standard output. Swift's own `print` doesn't tell that a disk is full.
enum Output {
  private static let failure = Mutex<String?>(nil)

  static func print(_ text: String, terminator: String = "\n") {
    failure.withLock { failure in
      if failure != nil { return }
      do {
        try FileHandle.standardOutput.write(contentsOf: Data((text + terminator).utf8))
      } catch {
        failure = String(cString: strerror(errno))
      }
    }
  }

  /// Throws where not all that was printed has reached its place.
  static func check() throws(Fault) {
    if let reason = failure.withLock({ $0 }) {
      throw Fault(.storage, "standard output can't be written: \(reason)")
    }
  }
}
