/// A plan of a network's volumes: each is wanted from one moment to another, and those whose times do not overlap
/// share memory. Made once from the shapes; nothing is allocated while a step runs.
package struct WorkspacePlan {
  private struct Request {
    let shape: Shape
    let times: [ClosedRange<Int>]

    func overlaps(_ other: Request) -> Bool {
      times.contains { time in other.times.contains(where: time.overlaps) }
    }
  }

  private var requests: [Request] = []

  package init() {}

  /// Asks for a volume that holds its values during each of `times` (both ends included), but not from one to the next;
  /// gives its place in the plan.
  package mutating func reserve(_ shape: Shape, during times: [ClosedRange<Int>]) -> Int {
    requests.append(Request(shape: shape, times: times))
    return requests.count - 1
  }

  /// Asks for a volume that holds its values from the first moment of `time` to its last; gives its place in the plan.
  package mutating func reserve(_ shape: Shape, _ time: ClosedRange<Int>) -> Int {
    reserve(shape, during: [time])
  }

  /// Largest first, each at the lowest offset where nothing that lives at the same time lies.
  private func offsets() -> (offsets: [Int], total: Int) {
    var offsets = [Int](repeating: 0, count: requests.count), total = 0
    func length(_ i: Int) -> Int { (requests[i].shape.count + 15) / 16 * 16 }
    let order = requests.indices.sorted { (length($1), $0) < (length($0), $1) }
    var placed: [Int] = []
    for i in order {
      let neighbours = placed.filter { requests[$0].overlaps(requests[i]) }
        .sorted { (offsets[$0], $0) < (offsets[$1], $1) }
      var offset = 0
      for other in neighbours where offsets[other] < offset + length(i) {
        offset = max(offset, offsets[other] + length(other))
      }
      offsets[i] = offset
      total = max(total, offset + length(i))
      placed.append(i)
    }
    return (offsets, total)
  }

  /// Numbers of 4 bytes in the memory.
  package var count: Int { offsets().total }

  /// The memory itself: one volume a request, in the order of the requests.
  package func volumes() -> [Volume] {
    let (offsets, total) = offsets()
    let buffer = Buffer(zeros: total)
    return requests.indices.map { Volume(requests[$0].shape, in: buffer, at: offsets[$0]) }
  }
}
