import Foundation

/// Which cases train, which choose the model, which test it. Each list is sorted by ID.
public struct Split: Codable, Equatable, Sendable {
  public let train, validation, test: [String]

  /// Throws `.invalid` where a case is in two lists or twice in one.
  public init(train: [String], validation: [String], test: [String]) throws {
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

  /// A random split in proportion to `weights`, HGG and LGG each in proportion; plain random for cases without
  /// grades. Every part gets at least one case, but for a weight of 0.
  ///
  /// Source: the paper's 200 : 66 : 69 of BraTS 2019, section 3.
  ///
  /// Throws `.invalid` for fewer than three cases.
  public static func random(
    _ cases: [CaseFiles], seed: UInt64, weights: (train: Int, validation: Int, test: Int) = (200, 66, 69)
  ) throws -> Split {
    let n = cases.count
    guard n >= 3 else {
      throw Fault(.invalid, "\(n) cases can't be split into training, validation and test; 3 are the least")
    }
    let total = weights.train + weights.validation + weights.test
    precondition(total > 0 && min(weights.train, weights.validation, weights.test) >= 0, "weights \(weights)")
    // In whole numbers, so that no rounding of floats has a say.
    func share(_ weight: Int) -> Int { weight == 0 ? 0 : max(1, (2 * n * weight + total) / (2 * total)) }
    var validationCount = share(weights.validation), testCount = share(weights.test)
    while validationCount + testCount > n - 1 {
      if testCount > validationCount { testCount -= 1 } else { validationCount -= 1 }
    }

    let strata: [Grade?] = [.hgg, .lgg, nil]
    var left = strata.enumerated().map { index, grade in
      let ids = cases.filter { $0.grade == grade }.map(\.id).sorted()
      var random = Philox(seed: seed, .split, index)
      return random.permutation(ids.count).map { ids[$0] }
    }
    let sizes = left.map(\.count)
    func take(_ count: Int) -> [String] {
      // Whole parts first, then one each to the largest remainders.
      var counts = sizes.map { count * $0 / n }
      let order = sizes.indices.sorted { (count * sizes[$0] % n, $1) > (count * sizes[$1] % n, $0) }
      for i in counts.indices { counts[i] = min(counts[i], left[i].count) }
      var missing = count - counts.reduce(0, +)
      while missing > 0 {
        for i in order where missing > 0 && counts[i] < left[i].count {
          counts[i] += 1
          missing -= 1
        }
      }
      return counts.indices.flatMap { i in
        defer { left[i].removeFirst(counts[i]) }
        return left[i].prefix(counts[i])
      }
    }
    let test = take(testCount), validation = take(validationCount)
    return try Split(train: left.flatMap { $0 }, validation: validation, test: test)
  }

  /// Reads a split from JSON: `{"train": […], "validation": […], "test": […]}` ("val" will do, and "test" may be
  /// absent), or nnU-Net's splits_final.json, of which the first fold is taken.
  ///
  /// Throws `.missing` where the file or a case it names is not there, `.invalid` where it has another form, a
  /// case is in two lists, or nothing is left to train or validate on.
  public static func read(_ path: String, ids: some Collection<String>) throws -> Split {
    guard let data = FileManager.default.contents(atPath: path) else {
      throw Fault(.missing, "\(path): no such file")
    }
    guard let lists = try? lists(JSONDecoder(), data) else {
      throw Fault(
        .invalid, "\(path): not a split: expected JSON {\"train\": […], \"validation\": […], \"test\": […]}")
    }
    let split: Split
    do {
      split = try Split(
        train: lists.train, validation: lists.validation ?? lists.val ?? [], test: lists.test ?? [])
    } catch let fault as Fault {
      throw Fault(fault.kind, "\(path): \(fault.description)")
    }
    guard !split.train.isEmpty, !split.validation.isEmpty else {
      throw Fault(.invalid, "\(path): no case to \(split.train.isEmpty ? "train" : "validate") on")
    }
    let known = Set(ids)
    let unknown = (split.train + split.validation + split.test).filter { !known.contains($0) }
    if let first = unknown.first {
      let others = unknown.count > 1 ? " (and \(unknown.count - 1) more)" : ""
      throw Fault(.missing, "\(path): \(first)\(others) is not in the data set")
    }
    return split
  }

  private struct Lists: Codable {
    let train: [String]
    let validation, val, test: [String]?
  }

  private static func lists(_ decoder: JSONDecoder, _ data: Data) throws -> Lists {
    if let lists = try? decoder.decode(Lists.self, from: data) { return lists }
    let folds = try decoder.decode([Lists].self, from: data)
    guard let first = folds.first else { throw Fault(.invalid, "no fold") }
    return first
  }

  /// Writes the split as JSON; the same split makes the same bytes.
  public func write(_ path: String) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    let data = try encoder.encode(self) + Data("\n".utf8)
    try Replacement.write(path) { temporary in
      guard FileManager.default.createFile(atPath: temporary, contents: data) else {
        throw Replacement.failure("write", path, errno)
      }
    }
  }
}
