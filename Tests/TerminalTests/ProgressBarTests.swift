import Synchronization
import Testing

@testable import Terminal

/// Collects what goes to the terminal, with a clock that is set by hand.
private final class Screen: Sendable {
  let time = Mutex(0.0), output = Mutex(""), width = Mutex<Int?>(nil)

  func progress(_ style: ProgressBar.Style) -> ProgressBar {
    ProgressBar(
      style: style, now: { self.time.withLock { $0 } }, columns: { self.width.withLock { $0 } },
      output: { text in self.output.withLock { $0 += text } })
  }
  var text: String { output.withLock { $0 } }
}

@Suite struct ProgressBarTests {
  @Test func theBarTellsTheTimeLeft() {
    let terminal = Screen(), progress = terminal.progress(.bar)
    progress.start("teacher", total: 4)
    terminal.time.withLock { $0 = 30 }
    progress.advance(detail: "loss 0.5")
    progress.finish()
    #expect(
      terminal.text
        == "\rteacher [························] 0/4\u{1B}[K"
        + "\rteacher [██████··················] 1/4, 1 min 30 s left  loss 0.5\u{1B}[K\r\u{1B}[K")
  }

  @Test func theBarIsDrawnTenTimesASecondAtMost() {
    let terminal = Screen(), progress = terminal.progress(.bar)
    progress.start("x", total: 1000)
    for i in 1...500 {
      terminal.time.withLock { $0 = Double(i) / 1000 }
      progress.advance()
    }
    #expect(terminal.text.split(separator: "\r").count <= 6)
  }

  /// What wraps could not be taken back; the width is asked for each time.
  @Test func theBarIsCutAtTheTerminalsWidth() {
    let terminal = Screen(), progress = terminal.progress(.bar)
    terminal.width.withLock { $0 = 20 }
    progress.start("脑 teacher", total: 4)
    #expect(terminal.text == "\r脑 teacher [······…\u{1B}[K")
    terminal.width.withLock { $0 = 12 }
    terminal.time.withLock { $0 = 30 }
    progress.advance()
    #expect(terminal.text.hasSuffix("\r脑 teacher…\u{1B}[K"), "\(terminal.text)")
  }

  /// A case's name is the user's, or a stranger's.
  @Test func namesCannotSteerTheTerminal() {
    let terminal = Screen(), progress = terminal.progress(.bar)
    progress.start("a\u{1B}[2Jb", total: 2)
    progress.line("c\u{9B}2Jd")
    #expect(terminal.text.hasPrefix("\ra\\u{1B}[2Jb ["), "\(terminal.text)")
    #expect(terminal.text.contains("\r\u{1B}[Kc\\u{9B}2Jd\n"), "\(terminal.text)")
  }

  @Test func linesStandAboveTheBar() {
    let terminal = Screen(), progress = terminal.progress(.bar)
    progress.start("x", total: 2)
    progress.line("epoch 1")
    #expect(terminal.text.contains("\r\u{1B}[Kepoch 1\n\rx ["))
  }

  @Test func aFileGetsLinesAlone() {
    let terminal = Screen(), progress = terminal.progress(.lines)
    progress.start("x", total: 2)
    progress.advance()
    progress.line("epoch 1")
    progress.finish()
    #expect(terminal.text == "epoch 1\n")
  }

  /// The first and the last step, and now and then one between them.
  @Test func aFileIsToldHowFarItIs() {
    let terminal = Screen(), progress = terminal.progress(.lines)
    progress.start("predict", total: 40, isTold: true)
    for step in 1...40 {
      terminal.time.withLock { $0 = Double(step) + (step > 30 ? 35 * Double(step - 30) : 0) }
      progress.advance()
    }
    let lines = terminal.text.split(separator: "\n")
    #expect(
      lines.prefix(3) == ["predict 1/40, 39 s left", "predict 5/40, 35 s left", "predict 9/40, 31 s left"])
    #expect(lines.dropFirst(7).first == "predict 29/40, 11 s left" && lines.last == "predict 40/40")
    #expect(lines.count == 18)
    let bar = Screen(), drawn = bar.progress(.bar)
    drawn.start("predict", total: 1, isTold: true)
    drawn.advance()
    #expect(!bar.text.contains("\n"))
  }

  @Test func quietIsQuiet() {
    let terminal = Screen(), progress = terminal.progress(.quiet)
    progress.start("x", total: 2)
    progress.advance(by: 2)
    progress.line("epoch 1")
    progress.finish()
    #expect(terminal.text.isEmpty)
  }

  /// Whoever asks for quiet does not ask for wrong results; of several ranks one speaks.
  @Test func warningsAreToldInQuiet() {
    let terminal = Screen(), progress = terminal.progress(.quiet)
    progress.start("x", total: 2)
    progress.warn("no orientation")
    #expect(terminal.text == "warning: no orientation\n")
    let other = Screen()
    other.progress(.silent).warn("no orientation")
    #expect(other.text.isEmpty)
  }

  @Test func durationsAreShort() {
    #expect(
      [0, 59.4, 200, 7500, 273_600, .infinity].map(ProgressBar.duration)
        == ["0 s", "59 s", "3 min 20 s", "2 h 05 min", "3 d 4 h", "?"])
  }
}
