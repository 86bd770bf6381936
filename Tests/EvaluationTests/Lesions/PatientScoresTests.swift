import Foundation
import Testing

@testable import Compute
@testable import Evaluation
@testable import Imaging

@Suite struct PatientScoresTests {
  private func volumes(_ entry: MetricsGolden.Value) throws -> [(truth: Double, prediction: Double)] {
    zip(
      try #require(entry["truth_mm3"]).numbers, try #require(entry["prediction_mm3"]).numbers
    ).map { (truth: $0, prediction: $1) }
  }

  private func check(_ found: [String: Double], _ entry: MetricsGolden.Value, _ name: String) throws {
    for (key, value) in found {
      let right = try #require(entry[key]?.number)
      #expect(agree(value, right, key), "\(name) \(key): \(value), not \(right)")
    }
  }

  @Test func detectionEqualsTheGoldenOne() throws {
    for (name, entry) in try #require(MetricsGolden().root["detection"]).members {
      let own = PatientDetection(try volumes(entry))
      try check(
        [
          "tp": Double(own.tp), "fp": Double(own.fp), "fn": Double(own.fn), "tn": Double(own.tn),
          "sensitivity": own.sensitivity, "specificity": own.specificity,
          "balanced_accuracy": own.balancedAccuracy,
        ], entry, name)
    }
  }

  @Test func volumesThatAreNotLargerThanTheThresholdAreAbsent() {
    let patients = [
      (truth: 50.0, prediction: 50.0), (truth: 50.1, prediction: 50), (truth: 0, prediction: 51),
    ]
    let own = PatientDetection(patients, threshold: 50)
    #expect(own == PatientDetection([(0, 0), (1, 0), (0, 1)]))
    #expect(own.tn == 1 && own.fn == 1 && own.fp == 1 && own.tp == 0)
    let nobody = PatientDetection([])
    #expect(nobody.sensitivity.isNaN && nobody.specificity.isNaN && nobody.balancedAccuracy.isNaN)
  }

  @Test func agreementOfVolumesEqualsTheGoldenOne() throws {
    for (name, entry) in try #require(MetricsGolden().root["volumes"]).members {
      let own = VolumeAgreement(try volumes(entry))
      try check(
        [
          "r2": own.r2, "r2_identity": own.r2Identity, "bias_ml": own.bias, "sd_ml": own.sd,
          "lower_ml": own.lower, "upper_ml": own.upper,
        ], entry, name)
    }
  }

  @Test func agreementOfFewPatients() {
    let none = VolumeAgreement([]), one = VolumeAgreement([(truth: 1000, prediction: 3000)])
    #expect(none.bias.isNaN && none.r2.isNaN && none.lower.isNaN)
    #expect(one.bias == 2 && one.sd.isNaN && one.r2.isNaN && one.r2Identity.isNaN)
    // A constant prediction has no correlation, but a distance.
    let constant = VolumeAgreement([(truth: 1000, prediction: 2000), (truth: 3000, prediction: 2000)])
    #expect(constant.r2.isNaN && constant.r2Identity == 0)
  }

  @Test func calibrationEqualsTheGoldenOne() throws {
    for (name, entry) in try #require(MetricsGolden().root["calibration"]).members {
      let rows = try #require(entry["probabilities"]).list.map(\.numbers)
      func bytes(_ key: String) throws -> [UInt8] { try #require(entry[key]).numbers.map { UInt8($0) } }
      let region = Region("any", try bytes("region"))
      let own = Calibration(
        rows.flatMap { $0 }, classes: rows[0].count, truth: try bytes("truth"), brain: try bytes("brain"),
        [region])
      try check(
        [
          "brier": own.brier, "ece": own.ece, "region_brier": own.regions[0].brier,
          "region_ece": own.regions[0].ece,
        ], entry, name)
    }
  }

  @Test func voxelsThatCountInCalibration() {
    let region = Region("any", [1])
    func calibration(_ truth: [UInt8], _ brain: [UInt8]) -> Calibration {
      Calibration([Float]([0.5, 0.5, 1, 0]), classes: 2, truth: truth, brain: brain, [region])
    }
    // Ignored, and outside of the brain.
    #expect(calibration([255, 0], [1, 1]) == calibration([1, 0], [0, 1]))
    #expect(calibration([0, 0], [0, 1]).brier == 0)
    let nothing = calibration([0, 0], [0, 0])
    #expect(nothing.brier.isNaN && nothing.ece.isNaN && nothing.regions[0].ece.isNaN)
    // Equal probabilities: the lower class is said.
    #expect(calibration([0, 0], [1, 0]).ece == 0.5 && calibration([1, 0], [1, 0]).ece == 0.5)
    // What is no number makes none of the values.
    let strange = Calibration([Float]([.nan, .infinity]), classes: 2, truth: [0], brain: [1], [region])
    #expect(!strange.brier.isFinite)
  }
}
