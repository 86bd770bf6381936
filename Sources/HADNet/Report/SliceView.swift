import Compute
import Imaging

/// An axial slice of a prepared case as radiologists look at it: the front of the head above, the patient's left to the
/// right, cut to the brain.
struct SliceView {
  /// [z, y, x, sequences] as prepared, 0 outside the brain.
  let images: Volume
  let z: Int
  /// The brain's box in y and x.
  private let y, x: ClosedRange<Int>
  /// Pixels of a voxel's side.
  private let scale: Float

  init(_ images: Volume, z: Int) {
    self.images = images
    self.z = z
    let size = images.size
    var low = Size(0, size.y, size.x), high = Size(0, -1, -1)
    let values = images.values, channels = images.channels
    for z in 0..<size.z {
      for y in 0..<size.y {
        for x in 0..<size.x where values[((z * size.y + y) * size.x + x) * channels] != 0 {
          low = Size(0, min(low.y, y), min(low.x, x))
          high = Size(0, max(high.y, y), max(high.x, x))
        }
      }
    }
    y = high.y < 0 ? 0...(size.y - 1) : low.y...high.y
    x = high.x < 0 ? 0...(size.x - 1) : low.x...high.x
    scale = max(1, 216 / Float(max(y.count, x.count)))
  }

  /// Calls `paint` for each pixel with its place in the slice, in voxels. The arrays run from back to front.
  private func render(_ paint: (_ y: Float, _ x: Float, _ row: Int, _ column: Int) -> Void) {
    for row in 0..<Int(Float(y.count) * scale) {
      for column in 0..<Int(Float(x.count) * scale) {
        let y = Float(y.upperBound) - ((Float(row) + 0.5) / scale - 0.5)
        let x = Float(x.lowerBound) + ((Float(column) + 0.5) / scale - 0.5)
        paint(y, x, row, column)
      }
    }
  }

  /// One sequence, interpolated linearly, from its darkest to its brightest per cent.
  func grey(_ channel: Int) -> Picture {
    let size = images.size, channels = images.channels
    func value(_ y: Int, _ x: Int) -> Float {
      let y = min(max(y, 0), size.y - 1), x = min(max(x, 0), size.x - 1)
      return images.values[((z * size.y + y) * size.x + x) * channels + channel]
    }
    let inside = (0..<(size.y * size.x)).map { value($0 / size.x, $0 % size.x) }.filter { $0 != 0 }.sorted()
    let low = inside.isEmpty ? 0 : inside[inside.count / 100]
    let high = inside.isEmpty ? 1 : inside[inside.count - 1 - inside.count / 200]
    var picture = Picture(width: Int(Float(x.count) * scale), height: Int(Float(y.count) * scale))
    render { y, x, row, column in
      let y0 = y.rounded(.down), x0 = x.rounded(.down), fy = y - y0, fx = x - x0
      let above = value(Int(y0), Int(x0)) * (1 - fx) + value(Int(y0), Int(x0) + 1) * fx
      let below = value(Int(y0) + 1, Int(x0)) * (1 - fx) + value(Int(y0) + 1, Int(x0) + 1) * fx
      let mean = above * (1 - fy) + below * fy
      // A tenth of the range is kept below the darkest tissue, which is not as black as the outside.
      let share = mean == 0 ? 0 : 0.1 + 0.9 * (mean - low) / max(high - low, 1e-6)
      let level = UInt8(max(0, min(1, share)) * 255 + 0.5)
      picture[column, row] = Color(level, level, level)
    }
    return picture
  }

  /// `picture` with voxels of the slice tinted by `color`, which gets their place in the volume.
  func tinted(_ picture: Picture, _ color: (_ voxel: Int) -> Color?) -> Picture {
    var picture = picture
    let size = images.size
    render { y, x, row, column in
      let y = min(max(Int(y.rounded()), 0), size.y - 1), x = min(max(Int(x.rounded()), 0), size.x - 1)
      if let color = color((z * size.y + y) * size.x + x) {
        picture[column, row] = picture[column, row].mixed(0.6, with: color)
      }
    }
    return picture
  }

  /// `picture` with the classes of a segmentation in their colours.
  func overlay(_ labels: LabelVolume, on picture: Picture) -> Picture {
    tinted(picture) { voxel in
      let index = Int(labels.classes[voxel])
      return index > 0 && index < CaseFigure.colors.count ? CaseFigure.colors[index] : nil
    }
  }
}

extension Picture {
  /// Writes a short note into the lower left corner.
  mutating func note(_ text: String) {
    fill(x: 0, y: height - 18, width: Picture.width(of: text) + 5, height: 18, .black)
    self.text(text, x: 2, y: height - 16)
  }
}
