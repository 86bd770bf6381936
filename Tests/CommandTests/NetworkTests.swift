import Foundation
import Testing

/// Two hosts on this machine, joined by a slow link, for as long as they are held.
private final class Link {
  private static let tool = "\(Program.root)/Tests/Cluster/netns-cluster"
  // Not the name of another's.
  private let prefix = "hadnet\(getpid())x"

  /// Whether there can be one: that takes root, iproute2, and a system that lets it.
  static let isPossible: Bool = {
    guard geteuid() == 0, let link = try? Link() else { return false }
    return (try? link.bytesSent().count) == 2
  }()

  init() throws { try CommandTests.tool(Link.tool, "up", "-n", "2", "-r", "50mbit", "-p", prefix) }

  deinit { _ = try? CommandTests.tool(Link.tool, "down", "-p", prefix) }

  /// Runs the program with one rank on each host.
  func run(_ arguments: [String]) throws -> Outcome {
    try Job([Link.tool, "run", "-p", prefix, "-n", "2", Program.path] + arguments).outcome()
  }

  /// Bytes that each host has sent.
  func bytesSent() throws -> [Int] {
    try CommandTests.tool(Link.tool, "stat", "-p", prefix).split(separator: "\n").compactMap { line in
      line.split(separator: " ").dropFirst(2).first.flatMap { Int($0) }
    }
  }
}

extension Commands {
  /// Ranks that reach each other over a network only.
  @Suite(
    .enabled(if: Link.isPossible, "needs root and ip netns: scripts/install-dependencies --tests brings it"))
  struct NetworkTests {
    @Test func sameBitsOverASlowLink() throws {
      let folder = try Scratch(), link = try Link()
      let outcome = try link.run(Fixture.study(folder / "slow"))
      #expect(outcome.code == 0, "\(outcome.errors)")
      #expect(try text("\(folder / "slow")/log.jsonl").contains("\"hosts\": 2"))
      // All gradients went over it: more than the last checkpoints hold.
      let sent = try link.bytesSent()
      #expect(sent.count == 2 && sent.allSatisfy { $0 > 1_000_000 }, "\(sent)")

      let here = try Program.start(Fixture.study(folder / "here"), ranks: 2).outcome()
      #expect(here.code == 0, "\(here.errors)")
      for stage in Fixture.stages {
        try expectSame(folder / "here/\(stage)/checkpoints", folder / "slow/\(stage)/checkpoints")
      }
      try Fixture.expectResults(folder / "slow")
      #expect(Job.areGone(folder))
    }
  }
}
