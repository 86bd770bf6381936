import Compute

/// The windows in which a network runs over a volume, and how what it says of them is put together.
///
/// Source: NiftyNet 0.5.0, sampler_grid_v2.py and windows_aggregator_grid.py.
package struct WindowGrid: Equatable, Sendable {
  /// The volume's.
  package let size: Size
  /// What each window leaves unwritten on its six sides, voxels.
  package let border: Int
  /// In the order in which they run and are written: z fastest, then x, then y.
  package let windows: [VoxelBox]

  /// A window larger than the volume shrinks to it.
  package init(_ size: Size, window: Size, border: Int = 10) {
    precondition(
      border >= 0 && window.array.allSatisfy { $0 > 2 * border },
      "windows of \(window), a border of \(border)")
    self.size = size
    self.border = border
    let window = window.shrunk(to: size)
    let zs = WindowGrid.starts(size.z, window: window.z, border: border)
    let ys = WindowGrid.starts(size.y, window: window.y, border: border)
    let xs = WindowGrid.starts(size.x, window: window.x, border: border)
    windows = ys.flatMap { y in
      xs.flatMap { x in zs.map { z in VoxelBox(origin: Size(z, y, x), size: window) } }
    }
  }

  /// Where windows start along an axis of `side` voxels: 0 and on in steps of a window less its borders while the
  /// window fits, then as far up as it fits; of two starts the middle, rounded half to even, comes after them.
  static func starts(_ side: Int, window: Int, border: Int) -> [Int] {
    let last = side - window, step = max(window - 2 * border, 1)
    var starts = Array(stride(from: 0, through: last, by: step))
    if starts.last != last { starts.append(last) }
    if starts.count == 2 {
      let middle = Int((Double(last) / 2).rounded(.toNearestOrEven))
      if !starts.contains(middle) { starts.append(middle) }
    }
    return starts
  }

  /// Writes the labels of the window `index` without their border into the volume's. Windows are written in their
  /// order, a later one over an earlier; no window writes the volume's outermost `border` voxels.
  package func write(_ labels: LabelVolume, ofWindow index: Int, into result: inout LabelVolume) {
    let window = windows[index]
    precondition(
      labels.size == window.size && result.size == size,
      "labels \(labels.size) of a window \(window.size) into \(result.size) of \(size)")
    // A volume shorter than its borders has nothing within them.
    guard window.size.array.allSatisfy({ $0 > 2 * border }) else { return }
    for z in border..<(window.size.z - border) {
      for y in border..<(window.size.y - border) {
        let from = (z * window.size.y + y) * window.size.x
        let to = ((z + window.origin.z) * size.y + y + window.origin.y) * size.x + window.origin.x
        for x in border..<(window.size.x - border) { result.classes[to + x] = labels.classes[from + x] }
      }
    }
  }
}

/// The order in which training sees windows: the windows of one case load after the other run into a queue, of
/// which a random one is drawn and replaced by the next, until at the end the queue drains.
///
/// Which windows come depends on the random stream alone, so a resumed run draws them anew.
///
/// Source: U-HVED's config.ini (`queue_length`, `sample_per_volume`); NiftyNet's windows go through TensorFlow's
/// `shuffle`, which draws like this.
package struct WindowQueue: Sequence, IteratorProtocol, Sendable {
  /// A window that is drawn.
  package struct Draw: Equatable, Sendable {
    /// The number of the case load among those given.
    package let load: Int
    /// The number of the window in its load.
    package let window: Int
    /// No later draw is of this load: its volume can go.
    package let isLastOfLoad: Bool
  }

  private let loads, windowsPerLoad: Int
  private var random: Philox
  /// Numbers of windows, counted through all loads.
  private var queue: [Int]
  private var generated: Int
  /// How many windows of each load are still to be drawn.
  private var left: [Int]

  /// - `random`: e.g. part 0 of `Philox.Purpose.windows` at the epoch; `VoxelBox.patch` draws from other parts.
  package init(loads: Int, windowsPerLoad: Int, capacity: Int = 30, random: Philox) {
    precondition(
      loads >= 0 && windowsPerLoad > 0 && capacity > 0,
      "\(loads) loads of \(windowsPerLoad) windows through a queue of \(capacity)")
    self.loads = loads
    self.windowsPerLoad = windowsPerLoad
    self.random = random
    generated = Swift.min(capacity, loads * windowsPerLoad)
    queue = Array(0..<generated)
    left = [Int](repeating: windowsPerLoad, count: loads)
  }

  /// The window to train on next; nil once all have been.
  package mutating func next() -> Draw? {
    if queue.isEmpty { return nil }
    let place = random.below(queue.count), number = queue[place]
    if generated < loads * windowsPerLoad {
      queue[place] = generated
      generated += 1
    } else {
      queue.swapAt(place, queue.count - 1)
      queue.removeLast()
    }
    let load = number / windowsPerLoad
    left[load] -= 1
    return Draw(load: load, window: number % windowsPerLoad, isLastOfLoad: left[load] == 0)
  }
}

