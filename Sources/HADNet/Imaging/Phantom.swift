import Compute
import Dispatch
import Files
import Foundation
import Synchronization

/// A synthetic data set in BraTS's form: heads that a person recognises and tumours that a network can learn, the
/// same bits everywhere from the same seed, since only + − × ÷ √ and this project's own functions are used.
///
/// T1ce shows the enhancing rim at a glance. In the other three sequences it differs from the rest of the core by
/// a few percent of intensity and a finer texture, and which parts of the core's shell enhance is left to chance,
/// so that shape alone doesn't tell: hard but not impossible, as with patients.
package enum Phantom {
  /// Whose names the files get.
  package enum Layout: String, Codable, Sendable, CaseIterable {
    case brats2019, brats2021, brats2023
  }

  /// How the enhancing rim can be told without T1ce.
  package struct Rim: Sendable {
    /// How much it differs from the rest of the core in FLAIR, T1 and T2: 1 is a few percent, 0 not at all.
    package var contrast: Float
    /// How much less of it there is: 0 is about four fifths of a high-grade core's shell, 0.15 three, 0.3 two.
    package var gaps: Float

    package init(contrast: Float = 1, gaps: Float = 0) {
      self.contrast = contrast
      self.gaps = gaps
    }
  }

  /// Low-grade cases among 100, about BraTS 2019's 76 of 335. They enhance little or not at all.
  static let lowGradePercent = 23

  /// Writes `cases` cases below the folder `out`, several at a time.
  ///
  /// - `shape`: the files' extents z, y, x in voxels of 1 mm; BraTS's are 155×240×240. 16 is the least side.
  /// - `progress`: is told how many cases are done, one call at a time, from any thread.
  ///
  /// Throws `.usage` for a shape or number of cases that can't be, `.storage` where the disk is full or the
  /// folder isn't writable.
  package static func write(
    to out: String, cases: Int, shape: Size, seed: UInt64, layout: Layout, rim: Rim = Rim(),
    progress: @Sendable (_ done: Int) -> Void = { _ in }
  ) throws {
    guard cases >= 1 && cases < 100_000 else {
      throw Fault(.usage, "\(cases) phantom cases; 1 to 99999 can be made")
    }
    guard min(shape.z, shape.y, shape.x) >= 16 && max(shape.z, shape.y, shape.x) <= 1024 else {
      throw Fault(.usage, "a phantom of \(shape) voxels; each side must be 16 to 1024")
    }
    guard (0...10).contains(rim.contrast) && (-1...1).contains(rim.gaps) else {
      throw Fault(
        .usage, "a rim of contrast \(rim.contrast) with gaps \(rim.gaps); 0 to 10 and -1 to 1 can be made")
    }
    // Labels, sequences and what is written, of as many cases as are made at the same time.
    let atOnce = min(cases, ProcessInfo.processInfo.activeProcessorCount), needed = 10 * shape.voxels * atOnce
    if let left = AvailableMemory().bytes, needed > left {
      throw Fault(
        .usage,
        "\(atOnce.named("phantom")) of \(shape) voxels (x, y, z) at once take \(AvailableMemory.shown(needed)) of memory, and "
          + "\(AvailableMemory.shown(left)) are left: make smaller ones (--shape)")
    }
    try AtomicFile.makeFolder(out)
    let state = Mutex<(done: Int, fault: (index: Int, error: any Error)?)>((0, nil))
    DispatchQueue.concurrentPerform(iterations: cases) { index in
      if state.withLock({ $0.fault != nil }) { return }
      do {
        try PhantomCase(index: index, shape: shape, seed: seed, rim: rim).write(to: out, layout: layout)
        state.withLock {
          $0.done += 1
          progress($0.done)
        }
      } catch {
        state.withLock { if $0.fault.map({ index < $0.index }) ?? true { $0.fault = (index, error) } }
      }
    }
    if let fault = state.withLock({ $0.fault?.error }) { throw fault }
  }

  /// Whether the case of that number is low-grade: spread evenly, so that small data sets have their share.
  static func isLowGrade(_ index: Int) -> Bool {
    (lowGradePercent * (index + 1) + 50) / 100 > (lowGradePercent * index + 50) / 100
  }
}

