import Compute
import Files

/// How a patient's files become what a network sees. Every number of it is here; two preparations that are equal
/// make the same bits from the same files.
package struct Preparation: Codable, Equatable, Sendable {
  /// Whose non-zero voxels are the brain.
  package enum Mask: String, Codable, Sendable {
    /// Those that are non-zero in all sequences that are there at inference: one mask for teacher and student, and what
    /// will be missing never shapes what a student sees.
    case student
    /// In all of the task's, as the original has it; only for its published weights.
    case all
  }

  /// What becomes of voxels below 0.
  package enum Negative: String, Codable, CaseIterable, Sendable {
    case refuse
    /// Their absolute value, as in the original.
    case absolute = "abs"
    /// 0: what an interpolation undershoots by beside edges, or a background.
    case zero
  }

  /// Counts up when the same settings begin to make other bits.
  package static let version = 1

  /// Sequences, of which each has a channel, and classes.
  package var task: SegmentationTask
  package var mask: Mask
  package var negative: Negative
  /// The sequences that are read, in channel order; the channels of others are 0.
  package var modalities: [Modality]
  /// Whether the truth is read where there is one.
  package var readsTruth: Bool
  /// z-scores above this are set to it, and it becomes 1.
  package var ceiling: Double
  /// How U-HeMIS and U-HVED see a case; nil: as HAD-Net does. With it `mask` and `ceiling` have no say.
  package var standardisation: Standardisation?

  /// `modalities`: some of the task's, in any order; nil: all.
  package init(
    _ task: SegmentationTask, modalities: [Modality]? = nil, mask: Mask = .student,
    negative: Negative = .refuse,
    readsTruth: Bool = true, ceiling: Double = 3, standardisation: Standardisation? = nil
  ) {
    self.task = task
    self.modalities = task.sequences.filter { modalities?.contains($0) ?? true }
    self.mask = mask
    self.negative = negative
    self.readsTruth = readsTruth
    self.ceiling = ceiling
    self.standardisation = standardisation
  }

  /// The size all cases of a data set are padded to: the largest box, each side rounded up to 16 (the networks
  /// halve four times), then z and x both set to the larger of the two. 160×192×160 for BraTS 2019.
  package static func commonSize(_ boxes: [Size]) -> Size {
    var size = Size(16, 16, 16)
    for box in boxes {
      size = Size(max(size.z, up(box.z)), max(size.y, up(box.y)), max(size.x, up(box.x)))
    }
    let side = max(size.z, size.x)
    return Size(side, size.y, side)
  }

  /// The next multiple of 16.
  static func up(_ side: Int) -> Int { (side + 15) / 16 * 16 }

  /// Reads and prepares one case, padded to `commonSize`; a side on which the brain is larger grows to the next
  /// multiple of 16, so nothing is cut. With a `standardisation` the case has a size of its own instead.
  ///
  /// Source: the authors' data_preprocessor.py and data_generator.py, but for the mask (see `Mask`).
  ///
  /// Throws `.missing` where a sequence is not there, `.invalid` where files are damaged or don't fit each other,
  /// a label isn't one of the data set's, there is no brain (standardised: no common foreground), or a sequence is
  /// constant.
  package func prepare(_ files: CaseFiles, commonSize: Size) throws -> PreparedCase {
    try prepare(RawCase(files, self), commonSize: commonSize)
  }

  func prepare(_ raw: RawCase, commonSize: Size) throws -> PreparedCase {
    if let standardisation { return try standardisation.prepare(raw, task, modalities) }
    let box = raw.box
    let size = Size(
      box.size.z <= commonSize.z ? commonSize.z : Preparation.up(box.size.z),
      box.size.y <= commonSize.y ? commonSize.y : Preparation.up(box.size.y),
      box.size.x <= commonSize.x ? commonSize.x : Preparation.up(box.size.x))
    // The sequences, mask, labels, and the box that is cut out of each.
    try AvailableMemory.check(
      PreparedCase.bytes(size, sequences: task.sequences.count) + 5 * box.size.voxels,
      "\(raw.files.id): a brain of \(box.size) voxels (x, y, z)")
    let placement = Placement(raw.header, box, size)
    let mask = placement.crop(raw.mask, fill: 0)
    let images = Volume(zeros: Shape(size, task.sequences.count))
    for modality in modalities {
      guard let image = raw.images[modality], let channel = task.channel(modality) else { continue }
      let path = raw.files.files[modality] ?? ""
      try normalise(image.voxels, raw, placement, path, into: images, channel: channel)
    }
    let labels = raw.labels.map { LabelVolume(size, placement.crop($0, fill: 0)) }
    return PreparedCase(id: raw.files.id, images: images, labels: labels, mask: mask, placement: placement)
  }

  /// z = (v − mean) / sd with the brain's mean and population sd, cut at the ceiling, then the box's minimum to 0
  /// and the ceiling to 1. One sum in one order, so that the bits depend on nothing else.
  private func normalise(
    _ voxels: [Float], _ raw: RawCase, _ placement: Placement, _ path: String, into images: Volume,
    channel: Int
  ) throws {
    let size = placement.box.size
    let cropped = placement.box.crop(voxels, of: raw.header.size)
    let mask = placement.box.crop(raw.mask, of: raw.header.size)
    var sum = 0.0, count = 0.0, least = Float.infinity
    for i in cropped.indices {
      least = min(least, cropped[i])
      if mask[i] != 0 {
        sum += Double(cropped[i])
        count += 1
      }
    }
    let mean = sum / count
    var squares = 0.0
    for i in cropped.indices where mask[i] != 0 {
      let difference = Double(cropped[i]) - mean
      squares += difference * difference
    }
    let sd = (squares / count).squareRoot()
    guard sd > 0 else { throw RawCase.constant(path) }
    let bottom = min((Double(least) - mean) / sd, ceiling), range = ceiling - bottom
    let before = placement.before, channels = images.channels
    var out = images.mutableValues
    for z in 0..<size.z {
      for y in 0..<size.y {
        let from = (z * size.y + y) * size.x
        // y runs the other way than in the files.
        let to = ((z + before.z) * images.size.y + (size.y - 1 - y + before.y)) * images.size.x + before.x
        for x in 0..<size.x {
          let score = min((Double(cropped[from + x]) - mean) / sd, ceiling)
          out[(to + x) * channels + channel] = Float((score - bottom) / range)
        }
      }
    }
  }
}

