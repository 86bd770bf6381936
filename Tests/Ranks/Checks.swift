import CMachine
import Collective

/// Throws if two arrays differ in a bit.
func expect<Scalar: MPIScalar & Equatable>(
  _ what: @autoclosure () -> String, _ found: [Scalar], _ expected: [Scalar]
) throws {
  guard found.count == expected.count else {
    throw Failure(description: "\(what()): \(found.count) numbers, expected \(expected.count)")
  }
  for i in found.indices where !sameBits(found[i], expected[i]) {
    throw Failure(description: "\(what()): \(found[i]) at \(i), expected \(expected[i])")
  }
}

func expect(_ what: @autoclosure () -> String, _ holds: Bool) throws {
  if !holds { throw Failure(description: what()) }
}

private func sameBits<Scalar: BitwiseCopyable>(_ a: Scalar, _ b: Scalar) -> Bool {
  withUnsafeBytes(of: a) { a in withUnsafeBytes(of: b) { b in a.elementsEqual(b) } }
}

/// Lengths at which something could go wrong: nothing, fewer than ranks, around powers of two, primes, and
/// more than one message.
func lengths(_ size: Int) -> [Int] {
  [0, 1, size - 1, size, size + 1, 7, 8, 9, 31, 33, 127, 128, 129, 1009, 4095, 4097]
}

func checkMessages(_ communicator: Communicator) throws {
  let rank = communicator.rank
  let size = communicator.size
  try communicator.barrier()

  // More than one piece: 4 MiB are 1,048,576 floats.
  for length in lengths(size) + [1_048_576, 4_194_305] {
    let long = length >= 1 << 20
    for root in long ? [size - 1] : Array(0..<size) {
      let expected = (0..<length).map { Float($0 % 8191) + Float(root) }
      var values = rank == root ? expected : [Float](repeating: -1, count: length)
      try broadcast(&values, communicator, from: root)
      try expect("broadcast of \(length) from \(root)", values, expected)
      if long { continue }
      let unknown = try communicator.broadcast(rank == root ? expected : [1, 2, 3], from: root)
      try expect("broadcast of an array of \(length) from \(root)", unknown, expected)
    }
    let next = (rank + 1) % size
    let previous = (rank + size - 1) % size
    guard size > 1 else { continue }
    let sent = (0..<length).map { Float($0 % 8191) + Float(rank) }
    var received = [Float](repeating: -1, count: length)
    // The last rank receives first, so that the ring can begin.
    if rank < size - 1 { try communicator.send(sent.span, to: next) }
    try receive(&received, communicator, from: previous)
    if rank == size - 1 { try communicator.send(sent.span, to: next) }
    try expect("message of \(length)", received, (0..<length).map { Float($0 % 8191) + Float(previous) })
  }

  for root in 0..<size {
    let text = try communicator.broadcast(rank == root ? "root \(root): ä" : "", from: root)
    try expect("broadcast text \(text)", text == "root \(root): ä")
    let texts = try communicator.gather(String(repeating: "é", count: rank), to: root)
    let expected = rank == root ? (0..<size).map { String(repeating: "é", count: $0) } : []
    try expect("gathered texts \(texts)", texts == expected)
  }

  // Rank r gives r·length numbers, so that rank 0 gives none.
  for length in [0, 1, 5, 1000, 200_000] {
    func values(of rank: Int) -> [Int64] { (0..<rank * length).map { Int64($0) << 32 + Int64(rank) } }
    let gathered = try communicator.gather(values(of: rank), to: size - 1)
    try expect("gather reached \(gathered.count) ranks", gathered.count == (rank == size - 1 ? size : 0))
    for (sender, array) in gathered.enumerated() {
      try expect("gather from \(sender)", array, values(of: sender))
    }
    let all = try communicator.allGather(values(of: rank))
    try expect("all-gather of \(all.count) ranks", all.count == size)
    for (sender, array) in all.enumerated() {
      try expect("all-gather from \(sender)", array, values(of: sender))
    }
  }

  // Rank 0 gives two pieces, the others a number each.
  let own = [Float](repeating: Float(rank), count: rank == 0 ? 4_194_400 : 1)
  let all = try communicator.allGather(own)
  try expect("long all-gather from 0", all[0], [Float](repeating: 0, count: 4_194_400))
  for sender in 1..<size { try expect("all-gather from \(sender)", all[sender], [Float(sender)]) }
}

