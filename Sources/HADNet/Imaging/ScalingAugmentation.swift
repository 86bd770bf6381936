import Compute

/// Random flips and scaling of training cases, for U-HeMIS and U-HVED.
///
/// Source: NiftyNet 0.5.0, rand_flip.py and rand_spatial_scaling.py with the numbers of U-HVED's config.ini. The
/// original smooths the labels too, which makes labels of other classes; here they stay as they are.
package struct ScalingAugmentation: Codable, Equatable, Sendable {
  /// Probability that an axis is mirrored, for each of the three alone.
  package var flip: Float
  /// The range of the factor of each axis, uniform within; above 1 the volume grows.
  package var least, most: Float

  /// The defaults are those of U-HVED's config.ini.
  package init(flip: Float = 0.5, least: Float = 0.9, most: Float = 1.1) {
    precondition(least > 0 && least <= most, "factors from \(least) to \(most)")
    self.flip = flip
    self.least = least
    self.most = most
  }

  /// A randomly flipped and scaled copy: images by cubic splines, labels nearest. Images [z, y, x, C], any number C
  /// of channels; labels [z, y, x]. Each side of the result is round(side · factor), half to even, at least 1.
  /// Where all three factors are below 1, images are smoothed against aliasing.
  ///
  /// What comes out depends on `random` alone, not on the number of threads.
  package func apply(
    images: Volume, labels: LabelVolume, random: inout Philox, _ workers: Workers
  ) -> (images: Volume, labels: LabelVolume) {
    let flips = (0..<3).map { _ in random.uniform() < flip }
    let factors = (0..<3).map { _ in Double(random.uniform(least, most)) }
    return Scaling(images.size, factors: factors, flips: flips).apply(images, labels, workers)
  }
}

/// A scaling of a volume along its axes, each flipped first or not. Lists are in the order z, y, x.
struct Scaling {
  /// One axis of it.
  struct Axis: Equatable {
    let side, scaled: Int
    let isFlipped: Bool
    /// Of the Gaussian that smooths before scaling, voxels; 0: none.
    let sd: Double

    /// Where voxel `i` of the result lies in the source, in voxels: first and last voxels meet.
    func position(_ i: Int) -> Double {
      let place = scaled == 1 ? 0 : Double(i * (side - 1)) / Double(scaled - 1)
      return isFlipped ? Double(side - 1) - place : place
    }

    /// The source's voxel nearest to voxel `i` of the result; halfway the upper one, before any flip.
    func nearest(_ i: Int) -> Int {
      let place = scaled == 1 ? 0 : Double(i * (side - 1)) / Double(scaled - 1)
      let voxel = Int((place + 0.5).rounded(.down))
      return isFlipped ? side - 1 - voxel : voxel
    }
  }

  let axes: [Axis]
  let size: Size

  init(_ source: Size, factors: [Double], flips: [Bool]) {
    let smooths = factors.allSatisfy { $0 < 1 }
    axes = zip(source.array, zip(factors, flips)).map { side, axis in
      let (factor, isFlipped) = axis
      // The width of the coarser voxels' point spread beyond that of the finer ones', 8 ln 2 = (FWHM/sd)².
      let variance = smooths ? (1 / (factor * factor) - 1) / 5.545_177_444_479_562 : 0
      return Axis(
        side: side, scaled: max(1, Int((Double(side) * factor).rounded(.toNearestOrEven))),
        isFlipped: isFlipped, sd: variance.squareRoot())
    }
    size = Size(axes[0].scaled, axes[1].scaled, axes[2].scaled)
  }

  func apply(_ images: Volume, _ labels: LabelVolume, _ workers: Workers) -> (
    images: Volume, labels: LabelVolume
  ) {
    precondition(labels.size == images.size, "labels \(labels.size) for images \(images.shape)")
    return (apply(images, workers), apply(labels))
  }

  /// Splines of several axes are products of splines of one, so the axes are done one after the other.
  func apply(_ images: Volume, _ workers: Workers) -> Volume {
    var sides = images.size.array, result = images
    for (place, axis) in axes.enumerated() {
      let line = AxisFilter(axis)
      sides[place] = axis.scaled
      let scaled = Volume(zeros: Shape(Size(sides[0], sides[1], sides[2]), images.channels))
      // Both volumes have the extents that are given with them.
      unsafe line.apply(
        result.base, scaled.base, outer: sides[..<place].reduce(1, *),
        inner: sides[(place + 1)...].reduce(images.channels, *), workers)
      result = scaled
    }
    return result
  }