/// A case as the networks see it: [z, y, x], y reversed against BraTS's storage, padded with 0 (standardised: with
/// minima).
package struct PreparedCase: Sendable {

  package let id: String
  /// [z, y, x, sequences] in the task's order, in 0...1 (standardised: z-scores); a sequence that wasn't read is 0.
  package let images: Volume
  package let labels: LabelVolume?
  /// 1 in the brain (standardised: in the foreground), [z, y, x].
  package let mask: [UInt8]
  package let placement: Placement

  package init(id: String, images: Volume, labels: LabelVolume?, mask: [UInt8], placement: Placement) {
    self.id = id
    self.images = images
    self.labels = labels
    self.mask = mask
    self.placement = placement
  }

  package var size: Size { images.size }

  /// Bytes of a case of `size` voxels: so many sequences of floats, the brain's mask, the truth.
  package static func bytes(_ size: Size, sequences: Int) -> Int { size.voxels * (4 * sequences + 2) }

  /// Whether nearly all of the patient's volume is taken for brain.
  package var fillsVolume: Bool {
    DatasetSurvey.fillsVolume(mask.reduce(0) { $0 + Int($1) }, of: placement.dimensions)
  }
}

/// A box of voxels of a grid.
package struct VoxelBox: Codable, Equatable, Sendable {
  package let origin: Size
  package let size: Size

  package init(origin: Size, size: Size) {
    self.origin = origin
    self.size = size
  }

  /// The smallest box that holds all voxels of `mask` that aren't 0; nil where all are.
  init?(_ mask: [UInt8], _ grid: Size) {
    var low = grid, high = Size(-1, -1, -1)
    for z in 0..<grid.z {
      for y in 0..<grid.y {
        let row = (z * grid.y + y) * grid.x
        var first = 0
        while first < grid.x && mask[row + first] == 0 { first += 1 }
        if first == grid.x { continue }
        var last = grid.x - 1
        while mask[row + last] == 0 { last -= 1 }
        low = Size(min(low.z, z), min(low.y, y), min(low.x, first))
        high = Size(max(high.z, z), max(high.y, y), max(high.x, last))
      }
    }
    guard high.z >= 0 else { return nil }
    origin = low
    size = Size(high.z - low.z + 1, high.y - low.y + 1, high.x - low.x + 1)
  }

  func crop<Value>(_ values: [Value], of grid: Size) -> [Value] {
    var result: [Value] = []
    result.reserveCapacity(size.voxels)
    for z in origin.z..<(origin.z + size.z) {
      for y in origin.y..<(origin.y + size.y) {
        let row = (z * grid.y + y) * grid.x + origin.x
        result.append(contentsOf: values[row..<(row + size.x)])
      }
    }
    return result
  }
}

