import Compute
import Files
import Foundation

/// Which cases train, which choose the model, which test it. Each list is sorted by ID.
package struct Split: Codable, Equatable, Sendable {
  package let train, validation, test: [String]

  /// Throws `.invalid` where a case is in two lists or twice in one.
  package init(train: [String], validation: [String], test: [String]) throws {
    var place: [String: String] = [:]
    for (name, ids) in [("train", train), ("validation", validation), ("test", test)] {
      for id in ids {
        if let other = place[id] {
          throw Fault(
            .invalid,
            other == name
              ? "split: \(id) is twice in \(name)" : "split: \(id) is in both \(other) and \(name)")
        }
        place[id] = name
      }
    }
    self.train = train.sorted()
    self.validation = validation.sorted()
    self.test = test.sorted()
  }

  /// The three sets with their names.
  package var sets: [(name: String, ids: [String])] {
    [("train", train), ("validation", validation), ("test", test)]
  }

  /// A random split of the cases in proportion to `ratio`, HGG and LGG each in proportion; plain random for cases
  /// without grades. A patient's cases stay together: a set takes whole patients until its share is reached. Every
  /// set gets at least one patient, but for a part of 0.
  ///
  /// Source: the paper's 200 : 66 : 69 of BraTS 2019, section 3.
  ///
  /// `say`: hears of a set that has another number of cases than its share, to the nearest whole case.
  ///
  /// Throws `.invalid` for fewer patients than sets.
  package static func random(
    _ cases: [CaseFiles], seed: UInt64, ratio: (train: Int, validation: Int, test: Int) = (200, 66, 69),
    say: (String) -> Void = { _ in }
  ) throws -> Split {
    let n = cases.count, total = ratio.train + ratio.validation + ratio.test
    precondition(min(ratio.train - 1, ratio.validation, ratio.test) >= 0, "a split in the ratio \(ratio)")
    // In whole numbers, so that no rounding of floats has a say.
    func nearest(_ part: Int) -> Int { (2 * n * part + total) / (2 * total) }
    func share(_ part: Int) -> Int { part == 0 ? 0 : max(1, nearest(part)) }
    var validationCount = share(ratio.validation), testCount = share(ratio.test)
    while validationCount + testCount > n - 1, validationCount + testCount > 0 {
      if testCount > validationCount { testCount -= 1 } else { validationCount -= 1 }
    }
    var deck = Deck(cases, seed: seed)
    let names = [(ratio.train, "training"), (ratio.validation, "validation"), (ratio.test, "test")]
      .filter { $0.0 > 0 }.map(\.1)
    guard deck.patients >= names.count else {
      throw Fault(
        .invalid,
        "\(deck.isOfCases ? n.named("case") : deck.patients.named("patient")) can't be split into "
          + "\(names.joined(separator: ", ")); \(names.count) are the least")
    }
    // The test cases are drawn first.
    let test = deck.take(testCount, leaving: ratio.validation > 0 ? 2 : 1)
    let validation = deck.take(validationCount, leaving: 1)
    let split = try Split(train: deck.rest, validation: validation, test: test)
    split.compare(
      (nearest(ratio.train), n - testCount - validationCount), (nearest(ratio.validation), validationCount),
      (nearest(ratio.test), testCount), say)
    return split
  }

  /// A random split into sets of so many cases, drawn as by a ratio; a set takes whole patients until its count is
  /// reached. Where the counts are those of all cases, training takes the rest; else the rest is in no set.
  ///
  /// `say`: hears of a set that has another number of cases than was asked for.
  ///
  /// Throws `.recipe` for more cases than there are, and for fewer patients than sets.
  package static func random(
    _ cases: [CaseFiles], seed: UInt64, counts: (train: Int, validation: Int, test: Int),
    say: (String) -> Void = { _ in }
  ) throws -> Split {
    let n = cases.count, (trainCount, validationCount, testCount) = counts
    precondition(min(trainCount, validationCount, testCount) >= 0, "a split by \(counts)")
    let total = trainCount + validationCount + testCount
    let asked =
      "data.split asks for \(trainCount) training, \(validationCount) validation and \(testCount) test cases"
    guard total <= n else {
      throw Fault(
        .recipe,
        "\(asked), \(total) in all, and there \(n == 1 ? "is" : "are") \(n); lower the counts"
          + (n < 3 ? "" : ", or give proportions: {ratio: [\(trainCount), \(validationCount), \(testCount)]}")
      )
    }
    var deck = Deck(cases, seed: seed)
    let sets = [trainCount, validationCount, testCount].count { $0 > 0 }
    guard deck.patients >= sets else {
      throw Fault(
        .recipe,
        "\(asked), and there \(deck.patients == 1 ? "is" : "are") only \(deck.patients.named("patient"))")
    }
    let isTraining = trainCount > 0 ? 1 : 0
    let test = deck.take(testCount, leaving: (validationCount > 0 ? 1 : 0) + isTraining)
    let validation = deck.take(validationCount, leaving: isTraining)
    let train = total == n ? deck.rest : deck.take(trainCount, leaving: 0)
    let split = try Split(train: train, validation: validation, test: test)
    split.compare(
      (trainCount, trainCount), (validationCount, validationCount), (testCount, testCount), say)
    return split
  }

  /// Says where a set has another number of cases than was asked for, or than was planned, which with proportions may be
  /// another number itself: the shares must sum up, and each set must have a case.
  private func compare(
    _ train: (asked: Int, planned: Int), _ validation: (asked: Int, planned: Int),
    _ test: (asked: Int, planned: Int), _ say: (String) -> Void
  ) {
    for (name, share, ids) in [
      ("training", train, self.train), ("validation", validation, self.validation), ("test", test, self.test),
    ] where share.asked != ids.count {
      say(
        "the split has \(ids.count.named("\(name) case")) in place of \(share.asked): "
          + (ids.count == share.planned
            ? "shares are rounded to whole cases" : "a patient's cases stay together"))
    }
  }

  /// Patients of each grade in random order, from which sets are taken.
  struct Deck {
    /// HGG, LGG, unknown: the cases of each patient.
    private var strata: [[[String]]]
    /// Cases of each grade, before any was taken.
    private let sizes: [Int]
    private(set) var patients: Int
    /// Whether every patient has one case.
    let isOfCases: Bool

    init(_ cases: [CaseFiles], seed: UInt64) {
      let sorted = cases.sorted { $0.id < $1.id }
      let byPatient = Dictionary(grouping: sorted, by: \.patient)
      // In the order of their first cases. A patient's grade is the first that is known.
      let all = byPatient.values.sorted { $0[0].id < $1[0].id }.map { own in
        (grade: own.lazy.compactMap(\.grade).first, ids: own.map(\.id))
      }
      let grades: [Grade?] = [.hgg, .lgg, nil]
      strata = grades.enumerated().map { index, grade in
        let own = all.filter { $0.grade == grade }.map(\.ids)
        var random = Philox(seed: seed, .split, index)
        return random.permutation(own.count).map { own[$0] }
      }
      sizes = strata.map { $0.reduce(0) { $0 + $1.count } }
      patients = all.count
      isOfCases = all.count == cases.count
    }

    /// The cases of each patient, one grade after the other.
    var order: [[String]] { strata.flatMap { $0 } }

    /// The cases that are left.
    var rest: [String] { strata.flatMap { $0.flatMap { $0 } } }

    /// Takes whole patients until there are `count` cases, each grade in proportion, or only so many patients are left.
    mutating func take(_ count: Int, leaving least: Int) -> [String] {
      let all = sizes.reduce(0, +), left = strata.map { $0.reduce(0) { $0 + $1.count } }
      guard count > 0, all > 0 else { return [] }
      // Whole parts first, then one each to the largest remainders.
      var counts = sizes.map { count * $0 / all }
      let order = sizes.indices.sorted { (count * sizes[$0] % all, $1) > (count * sizes[$1] % all, $0) }
      for i in counts.indices { counts[i] = min(counts[i], left[i]) }
      var missing = min(count, left.reduce(0, +)) - counts.reduce(0, +)
      while missing > 0 {
        for i in order where missing > 0 && counts[i] < left[i] {
          counts[i] += 1
          missing -= 1
        }
      }
      var taken: [String] = [], wanted = 0
      for i in strata.indices {
        // What an earlier grade's last patient brought too much is not taken here.
        wanted += counts[i]
        var used = 0
        while wanted > 0, used < strata[i].count, patients > least {
          taken += strata[i][used]
          wanted -= strata[i][used].count
          used += 1
          patients -= 1
        }
        strata[i].removeFirst(used)
        wanted = min(wanted, 0)
      }
      return taken
    }
  }

  /// Reads a split from a file, or one of its folds; nil: the first, where it has folds.
  ///
  /// Throws as `SplitFile` does.
  package static func read(_ path: String, fold: Int? = nil, ids: some Collection<String>) throws -> Split {
    try SplitFile(path).split(fold: fold, ids: ids)
  }

  /// Writes the split as JSON; the same split makes the same bytes. Throws `.storage`.
  package func write(_ path: String) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    try AtomicFile.write(try encoder.encode(self) + Data("\n".utf8), to: path)
  }
}
