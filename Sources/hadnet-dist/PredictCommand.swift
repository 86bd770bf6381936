import ArgumentParser
import Collective
import Foundation
import HADNet

extension UncertaintyMeasure: ExpressibleByArgument {}
extension UncertaintyScale: ExpressibleByArgument {}

struct PredictCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "predict", abstract: "Segment patients without truth, on their own grid.",
    discussion: """
      A student or HAD-Net needs FLAIR, T1 and T2 only. With --uncertainty each patient gets three maps more,
      ID_unc_whole, ID_unc_core and ID_unc_enhance, of 0 (certain) to 100.

      Example: hadnet-dist predict --model run/hadnet/checkpoints/best --data patients --out segmentations --uncertainty 100
      """)

  @Option(help: "A model file (safetensors) or a checkpoint folder.")
  var model: String
  @Option(help: "Patients, in any BraTS layout; no truth and, for a student, no T1ce needed.")
  var data: String
  @Option(help: "Folder for ID.nii.gz of each patient.")
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
  @OptionGroup var shared: SharedOptions

  func validate() throws {
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
    runInWorld { communicator in
      let (model, dataset) = try communicator.rootFirst {
        let model = try Model.load(self.model)
        let dataset = try Dataset.find(data, needs: Set(model.facts.sequences))
        try Replacement.makeFolder(out)
        return (model, dataset)
      }
      let workers = try shared.workers(communicator), predictor = Predictor(model, workers)
      let writer = try uncertaintyWriter(model, communicator, workers)
      try shared.warnOfCores(workers, communicator)
      let bar = shared.bar(rank: communicator.rank)
      // Where the mean of the samples segments, it is written with them.
      let mine =
        segmentMean
        ? []
        : stride(from: communicator.rank, to: dataset.cases.count, by: communicator.size).map {
          dataset.cases[$0]
        }
      let store = CaseStore(
        dataset.cases, preparation: model.facts.preparation, commonSize: model.facts.size,
        memoryLimit: CaseStore.defaultMemoryLimit(ranksOnNode: communicator.localSize))
      var warnings: [String] = []
      if communicator.rank == 0, uncertainty == 0,
        let old = dataset.cases.first(where: {
          UncertaintyWriter.files($0.id, in: out).contains(where: FileManager.default.fileExists(atPath:))
        })
      {
        warnings.append(
          "warning: \(out) has maps of uncertainties from before, of \(old.id) for one: they may be another model's"
        )
      }
      bar.start("predict", total: mine.count)
      for (i, files) in mine.enumerated() {
        let prepared = try store.load(files.id)
        if i + 1 < mine.count { store.prefetch(mine[i + 1].id) }
        if try predictor.write(prepared, convention: files.convention, into: out) {
          warnings.append(
            "warning: \(files.id): a brain of \(prepared.size) voxels, larger than the model's \(model.facts.size); "
              + "nothing is cut")
        }
        bar.advance()
      }
      bar.finish()
      // Rank 0 speaks for all.
      for text in try communicator.gather(warnings.joined(separator: "\n")) where !text.isEmpty {
        bar.line(text)
      }
      try communicator.barrier()
      if let writer {
        bar.start("uncertainty", total: dataset.cases.count)
        try writer.write(dataset.cases, from: store, into: out, progress: { bar.advance(by: $0) })
        bar.finish()
      }
      bar.line("\(dataset.cases.count) segmentations by \(model.facts.method) in \(out)")
    }
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
