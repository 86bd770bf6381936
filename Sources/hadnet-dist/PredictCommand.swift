import ArgumentParser
import Collective
import Compute
import Evaluation
import Files
import Foundation
import Imaging
import Inference
import Networks
import Study
import Terminal

extension UncertaintyMeasure: ExpressibleByArgument {}
extension UncertaintyScale: ExpressibleByArgument {}

struct PredictCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "predict", abstract: "Segment patients without truth, on their own grid.",
    discussion: """
      A student or HAD-Net needs FLAIR, T1 and T2 only. With --uncertainty each patient gets three maps more, \
      ID_unc_whole, ID_unc_core and ID_unc_enhance, of 0 (certain) to 100.

      A patient that can't be segmented, or whose uncertainty can't be had, does not keep the others from it: what went \
      wrong is listed at the end, and the exit code is the worst (74, else 65, else 66).

      Example: hadnet-dist predict --model run/hadnet --data patients --out segmentations --uncertainty 100
      """)

  @Option(
    help:
      "A model file (safetensors), a checkpoint folder, or a run's stage (RUN/hadnet), of which the best is taken.",
    completion: .file())
  var model: [String]
  @Flag(help: "Take a model file without the hash of its contents, as another program writes it.")
  var unverified = false
  @Option(
    help:
      "Patients, in any layout that inspect knows; no truth and, for a student, no T1ce (or what is missing) needed.",
    completion: .directory)
  var data: String
  @Option(help: "Folder for ID.nii.gz of each patient.", completion: .directory)
  var out: String
  @Option(help: "Dropout samples for uncertainty maps; 0: none.")
  var uncertainty = 0
  @Option(
    help:
      "What the maps hold: region (entropy of each region), multiclass, expected or mutual; default: region.")
  var measure: UncertaintyMeasure?
  @Option(
    help: """
      What 0 and 100 stand for: theoretical (the measure's bounds), dataset or case (least and largest value); default: \
      theoretical.
      """)
  var scale: UncertaintyScale?
  @Flag(help: "Segment by the mean of the samples rather than by the pass without dropout.")
  var segmentMean = false
  @Option(help: "Seed of the samples; default: 1.")
  var seed: UInt64?
  @Option(
    help:
      "What becomes of voxels below 0: refuse, abs (their absolute value) or zero; default: as the model was trained."
  )
  var negative: Preparation.Negative?
  @OptionGroup var messages: MessageOptions
  @OptionGroup var threads: ThreadOptions

  func validate() throws {
    if model.count > 1 {
      throw ValidationError("--model is given \(model.count) times; one model segments")
    }
    guard (0...1_000_000).contains(uncertainty) else {
      throw ValidationError("--uncertainty \(uncertainty): 0 to 1000000 samples")
    }
    for (option, isGiven) in [
      ("--measure", measure != nil), ("--scale", scale != nil), ("--segment-mean", segmentMean),
      ("--seed", seed != nil),
    ] where isGiven && uncertainty == 0 {
      throw ValidationError("\(option) needs --uncertainty")
    }
  }

  func run() throws {
    runForCode { communicator in
      let (model, dataset, scan) = try communicator.rootFirst { try prepare() }
      // Every rank has found the same: rank 0 tells it.
      var failures = communicator.rank == 0 ? scan : CaseFailures()
      let workers = try threads.workers(communicator), bar = messages.bar(rank: communicator.rank)
      try threads.warnOfCores(workers, communicator)
      let store = CaseStore(
        dataset.cases, preparation: model.metadata.preparation, commonSize: model.metadata.size,
        memoryLimit: CaseStore.defaultMemoryLimit(ranksOnNode: communicator.localSize))
      if let old = dataset.cases.first(where: {
        UncertaintyWriter.files($0.id, model.metadata.task.regions, in: out).contains(
          where: FileManager.default.fileExists(atPath:))
      }), uncertainty == 0 {
        bar.warn(
          "\(out) has maps of uncertainties from before, of \(old.id) for one: they may be another model's"
        )
      }
      var written = 0, unmapped: Set<String> = []
      if !dataset.cases.isEmpty {
        let writer = try uncertaintyWriter(model, communicator, workers)
        try segment(model, dataset.cases, store, communicator, workers, bar, &failures)
        failures = try failures.gathered(communicator)
        let failed = failures.ids, left = dataset.cases.filter { !failed.contains($0.id) }
        written = left.count
        if let writer, !left.isEmpty {
          bar.start("uncertainty", total: left.count, isTold: true)
          var found = CaseFailures()
          try writer.write(
            left, from: store, into: out,
            failed: { id, fault in
              // Without the mean the segmentation is there.
              found.add(
                id,
                segmentMean
                  ? fault : Fault(fault.kind, "\(id) has no maps of uncertainties: \(fault.description)"))
              if fault.kind == .storage { try OutputFile.probe(out) }
            }, progress: { bar.advance(by: $0) })
          bar.finish()
          found = try found.gathered(communicator)
          failures.add(found)
          if segmentMean { written -= found.ids.count } else { unmapped = found.ids }
        }
      } else {
        failures = try failures.gathered(communicator)
      }
      if written > 0 { bar.line("\(written.named("segmentation")) by \(model.metadata.method) in \(out)") }
      if communicator.rank == 0 {
        let count = failures.ids.subtracting(unmapped).count, all = count + written
        let parts = [
          count > 0 ? "\(count) of \(all) patients could not be segmented" : nil,
          unmapped.isEmpty ? nil : "\(unmapped.count) of \(all) patients have no maps of uncertainties",
          written > unmapped.count ? "the others are in \(out)" : nil,
        ]
        failures.tell(parts.compactMap(\.self).joined(separator: "; "))
      }
      return failures.code
    }
  }

  /// Everything that can be wrong before the work: the model, the patients' files, the names of what is written.
  private func prepare() throws -> (model: Model, dataset: Dataset, failures: CaseFailures) {
    let path = try Model.resolve(self.model[0])
    var model = try Model.load(path, isVerified: !unverified)
    try Predictor.checkMemory(model, path)
    if let negative {
      var metadata = model.metadata
      metadata.preparation.negative = negative
      model = Model(metadata, model.network, model.p)
    }
    let dataset = try Dataset.inspect(
      data, model.metadata.task, needs: Set(model.metadata.sequences))
    var failures = CaseFailures()
    for problem in dataset.problems {
      let text = problem.description
      failures.add(text.range(of: ": ").map { String(text[..<$0.lowerBound]) } ?? "", problem)
    }
    if dataset.cases.isEmpty { return (model, dataset, failures) }
    // Of patients that lack a sequence too.
    let inputs = dataset.cases + dataset.incomplete
    try OutputNames(
      dataset.cases.map { item in
        let maps =
          uncertainty > 0 ? UncertaintyWriter.files(item.id, model.metadata.task.regions, in: out) : []
        return (item.id, ["\(out)/\(item.id).nii.gz"] + maps)
      }
    ).check(in: out, inputs: inputs.flatMap(\.paths) + self.model)
    try AtomicFile.makeFolder(out)
    AtomicFile.removeTemporary(from: out, olderThan: 3600)
    return (model, dataset, failures)
  }

  /// Segments this rank's share of the cases.
  private func segment(
    _ model: Model, _ cases: [CaseFiles], _ store: CaseStore, _ communicator: Communicator,
    _ workers: Workers, _ bar: ProgressBar, _ failures: inout CaseFailures
  ) throws {
    let predictor = Predictor(model, workers)
    let mine = stride(from: communicator.rank, to: cases.count, by: communicator.size).map { cases[$0] }
    var warnings: [String] = [], without: [String] = [], full: [String] = []
    bar.start(segmentMean ? "read" : "predict", total: mine.count, isTold: true)
    for (i, files) in mine.enumerated() {
      communicator.courier?.note(files.id)
      _ = try failures.of(files.id) {
        let prepared = try store.load(files.id)
        if i + 1 < mine.count { store.prefetch(mine[i + 1].id) }
        if !prepared.placement.forms.hasOrientation { without.append(files.id) }
        if prepared.fillsVolume { full.append(files.id) }
        // Where the mean of the samples segments, it is written with them.
        if segmentMean { return }
        if try predictor.write(prepared, values: files.values, into: out) {
          warnings.append(
            "\(files.id): a brain of \(prepared.size) voxels (x, y, z), larger than the model's \(model.metadata.size); "
              + "nothing is cut")
        }
      }
      // Where nothing can be written, what follows would be lost too.
      if failures.code == Fault.Kind.storage.rawValue { try OutputFile.probe(out) }
      bar.advance()
    }
    bar.finish()
    // Rank 0 speaks for all.
    for text in try communicator.gather(warnings.joined(separator: "\n")) {
      for line in text.split(separator: "\n") { bar.warn(String(line)) }
    }
    func gathered(_ ids: [String]) throws -> [String] {
      try communicator.gather(ids.joined(separator: "\u{1e}")).flatMap {
        $0.split(separator: "\u{1e}").map(String.init)
      }.sorted()
    }
    if let text = DatasetSurvey.fullMasks(try gathered(full)) { bar.warn(text) }
    let all = try gathered(without)
    if let first = all.first {
      bar.warn(
        "\(all.count) patient\(all.count == 1 ? " has" : "s have") no orientation in the header (both form "
          + "codes are 0), \(first)\(all.count == 1 ? "" : " for one"): the axes are taken to run right, front, up; "
          + "if they do not, the result is wrong")
    }
    try communicator.barrier()
  }

  private func uncertaintyWriter(
    _ model: Model, _ communicator: Communicator, _ workers: Workers
  ) throws -> UncertaintyWriter? {
    if uncertainty == 0 { return nil }
    let settings = UncertaintySettings(
      samples: uncertainty, measure: measure ?? .region, scale: scale ?? .theoretical,
      segmentsMean: segmentMean)
    return try communicator.rootFirst {
      try UncertaintyWriter(model, settings, seed: seed ?? 1, over: communicator, workers)
    }
  }
}
