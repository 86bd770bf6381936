import Glibc

/// The terminal that standard error ends at, if there is one.
package enum TerminalWidth {
  /// The variable by which `scripts/mpirun` tells its ranks which terminal it writes their standard error to: they have a
  /// pipe there.
  package static let variable = "HADNET_TERMINAL"

  /// The launcher's terminal, opened only to be asked for its width; nil where there is none, or not on this host.
  private static let launchers: Int32? = {
    // A text of the environment, which nobody changes while it is read here: `setenv` comes before all else.
    guard let path = unsafe getenv(variable), unsafe path[0] == CChar(UInt8(ascii: "/")) else { return nil }
    let file = unsafe open(path, O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC)
    if file >= 0, isatty(file) == 1 { return file }
    if file >= 0 { close(file) }
    return nil
  }()

  /// Whether what is written to standard error is seen on a terminal.
  package static var isTerminal: Bool { isatty(STDERR_FILENO) == 1 || launchers != nil }

  /// Its columns, as they are now; nil where it does not tell.
  package static var columns: Int? {
    var size = winsize()
    for file in [STDERR_FILENO, launchers ?? -1]
    // This call writes a `winsize`.
    where unsafe ioctl(file, UInt(TIOCGWINSZ), &size) == 0 && size.ws_col > 0 {
      return Int(size.ws_col)
    }
    return nil
  }
}

/// The columns that a character takes on a terminal: 0 for marks on the one before, 2 for those of East Asia.
func columns(_ scalar: Unicode.Scalar) -> Int {
  switch scalar.properties.generalCategory {
  case .nonspacingMark, .enclosingMark, .format: return 0
  default: break
  }
  switch scalar.value {
  case 0x1100...0x115F, 0x2E80...0x303E, 0x3041...0x33FF, 0x3400...0x4DBF, 0x4E00...0x9FFF, 0xA000...0xA4CF,
    0xA960...0xA97F, 0xAC00...0xD7A3, 0xF900...0xFAFF, 0xFE30...0xFE6F, 0xFF00...0xFF60, 0xFFE0...0xFFE6,
    0x1F300...0x1F64F, 0x1F680...0x1F6FF, 0x1F900...0x1F9FF, 0x20000...0x3FFFD:
    return 2
  default: return 1
  }
}

/// The columns that a line takes on a terminal.
package func columns(_ text: String) -> Int { text.unicodeScalars.reduce(0) { $0 + columns($1) } }

/// As much of a line as fits into so many columns, with … where some is cut.
package func fitted(_ text: String, columns limit: Int) -> String {
  if columns(text) <= limit { return text }
  var result = String.UnicodeScalarView(), used = 0
  for scalar in text.unicodeScalars {
    let width = columns(scalar)
    if used + width > max(limit, 1) - 1 { break }
    result.append(scalar)
    used += width
  }
  return String(result) + "…"
}
