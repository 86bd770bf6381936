import Compute
import Imaging
import Evaluation
import TestSupport
import Testing

private func row(_ classes: UInt8...) -> LabelVolume { LabelVolume(Size(1, 1, classes.count), classes) }

@Suite struct DiceTests {
  @Test func regionsAreNested() {
    #expect(Region.allCases.map(\.classes) == [[1, 2, 3], [1, 3], [3]])
    #expect(Region.allCases == [.wt, .tc, .et])
  }

  @Test func countsOfAHandWorkedCase() {
    let overlaps = Overlaps(truth: row(0, 1, 2, 3, 3, 0, 1), prediction: row(1, 1, 2, 3, 1, 0, 2))
    #expect(overlaps.wt == Overlap(tp: 5, fp: 1, fn: 0, tn: 1))
    #expect(overlaps.tc == Overlap(tp: 3, fp: 1, fn: 1, tn: 2))
    #expect(overlaps.et == Overlap(tp: 1, fp: 0, fn: 1, tn: 5))
    #expect(overlaps.wt.dice == 10.0 / 11 && overlaps.tc.dice == 0.75 && overlaps.et.dice == 2.0 / 3)
    #expect(overlaps.et.sensitivity == 0.5 && overlaps.tc.specificity == 2.0 / 3)
    #expect(overlaps.et.smoothedDice == 0.75)
    let mean: Double = (11.0 / 12 + 7.0 / 9 + 0.75) / 3
    #expect(overlaps.score == mean)
  }

  @Test func emptyRegionsFollowTheChallenge() {
    let none = Overlaps(truth: row(0, 0), prediction: row(0, 0)).et
    #expect(none.dice == 1 && none.sensitivity == 1 && none.specificity == 1 && none.smoothedDice == 1)
    let invented = Overlaps(truth: row(0, 0), prediction: row(3, 0)).et
    #expect(invented.dice == 0 && invented.sensitivity == 0 && invented.specificity == 0.5)
    #expect(invented.smoothedDice == 0.5)
    let missed = Overlaps(truth: row(3, 0), prediction: row(0, 0)).et
    #expect(missed.dice == 0 && missed.sensitivity == 0 && missed.specificity == 1)
    let full = Overlaps(truth: row(3, 3), prediction: row(3, 0)).et
    #expect(full.specificity == 1 && full.sensitivity == 0.5)
  }

  @Test func goldenCasesAreExact() throws {
    let golden = try Golden.load()
    #expect(golden.cases.count == 16)
    for (id, expected) in golden.cases {
      let truth = try Golden.labels(#require(expected.files["truth"]))
      let prediction = try Golden.labels(#require(expected.files["seg"]))
      let overlaps = Overlaps(truth: truth, prediction: prediction)
      for region in Region.allCases {
        let right = try #require(expected.regions[region.name]), found = overlaps[region]
        #expect(
          found == Overlap(tp: right.tp, fp: right.fp, fn: right.fn, tn: right.tn),
          "\(id) (\(expected.kind)) \(region)")
        #expect(abs(found.dice - right.dice) <= 1e-12, "\(id) (\(expected.kind)) \(region)")
        #expect(abs(found.sensitivity - right.sensitivity) <= 1e-12, "\(id) (\(expected.kind)) \(region)")
        #expect(abs(found.specificity - right.specificity) <= 1e-12, "\(id) (\(expected.kind)) \(region)")
      }
    }
  }
}
