import TestSupport
import Testing

@testable import Imaging

@testable import Learning
@testable import Methods
@testable import Study

@Suite struct MethodsTests {
  /// A network's bits follow its stream: none may ever have another number, and no two the same.
  @Test func streamsAreThoseThatAreWrittenDown() {
    let streams = Dictionary(uniqueKeysWithValues: Method.allCases.map { ($0.key, $0.stream) })
    #expect(
      streams == [
        "teacher": 1, "student": 2, "hadnet": 3, "control": 4, "adnet": 5, "kdnet": 6, "uhemis": 7,
        "uhved": 8,
      ])
    #expect(Set(streams.values).count == Method.allCases.count)
    #expect(Recipe().seed(.hadnet) == 1 + 3 << 32)
  }

  @Test func methodsAreToldApartByKeyAndTitle() {
    #expect(Set(Method.allCases.map(\.key)).count == Method.allCases.count)
    #expect(Set(Method.allCases.map(\.title)).count == Method.allCases.count)
    for method in Method.allCases { #expect(Method(rawValue: method.key) == method) }
    #expect(Method(rawValue: "HAD-Net") == nil)
  }

  /// A study trains them in the order of the list.
  @Test func whatAMethodNeedsStandsBeforeIt() throws {
    for (i, method) in Method.allCases.enumerated() {
      for earlier in method.needs {
        #expect(try #require(Method.allCases.firstIndex(of: earlier)) < i, "\(method.key)")
      }
    }
  }

  /// History and JSON have a column for each.
  @Test func noTermHasTheNameOfAnotherColumn() {
    for method in Method.allCases {
      let columns = EpochRecord.columns(method, regions: brats.regions.map(\.name))
      #expect(Set(columns).count == columns.count, "\(method.key): \(columns)")
    }
  }

  /// What the list makes of itself: every section of the recipe, in the file's order.
  @Test func sectionsAreThoseOfTheList() {
    #expect(Recipe.sections.map(\.key) == ["teacher", "student", "hadnet", "kdnet", "uhemis", "uhved"])
    for method in Method.allCases {
      #expect(Recipe().yaml.contains("\n\(method.section.key):\n"))
    }
  }

  /// The rate falls by windows that were seen, by the plateau's scale, or not at all.
  @Test func schedulesGiveTheRate() {
    let windows = WindowTraining().schedule
    #expect(windows.rate(seen: 9999, scale: 1) == 1e-3 && windows.rate(seen: 25_000, scale: 1) == 1e-3 / 16)
    #expect(Pretraining().schedule.rate(seen: 1 << 40, scale: 0.5) == 1e-4)
  }
}
