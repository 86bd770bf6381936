import CPNG
import Foundation
import Testing

@testable import Files
@testable import Report

/// A PNG's pixels as RGB, as libpng reads them.
func decoded(_ file: [UInt8]) -> (width: Int, height: Int, bytes: [UInt8])? {
  var image = png_image()
  image.version = UInt32(PNG_IMAGE_VERSION)
  guard png_image_begin_read_from_memory(&image, file, file.count) != 0 else { return nil }
  image.format = UInt32(PNG_FORMAT_FLAG_COLOR)
  var bytes = [UInt8](repeating: 0, count: Int(image.width * image.height) * 3)
  guard png_image_finish_read(&image, nil, &bytes, 0, nil) != 0 else { return nil }
  return (Int(image.width), Int(image.height), bytes)
}

@Suite struct PictureTests {
  @Test(arguments: [(1, 1), (3, 5), (200, 1), (257, 129)])
  func pngReadsBackAsTheSamePixels(width: Int, height: Int) throws {
    var picture = Picture(width: width, height: height, background: Color(1, 2, 3))
    // Noise, which deflate can't shrink.
    for i in 0..<(width * height) {
      let value = UInt64(i + 1) &* 0x9E37_79B9_7F4A_7C15
      picture[i % width, i / width] = Color(
        UInt8(value >> 56), UInt8(truncatingIfNeeded: value >> 48), UInt8(truncatingIfNeeded: value >> 40))
    }
    let file = try picture.png()
    #expect(Array(file.prefix(8)) == [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A])
    let read = try #require(decoded(file))
    #expect(read.width == width && read.height == height && read.bytes == picture.bytes)
  }

  @Test func aFolderThatCannotBeMadeIsNamed() {
    #expect(
      throws: Fault(
        .storage,
        "cannot make the folder /dev/null/at: Not a directory; move away what is there, or give another place"
      )
    ) {
      try Picture(width: 1, height: 1).write(to: "/dev/null/at/all.png")
    }
  }

  @Test func drawingOutsideIsLeftOut() {
    var picture = Picture(width: 4, height: 4)
    picture.fill(x: -2, y: -2, width: 3, height: 3, .white)
    picture.line(from: (-10, -10), to: (50, 90), .white)
    picture.line(from: (90, 90), to: (95, 91), .white)
    picture.line(from: (-90, -90), to: (-95, -91), .white)
    picture.text("far", x: 100, y: 100)
    #expect(picture[0, 0] == .white && picture[3, 0] == .black)
  }

  @Test func textIsAsWideAsItSays() {
    var picture = Picture(width: 40, height: 20)
    picture.text("HH", x: 0, y: 0, scale: 2)
    #expect(Picture.width(of: "HH") == 22 && Picture.width(of: "") == 0)
    let used = (0..<40).filter { x in (0..<20).contains { picture[x, $0] == .white } }
    #expect(used.first == 0 && used.last == 21)
  }

  @Test func aNoteStandsInAsManyLinesAsItNeeds() {
    let picture = Picture(width: 100, height: 10, background: .white)
    #expect(picture.noted(nil) == picture)
    #expect(picture.noted("one two").height == 10 + 20 + 6)
    let long = picture.noted("one two three four")
    #expect(long.width == 100 && long.height == 10 + 3 * 20 + 6)
    #expect((0..<100).allSatisfy { x in (0..<10).allSatisfy { long[x, $0] == .white } })
    // A word is never cut into lines, whatever becomes of its end.
    #expect(picture.noted("indistinguishable").height == 10 + 20 + 6)
  }

  @Test func everyASCIICharacterHasDots() {
    for code in UInt8(33)..<127 {
      var picture = Picture(width: 6, height: 8)
      picture.text(String(UnicodeScalar(code)), x: 0, y: 0, scale: 1)
      #expect(picture != Picture(width: 6, height: 8), "\(UnicodeScalar(code))")
    }
  }
}
