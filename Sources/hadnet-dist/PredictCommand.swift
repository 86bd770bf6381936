import ArgumentParser
import Collective
import Foundation
import HADNet

struct PredictCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "predict", abstract: "Segment patients without truth, on their own grid.",
    discussion: """
      A student or HAD-Net needs FLAIR, T1 and T2 only.

      Example: hadnet-dist predict --model run/hadnet/checkpoints/best --data patients --out segmentations
      """)

  @Option(help: "A model file (safetensors) or a checkpoint folder.")
  var model: String
  @Option(help: "Patients, in any BraTS layout; no truth and, for a student, no T1ce needed.")
  var data: String
  @Option(help: "Folder for ID.nii.gz of each patient.")
  var out: String
  @OptionGroup var shared: SharedOptions

  func run() throws {
    runInWorld { communicator in
      let (model, dataset) = try communicator.rootFirst {
        let model = try Model.load(self.model)
        let dataset = try Dataset.find(data, needs: Set(model.facts.sequences))
        try Replacement.makeFolder(out)
        return (model, dataset)
      }
      let workers = try shared.workers(communicator), predictor = Predictor(model, workers)
      try shared.warnOfCores(workers, communicator)
      let bar = shared.bar(rank: communicator.rank)
      let mine = stride(from: communicator.rank, to: dataset.cases.count, by: communicator.size).map {
        dataset.cases[$0]
      }
      let store = CaseStore(
        dataset.cases, preparation: model.facts.preparation, commonSize: model.facts.size,
        memoryLimit: CaseStore.defaultMemoryLimit(ranksOnNode: communicator.localSize))
      var warnings: [String] = []
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
      bar.line("\(dataset.cases.count) segmentations by \(model.facts.method) in \(out)")
    }
  }
}