func checkDecisions(_ communicator: Communicator) throws {
  let rank = communicator.rank
  let size = communicator.size
  for one in 0..<size {
    try expect("any(\(one))", try communicator.any(rank == one))
    try expect("all but \(one)", try communicator.all(rank != one) == false)
  }
  try expect("any of none", try communicator.any(false) == false)
  try expect("all of all", try communicator.all(true))
  try expect("max", try communicator.max(rank * 3) == (size - 1) * 3)
  try expect("min", try communicator.min(-rank) == 1 - size)
  try expect("max of doubles", try communicator.max(Double(rank) / 3) == Double(size - 1) / 3)
  try expect("min of doubles", try communicator.min(-Double(rank) / 3) == -Double(size - 1) / 3)
  try communicator.agree(on: "recipe", "the same")
  let hosts = try communicator.allGather(communicator.host)
  let here = hosts.indices.filter { hosts[$0] == communicator.host }
  try expect("\(communicator.localSize) ranks of \(here.count) here", communicator.localSize == here.count)
  try expect("local rank \(communicator.localRank)", here[communicator.localRank] == rank)
  try expect("host \(communicator.host)", !communicator.host.isEmpty)
}

/// Number i of a slot's vector: magnitudes from 2⁻²⁰ to 2²⁰, so that another order of adding gives other bits.
func value(slot: Int, _ i: Int) -> Float {
  var x = UInt32(truncatingIfNeeded: slot &* 2_654_435_761 &+ i &* 40503 &+ 12345)
  x ^= x >> 15
  x = x &* 2_246_822_519
  x ^= x >> 13
  x = x &* 3_266_489_917
  x ^= x >> 16
  let sign: FloatingPointSign = x & 1 == 0 ? .plus : .minus
  let exponent = Int((x >> 1) % 41) - 20
  return Float(sign: sign, exponent: exponent, significand: 1 + Float(x >> 8) / 16_777_216)
}

/// The sum by the tree's definition, written a second time: splits at the largest power of two below the count.
func treeSum<Scalar: Summand & FloatingPoint>(_ slots: Range<Int>, _ value: (Int) -> Scalar) -> Scalar {
  if slots.count == 1 { return value(slots.lowerBound) }
  var half = 1
  while half * 2 < slots.count { half *= 2 }
  let middle = slots.lowerBound + half
  return treeSum(slots.lowerBound..<middle, value) + treeSum(middle..<slots.upperBound, value)
}

func checkSums(_ communicator: Communicator) throws {
  let size = communicator.size
  for count in 1...9 {
    let slots = Slots(count, over: size)
    let sum = TreeReducer<Float>(slots, over: communicator)
    let halving = TreeReducer<Float>(slots, over: communicator, halvingRanks: 2)
    for filled in 0...count {
      // The long one has several pieces a shard on few ranks; one batch of it is enough.
      let long = filled == count && [1, 3, 8].contains(count) ? [3_000_017] : []
      for length in lengths(size) + long {
        try checkSum(communicator, sum, filled: filled, length: length)
        try checkSum(communicator, halving, filled: filled, length: length)
      }
      try checkRows(communicator, slots, filled: filled)
    }
  }
}