/// Smooth noise in a cube around the head: random values on a lattice, blended with continuous slope. About
/// −1…1, mean 0.
struct LatticeNoise {
  private let cells: Int
  private let values: [Float]
  private let scale: Float

  /// `cells` lattice cells from −1.5 to 1.5 on each axis; `part` tells the lattices of a case apart.
  init(cells: Int, seed: UInt64, case index: Int, part: Int) {
    self.cells = cells
    scale = Float(cells) / 3
    let random = Philox(seed: seed, .phantom, index, cells, part: part)
    let side = cells + 1, count = side * side * side
    var values = [Float](repeating: 0, count: count)
    for block in 0..<((count + 3) / 4) {
      let words = random.words(at: block), four = [words.0, words.1, words.2, words.3]
      for i in 0..<min(4, count - block * 4) { values[block * 4 + i] = Float(four[i] >> 8) * 0x1p-23 - 1 }
    }
    self.values = values
  }

  /// The noise at a point; points outside the cube have the value of its nearest face.
  @inline(__always)
  func at(_ z: Float, _ y: Float, _ x: Float) -> Float {
    let top = Float(cells) - 0.001
    let z = min(max((z + 1.5) * scale, 0), top), y = min(max((y + 1.5) * scale, 0), top)
    let x = min(max((x + 1.5) * scale, 0), top)
    let iz = Int(z), iy = Int(y), ix = Int(x)
    var az = z - Float(iz), ay = y - Float(iy), ax = x - Float(ix)
    az = az * az * (3 - 2 * az)
    ay = ay * ay * (3 - 2 * ay)
    ax = ax * ax * (3 - 2 * ax)
    let side = cells + 1, i = (iz * side + iy) * side + ix, plane = side * side
    // The cell's eight corners, of which the last is checked: dozens of points a voxel are asked for.
    precondition(i >= 0 && i + plane + side + 1 < values.count, "a cell beyond the lattice")
    return unsafe values.withUnsafeBufferPointer { v in
      let a = unsafe v[i] + ax * (v[i + 1] - v[i])
      let b = unsafe v[i + side] + ax * (v[i + side + 1] - v[i + side])
      let c = unsafe v[i + plane] + ax * (v[i + plane + 1] - v[i + plane])
      let d = unsafe v[i + plane + side] + ax * (v[i + plane + side + 1] - v[i + plane + side])
      let e = a + ay * (b - a), f = c + ay * (d - c)
      return e + az * (f - e)
    }
  }
}

/// One synthetic patient: a pure function of seed, number and shape.
struct PhantomCase {
  /// What a voxel may be made of; partial volume mixes them.
  enum Tissue: Int, CaseIterable {
    case fluid, grey, white, oedema, core, necrosis, enhancing

    /// Intensities in FLAIR, T1ce, T1, T2: white matter in T1 is 600.
    var intensities: SIMD4<Float> {
      switch self {
      case .fluid: SIMD4(130, 220, 210, 880)
      case .grey: SIMD4(430, 440, 430, 540)
      case .white: SIMD4(350, 610, 600, 390)
      case .oedema: SIMD4(690, 440, 420, 730)
      case .core: SIMD4(560, 395, 370, 645)
      case .necrosis: SIMD4(400, 270, 290, 770)
      case .enhancing: SIMD4(580, 880, 386, 626)
      }
    }
  }

  let index: Int
  let shape: Size
  let seed: UInt64
  let rim: Phantom.Rim
  let isLowGrade: Bool

  init(index: Int, shape: Size, seed: UInt64, rim: Phantom.Rim = Phantom.Rim()) {
    self.index = index
    self.shape = shape
    self.seed = seed
    self.rim = rim
    isLowGrade = Phantom.isLowGrade(index)
  }

