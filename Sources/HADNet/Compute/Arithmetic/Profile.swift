/// Where the time of a step goes: seconds by phase of the step and kind of work.
package final class Profile {
  /// A part of a step, told apart by its name; the names are those of the steps.
  package struct Phase: RawRepresentable, Hashable, Sendable {
    package let rawValue: String

    package init(rawValue: String) { self.rawValue = rawValue }
  }

  /// A kind of work, by its name in a table of times.
  package enum Kind: String, CaseIterable, Sendable {
    case forward3 = "3³ forward"
    case data3 = "3³ data gradient"
    case weight3 = "3³ weight gradient"
    case forward4 = "4³ forward"
    case data4 = "4³ data gradient"
    case weight4 = "4³ weight gradient"
    case pointwise = "1³"
    case norm, pooling, stretch, fusion
    case rest = "the rest"
  }

  /// Seconds, [phase][kind].
  package private(set) var seconds: [Phase: [Kind: Double]] = [:]
  /// Phases in the order in which they first came.
  package private(set) var phases: [Phase] = []
  private var phase: Phase?

  package init() {}

  func measure<Result>(_ kind: Kind, _ body: () throws -> Result) rethrows -> Result {
    guard let phase else { return try body() }
    let start = ContinuousClock.now
    defer { seconds[phase, default: [:]][kind, default: 0] += (ContinuousClock.now - start) / .seconds(1) }
    return try body()
  }

  func measure<Result>(_ phase: Phase, _ body: () throws -> Result) rethrows -> Result {
    self.phase = phase
    if !phases.contains(phase) { phases.append(phase) }
    let start = ContinuousClock.now
    defer {
      let known = seconds[phase, default: [:]].filter { $0.key != .rest }.values.reduce(0, +)
      let all = (ContinuousClock.now - start) / .seconds(1)
      // A phase may come several times: what its kinds took before was taken from its total then.
      totals[phase, default: 0] += all
      seconds[phase, default: [:]][.rest] = max(0, totals[phase, default: 0] - known)
      self.phase = nil
    }
    return try body()
  }

  private var totals: [Phase: Double] = [:]
}

extension Workers {
  /// Runs `body`, its time counted as work of `kind` if a profile is kept.
  func measure<Result>(_ kind: Profile.Kind, _ body: () throws -> Result) rethrows -> Result {
    guard let profile else { return try body() }
    return try profile.measure(kind, body)
  }

  /// Runs `body` as a phase of the step.
  package func phase<Result>(_ phase: Profile.Phase, _ body: () throws -> Result) rethrows -> Result {
    onPhase?(phase)
    guard let profile else { return try body() }
    return try profile.measure(phase, body)
  }
}
