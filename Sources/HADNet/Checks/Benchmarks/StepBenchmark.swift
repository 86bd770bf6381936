import Collective
import Compute
import Foundation
import Learning
import Methods
import Networks

/// Measures one whole step of a stage on this machine: data in memory, dropout on, a discriminator always updated.
package struct StepBenchmark: Sendable {
  /// What a run found.
  package struct Result: Codable, Sendable {
    package var stage: Method
    package var shape: Size
    package var k, threads, ranks: Int
    /// Median of `runs`, seconds; the first step is not among them.
    package var seconds: Double
    package var runs: [Double]
    /// VmHWM of the largest rank / 2³⁰.
    package var peakGiB: Double
    /// Mean seconds a step that this rank waited for others or for what it exchanges with them, and MB it sent.
    package var exposed, megabytesSent: Double
    package var loss: Double
    /// Whether a discriminator was updated.
    package var updated: Bool
    package var kernels: String
    /// Mean seconds a step by phase and kind of work, on this rank.
    package var phases: [String: [String: Double]]
    /// The phases as a step comes through them; not in JSON.
    package var order: [String] = []

    private enum CodingKeys: String, CodingKey {
      case stage, shape, k, threads, ranks, seconds, runs, loss, updated, kernels, phases
      case peakGiB = "peak_gib"
      case exposed = "exposed_s"
      case megabytesSent = "sent_mb"
    }
  }

  package let stage: Method
  package let size: Size
  package let k, repeats: Int

  /// `k`: channels at full size, the recipe's `network.k` or, for U-HeMIS and U-HVED, their `width`.
  package init(_ stage: Method = .hadnet, size: Size, k: Int, repeats: Int) {
    self.stage = stage
    self.size = size
    self.k = k
    self.repeats = repeats
  }

  /// One step that is not counted, then `repeats`; all ranks of `layout` together. Throws what a step throws.
  package func run(_ layout: BatchLayout, _ workers: Workers) throws -> Result {
    let step = SlotStep(try RandomNetworks(k: k, size: size).setUp(stage, layout, workers).program, layout)
    step.updatesAll = true
    let run = layout.slots.run(of: layout.rank)
    let cases = run.map { slot in StepBenchmark.case(slot, size) }
    var seconds: [Double] = [], values: StepValues?
    let profile = Profile()
    defer { workers.profile = nil }
    var exposedBefore = 0.0, sentBefore = 0
    let courier = layout.communicator?.courier
    for i in 0...repeats {
      if i <= 1 {
        // Later steps follow each other as in training: what the one before exchanges is hidden behind them.
        try step.settle()
        try layout.communicator?.barrier()
      }
      if i == 1 {
        workers.profile = profile
        (exposedBefore, sentBefore) = (step.exposed, courier?.bytesSent ?? 0)
      }
      let start = ContinuousClock.now
      values = try step.run(
        Batch(
          cases: cases, filled: layout.slots.count, step: i, rate: 2e-4)
      ).means
      let elapsed = (ContinuousClock.now - start) / .seconds(1)
      if i > 0 { seconds.append(elapsed) }
    }
    try step.settle()
    let sorted = seconds.sorted()
    let median = (sorted[(sorted.count - 1) / 2] + sorted[sorted.count / 2]) / 2
    let peak = StepBenchmark.peakGiB()
    return Result(
      stage: stage, shape: size, k: k, threads: workers.count, ranks: layout.ranks, seconds: median,
      runs: seconds,
      peakGiB: try layout.communicator?.max(peak) ?? peak,
      exposed: (step.exposed - exposedBefore) / Double(repeats),
      megabytesSent: Double((courier?.bytesSent ?? 0) - sentBefore) / 1e6 / Double(repeats),
      loss: values?.loss ?? .nan,
      updated: stage.terms.contains { $0.kind == .share && values?[$0] == 1 },
      kernels: "Winograd, \(BLAS.name)",
      phases: Dictionary(
        uniqueKeysWithValues: profile.seconds.map { phase, kinds in
          (
            phase.rawValue,
            Dictionary(uniqueKeysWithValues: kinds.map { ($0.key.rawValue, $0.value / Double(repeats)) })
          )
        }), order: profile.phases.map(\.rawValue))
  }

  /// A case that looks a little like data: smooth values in 0…1 and a nested tumour.
  private static func `case`(_ slot: Int, _ size: Size) -> SlotCase {
    let images = Volume(zeros: Shape(size, 4))
    var random = Philox(seed: 1, .test, slot), classes: [UInt8] = []
    for z in 0..<size.z {
      for y in 0..<size.y {
        for x in 0..<size.x {
          let dz = z - size.z / 2, dy = y - size.y / 2, dx = x - size.x / 2
          let r = Double(dz * dz + dy * dy + dx * dx).squareRoot() / Double(min(size.z, size.y, size.x))
          classes.append(r < 0.1 ? 1 : r < 0.16 ? 3 : r < 0.25 ? 2 : 0)
        }
      }
    }
    var values = images.mutableValues
    for i in values.indices {
      values[i] = 0.5 * random.uniform() + 0.1 * Float(classes[i / 4])
    }
    return SlotCase(slot: slot, id: "bench-\(slot)", images: images, truth: LabelVolume(size, classes))
  }

  /// The most memory this process has had resident, in GiB.
  static func peakGiB() -> Double {
    guard let status = try? String(contentsOfFile: "/proc/self/status", encoding: .utf8),
      let line = status.split(separator: "\n").first(where: { $0.hasPrefix("VmHWM:") }),
      let kib = Double(line.split(whereSeparator: { $0 == " " || $0 == "\t" })[1])
    else { return .nan }
    return kib / 1048576
  }
}
