import Files
import Foundation
import Synchronization
import Terminal

/// Standard output. Swift's own `print` doesn't tell that a disk is full.
enum Output {
  private static let failure = Mutex<Int32>(0)
  private static let isTerminal = isatty(STDOUT_FILENO) == 1

  /// Programs get the text as it is; of what a person sees nothing can steer the terminal.
  static func print(_ text: String, terminator: String = "\n") {
    let bytes = Array(((isTerminal ? printable(text) : text) + terminator).utf8)
    failure.withLock { failure in
      if failure == 0 { failure = writeAll(bytes, to: STDOUT_FILENO) }
    }
  }

  /// Tables, with columns of even width, and stars as they are.
  static func printTables(_ markdown: String?) {
    if let markdown { print("\n" + aligned(markdown.replacing("\\*", with: "*"))) }
  }

  /// Throws where not all that was printed has reached its place. Where its reader has gone (`| head`) the process ends
  /// here as is usual, without a word: all its work is done.
  static func check() throws(Fault) {
    let code = failure.withLock { $0 }
    if code == EPIPE {
      signal(SIGPIPE, SIG_DFL)
      raise(SIGPIPE)
    }
    if code != 0 {
      throw Fault(.storage, "standard output can't be written: \(System.words(code))")
    }
  }
}
