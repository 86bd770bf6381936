import Glibc
import Synchronization

/// The one door to standard error. What is told to a person must never end the work that it is told of: where nobody can
/// be told (a full disk, a terminal that was closed, a reader that has gone) the text is lost and that is all.
package enum StandardError {
  /// How messages look: as they are, or a JSON object a line.
  package enum Form: Sendable { case text, json }

  private static let chosen = Mutex(Form.text)

  package static var form: Form {
    get { chosen.withLock { $0 } }
    set { chosen.withLock { $0 = newValue } }
  }

  /// Writes a message as a line, or as an object with `event` and the fields, whose values are JSON. Nothing in it can
  /// steer the terminal.
  package static func say(_ text: String, event: String = "message", _ fields: [(String, String)] = []) {
    switch form {
    case .text: write(printable(text) + "\n")
    case .json: write(jsonEvent(event, fields + [("text", jsonString(text))]) + "\n")
    }
  }

  /// Writes text as it is, in one piece where the system allows it, so that ranks do not mix their lines.
  package static func write(_ text: String) {
    // Where someone else has made a pipe non-blocking: a moment, and no more, for its reader.
    _ = writeAll(Array(text.utf8), to: STDERR_FILENO, patience: 1000)
  }

  /// Opens those of the descriptors 0, 1 and 2 that are closed, so that no file of the program's own gets such a number
  /// and is written messages into. Standard output is opened so that writing fails, as it does while it is closed.
  package static func openWhatIsClosed() {
    for (file, flags) in [(STDIN_FILENO, O_RDWR), (STDOUT_FILENO, O_RDONLY), (STDERR_FILENO, O_RDWR)]
    where fcntl(file, F_GETFD) < 0 {
      // The lowest number that is free. C reads the name while the call runs.
      _ = unsafe open("/dev/null", flags)
    }
  }
}

/// Writes bytes to a descriptor; 0, or the error's number. A pipe without a reader is told by the number (EPIPE), not by
/// the end of the process; a terminal that belongs to another job is written to all the same, rather than stopped for.
///
/// `patience`: milliseconds to wait where it takes nothing now, −1 for ever.
package func writeAll(_ bytes: [UInt8], to file: Int32, patience: Int32 = -1) -> Int32 {
  withoutSignals([SIGPIPE, SIGTTOU]) {
    // What is written are bytes start..<count of the array.
    unsafe bytes.withUnsafeBytes { bytes in
      var start = 0
      while start < bytes.count {
        let written = unsafe write(file, bytes.baseAddress! + start, bytes.count - start)  // there are bytes
        let code = errno
        if written > 0 {
          start += written
        } else if written == 0 {
          return ENOSPC
        } else if code == EAGAIN {
          var wait = pollfd(fd: file, events: Int16(POLLOUT), revents: 0)
          // The one descriptor that it is told of.
          if unsafe poll(&wait, 1, patience) == 0 { return code }
        } else if code != EINTR {
          return code
        }
      }
      return 0
    }
  }
}

/// Runs `body` with these signals held back on this thread; one that `body` causes never arrives.
// Each call gets sets and times of this function, and is done with them when it returns.
private func withoutSignals(_ numbers: [Int32], _ body: () -> Int32) -> Int32 {
  var ours = sigset_t(), before = sigset_t(), pending = sigset_t()
  unsafe sigemptyset(&ours)
  unsafe sigpending(&pending)
  // One that waits already is not ours to take.
  for number in numbers where unsafe sigismember(&pending, number) == 0 { unsafe sigaddset(&ours, number) }
  unsafe pthread_sigmask(SIG_BLOCK, &ours, &before)
  let result = body()
  var now = timespec(tv_sec: 0, tv_nsec: 0)
  while unsafe sigtimedwait(&ours, nil, &now) > 0 {}
  unsafe pthread_sigmask(SIG_SETMASK, &before, nil)
  return result
}