/// Where a prepared volume lies on the patient's own grid, so that what a network says can be put back.
package struct Placement: Codable, Equatable, Sendable {
  /// The file's own extents, fastest axis first.
  package let dimensions: [Int]
  package let orientation: Orientation
  /// The file's own affine, 4×4, row-major.
  package let affine: [Double]
  /// The codes of the file's transforms, which what is written has too.
  package let forms: FormCodes
  /// Distances of neighbours along z, y, x of the prepared volume, mm.
  package let spacing: [Double]
  /// The brain's box on the BraTS grid (y as stored).
  package let box: VoxelBox
  /// The padded size.
  package let size: Size
  /// Padding before the box in the prepared volume: ⌊difference / 2⌋.
  package let before: Size

  init(_ header: NIfTIHeader, _ box: VoxelBox, _ size: Size) {
    dimensions = header.dimensions
    orientation = header.orientation
    affine = header.affine
    forms = header.forms
    spacing = header.bratsSpacing
    self.box = box
    self.size = size
    before = Size((size.z - box.size.z) / 2, (size.y - box.size.y) / 2, (size.x - box.size.x) / 2)
  }

  /// Where the patient's own grid lies.
  package var grid: Grid {
    Grid(dimensions: dimensions, affine: affine, orientation, hasOrientation: forms.hasOrientation)
  }

  /// A volume on the BraTS grid, cropped, y reversed and padded with `fill`.
  package func crop<Value>(_ values: [Value], fill: Value) -> [Value] {
    var result = [Value](repeating: fill, count: size.voxels)
    let grid = orientation.size(dimensions)
    precondition(values.count == grid.voxels, "\(values.count) values for a grid \(grid)")
    for z in 0..<box.size.z {
      for y in 0..<box.size.y {
        let from = ((z + box.origin.z) * grid.y + y + box.origin.y) * grid.x + box.origin.x
        let to = ((z + before.z) * size.y + box.size.y - 1 - y + before.y) * size.x + before.x
        for x in 0..<box.size.x { result[to + x] = values[from + x] }
      }
    }
    return result
  }

  /// Values of a prepared volume, [z, y, x], back on the patient's own grid, in the file's own order, `fill`
  /// outside the brain's box.
  package func restore<Value>(_ values: [Value], fill: Value) -> [Value] {
    precondition(values.count == size.voxels, "\(values.count) values for a prepared volume \(size)")
    var result = [Value](repeating: fill, count: dimensions.reduce(1, *))
    let step = orientation.steps(dimensions)
    for z in 0..<box.size.z {
      for y in 0..<box.size.y {
        let from = ((z + before.z) * size.y + box.size.y - 1 - y + before.y) * size.x + before.x
        let to =
          step.first + (z + box.origin.z) * step.z + (y + box.origin.y) * step.y + box.origin.x * step.x
        for x in 0..<box.size.x { result[to + x * step.x] = values[from + x] }
      }
    }
    return result
  }

  private func check(_ bytes: Int, _ path: String) throws(Fault) {
    let grid = grid
    try AvailableMemory.check(bytes * grid.size.voxels, "\(path): a volume of \(grid.extents) voxels")
  }

  /// Whether a placement that was read can be: a box in a grid, put into a volume.
  var isPossible: Bool {
    guard dimensions.count == 3, dimensions.allSatisfy({ (1...32767).contains($0) }), affine.count == 16,
      dimensions.reduce(1, *) <= NIfTIHeader.limit, orientation.axes.sorted() == [0, 1, 2],
      orientation.flipped.count == 3, spacing.count == 3
    else { return false }
    let grid = orientation.size(dimensions).array, origin = box.origin.array, part = box.size.array
    let before = before.array, whole = size.array
    return (0..<3).allSatisfy { side -> Bool in
      guard (0..<grid[side]).contains(origin[side]), part[side] >= 1, part[side] <= grid[side] - origin[side],
        (0...1 << 20).contains(before[side]), (1...1 << 20).contains(whole[side])
      else { return false }
      return before[side] + part[side] <= whole[side]
    }
  }

  /// Classes of a prepared volume as a label file with these values on the patient's own grid and affine.
  /// Throws `.storage`.
  package func write(_ labels: LabelVolume, values: LabelValues, to path: String) throws {
    try check(2, path)
    let table = values.table
    let voxels = restore(labels.classes, fill: 0).map { table[Int($0)] }
    try NIfTIImage.write(voxels, dimensions: dimensions, affine: affine, forms: forms, to: path)
  }

  /// Floats of a prepared volume, e.g. an uncertainty map, as a file on the patient's own grid and affine, `fill`
  /// outside the brain's box; `range`: what viewers are to show. Throws `.storage`.
  package func write(
    _ values: [Float], fill: Float = 0, range: ClosedRange<Float>? = nil, to path: String
  ) throws {
    try check(4, path)
    try NIfTIImage.write(
      restore(values, fill: fill), dimensions: dimensions, affine: affine, forms: forms, range: range,
      to: path)
  }
}