  /// Four volumes (FLAIR, T1ce, T1, T2) and classes, [z, y, x] in BraTS's storage order.
  func draw() -> (images: [[Int16]], classes: [UInt8]) {
    let anatomy = PhantomAnatomy(self)
    var images = [[Int16]](repeating: [Int16](repeating: 0, count: shape.voxels), count: 4)
    var classes = [UInt8](repeating: 0, count: shape.voxels)
    let noise = Philox(seed: seed, .phantom, index, 1)
    for z in 0..<shape.z {
      for y in 0..<shape.y {
        let row = (z * shape.y + y) * shape.x
        for x in 0..<shape.x {
          guard let (mixture, label) = anatomy.voxel(z, y, x) else { continue }
          let voxel = row + x
          classes[voxel] = label
          let real = mixture + PhantomCase.gauss(noise, voxel * 2) * anatomy.noise
          let imaginary = PhantomCase.gauss(noise, voxel * 2 + 1) * anatomy.noise
          // The magnitude of a complex signal: Rician noise.
          let value = (real * real + imaginary * imaginary).squareRoot() * anatomy.gain
          for c in 0..<4 { images[c][voxel] = Int16(min(max(value[c].rounded(), 1), 32000)) }
        }
      }
    }
    return (images, classes)
  }

  /// Four numbers near the standard normal: each a sum of four 16-bit uniforms, scaled to variance 1. Cheaper
  /// than exact ones, and the tails make no difference to an image.
  @inline(__always)
  private static func gauss(_ random: Philox, _ at: Int) -> SIMD4<Float> {
    let a = random.words(at: at * 2), b = random.words(at: at * 2 + 1)
    @inline(__always) func sum(_ p: UInt32, _ q: UInt32) -> Float {
      // Four uniforms have variance 4/12 of their range squared.
      let s = (p & 0xFFFF) + (p >> 16) + (q & 0xFFFF) + (q >> 16)
      return (Float(s) * 0x1p-16 - 2) * 1.732_050_8
    }
    return SIMD4(sum(a.0, b.0), sum(a.1, b.1), sum(a.2, b.2), sum(a.3, b.3))
  }

  func name(_ layout: Phantom.Layout) -> String {
    let number = String(index + 1)
    func padded(_ width: Int) -> String {
      String(repeating: "0", count: max(0, width - number.count)) + number
    }
    switch layout {
    case .brats2019: return "BraTS19_PHANTOM_\(padded(3))_1"
    case .brats2021: return "BraTS2021_\(padded(5))"
    case .brats2023: return "BraTS-GLI-\(padded(5))-000"
    }
  }

  func write(to out: String, layout: Phantom.Layout) throws {
    let (images, classes) = draw(), name = name(layout)
    let level = layout == .brats2019 ? (isLowGrade ? "LGG/" : "HGG/") : ""
    let suffixes =
      layout == .brats2023 ? ["-t2f", "-t1c", "-t1n", "-t2w"] : ["_flair", "_t1ce", "_t1", "_t2"]
    let stem = "\(out)/\(level)\(name)/\(name)", dimensions = [shape.x, shape.y, shape.z]
    let affine: [Double] = [-1, 0, 0, 0, 0, -1, 0, Double(shape.y - 1), 0, 0, 1, 0, 0, 0, 0, 1]
    for (image, suffix) in zip(images, suffixes) {
      // Noise hardly compresses: the fastest level costs a few percent of size.
      try NIfTIImage.write(
        image, dimensions: dimensions, affine: affine, to: "\(stem)\(suffix).nii.gz", compression: 1)
    }
    let values = TaskPreset.brats.task.values(caseName: name)
    try NIfTIImage.write(
      classes.map(values.value(of:)), dimensions: dimensions, affine: affine,
      to: "\(stem)\(layout == .brats2023 ? "-seg" : "_seg").nii.gz")
  }
}

