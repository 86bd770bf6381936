import Foundation
import Synchronization

/// What a person at the terminal sees of a long piece of work: a bar with the time left, or plain lines. It only
/// shows; no result depends on it.
package final class ProgressBar: Sendable {
  /// How much is said, and in what form.
  package enum Style: Sendable {
    /// A bar that is redrawn in place, and lines above it.
    case bar
    /// Lines alone, for a file or a batch job.
    case lines
    /// Warnings alone.
    case quiet
    /// Nothing: another rank speaks.
    case silent
  }

  private struct State {
    var label = ""
    var total = 0
    var done = 0
    var detail = ""
    var start = 0.0
    var drawn = -Double.infinity
    var isVisible = false
    var isTold = false
    var told = (done: 0, time: 0.0)
  }

  package let style: Style
  private let now: @Sendable () -> Double
  private let output: @Sendable (String) -> Void
  private let columns: @Sendable () -> Int?
  private let state = Mutex(State())

  /// A bar where standard error is a terminal, else lines.
  package convenience init(quiet: Bool = false, silent: Bool = false) {
    // Objects are read by programs.
    let isSeen = StandardError.form == .text && TerminalWidth.isTerminal
    self.init(style: silent ? .silent : quiet ? .quiet : isSeen ? .bar : .lines)
  }

  /// `now` is in seconds from any start; `output` takes what goes to standard error, whose terminal is `columns` wide
  /// at that moment.
  package init(
    style: Style,
    now: @escaping @Sendable () -> Double = { ProcessInfo.processInfo.systemUptime },
    columns: @escaping @Sendable () -> Int? = { TerminalWidth.columns },
    output: @escaping @Sendable (String) -> Void = { StandardError.write($0) }
  ) {
    self.style = style
    self.now = now
    self.columns = columns
    self.output = output
  }

  /// Begins a piece of work of `total` steps; `isTold`: where there is no bar, some lines tell how far it is.
  package func start(_ label: String, total: Int, isTold: Bool = false) {
    state.withLock { state in
      let isVisible = state.isVisible, time = now()
      state = State(
        label: label, total: total, start: time, isVisible: isVisible, isTold: isTold, told: (0, time))
      draw(&state)
    }
  }

  /// Notes finished steps; `detail` stands behind the bar, e.g. a loss.
  package func advance(by steps: Int = 1, detail: String = "") {
    state.withLock { state in
      state.done += steps
      state.detail = detail
      tell(&state)
      // Ten times a second is what an eye can use.
      if now() - state.drawn >= 0.1 || state.done >= state.total { draw(&state) }
    }
  }

  /// Writes a line that stays, e.g. one an epoch.
  package func line(_ text: String) { line(text, event: "message") }

  /// Writes a line that begins with "warning: "; in quiet, too.
  package func warn(_ text: String) { line(text, event: "warning") }

  private func line(_ text: String, event: String) {
    if style == .silent || (style == .quiet && event != "warning") { return }
    state.withLock { state in
      let wasVisible = state.isVisible
      clear(&state)
      switch StandardError.form {
      case .text: output((event == "warning" ? "warning: " : "") + printable(text) + "\n")
      case .json: output(jsonEvent(event, [("text", jsonString(text))]) + "\n")
      }
      if wasVisible { draw(&state) }
    }
  }

  /// Takes the bar away.
  package func finish() { state.withLock { clear(&$0) } }

  private func draw(_ state: inout State) {
    guard style == .bar, state.total > 0 else { return }
    let time = now()
    state.drawn = time
    let share = min(1, Double(state.done) / Double(state.total))
    let full = Int(share * 24)
    var text =
      "\(state.label) [" + String(repeating: "█", count: full) + String(repeating: "·", count: 24 - full)
    text += "] \(state.done)/\(state.total)" + left(state, time)
    if !state.detail.isEmpty { text += "  \(state.detail)" }
    // A bar that goes beyond the line's end could not be taken back. The last column stays free: some terminals go on to
    // the next line with it.
    text = fitted(printable(text), columns: max(1, (columns() ?? 80) - 1))
    // Back to the first column, and clear what a longer text left behind.
    output("\r\(text)\u{1B}[K")
    state.isVisible = true
  }

  private func left(_ state: State, _ time: Double) -> String {
    guard state.done > 0, state.done < state.total else { return "" }
    let left = (time - state.start) / Double(state.done) * Double(state.total - state.done)
    return ", \(ProgressBar.duration(left)) left"
  }

  /// A line after the first step and the last, and between them every tenth of the work or half a minute.
  private func tell(_ state: inout State) {
    guard style == .lines, state.isTold else { return }
    let time = now(), steps = state.done - state.told.done
    guard
      state.told.done == 0 || state.done >= state.total || steps * 10 >= state.total
        || time - state.told.time >= 30
    else { return }
    state.told = (state.done, time)
    let text = "\(state.label) \(state.done)/\(state.total)" + left(state, time)
    switch StandardError.form {
    case .text: output(printable(text) + "\n")
    case .json:
      output(
        jsonEvent(
          "progress",
          [
            ("of", jsonString(state.label)), ("done", "\(state.done)"), ("total", "\(state.total)"),
            ("text", jsonString(text)),
          ]) + "\n")
    }
  }

  private func clear(_ state: inout State) {
    guard state.isVisible else { return }
    output("\r\u{1B}[K")
    state.isVisible = false
  }

  /// `41 s`, `3 min 20 s`, `2 h 05 min`, `3 d 4 h`.
  package static func duration(_ seconds: Double) -> String {
    guard seconds.isFinite, seconds >= 0, seconds < 1e12 else { return "?" }
    let s = Int(seconds.rounded())
    func two(_ value: Int) -> String { value < 10 ? "0\(value)" : "\(value)" }
    if s < 60 { return "\(s) s" }
    if s < 3600 { return "\(s / 60) min \(two(s % 60)) s" }
    if s < 86400 { return "\(s / 3600) h \(two(s % 3600 / 60)) min" }
    return "\(s / 86400) d \(s % 86400 / 3600) h"
  }
}