extension VoxelBox {
  /// A box of `side` voxels, uniform over all places in the volume; where the volume is smaller, a side shrinks to
  /// it.
  package static func patch(_ side: Size, in volume: Size, random: inout Philox) -> VoxelBox {
    let size = side.shrunk(to: volume)
    let z = random.below(volume.z - size.z + 1), y = random.below(volume.y - size.y + 1)
    return VoxelBox(origin: Size(z, y, random.below(volume.x - size.x + 1)), size: size)
  }

  /// The patch that is the window of that number of a case in an epoch: where it lies depends on nothing else.
  ///
  /// `volume` is the augmented one's size, `case` the case's number among those of training.
  package static func patch(
    _ side: Size, in volume: Size, seed: UInt64, epoch: Int, case number: Int, window: Int
  ) -> VoxelBox {
    // Part 0 is the queue's.
    var random = Philox(seed: seed, .windows, epoch, number, part: window + 1)
    return patch(side, in: volume, random: &random)
  }

  fileprivate func check(in whole: Size) {
    precondition(
      zip(zip(origin.array, size.array), whole.array).allSatisfy { $0.0 >= 0 && $0.0 + $0.1 <= $1 },
      "a box \(size) at \(origin) of a volume \(whole)")
  }
}

extension Size {
  /// Each side, but no longer than the other's.
  func shrunk(to other: Size) -> Size { Size(min(z, other.z), min(y, other.y), min(x, other.x)) }
}

extension Volume {
  /// Copies a box into `out`, [z, y, x, channels]: the channels given, in their order; nil: all.
  package func copy(_ box: VoxelBox, channels chosen: [Int]? = nil, into out: Volume) {
    box.check(in: size)
    let chosen = chosen ?? Array(0..<channels)
    precondition(
      out.shape == Shape(box.size, chosen.count) && chosen.allSatisfy { (0..<channels).contains($0) },
      "channels \(chosen) of a box \(box.size) of \(shape) into \(out.shape)")
    let isWhole = chosen == Array(0..<channels), width = chosen.count
    // The box lies in this volume and fills the other, as was just checked. Pointers, since there is no copy from one span to
    // another that is one move of memory.
    for z in 0..<box.size.z {
      for y in 0..<box.size.y {
        let row = ((z + box.origin.z) * size.y + y + box.origin.y) * size.x + box.origin.x
        let from = unsafe base + row * channels,
          to = unsafe out.base + (z * box.size.y + y) * box.size.x * width
        if isWhole {
          unsafe to.update(from: from, count: box.size.x * width)
        } else {
          for (c, channel) in chosen.enumerated() {
            for x in 0..<box.size.x { unsafe to[x * width + c] = from[x * channels + channel] }
          }
        }
      }
    }
  }

  /// A box with memory of its own, [z, y, x, channels]: the channels given, in their order; nil: all.
  package func crop(_ box: VoxelBox, channels chosen: [Int]? = nil) -> Volume {
    let result = Volume(zeros: Shape(box.size, chosen?.count ?? channels))
    copy(box, channels: chosen, into: result)
    return result
  }
}

extension LabelVolume {
  /// A box of the labels, [z, y, x].
  package func crop(_ box: VoxelBox) -> LabelVolume {
    box.check(in: size)
    return LabelVolume(box.size, box.crop(classes, of: size))
  }
}

extension PreparedCase {
  /// A box of the images, [z, y, x, channels], and of the labels where there are some; nil: all channels.
  package func crop(_ box: VoxelBox, channels: [Int]? = nil) -> (images: Volume, labels: LabelVolume?) {
    (images.crop(box, channels: channels), labels?.crop(box))
  }
}