/// The shapes of one head and its tumour. Coordinates (z, y, x) are those of the head: 1 is its longest
/// half-axis, z up, y to the back, x to the left.
struct PhantomAnatomy {
  /// Standard deviations of the noise, and the scale of intensities, FLAIR, T1ce, T1, T2.
  let noise: SIMD4<Float>
  let gain: SIMD4<Float>

  private let shape: Size
  private let rotation: [Float]  // row-major, head from voxel
  private let unit: Float  // voxels of a head's longest half-axis
  private let axes: SIMD3<Float>  // half-axes z, y, x
  private let edge: Float  // half a voxel's width of partial volume, in head units
  private let bias: [SIMD4<Float>]  // constant-free polynomial in z, y, x, z², y², x² for each sequence
  private let ventricle: SIMD3<Float>
  private let surface, folds, fineFolds, texture: LatticeNoise

  // The tumour.
  private let centre: SIMD3<Float>
  private let stretch: SIMD3<Float>
  private let whole, core, rim, necrosis: Float  // radii; the rim's depth
  private let coreShift, enhancingShift: SIMD4<Float>  // this case's own contrast, around 1
  private let enhancing: SIMD4<Float>  // intensities of the rim
  private let enhancingFrom: Float  // noise above which the rim enhances
  private let outline, inner, patches: LatticeNoise

  init(_ of: PhantomCase) {
    shape = of.shape
    let seed = of.seed, index = of.index
    func lattice(_ cells: Int, _ part: Int) -> LatticeNoise {
      LatticeNoise(cells: cells, seed: seed, case: index, part: part)
    }
    var random = Philox(seed: seed, .phantom, index)
    let axes = SIMD3(
      0.80 * random.uniform(0.95, 1.05), random.uniform(0.96, 1), 0.80 * random.uniform(0.95, 1.05))
    let angles = [random.uniform(-0.10, 0.10), random.uniform(-0.08, 0.08), random.uniform(-0.15, 0.15)]
    var turn = AffineMap(of.shape)
    turn.turn(angles.map { Double($0) }, shears: [0, 0, 0], scales: [1, 1, 1])
    let rotation = turn.matrix.flatMap { $0.map { Float($0) } }
    // How far the tilted, uneven head reaches along each axis of the volume decides its size.
    let reach = (0..<3).map { column -> Float in
      let part = (0..<3).map { rotation[$0 * 3 + column] * axes[$0] }
      return (part[0] * part[0] + part[1] * part[1] + part[2] * part[2]).squareRoot() * 1.06
    }
    self.axes = axes
    self.rotation = rotation
    let sides = of.shape.array.map { Float($0) / 2 - 1 }
    let fit = min(sides[0] / reach[0], sides[1] / reach[1], sides[2] / reach[2])
    unit = fit * random.uniform(0.90, 1)
    edge = 0.5 / unit
    var bias: [SIMD4<Float>] = []
    for power in 0..<6 {
      let size: Float = power < 3 ? 0.07 : 0.05
      bias.append(
        SIMD4(
          random.uniform(-size, size), random.uniform(-size, size), random.uniform(-size, size),
          random.uniform(-size, size)))
    }
    self.bias = bias
    noise = SIMD4(18, 20, 18, 22) * random.uniform(0.8, 1.2)
    gain = SIMD4(
      random.uniform(0.6, 1.5), random.uniform(0.6, 1.5), random.uniform(0.6, 1.5), random.uniform(0.6, 1.5))
    let ventricles = random.uniform(0.8, 1.4)
    ventricle = SIMD3(0.15, 0.40, 0.085) * ventricles
    surface = lattice(5, 1)
    folds = lattice(14, 2)
    fineFolds = lattice(26, 3)
    texture = lattice(48, 4)

    func around1(_ size: Float) -> SIMD4<Float> {
      let low = 1 - size, high = 1 + size
      return SIMD4(
        random.uniform(low, high), random.uniform(low, high), random.uniform(low, high),
        random.uniform(low, high))
    }
    let shift = around1(0.05)
    coreShift = shift
    enhancingShift = shift * around1(0.02)
    let plain = PhantomCase.Tissue.core.intensities
    let difference = PhantomCase.Tissue.enhancing.intensities - plain, contrast = of.rim.contrast
    // The contrast agent's own effect stays.
    enhancing = plain + difference * SIMD4(contrast, 1, contrast, contrast)

    // The tumour's whole radius is 17…25 % of the head's mean side; it lies off the middle, inside the brain.
    let half = (axes.x + axes.y + axes.z) / 3
    whole = half * 2 * random.uniform(0.17, 0.25)
    core = whole * random.uniform(0.64, 0.80)
    rim = core * random.uniform(0.44, 0.58)
    // Low-grade cores are solid; a high-grade one is necrotic inside.
    necrosis = core * (of.isLowGrade ? random.uniform(0, 0.25) : random.uniform(0.35, 0.60))
    var place = SIMD3<Float>(0, 0, 0)
    repeat {
      place = SIMD3(random.uniform(-0.5, 0.75), random.uniform(-0.7, 0.7), random.uniform(-0.7, 0.7))
      let r = Self.length(place)
      // The whole tumour reaches the cortex at most.
      if r + whole * 0.75 < 0.95 && abs(place.z) > 0.2 { break }
    } while true
    centre = place * axes
    stretch = SIMD3(random.uniform(0.85, 1.18), random.uniform(0.85, 1.18), random.uniform(0.85, 1.18))
    let share = random.uniform()
    enhancingFrom =
      of.isLowGrade ? (share < 0.5 ? 9 : 0.25 + 0.2 * share) : -0.42 + 0.34 * share + of.rim.gaps
    outline = lattice(11, 5)
    inner = lattice(15, 6)
    patches = lattice(13, 7)
  }