/// MPI's own sums are right to rounding on any number of ranks. They add in an order of their own, so their bits are
/// surely the tree's only on two ranks: a + b.
func checkLibrarySums(_ communicator: Communicator) throws {
  let size = communicator.size, slots = Slots(size, over: size)
  let sum = TreeReducer<Float>(slots, over: communicator)
  for filled in 0...size {
    for length in lengths(size) {
      let values = (0..<filled).map { slot in (0..<length).map { value(slot: slot, $0) } }
      // What a rank brings; one without a slot has numbers that must not count.
      let own = communicator.rank < filled ? values[communicator.rank] : nil
      let what = "of \(length) numbers in \(filled) slots"
      func compare(_ name: String, _ found: [Float], _ range: Range<Int>) throws {
        for i in range {
          let column = values.map { Double($0[i]) }
          // Each of the additions rounds a partial sum, which is no larger than all magnitudes together.
          let bound =
            Double(max(filled - 1, 0)) * Double(Float.ulpOfOne) / 2 * column.reduce(0) { $0 + abs($1) }
          let exact = column.reduce(0, +), number = found[i - range.lowerBound]
          try expect(
            "\(name) \(what): \(number) at \(i), expected \(exact) ± \(bound)",
            abs(Double(number) - exact) <= bound * 1.0001)
        }
      }
      try withVector(own ?? [Float](repeating: .nan, count: length)) { vector in
        let run = slots.run(of: communicator.rank, filled: filled)
        let nodes = run.map { SumNode(slots: $0..<$0 + 1, values: vector) }
        try sum.reduceScatterByLibrary(nodes, into: vector)
        let shard = sum.shard(of: length, rank: communicator.rank)
        try compare("the library's shard", Array(vector[shard]), shard)
        try sum.allGather(vector)
        try compare("the library's sum", Array(vector), 0..<length)
        if size == 2, filled == 2 {
          let expected = (0..<length).map { values[0][$0] + values[1][$0] }
          try expect("the library's sum \(what) on two ranks", Array(vector), expected)
        }
      }
      guard filled == size, let own else { continue }
      try withVector(own) { vector in
        try communicator.allreduce(vector)
        try compare("MPI_Allreduce", Array(vector), 0..<length)
      }
      try withVector(own) { vector in
        try withVector([Float](repeating: .nan, count: length)) { scratch in
          let parts = (0..<size).map { sum.shard(of: length, rank: $0) }
          try communicator.reduceScatterAllGather(vector, parts: parts, scratch)
        }
        try compare("MPI_Reduce_scatter and MPI_Allgatherv", Array(vector), 0..<length)
      }
    }
  }
}

/// A vector that lies over the ranks reaches one of them, whatever range of it is asked for, and the way back; each is
/// asked only for what it owns.
func checkShards(_ communicator: Communicator) throws {
  let rank = communicator.rank, size = communicator.size
  for (count, bucketLength) in [
    (0, 4), (1, 4), (5, 2), (64, 64), (1009, 100), (1009, 2000), (3_000_017, 2_000_000),
  ] {
    let shards = Shards(count, over: size, bucketLength: bucketLength)
    let owned = shards.owned(by: rank)
    var own = [Float](repeating: .nan, count: count)
    for range in owned { for i in range { own[i] = Float(i % 8191) } }
    for range in [0..<count, 0..<0, count / 3..<count - count / 3, count / 2..<count] {
      for root in [0, size - 1] {
        let what = "\(range) of \(count) numbers in buckets of \(bucketLength) to \(root)"
        let target = [Float](repeating: -1, count: rank == root ? range.count : 0)
        try withVector(own) { own in
          try withVector(target) { target in
            var asked: [Range<Int>] = []
            try communicator.gather(
              range, of: shards,
              own: {
                asked.append($0)
                return UnsafeBufferPointer(rebasing: own[$0])
              }, into: rank == root ? target : nil, root: root)
            try expect("\(what): found", Array(target), rank == root ? range.map { Float($0 % 8191) } : [])
            try expect(
              "\(what): rank \(rank), which owns \(owned), was asked for \(asked)",
              asked.allSatisfy { part in owned.contains { $0.clamped(to: part) == part } })
          }
        }
        let source = rank == root ? range.map { Float($0 % 8191) } : []
        try withVector(source) { source in
          try withVector([Float](repeating: -1, count: count)) { own in
            try communicator.scatter(
              range, of: shards, from: rank == root ? UnsafeBufferPointer(source) : nil,
              into: { UnsafeMutableBufferPointer(rebasing: own[$0]) }, root: root)
            var expected = [Float](repeating: -1, count: count)
            for part in owned { for i in part.clamped(to: range) { expected[i] = Float(i % 8191) } }
            try expect("\(what), the way back", Array(own), expected)
          }
        }
      }
    }
  }
}

