import Foundation
import Testing

@testable import Files
@testable import TestSupport

@Suite struct SystemTests {
  private let scratch = Scratch()

  @Test func numbersAreReadAsTheyWereWritten() throws {
    let path = scratch.file("a"), numbers: [Int32] = [1, -2, 3, 4]
    let output = try OutputFile(path, as: path)
    try output.put(numbers.span)
    try output.put(([7] as [Int32]).span, at: 4)
    try output.close()
    let file = System.open(path, O_RDONLY)
    defer { close(file) }
    var read = [Int32](repeating: 0, count: 6), span = read.mutableSpan
    #expect(System.read(file, into: &span, 4..<12) == 8)
    #expect(System.read(file, into: &span, 12..<24) == 8)
    #expect(System.read(file, into: &span) == 0)
    #expect(read == [0, 1, 7, 3, 4, 0])
  }

  @Test func whatCannotBeReadIsToldByErrno() {
    var bytes: [UInt8] = [0], span = bytes.mutableSpan
    #expect(System.read(-1, into: &span) == -1 && errno == EBADF)
    #expect(System.open(scratch.file("none"), O_RDONLY) == -1 && errno == ENOENT)
    #expect(FileStatus(scratch.file("none")) == nil && errno == ENOENT)
    #expect(bytes == [0])
  }

  @Test func aLinkLeadsToWhatItIsALinkTo() throws {
    let file = try scratch.put("file", [1, 2, 3]), link = scratch.file("link")
    #expect(System.symlink("file", link) == 0)
    let status = try #require(FileStatus(link))
    #expect(status.isFile && !status.isFolder && status.bytes == 3)
    #expect(status.identity == FileStatus(file)?.identity)
    #expect(FileStatus(link, ofLink: true)?.isFile == false)
    #expect(FileStatus(scratch.path)?.isFolder == true)
    #expect(System.realPath(link) == System.realPath(file))
  }
}