  /// The Euclidean norm, summed in a fixed order.
  @inline(__always)
  private static func length(_ v: SIMD3<Float>) -> Float { (v.x * v.x + v.y * v.y + v.z * v.z).squareRoot() }

  /// Rises from 0 to 1 over a voxel's width around `depth` 0.
  @inline(__always)
  private func inside(_ depth: Float) -> Float { min(max(depth / (2 * edge) + 0.5, 0), 1) }

  /// The signal without noise in the four sequences and the class of a voxel; nil outside the brain.
  func voxel(_ z: Int, _ y: Int, _ x: Int) -> (SIMD4<Float>, UInt8)? {
    let v =
      SIMD3(
        Float(z) - Float(shape.z - 1) / 2, Float(y) - Float(shape.y - 1) / 2,
        Float(x) - Float(shape.x - 1) / 2)
      / unit
    let r = rotation
    let p = SIMD3(
      r[0] * v.x + r[1] * v.y + r[2] * v.z, r[3] * v.x + r[4] * v.y + r[5] * v.z,
      r[6] * v.x + r[7] * v.y + r[8] * v.z)
    // An egg: narrower in front, flatter below.
    var q = p / axes
    q.z *= 1 - 0.08 * q.y
    if q.x < 0 { q.x *= 1.06 }
    let plain = Self.length(q)
    if plain > 1.08 { return nil }
    let radius = plain * (1 + 0.05 * surface.at(p.x, p.y, p.z))
    if radius > 1 { return nil }
    var signal = tissue(p, q, radius)
    var label: UInt8 = 0
    tumour(p, radius, &signal, &label)
    var field = SIMD4<Float>(repeating: 1)
    for axis in 0..<3 { field += (bias[axis] + bias[axis + 3] * p[axis]) * p[axis] }
    return (signal * field, label)
  }