/// `body` with these numbers in memory of their own.
private func withVector(
  _ values: [Float], _ body: (UnsafeMutableBufferPointer<Float>) throws -> Void
) throws {
  let vector = UnsafeMutableBufferPointer<Float>.allocate(capacity: values.count)
  defer { vector.deallocate() }
  _ = vector.initialize(fromContentsOf: values)
  try body(vector)
}

/// Gradients too small for a whole number of bits are 0 to every thread that adds: the computing ones of a single rank,
/// and the communication thread of many.
func checkDenormals(_ communicator: Communicator) throws {
  cmachine_flush_denormals()
  defer { cmachine_keep_denormals() }
  let slots = Slots(4, over: communicator.size), sum = TreeReducer<Float>(slots, over: communicator)
  let run = slots.run(of: communicator.rank), partial = PartialSum<Float>(count: 9)
  let vector = UnsafeMutableBufferPointer<Float>.allocate(capacity: 9)
  defer { vector.deallocate() }
  partial.begin(sum.tree(filled: 4), run: run)
  for _ in run {
    vector.initialize(repeating: Float(bitPattern: 70_000))
    partial.add(vector)
  }
  let result = UnsafeMutableBufferPointer<Float>.allocate(capacity: 9)
  defer { result.deallocate() }
  result.initialize(repeating: 1)
  try sum.reduce(partial.nodes, filled: 4, into: result)
  try expect("sum of denormals", Array(result), [Float](repeating: 0, count: 9))
}

private func checkSum(
  _ communicator: Communicator, _ sum: TreeReducer<Float>, filled: Int, length: Int
) throws {
  let run = sum.slots.run(of: communicator.rank, filled: filled)
  let partial = PartialSum<Float>(count: length)
  let vector = UnsafeMutableBufferPointer<Float>.allocate(capacity: length)
  defer { vector.deallocate() }
  vector.initialize(repeating: .nan)

  partial.begin(sum.tree(filled: filled), run: run)
  for slot in run {
    for i in 0..<length { vector[i] = value(slot: slot, i) }
    partial.add(vector)
  }
  try sum.reduceScatter(partial.nodes, filled: filled, into: vector)
  let shard = sum.shard(of: length, rank: communicator.rank)
  let expected = (0..<length).map { i in
    filled == 0 ? 0 : treeSum(0..<filled) { value(slot: $0, i) }
  }
  let what = "of \(length) numbers in \(filled) of \(sum.slots.count) slots"
  try expect("shard \(shard) \(what)", Array(vector[shard]), Array(expected[shard]))
  try sum.allGather(vector)
  try expect("sum \(what)", Array(vector), expected)
}

private func checkRows(_ communicator: Communicator, _ slots: Slots, filled: Int) throws {
  for width in [0, 1, 3] {
    func row(_ slot: Int) -> [Double] {
      (0..<width).map { Double(value(slot: slot, $0)) * 1.000000000000123 }
    }
    let rows = slots.run(of: communicator.rank, filled: filled).flatMap(row)
    let all = try communicator.gatherBySlot(rows, width: width, slots: slots, filled: filled)
    try expect("rows of \(filled) slots", all, (0..<filled).flatMap(row))
    let total = try communicator.sumBySlot(rows, width: width, slots: slots, filled: filled)
    let expected = (0..<width).map { i in filled == 0 ? 0 : treeSum(0..<filled) { row($0)[i] } }
    try expect("sum of rows of \(filled) slots", total, expected)
  }
}

private func broadcast(_ values: inout [Float], _ communicator: Communicator, from root: Int) throws {
  var span = values.mutableSpan
  try communicator.broadcast(&span, from: root)
}

private func receive(_ values: inout [Float], _ communicator: Communicator, from source: Int) throws {
  var span = values.mutableSpan
  try communicator.receive(into: &span, from: source)
}
