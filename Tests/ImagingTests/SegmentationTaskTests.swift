import Foundation
@testable import TestSupport
import Testing

@testable import Compute
@testable import Files
@testable import Imaging

/// A task of prostates: two zones in three sequences.
func prostate(
  sequences: [String] = ["t2", "adc", "dwi"], missing: [String] = ["adc", "dwi"],
  classes: [(String, UInt8)] = [("PZ", 1), ("TZ", 2)], readAs: [UInt8: SegmentationTask.Reading] = [:],
  regions: [(String, [String])] = [("prostate", ["PZ", "TZ"]), ("PZ", ["PZ"])], score: [String]? = nil,
  detect: String? = nil
) throws(Fault) -> SegmentationTask {
  try SegmentationTask(
    sequences: sequences.map { Modality(rawValue: $0) }, missing: missing.map { Modality(rawValue: $0) },
    classes: classes.map { .init($0.0, $0.1) }, readAs: readAs,
    regions: regions.map { (name: $0.0, classes: $0.1) },
    score: score, detect: detect)
}

@Suite struct SegmentationTaskTests {
  /// All are made, with the values of the challenges' pages.
  @Test func presetsAreThoseOfTheYears() {
    let tasks = TaskPreset.allCases.map(\.task)
    #expect(tasks.allSatisfy { $0.present == [.flair, .t1, .t2] && $0.presentChannels == [0, 2, 3] })
    #expect(
      tasks.map { $0.classes.map(\.value) } == [
        [1, 2, 4], [1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3], [1, 2, 3, 4],
      ])
    #expect(brats.regions == [.wt, .tc, .et] && brats.score == brats.regions && brats.detect == .et)
    let treated = TaskPreset.brats2024.task
    #expect(treated.regions.map(\.name) == ["WT", "TC", "ET", "RC"] && treated.detect.name == "ET")
    #expect(treated.score.map(\.name) == ["WT", "TC", "ET"])
    #expect(!treated.regions[0].contains(4) && treated.regions[3].classes == [4])
    let children = TaskPreset.pediatric.task
    #expect(children.regions.map(\.classes) == [[1, 2, 3, 4], [1, 2, 3], [1]])
  }

  /// ET is 3 in the files of a case whose name begins with BraTS-, and only in BraTS's own task.
  @Test func namesTellTheValueOfETInOneTaskAlone() throws {
    #expect(brats.values(caseName: "BraTS19_X_1").values == [1, 2, 4])
    #expect(brats.values(caseName: "brats-GLI-00000-000").values == [1, 2, 3])
    #expect(TaskPreset.brats2024.task.values(caseName: "BraTS-GLI-00000-100").values == [1, 2, 3, 4])
    #expect(try prostate().values(caseName: "BraTS-X").values == [1, 2])
  }

  @Test func furtherValuesAreReadAsTheySay() throws {
    let task = try prostate(readAs: [5: .background, 7: .label("TZ"), 255: .ignored])
    let values = task.values(caseName: "x"), classes = values.classes
    #expect(classes[0] == 0 && classes[2] == 2 && classes[5] == 0 && classes[7] == 2)
    #expect(classes[255] == LabelVolume.ignored && classes[3] == nil)
    #expect(values.words == "0, 1, 2, 5, 7 and 255")
  }

  @Test func whatIsNoTaskIsSaid() {
    let mistakes: [(make: () throws -> SegmentationTask, words: String)] = [
      ({ try prostate(sequences: ["t2"], missing: ["t2"]) }, "sequences must be 2 to 8 names, not 1"),
      ({ try prostate(sequences: ["t2", "t2"], missing: ["t2"]) }, "sequences has t2 twice"),
      (
        { try prostate(sequences: ["t2", "a b"], missing: ["t2"]) },
        "sequences has the name a b; names are letters, digits, - and _"
      ),
      (
        { try prostate(missing: []) },
        "missing must be at least one of the sequences (t2, adc, dwi), and not all"
      ),
      (
        { try prostate(missing: ["t2", "adc", "dwi"]) },
        "missing must be at least one of the sequences (t2, adc, dwi), and not all"
      ),
      ({ try prostate(missing: ["t1"]) }, "missing has t1, which is none of the sequences (t2, adc, dwi)"),
      ({ try prostate(classes: [("PZ", 1), ("TZ", 1)]) }, "classes gives two classes the value 1"),
      (
        { try prostate(classes: [("PZ", 0), ("TZ", 1)]) },
        "classes gives PZ the value 0, which is always background"
      ),
      ({ try prostate(readAs: [1: .background]) }, "read_as has 1, which stands for a class already"),
      (
        { try prostate(readAs: [9: .label("CZ")]) }, "read_as has CZ, which is no class, background or ignore"
      ),
      ({ try prostate(regions: [("PZ", ["PZ"])]) }, "regions has TZ in none"),
      (
        { try prostate(regions: [("a", ["PZ", "TZ"]), ("b", ["TZ", "PZ"])]) },
        "regions has a and b of the same classes"
      ),
      ({ try prostate(regions: [("a", ["PZ", "CZ"])]) }, "regions puts CZ into a, which is no class"),
      ({ try prostate(score: ["WT"]) }, "score has WT, which is none of the regions (prostate, PZ)"),
      ({ try prostate(detect: "WT") }, "detect has WT, which is none of the regions (prostate, PZ)"),
    ]
    for (make, words) in mistakes {
      let found = fault { _ = try make() }
      #expect(found == Fault(.recipe, words))
    }
  }

  @Test func regionsScoreAndDetectHaveDefaults() throws {
    let task = try prostate()
    #expect(task.score == task.regions && task.detect.name == "PZ" && task.classCount == 3)
    #expect(task.classNames == "background, PZ, TZ" && task.present.map(\.rawValue) == ["t2"])
  }

  /// As a model file has it: the same text for the same task, and nothing is lost.
  @Test func aTaskSurvivesItsText() throws {
    let odd = try prostate(
      readAs: [5: .background, 7: .label("TZ"), 255: .ignored, 9: .ignored], score: ["PZ"], detect: "prostate"
    )
    for task in TaskPreset.allCases.map(\.task) + [odd] {
      #expect(SegmentationTask(json: task.json) == task)
      #expect(task.json == task.json)
    }
    #expect(SegmentationTask(json: "{}") == nil)
    #expect(SegmentationTask(json: odd.json.replacing("\"adc\"", with: "\"t2\"")) == nil)
  }

  @Test(arguments: [
    ("T2-FLAIR", Modality?.some(.flair)), ("t1c", .t1ce), ("T1Gd", .t1ce), ("t1", .t1), ("T1w", .t1),
    ("t2w", .t2),
    ("T2F", .flair), ("adc", nil),
  ])
  func sequencesGoByManyNames(word: String, modality: Modality?) {
    #expect(Modality.named(word) == modality)
  }
}
