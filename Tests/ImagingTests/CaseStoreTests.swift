import Dispatch
import Foundation
import Testing

@testable import Compute
@testable import Files
@testable import Imaging
@testable import TestSupport

@Suite struct DataCaseStoreTests {
  let scratch = Scratch()

  func same(_ a: PreparedCase, _ b: PreparedCase) -> Bool {
    a.id == b.id && a.images.array == b.images.array && a.labels == b.labels && a.mask == b.mask
      && a.placement == b.placement
  }

  /// Three phantom cases and a store for them.
  func make(memory: Int = 1 << 30) throws -> (
    store: () -> CaseStore, ids: [String], cases: [CaseFiles], cache: String
  ) {
    let data = scratch.file("data"), cache = scratch.file("cache")
    try Phantom.write(to: data, cases: 3, shape: Size(16, 18, 20), seed: 1, layout: .brats2019)
    let cases = try Dataset.find(data).cases, surveys = try cases.map { try Preparation().survey($0) }
    let store = {
      CaseStore(
        cases, surveys: surveys, preparation: Preparation(), commonSize: Size(16, 32, 32), cache: cache,
        memoryLimit: memory)
    }
    return (store, cases.map(\.id), cases, cache)
  }

  @Test func aCachedCaseHasTheBitsOfAPreparedOne() throws {
    let (store, ids, cases, cache) = try make(memory: 0)
    let fresh = try Preparation().prepare(cases[0], commonSize: Size(16, 32, 32))
    let first = try store().load(ids[0])
    #expect(try FileManager.default.contentsOfDirectory(atPath: cache).count == 1)
    for path in cases[0].files.values { try FileManager.default.removeItem(atPath: path) }
    let second = try store().load(ids[0])
    #expect(same(first, fresh) && same(second, fresh))
  }

  @Test func casesWithOtherLandmarksHaveFilesOfTheirOwn() throws {
    let (_, ids, cases, cache) = try make()
    let surveys = try cases.map { try Preparation().survey($0) }
    let samples = try cases.map { try Preparation().landmarkSample($0) }
    let all: [Standardisation?] = [
      nil, Standardisation(leastSide: 8),
      Standardisation(landmarks: try Landmarks.mean(samples), leastSide: 8),
    ]
    for standardisation in all + all {
      let preparation = Preparation(standardisation: standardisation)
      let store = CaseStore(
        cases, surveys: surveys, preparation: preparation, commonSize: Size(16, 32, 32), cache: cache,
        memoryLimit: 0)
      #expect(
        same(
          try store.load(ids[0]), try preparation.prepare(cases[0], commonSize: Size(16, 32, 32))))
    }
    #expect(try FileManager.default.contentsOfDirectory(atPath: cache).count == 3)
  }

  @Test func aDamagedCacheFileIsMadeAnew() throws {
    let (store, ids, _, cache) = try make()
    let good = try store().load(ids[0])
    let name = try #require(try FileManager.default.contentsOfDirectory(atPath: cache).first)
    let path = "\(cache)/\(name)", bytes = Array(try #require(FileManager.default.contents(atPath: path)))
    for damage in 0..<4 {
      var bad = bytes
      switch damage {
      case 0: bad[bytes.count / 2] ^= 1
      case 1: bad.removeLast(100)
      case 2: bad = []
      default: bad[40] ^= 0x20
      }
      try Data(bad).write(to: URL(fileURLWithPath: path))
      #expect(same(try store().load(ids[0]), good), "damage \(damage)")
      #expect(FileManager.default.contents(atPath: path).map(Array.init) == bytes, "damage \(damage)")
    }
  }

  @Test func manyReadersAndWritersAgree() throws {
    let (store, ids, cases, cache) = try make()
    let expected = try cases.map { try Preparation().prepare($0, commonSize: Size(16, 32, 32)) }
    let stores = (0..<4).map { _ in store() }
    DispatchQueue.concurrentPerform(iterations: 24) { i in
      let got = try? stores[i % 4].load(ids[i % 3])
      #expect(got.map { same($0, expected[i % 3]) } == true)
    }
    #expect(try FileManager.default.contentsOfDirectory(atPath: cache).count == 3)
  }

  @Test func prefetchedCasesAndErrorsArriveAtLoad() throws {
    let (store, ids, cases, _) = try make()
    let one = store()
    for id in ids { one.prefetch(id) }
    for (id, files) in zip(ids, cases) {
      #expect(same(try one.load(id), try Preparation().prepare(files, commonSize: Size(16, 32, 32))))
    }
    one.prefetch("nobody")
    for _ in 0..<2 {
      #expect(
        fault { _ = try one.load("nobody") } == Fault(.missing, "nobody: no such case in the data set"))
    }
  }

  @Test func memoryStaysWithinItsLimit() throws {
    let bytes = 16 * 32 * 32 * 18
    let (store, ids, _, cache) = try make(memory: 2 * bytes)
    let one = store()
    for id in ids { _ = try one.load(id) }
    try FileManager.default.removeItem(atPath: cache)
    _ = try one.load(ids[1])
    _ = try one.load(ids[2])
    #expect(!FileManager.default.fileExists(atPath: cache), "the two youngest come from memory")
    _ = try one.load(ids[0])
    #expect(FileManager.default.fileExists(atPath: cache), "the oldest is gone")
    #expect(CaseStore.defaultMemoryLimit(ranksOnNode: 2) > 0)
  }

  @Test func aCacheThatCannotBeWrittenIsSaid() throws {
    let (_, ids, cases, _) = try make()
    let surveys = try cases.map { try Preparation().survey($0) }
    let blocked = try scratch.put("blocked")
    let store = CaseStore(
      cases, surveys: surveys, preparation: Preparation(), commonSize: Size(16, 32, 32), cache: blocked,
      memoryLimit: 0)
    let found = fault { _ = try store.load(ids[0]) }
    #expect(found?.kind == .storage)
    #expect(found?.description.hasSuffix("; `--cache DIR` puts prepared cases elsewhere") == true)
  }
}