/// A case's files, read and checked against each other, on the BraTS grid.
package struct RawCase {
  let files: CaseFiles
  /// That of the task's first sequence that was read; it stands for all.
  let header: NIfTIHeader
  /// Whether every file that was read says how its axes lie.
  let hasOrientation: Bool
  let images: [Modality: NIfTIImage]
  /// Class indices, where the truth was read.
  let labels: [UInt8]?
  let mask: [UInt8]
  let box: VoxelBox

  init(_ files: CaseFiles, _ preparation: Preparation) throws {
    self.files = files
    let task = preparation.task
    var images: [Modality: NIfTIImage] = [:]
    let isStandardised = preparation.standardisation != nil
    let needed =
      isStandardised
      ? preparation.modalities : preparation.mask == .all ? task.sequences : task.present
    for modality in task.sequences
    where preparation.modalities.contains(modality) || needed.contains(modality) {
      guard let path = files.files[modality] else {
        throw Fault(.missing, "\(files.id): \(modality.rawValue) is missing")
      }
      images[modality] = try RawCase.sequence(path, preparation)
    }
    guard let first = task.sequences.first(where: { images[$0] != nil }),
      let header = images[first]?.header
    else { throw Fault(.missing, "\(files.id): no sequence is to be read") }
    for modality in task.sequences {
      if let other = images[modality]?.header {
        try other.grid.check("\(files.id): \(modality.rawValue)", against: header.grid, first.rawValue)
      }
    }
    var hasOrientation = images.values.allSatisfy(\.header.hasOrientation)
    // The brain's mask, and the truth.
    try AvailableMemory.check(6 * header.voxels, "\(files.id): a case of \(header.extents) voxels")
    let voxels = needed.compactMap { images[$0]?.voxels }
    var mask = isStandardised ? RawCase.union(voxels) : RawCase.intersection(voxels)
    if let path = files.mask, !isStandardised {
      let own = try NIfTIImage.read(path)
      try own.header.grid.check("\(files.id): mask", against: header.grid, first.rawValue)
      mask = own.voxels.map { $0 == 0 ? 0 : 1 }
    }
    guard let box = VoxelBox(mask, header.size) else {
      let names = needed.map(\.rawValue).joined(separator: ", ")
      throw Fault(.invalid, "\(files.id): no brain: no voxel is other than 0 in all of \(names)")
    }
    if preparation.readsTruth, let path = files.segmentation {
      let truth = try NIfTIImage.read(path)
      try truth.header.grid.check("\(files.id): seg", against: header.grid, first.rawValue)
      hasOrientation = truth.header.hasOrientation && hasOrientation
      labels = try RawCase.classes(truth, files.values)
    } else {
      labels = nil
    }
    self.header = header
    self.hasOrientation = hasOrientation
    self.images = images
    self.mask = mask
    self.box = box
  }

  static func sequence(_ path: String, _ preparation: Preparation) throws -> NIfTIImage {
    let image = try NIfTIImage.read(
      path,
      ifNotFinite:
        "; where they are the background, as SPM writes it, set them to 0 (fslmaths IN -nan OUT, or "
        + "numpy.nan_to_num)")
    var negative = 0, other = 0
    for value in image.voxels {
      negative += value < 0 ? 1 : 0
      other += value != 0 ? 1 : 0
    }
    guard other > 0 else { throw Fault(.invalid, "\(path): all voxels are 0") }
    if negative == 0 { return image }
    switch preparation.negative {
    case .refuse: throw Fault(.invalid, "\(path): \(Negatives(image.voxels).words)")
    case .absolute: return NIfTIImage(header: image.header, voxels: image.voxels.map { $0.magnitude })
    case .zero:
      guard negative < other else { throw Fault(.invalid, "\(path): no voxel is above 0") }
      return NIfTIImage(header: image.header, voxels: image.voxels.map { max($0, 0) })
    }
  }

  /// 1 where no image is 0.
  private static func intersection(_ images: [[Float]]) -> [UInt8] {
    var mask = [UInt8](repeating: 1, count: images.first?.count ?? 0)
    for voxels in images {
      for i in mask.indices where voxels[i] == 0 { mask[i] = 0 }
    }
    return mask
  }

  /// 1 where some image isn't 0.
  private static func union(_ images: [[Float]]) -> [UInt8] {
    var mask = [UInt8](repeating: 0, count: images.first?.count ?? 0)
    for voxels in images {
      for i in mask.indices where voxels[i] != 0 { mask[i] = 1 }
    }
    return mask
  }

  /// Refuses sequences that say nothing inside the brain: they have no z-scores.
  func refuseConstants() throws(Fault) {
    for (modality, image) in images.sorted(by: { $0.key < $1.key }) {
      let voxels = image.voxels
      var least = Float.infinity, largest = -Float.infinity
      for i in mask.indices where mask[i] != 0 {
        least = min(least, voxels[i])
        largest = max(largest, voxels[i])
      }
      if least == largest { throw RawCase.constant(files.files[modality] ?? "") }
    }
  }

  static func constant(_ path: String) -> Fault {
    Fault(.invalid, "\(path): all voxels of the brain have the same value")
  }

  /// A class index for each voxel of a truth, in its order. `option`: that of the command line which says other values,
  /// for the message.
  ///
  /// Throws `.invalid` where a voxel has a value that is none of the task's.
  package static func classes(
    _ truth: NIfTIImage, _ values: LabelValues, option: String? = nil
  ) throws -> [UInt8] {
    let table = values.classes
    var classes = [UInt8](repeating: 0, count: truth.voxels.count)
    for i in classes.indices {
      let value = truth.voxels[i]
      guard let index = UInt8(exactly: value), let known = table[Int(index)] else {
        throw values.refusal(of: value, in: truth, option: option)
      }
      classes[i] = known
    }
    return classes
  }
}
