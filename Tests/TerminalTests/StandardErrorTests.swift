import Glibc
import Testing

@testable import Terminal

struct StandardErrorTests {
  @Test func aFullDiskIsACode() {
    let file = open("/dev/full", O_WRONLY)
    defer { close(file) }
    #expect(writeAll([1, 2, 3], to: file) == ENOSPC)
    #expect(writeAll([], to: file) == 0)
    #expect(writeAll([1], to: -1) == EBADF)
  }

  @Test func aReaderThatHasGoneIsACode() {
    var ends: [Int32] = [0, 0]
    #expect(pipe(&ends) == 0)
    close(ends[0])
    defer { close(ends[1]) }
    #expect(writeAll([1], to: ends[1]) == EPIPE)
    // And leaves nothing behind.
    var pending = sigset_t()
    sigpending(&pending)
    #expect(sigismember(&pending, SIGPIPE) == 0)
  }

  @Test func aPipeThatIsNotReadIsLeftAfterAWhile() {
    var ends: [Int32] = [0, 0]
    #expect(pipe(&ends) == 0)
    defer { ends.forEach { close($0) } }
    _ = fcntl(ends[1], F_SETFL, O_NONBLOCK)
    #expect(writeAll([UInt8](repeating: 0, count: 1 << 22), to: ends[1], patience: 1) == EAGAIN)
  }
}
