import Compute
import Evaluation
import Imaging
import Methods
import Networks

// Most tests are of BraTS's task. It is said here once.

/// The task of BraTS's gliomas.
package let brats = TaskPreset.brats.task

extension Modality {
  package static var allCases: [Modality] { brats.sequences }
  package static var student: [Modality] { brats.present }

  package var channel: Int { brats.channel(self) ?? 0 }
}

extension Region {
  package static var allCases: [Region] { brats.regions }
}

extension CaseFiles {
  package init(
    id: String, patient: String? = nil, grade: Grade? = nil, files: [Modality: String],
    segmentation: String? = nil
  ) {
    self.init(
      id: id, patient: patient, grade: grade, files: files, segmentation: segmentation,
      values: brats.values(caseName: id))
  }
}

extension Preparation {
  package init(
    modalities: [Modality]? = nil, mask: Mask = .student, negative: Negative = .refuse,
    readsTruth: Bool = true,
    standardisation: Standardisation? = nil
  ) {
    self.init(
      brats, modalities: modalities, mask: mask, negative: negative, readsTruth: readsTruth,
      standardisation: standardisation)
  }
}

extension Dataset {
  package static func find(
    _ root: String, needs: Set<Modality>? = nil, needsTruth: Bool = false
  ) throws -> Dataset { try find(root, brats, needs: needs, needsTruth: needsTruth) }

  package static func inspect(
    _ root: String, needs: Set<Modality>? = nil, needsTruth: Bool = false
  ) throws -> Dataset { try inspect(root, brats, needs: needs, needsTruth: needsTruth) }
}

extension Overlaps {
  package init(truth: LabelVolume, prediction: LabelVolume) {
    self.init(truth: truth, prediction: prediction, regions: brats.regions)
  }

  package var wt: Overlap { self[.wt] }
  package var tc: Overlap { self[.tc] }
  package var et: Overlap { self[.et] }
  package var score: Double { score(brats.score) }
}

extension SurfaceDistance {
  package func hd95(truth: LabelVolume, prediction: LabelVolume, spacing: [Double]) -> [Region: Double] {
    hd95(truth: truth, prediction: prediction, regions: brats.regions, spacing: spacing)
  }
}

extension UncertaintyMaps {
  package init(_ sums: SampleSums, _ measure: UncertaintyMeasure, _ workers: Workers) {
    self.init(sums, brats.regions, measure, workers)
  }

  package var whole: [Float] { self[.wt] }
  package var core: [Float] { self[.tc] }
  package var enhancing: [Float] { self[.et] }
}

extension MeanCurves {
  package static func numbers(_ curves: [Region: UncertaintyCurves]) -> [Double] {
    numbers(curves, brats.regions)
  }

  package init?(dealt ranks: [[Double]], cases: Int, _ thresholds: [Double]) {
    self.init(dealt: ranks, cases: cases, brats.regions, thresholds)
  }

  package static func load(_ path: String) throws -> MeanCurves { try load(path, brats.regions) }
}

extension Evaluator {
  package init() { self.init(brats) }

  package static func pairs(
    truth: String, predictions: String, uncertainty: String? = nil, values: LabelValues? = nil,
    predictionValues: LabelValues? = nil
  ) throws -> [Pair] {
    try pairs(
      truth: truth, predictions: predictions, brats, uncertainty: uncertainty, values: values,
      predictionValues: predictionValues)
  }
}

extension MethodEvaluation {
  package init(method: String, settings: MetricSettings? = nil, cases: [String: CaseScores] = [:]) {
    self.init(method: method, regions: brats.regions, settings: settings, cases: cases)
  }
}

extension Landmarks {
  package static func mean(_ samples: [Sample]) throws -> Landmarks { try mean(samples, of: brats.sequences) }
}

extension InputChannels {
  package static let all = InputChannels([0, 1, 2, 3]), present = InputChannels([0, 2, 3])
}

extension UNet {
  package init(inputs: Int, k: Int) { self.init(inputs: inputs, k: k, classes: brats.classCount) }
}

extension Discriminator {
  package init(k: Int, hierarchical: Bool = true) {
    self.init(k: k, classes: brats.classCount, sequences: brats.present.count, hierarchical: hierarchical)
  }
}

extension FusionNetwork {
  package init(_ fusion: Fusion, width: Int) {
    self.init(fusion, width: width, sequences: brats.sequences, classes: brats.classCount)
  }
}

extension SampleSums {
  package init(_ size: Size, samples: Int, entropies: Bool) {
    self.init(size, classes: brats.classCount, samples: samples, entropies: entropies)
  }

  package func probabilities(_ voxel: Int) -> SIMD4<Double> {
    SIMD4(probability(0, voxel), probability(1, voxel), probability(2, voxel), probability(3, voxel))
  }
}
