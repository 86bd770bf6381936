/// The extent of a volume in voxels, in memory order: z slowest, x fastest.
package struct Size: Hashable, Sendable, CustomStringConvertible {
  package var z, y, x: Int

  package init(_ z: Int, _ y: Int, _ x: Int) {
    self.z = z
    self.y = y
    self.x = x
  }

  package var voxels: Int { z * y * x }

  /// Every side halved; a side must be even.
  package var halved: Size { Size(z / 2, y / 2, x / 2) }

  /// Every side halved and rounded up.
  package var halvedUp: Size { Size((z + 1) / 2, (y + 1) / 2, (x + 1) / 2) }

  /// Every side doubled.
  package var doubled: Size { Size(z * 2, y * 2, x * 2) }

  /// `[z, y, x]`, as files store it.
  package var array: [Int] { [z, y, x] }

  /// `240×240×155`: x, y, z, as a person and every viewer has them.
  package var description: String { "\(x)×\(y)×\(z)" }
}

extension Size: Codable {
  /// From a list of three sides, [z, y, x]. Throws a `DecodingError` where there are more or fewer.
  package init(from decoder: any Decoder) throws {
    let sides = try decoder.singleValueContainer().decode([Int].self)
    guard sides.count == 3 else {
      throw DecodingError.dataCorrupted(
        .init(codingPath: decoder.codingPath, debugDescription: "a size is three sides, [z, y, x]"))
    }
    self.init(sides[0], sides[1], sides[2])
  }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(array)
  }
}

/// The shape of a volume of activations: [z, y, x, channels], channels fastest.
package struct Shape: Hashable, Sendable, CustomStringConvertible {
  package var size: Size
  package var channels: Int

  package init(_ size: Size, _ channels: Int) {
    self.size = size
    self.channels = channels
  }

  package var voxels: Int { size.voxels }
  package var count: Int { size.voxels * channels }
  /// In memory order, as files have it.
  package var description: String { "\(size.z)×\(size.y)×\(size.x)×\(channels)" }
}
