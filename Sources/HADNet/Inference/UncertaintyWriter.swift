import Collective
import Compute
import Evaluation
import Files
import Foundation
import Imaging
import Networks

/// How uncertainty is sampled and measured.
package struct UncertaintySettings: Equatable, Sendable {
  /// Dropout samples of a case; 0: no uncertainty.
  package var samples = 100
  package var measure = UncertaintyMeasure.region
  package var scale = UncertaintyScale.theoretical
  /// Segment by the mean of the samples rather than by the pass without dropout.
  package var segmentsMean = false

  /// The defaults are the paper's, where it says them.
  package init(
    samples: Int = 100, measure: UncertaintyMeasure = .region, scale: UncertaintyScale = .theoretical,
    segmentsMean: Bool = false
  ) {
    self.samples = samples
    self.measure = measure
    self.scale = scale
    self.segmentsMean = segmentsMean
  }

  /// As it stands beside maps and scores that were made with it: another text means that they are made anew.
  package var text: String {
    "samples \(samples), measure \(measure.rawValue), scale \(scale.rawValue), segment_mean \(segmentsMean)"
  }
}

/// Writes uncertainty maps of cases, ID_unc_{whole,core,enhance}.nii.gz, on the patients' own grids.
///
/// Source: HAD-Net, section 3.5, with the challenge's names (QU-BraTS).
///
/// The ranks draw samples together, dealt by case and block of samples; maps have the same bits on any number of ranks
/// and threads.
package final class UncertaintyWriter {
  private let settings: UncertaintySettings
  private let regions: [Region]
  private let classes: Int
  private let sampler: DropoutSampler
  private let communicator: Communicator
  private let workers: Workers

  /// Throws `.usage` where the network has no dropout.
  package init(
    _ model: Model, _ settings: UncertaintySettings, seed: UInt64, over communicator: Communicator,
    _ workers: Workers
  ) throws(Fault) {
    self.settings = settings
    regions = model.metadata.task.regions
    classes = model.metadata.task.classCount
    self.communicator = communicator
    self.workers = workers
    sampler = try DropoutSampler(model, seed: seed, workers)
  }

  /// The maps' files of a case, in the order of regions.
  package static func files(_ id: String, _ regions: [Region], in folder: String) -> [String] {
    regions.map { "\(folder)/\(id)_unc_\($0.mapName).nii.gz" }
  }

  /// All that is written of a case: its maps, and its segmentation if the mean segments.
  package static func files(
    _ id: String, _ regions: [Region], _ settings: UncertaintySettings, in folder: String
  ) -> [String] {
    files(id, regions, in: folder) + (settings.segmentsMean ? ["\(folder)/\(id).nii.gz"] : [])
  }

  private static func unscaled(_ folder: String) -> String { "\(folder)/unscaled" }

  /// Removes maps that wait for the range of all cases.
  package static func removeUnscaled(from folder: String) throws {
    if FileManager.default.fileExists(atPath: unscaled(folder)) {
      try FileManager.default.removeItem(atPath: unscaled(folder))
    }
  }

  /// All ranks together, with the same cases. Cases of which all is there are left out if `skipsDone`.
  ///
  /// - `between`: is called by all ranks together between cases, and may throw to stop.
  /// - `failed`: hears, on one rank, of a case that can't be done, which is left out then, and may throw to stop; nil:
  ///   its fault is thrown. All ranks have one or none.
  /// - `progress`: is told how many more cases are done.
  package func write(
    _ cases: [CaseFiles], from store: CaseStore, into folder: String, skipsDone: Bool = false,
    between: () throws -> Void = {}, failed: ((_ id: String, Fault) throws -> Void)? = nil,
    progress: (Int) -> Void = { _ in }
  ) throws {
    // Maps that wait for the range of all cases lie apart.
    let isWhole = settings.scale == .dataset
    let first = isWhole ? UncertaintyWriter.unscaled(folder) : folder
    func isDone(_ files: CaseFiles, _ place: String) -> Bool {
      let maps = UncertaintyWriter.files(files.id, regions, in: place),
        all = UncertaintyWriter.files(files.id, regions, settings, in: folder)
      return (maps + all.dropFirst(maps.count)).allSatisfy(FileManager.default.fileExists(atPath:))
    }
    // Another run's, killed before it could stretch them, are of other cases.
    if isWhole, !skipsDone, communicator.rank == 0 { try UncertaintyWriter.removeUnscaled(from: folder) }
    // Rank 0 looks, so that all leave out the same.
    let done = try communicator.broadcast(
      cases.map { skipsDone && (isDone($0, folder) || isDone($0, first)) ? UInt8(1) : 0 })
    let left = cases.indices.filter { done[$0] == 0 }.map { cases[$0] }
    progress(cases.count - left.count)
    for start in stride(from: 0, to: left.count, by: communicator.size) {
      try between()
      let round = Array(left[start..<min(start + communicator.size, left.count)])
      try draw(round, from: store, into: first, segmentations: folder, failed)
      progress(round.count)
    }
    if isWhole, try communicator.any(FileManager.default.fileExists(atPath: first)) {
      try rescale(cases, from: store, first, into: folder, failed)
    }
    try communicator.barrier()
  }

  /// Gives the fault of `body` where the others go on without the case; else throws it.
  private func fault(isTold: Bool, _ body: () throws -> Void) throws -> Fault? {
    do {
      try body()
      return nil
    } catch let fault as Fault where isTold {
      return fault
    }
  }

  /// At most as many cases as ranks.
  private func draw(
    _ cases: [CaseFiles], from store: CaseStore, into folder: String, segmentations: String,
    _ failed: ((String, Fault) throws -> Void)?
  ) throws {
    let shares = SampleDeal.shares(cases: cases.count, samples: settings.samples, ranks: communicator.size)
    let wantsEntropies = settings.measure == .expected || settings.measure == .mutual
    var sums: [Int: (PreparedCase, SampleSums)] = [:], faults: [Int: Fault] = [:]
    for share in shares[communicator.rank] {
      faults[share.item] = try fault(isTold: failed != nil) {
        let prepared = try store.load(cases[share.item].id)
        try sampler.checkMemory(for: prepared)
        var sum = SampleSums(
          prepared.size, classes: classes, samples: settings.samples, entropies: wantsEntropies)
        sampler.add(share.samples, of: prepared, to: &sum)
        sums[share.item] = (prepared, sum)
      }
    }
    if let failed {
      // No rank waits for samples of a case that another one has none of; the first of those tells it.
      let marks = try communicator.allGather(cases.indices.map { faults[$0] == nil ? UInt8(0) : 1 })
      for item in cases.indices {
        guard let teller = marks.firstIndex(where: { $0[item] == 1 }) else { continue }
        sums[item] = nil
        if teller == communicator.rank, let fault = faults[item] { try failed(cases[item].id, fault) }
      }
    }
    for item in cases.indices {
      let ranks = shares.indices.filter { shares[$0].contains { $0.item == item } }
      guard let (prepared, own) = sums.removeValue(forKey: item) else { continue }
      var sum = own
      if ranks[0] != communicator.rank {
        try sum.send(to: ranks[0], over: communicator)
        continue
      }
      for other in ranks.dropFirst() { try sum.receive(from: other, over: communicator) }
      let fault = try fault(isTold: failed != nil) {
        var maps = UncertaintyMaps(sum, regions, settings.measure, workers)
        if settings.scale == .case { maps = maps.stretched(maps.range(in: prepared.mask) ?? 0...100) }
        try write(maps, prepared, into: folder)
        if settings.segmentsMean {
          try prepared.placement.write(
            sum.labels, values: cases[item].values, to: "\(segmentations)/\(prepared.id).nii.gz")
        }
      }
      if let fault {
        // Those that wait for the range of all cases would count.
        if settings.scale == .dataset {
          for file in UncertaintyWriter.files(prepared.id, regions, in: folder) { System.unlink(file) }
        }
        try failed?(prepared.id, fault)
      }
    }
  }

  private func write(_ maps: UncertaintyMaps, _ prepared: PreparedCase, into folder: String) throws {
    for (region, path) in zip(regions, UncertaintyWriter.files(prepared.id, regions, in: folder)) {
      try prepared.placement.write(maps[region], range: 0...100, to: path)
    }
  }

  /// Stretches the range that all cases have together to 0…100.
  private func rescale(
    _ cases: [CaseFiles], from store: CaseStore, _ unscaled: String, into folder: String,
    _ failed: ((String, Fault) throws -> Void)?
  ) throws {
    var mine = stride(from: communicator.rank, to: cases.count, by: communicator.size).map { cases[$0] }
    if failed != nil {
      // What failed before has been told.
      mine.removeAll { files in
        !UncertaintyWriter.files(files.id, regions, in: unscaled).allSatisfy(
          FileManager.default.fileExists(atPath:))
      }
    }
    func each(_ body: (PreparedCase, UncertaintyMaps) throws -> Void) throws {
      for files in mine {
        let fault = try fault(isTold: failed != nil) {
          let prepared = try store.load(files.id)
          let maps = try UncertaintyWriter.files(files.id, regions, in: unscaled).map { path in
            let map = try NIfTIImage.read(path)
            try map.header.grid.check(path, against: prepared.placement.grid, files.id)
            return prepared.placement.crop(map.voxels, fill: 0)
          }
          try body(prepared, UncertaintyMaps(prepared.size, regions, maps))
        }
        if let fault {
          mine.removeAll { $0.id == files.id }
          try failed?(files.id, fault)
        }
      }
    }
    var low = Double.infinity, high = -Double.infinity
    try each { prepared, maps in
      guard let range = maps.range(in: prepared.mask) else { return }
      low = min(low, Double(range.lowerBound))
      high = max(high, Double(range.upperBound))
    }
    low = try communicator.min(low)
    high = try communicator.max(high)
    if low <= high {
      try each { prepared, maps in
        try write(maps.stretched(Float(low)...Float(high)), prepared, into: folder)
      }
    }
    try communicator.barrier()
    if communicator.rank == 0 { try UncertaintyWriter.removeUnscaled(from: folder) }
  }
}
