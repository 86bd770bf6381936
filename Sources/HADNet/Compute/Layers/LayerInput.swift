// Pointers, since rows are read in whole vectors and written where a kernel wants them. Each `unsafe` here stays
// within a row of the stored volume, or of the length that `RowStage` says. Types that hold a pointer are `@safe`:
// whoever follows it writes `unsafe`.

/// What a convolution reads: a volume as it is stored, seen through normalisation, leaky ReLU, channel dropout
/// and nearest upsampling. None of these is ever written to memory; the reader applies them.
///
/// A stored value v of channel c reads as leaky(scale[c]·v + shift[c]).
package struct LayerInput: Sendable {
  package let volume: Volume
  /// Per channel; nil: the values are read as they are.
  let scale, shift: [Float]?
  /// Slope of the leaky ReLU below zero; 1: none.
  let slope: Float
  /// Each side is read doubled (nearest neighbour).
  package let upsampled: Bool
  /// Dropout's factor per channel (0 or 1/(1−p)), already in scale and shift; nil: no dropout.
  package let mask: [Float]?

  /// The stored values themselves, dropped out by `mask`.
  package init(_ volume: Volume, mask: [Float]? = nil) {
    self.volume = volume
    scale = mask
    shift = mask.map { [Float](repeating: 0, count: $0.count) }
    slope = 1
    upsampled = false
    self.mask = mask
  }

  /// A convolution's output seen through its norm and leaky ReLU. Dropout comes after the ReLU; its factor is
  /// not negative, so it may as well be applied before.
  package init(_ volume: Volume, _ norm: Norm, slope: Float, mask: [Float]? = nil, upsampled: Bool = false) {
    self.volume = volume
    if let mask {
      scale = zip(norm.scale, mask).map { $0 * $1 }
      shift = zip(norm.shift, mask).map { $0 * $1 }
    } else {
      scale = norm.scale
      shift = norm.shift
    }
    self.slope = slope
    self.upsampled = upsampled
    self.mask = mask
  }

  private init(_ source: LayerInput, upsampled: Bool, mask: [Float]?) {
    volume = source.volume
    scale = source.scale
    shift = source.shift
    slope = source.slope
    self.mask = mask
    self.upsampled = upsampled
  }

  /// The same without upsampling.
  var asStored: LayerInput { LayerInput(self, upsampled: false, mask: mask) }

  /// The same with dropped channels read as the zeros that they are, rather than left out.
  var keepingAll: LayerInput { LayerInput(self, upsampled: upsampled, mask: nil) }

  package var channels: Int { volume.channels }

  /// A stored voxel's value of a channel as it is read.
  package func value(_ voxel: Int, _ c: Int) -> Float {
    let stored = unsafe volume.base[voxel * channels + c]
    guard let scale, let shift else { return stored }
    let value = scale[c] * stored + shift[c]
    return max(value, slope * value)
  }

  /// The size as it is read.
  package var size: Size { upsampled ? volume.size.doubled : volume.size }
}

/// Rows of a source, activated and with a border of zeros, as a kernel wants them.
@safe struct RowStage {
  let base: UnsafeMutablePointer<Float>
  let size: Size
  let channels, stored: Int
  let storedSize: Size
  let slope: Float
  let upsampled: Bool
  let scale, shift: UnsafeMutablePointer<Float>?

  /// `pattern` has room for 2 · (stored row) values: scale and shift repeated along a row, so that activating a
  /// row is one flat loop for any number of channels.
  init(_ source: LayerInput, pattern: UnsafeMutablePointer<Float>) {
    unsafe base = source.volume.base
    size = source.size
    storedSize = source.volume.size
    channels = source.channels
    stored = storedSize.x * channels
    slope = source.slope
    upsampled = source.upsampled
    if let scale = source.scale, let shift = source.shift {
      for x in 0..<storedSize.x {
        for c in 0..<channels {
          unsafe pattern[x * channels + c] = scale[c]
          unsafe pattern[stored + x * channels + c] = shift[c]
        }
      }
      unsafe self.scale = pattern
      unsafe self.shift = pattern + stored
    } else {
      unsafe scale = nil
      unsafe shift = nil
    }
  }

  static func patternCount(_ source: LayerInput) -> Int { 2 * source.volume.size.x * source.channels }

  /// Writes row (z, y), [left + width + right, channels], zero where it lies outside the volume. The padding is
  /// zero after the activation, as in the original, where it is the convolution that pads.
  func write(z: Int, y: Int, left: Int, right: Int, into row: UnsafeMutablePointer<Float>) {
    let length = size.x * channels
    guard z >= 0, z < size.z, y >= 0, y < size.y else {
      unsafe row.update(repeating: 0, count: (left + right) * channels + length)
      return
    }
    unsafe row.update(repeating: 0, count: left * channels)
    let inner = unsafe row + left * channels
    unsafe (inner + length).update(repeating: 0, count: right * channels)
    if upsampled {
      let from = unsafe base + ((z / 2) * storedSize.y + y / 2) * stored
      // The activated half row lies in the second half of the row; doubling it from the front never overtakes.
      let half = unsafe inner + (length - stored)
      unsafe activate(from, into: half)
      for x in 0..<storedSize.x {
        let voxel = unsafe half + x * channels, first = unsafe inner + 2 * x * channels
        if x < storedSize.x - 1 {
          unsafe copyValues(voxel, into: first, channels)
          unsafe copyValues(first, into: first + channels, channels)
        } else {
          // The last voxel is already in its second place.
          unsafe copyValues(voxel, into: first, channels)
        }
      }
    } else {
      unsafe activate(base + (z * storedSize.y + y) * stored, into: inner)
    }
  }

  private func activate(_ from: UnsafePointer<Float>, into row: UnsafeMutablePointer<Float>) {
    guard let scale = unsafe scale, let shift = unsafe shift else {
      unsafe row.update(from: from, count: stored)
      return
    }
    if slope == 1 {
      for i in 0..<stored { unsafe row[i] = scale[i] * from[i] + shift[i] }
    } else {
      for i in 0..<stored {
        let v = unsafe scale[i] * from[i] + shift[i], w = slope * v
        unsafe row[i] = v > w ? v : w
      }
    }
  }
}