  func apply(_ labels: LabelVolume) -> LabelVolume {
    let source = labels.size
    let zs = (0..<size.z).map(axes[0].nearest), ys = (0..<size.y).map(axes[1].nearest)
    let xs = (0..<size.x).map(axes[2].nearest)
    var classes: [UInt8] = []
    classes.reserveCapacity(size.voxels)
    for z in zs {
      for y in ys {
        let row = (z * source.y + y) * source.x
        for x in xs { classes.append(labels.classes[row + x]) }
      }
    }
    return LabelVolume(size, classes)
  }
}

/// What scaling does to each line of voxels along one axis: a Gaussian, then the cubic spline through what it gives,
/// read at the places of the scaled voxels.
///
/// Beyond its ends a line goes on mirrored: for the spline about its end voxels, for the Gaussian about their outer
/// faces, both as in scipy.ndimage's `zoom` and `gaussian_filter`. A line that keeps its length is copied.
// Lines are pointers: a check a voxel would keep them from being computed in vectors. Where they begin follows from `outer`,
// `inner` and the axis, and all places in a line are 0..<side of it, in what is written 0..<scaled; so the `unsafe` of this type.
struct AxisFilter {
  let axis: Scaling.Axis
  /// Of the Gaussian, from its middle outwards; cut at 4 sd.
  private let gaussian: [Float]
  /// The first value that the filter to spline coefficients runs from is a sum of a line's first voxels.
  private let start: [Float]
  /// The four coefficients that make each scaled voxel.
  private let taps: [(indices: SIMD4<Int>, weights: SIMD4<Float>)]

  /// The pole of the filter that gives a cubic spline's coefficients, √3 − 2.
  ///
  /// Source: Unser, "Splines: a perfect fit for signal and image processing", IEEE Signal Processing Magazine 1999.
  private static let pole = Double(3).squareRoot() - 2
  /// Lines that are done at once, side by side: with two hundred voxels each they fit the CPU's nearest cache.
  private static let lanes = 32

  init(_ axis: Scaling.Axis) {
    self.axis = axis
    let n = axis.side
    let radius = Int(4 * axis.sd + 0.5)
    var weights = (0...radius).map { i in
      radius == 0 ? 1 : Portable.exp(-Double(i * i) / (2 * axis.sd * axis.sd))
    }
    let total = weights.dropFirst().reduce(weights[0]) { $0 + 2 * $1 }
    for i in weights.indices { weights[i] /= total }
    gaussian = weights.map { Float($0) }

    // The sum over the mirrored line, whose period is 2n − 2, of pole^k · value(k).
    var powers: [Double] = [1]
    while powers.count < 2 * n { powers.append(powers[powers.count - 1] * AxisFilter.pole) }
    start = (0..<n).map { k in
      if n == 1 { return 1 }
      let mirrored = k == 0 || k == n - 1 ? 0 : powers[2 * n - 2 - k]
      return Float((powers[k] + mirrored) / (1 - powers[2 * n - 2]))
    }
    taps = (0..<axis.scaled).map { i in
      let place = axis.position(i), below = place.rounded(.down), t = place - below, u = 1 - t
      let weights = SIMD4(
        u * u * u / 6, (4 - 3 * t * t * (2 - t)) / 6, (4 - 3 * u * u * (2 - u)) / 6, t * t * t / 6)
      let indices = (-1...2).map { AxisFilter.mirrored(Int(below) + $0, n) }
      return (SIMD4(indices), SIMD4<Float>(weights))
    }
  }

  /// The voxel that stands at `i` where a line of `n` goes on mirrored about its end voxels.
  static func mirrored(_ i: Int, _ n: Int) -> Int {
    if n == 1 { return 0 }
    let period = 2 * n - 2, place = ((i % period) + period) % period
    return min(place, period - place)
  }

  /// The voxel that stands at `i` where a line of `n` goes on mirrored about its outer faces.
  static func reflected(_ i: Int, _ n: Int) -> Int {
    let period = 2 * n, place = ((i % period) + period) % period
    return min(place, period - 1 - place)
  }

