import Testing

@testable import Compute

@Suite struct ArithmeticLanesTests {
  /// Filters lie further apart than they are long, as in a layer with more input channels; numbers tell where each
  /// value comes from, and everything is exact.
  @Test(arguments: [8, 27, 64], 1...8)
  func filtersAreTurnedIntoLanesAndBack(taps: Int, filters: Int) {
    let step = taps + 5
    // A row of filters has nothing behind its last tap that may be read.
    let stored = (0..<(filters - 1) * step + taps).map { Float($0 + 1) }
    var turned = [Float](repeating: .nan, count: taps * lanes + 1)
    FilterLanes.read(stored, step, filters: filters, taps: taps, into: &turned)
    let expected = (0..<taps * lanes).map { i in
      i % lanes < filters ? stored[i % lanes * step + i / lanes] : 0
    }
    #expect(Array(turned[..<(taps * lanes)]) == expected)
    #expect(turned[taps * lanes].isNaN, "a value behind the last vector is written")

    // Lanes from `filters` on belong to no filter: whatever is there must not come back.
    for i in turned.indices where i % lanes >= filters { turned[i] = .nan }
    let before = (0..<(filters - 1) * step + taps + lanes).map { Float(-1000 * $0) }
    func isTap(_ i: Int) -> Bool { i / step < filters && i % step < taps }
    var written = before, added = before
    FilterLanes.write(turned, taps, to: &written, step, filters: filters)
    #expect(written == before.indices.map { isTap($0) ? stored[$0] : before[$0] })
    FilterLanes.add(turned, taps, to: &added, step, filters: filters)
    #expect(added == before.indices.map { isTap($0) ? before[$0] + stored[$0] : before[$0] })
  }
}