  /// Healthy brain: white matter under a folded cortex, fluid in its furrows, deep grey nuclei, ventricles.
  private func tissue(_ p: SIMD3<Float>, _ q: SIMD3<Float>, _ radius: Float) -> SIMD4<Float> {
    let fold = folds.at(p.x, p.y, p.z), fine = fineFolds.at(p.x, p.y, p.z)
    let white = PhantomCase.Tissue.white.intensities, grey = PhantomCase.Tissue.grey.intensities
    let fluid = PhantomCase.Tissue.fluid.intensities
    // Furrows are the surface where the folds have one level; the cortex lines them and the outside.
    let sheet = abs(fold - 0.08 + 0.12 * fine)
    let lining = inside((0.46 - sheet) * 0.11) * inside(radius - 0.66 + 0.10 * fine)
    let cortex = max(inside(radius - 0.89 + 0.03 * fine), lining)
    var signal = white + cortex * (grey - white)
    signal *= 1 + 0.05 * fine
    let nucleus = SIMD3(q.x + 0.08, q.y, abs(q.z) - 0.30) / SIMD3(0.17, 0.24, 0.12)
    let nuclei = inside((1 - Self.length(nucleus) + 0.15 * fine) * 0.14)
    signal += nuclei * (grey - signal) * 0.85
    // Fluid: in the furrows, wider towards the outside; in the fissure between the hemispheres; around all.
    let furrow = inside((0.20 * (radius - 0.62) / 0.38 - sheet) * 0.11) * inside((radius - 0.66) * 0.5)
    let fissure = q.x > -0.25 ? inside(0.018 - abs(q.z + 0.03 * fold)) * inside((radius - 0.55) * 0.5) : 0
    let film = inside(radius - 0.965 + 0.03 * fine)
    let wing =
      SIMD3(q.x - 0.12 + 0.25 * q.y * q.y, q.y - 0.02, abs(q.z) - 0.10 - 0.12 * q.y * q.y) / ventricle
    let ventricles = inside((1 - Self.length(wing) + 0.12 * fold) * 0.09)
    let wet = max(furrow, fissure, film, ventricles)
    return signal + wet * (fluid - signal)
  }

  private func tumour(_ p: SIMD3<Float>, _ radius: Float, _ signal: inout SIMD4<Float>, _ label: inout UInt8)
  {
    let d = (p - centre) * stretch
    let distance = Self.length(d)
    if distance > whole * 1.5 { return }
    let n = outline.at(p.x, p.y, p.z), m = inner.at(p.x, p.y, p.z), e = patches.at(p.x, p.y, p.z)
    let grain = texture.at(p.x, p.y, p.z)
    // Texture of its own in each sequence, else the ratio of two would give the tissue away.
    let blotch = SIMD4(
      m, inner.at(p.y, p.x, p.z), inner.at(p.z, p.y, p.x), inner.at(p.x, p.z, p.y))
    // Oedema has the wildest outline and spares the cortex.
    let oedema = whole - distance * (1 + 0.38 * n + 0.12 * m) - 0.6 * whole * max(0, radius - 0.85)
    let solid = core - distance * (1 + 0.22 * m + 0.10 * n)
    let dead = necrosis - distance * (1 + 0.30 * m - 0.12 * n)
    // The enhancing shell is as deep as `rim`, not everywhere there, and not where the core is dead.
    let shell = min(min(solid, rim - solid), (e - enhancingFrom) * core * 0.5)
    func blend(_ tissue: SIMD4<Float>, _ depth: Float, _ texture: SIMD4<Float>) {
      signal += inside(depth) * (tissue * texture - signal)
    }
    typealias Tissue = PhantomCase.Tissue
    blend(Tissue.oedema.intensities, min(oedema, 1 - radius), 1 + 0.06 * blotch)
    blend(Tissue.core.intensities, solid, coreShift + 0.08 * blotch)
    blend(Tissue.necrosis.intensities, dead, coreShift + 0.08 * blotch)
    blend(enhancing, shell, enhancingShift + 0.08 * blotch + 0.05 * grain)
    if shell > 0 {
      label = 3
    } else if solid > 0 {
      label = 1
    } else if oedema > 0 {
      label = 2
    }
  }
}