  /// From [outer, side, inner] to [outer, scaled, inner].
  func apply(
    _ from: UnsafePointer<Float>, _ to: UnsafeMutablePointer<Float>, outer: Int, inner: Int,
    _ workers: Workers
  ) {
    let blocks = (inner + AxisFilter.lanes - 1) / AxisFilter.lanes
    // Safe: each iteration writes lines of its own, and the source is only read.
    nonisolated(unsafe) let from = unsafe from, to = unsafe to
    workers.forEach(outer * blocks) { item, _ in
      let slab = item / blocks, first = item % blocks * AxisFilter.lanes
      unsafe lines(
        from + slab * axis.side * inner + first, to + slab * axis.scaled * inner + first, inner,
        min(AxisFilter.lanes, inner - first))
    }
  }

  /// `count` lines side by side, whose voxels are `stride` values apart.
  private func lines(
    _ from: UnsafePointer<Float>, _ to: UnsafeMutablePointer<Float>, _ stride: Int, _ count: Int
  ) {
    let n = axis.side
    unsafe withUnsafeTemporaryAllocation(of: Float.self, capacity: (n + 1) * count) { memory in
      guard let line = memory.baseAddress else { return }
      unsafe smooth(from, stride, count, into: line)
      if axis.scaled == n {
        for i in 0..<n {
          let source = unsafe line + (axis.isFlipped ? n - 1 - i : i) * count
          unsafe (to + i * stride).update(from: source, count: count)
        }
        return
      }
      unsafe makeCoefficients(line, count, line + n * count)
      for (i, tap) in taps.enumerated() {
        let out = unsafe to + i * stride
        let a = unsafe line + tap.indices[0] * count, b = unsafe line + tap.indices[1] * count
        let c = unsafe line + tap.indices[2] * count, d = unsafe line + tap.indices[3] * count
        let w = tap.weights
        for l in 0..<count { unsafe out[l] = (w[0] * a[l] + w[1] * b[l]) + (w[2] * c[l] + w[3] * d[l]) }
      }
    }
  }

  /// [side, count] of the lines, smoothed.
  private func smooth(
    _ from: UnsafePointer<Float>, _ stride: Int, _ count: Int, into line: UnsafeMutablePointer<Float>
  ) {
    let n = axis.side
    for i in 0..<n {
      let out = unsafe line + i * count, middle = unsafe from + i * stride
      for l in 0..<count { unsafe out[l] = gaussian[0] * middle[l] }
      for k in 1..<gaussian.count {
        let a = unsafe from + AxisFilter.reflected(i - k, n) * stride
        let b = unsafe from + AxisFilter.reflected(i + k, n) * stride
        let w = gaussian[k]
        for l in 0..<count { unsafe out[l] += w * (a[l] + b[l]) }
      }
    }
  }

  /// Turns [side, count] values into the coefficients of the splines through them, in place; `first` has room for
  /// `count` values.
  private func makeCoefficients(
    _ line: UnsafeMutablePointer<Float>, _ count: Int, _ first: UnsafeMutablePointer<Float>
  ) {
    let n = axis.side
    if n == 1 { return }
    let pole = Float(AxisFilter.pole), last = Float(AxisFilter.pole / (AxisFilter.pole * AxisFilter.pole - 1))
    unsafe first.update(repeating: 0, count: count)
    for k in 0..<n where start[k].magnitude > 1e-12 {
      let w = start[k], values = unsafe line + k * count
      for l in 0..<count { unsafe first[l] += w * values[l] }
    }
    unsafe line.update(from: first, count: count)
    for k in 1..<n {
      let here = unsafe line + k * count, before = unsafe here - count
      for l in 0..<count { unsafe here[l] += pole * before[l] }
    }
    let end = unsafe line + (n - 1) * count, beforeEnd = unsafe end - count
    // The filter's gain of 6 goes in here.
    for l in 0..<count { unsafe end[l] = 6 * last * (end[l] + pole * beforeEnd[l]) }
    for k in Swift.stride(from: n - 2, through: 0, by: -1) {
      let here = unsafe line + k * count, after = unsafe here + count
      for l in 0..<count { unsafe here[l] = pole * (after[l] - 6 * here[l]) }
    }
  }
}
