/// The extent of a volume in voxels, in memory order: z slowest, x fastest.
public struct Size: Hashable, Sendable, CustomStringConvertible {
  public var z, y, x: Int

  public init(_ z: Int, _ y: Int, _ x: Int) {
    self.z = z
    self.y = y
    self.x = x
  }

  public var voxels: Int { z * y * x }

  /// Every side halved; a side must be even.
  public var halved: Size { Size(z / 2, y / 2, x / 2) }

  /// Every side halved and rounded up.
  public var halvedUp: Size { Size((z + 1) / 2, (y + 1) / 2, (x + 1) / 2) }

  /// Every side doubled.
  public var doubled: Size { Size(z * 2, y * 2, x * 2) }

  /// `[z, y, x]`, as files store it.
  public var array: [Int] { [z, y, x] }

  /// `240×240×155`: x, y, z, as a person and every viewer has them.
  public var description: String { "\(x)×\(y)×\(z)" }
}

extension Size: Codable {
  public init(from decoder: any Decoder) throws {
    let sides = try decoder.singleValueContainer().decode([Int].self)
    guard sides.count == 3 else {
      throw DecodingError.dataCorrupted(
        .init(codingPath: decoder.codingPath, debugDescription: "a size is three sides, [z, y, x]"))
    }
    self.init(sides[0], sides[1], sides[2])
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(array)
  }
}

/// The shape of a volume of activations: [z, y, x, channels], channels fastest.
public struct Shape: Hashable, Sendable, CustomStringConvertible {
  public var size: Size
  public var channels: Int

  public init(_ size: Size, _ channels: Int) {
    self.size = size
    self.channels = channels
  }

  public var voxels: Int { size.voxels }
  public var count: Int { size.voxels * channels }
  /// In memory order, as files have it.
  public var description: String { "\(size.z)×\(size.y)×\(size.x)×\(channels)" }
}
