import CPNG
import Files
import Foundation

extension Picture {
  /// The picture as a PNG file's bytes. Throws `.storage` where libpng fails.
  package func png() throws(Fault) -> [UInt8] {
    // libpng's own state, which `png_image_free` gives back; what it says of an error is a text with a 0 at its end.
    var image = unsafe png_image()
    unsafe image.version = UInt32(PNG_IMAGE_VERSION)
    unsafe image.width = UInt32(width)
    unsafe image.height = UInt32(height)
    // PNG_FORMAT_RGB is a macro that Swift doesn't see.
    unsafe image.format = UInt32(PNG_FORMAT_FLAG_COLOR)
    defer { unsafe png_image_free(&image) }
    // Uncompressed size and a margin for headers: never too small, since deflate grows data by far less.
    var count = bytes.count + bytes.count / 100 + 64 * (height + 16)
    var file = [UInt8](repeating: 0, count: count)
    // It is told how much room there is, and the picture has three bytes a pixel.
    guard unsafe png_image_write_to_memory(&image, &file, &count, 0, bytes, 0, nil) != 0 else {
      let message = unsafe withUnsafeBytes(of: image.message) {
        unsafe String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
      }
      throw Fault(.storage, "a picture of \(width)×\(height) can't be written as PNG: \(message)")
    }
    return Array(file.prefix(count))
  }

  /// Writes the picture as a PNG file. Throws `.storage`.
  package func write(to path: String) throws {
    try AtomicFile.write(Data(png()), to: path)
  }
}
