import Testing

@testable import Compute
@testable import TestSupport

@Suite struct MemoryParametersTests {
  private let layout: ParameterLayout = {
    var layout = ParameterLayout()
    _ = layout.add("a", 3)
    _ = layout.add("b", 2, 2)
    return layout
  }()

  @Test func frozenNumbersAreThoseThatWereWritten() throws {
    let p = ParameterVector(normal: layout, 1), frozen = p.frozen
    #expect(frozen.array == p.array && frozen.fingerprint == p.fingerprint)
    let b = try #require(layout["b"])
    #expect(Array(frozen[b]) == Array(p.array[3...]))
    p.values[0] += 1
    #expect(frozen.array != p.array)
    #expect(ParameterVector(copying: frozen).array == frozen.array)
  }

  /// A vector that someone else still holds could be written to.
  @Test func aVectorThatIsKeptIsNotFrozen() async {
    await #expect(processExitsWith: .failure) {
      var kept: ParameterVector?
      _ = FrozenParameters(ParameterLayout()) { kept = $0 }
      print(kept?.count ?? 0)
    }
  }

  @Test func whatIsDerivedIsMadeOncePerKey() {
    let frozen = ParameterVector(normal: layout, 1).frozen
    var made = 0
    func derived(_ key: [Int]) -> Float? {
      frozen.derived?.weights(key, count: 1) {
        made += 1
        $0[0] = Float(made)
      }[0]
    }
    #expect([derived([1]), derived([2]), derived([1]), derived([2])] == [1, 2, 1, 2])
    #expect(ParameterVector(zeros: layout).derived == nil)
  }
}
