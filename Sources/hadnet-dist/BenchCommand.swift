import ArgumentParser
import Checks
import Collective
import Compute
import Files
import Foundation
import Learning
import Methods
import Networks

struct BenchCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "bench", abstract: "Measure this machine.",
    discussion: "Example: hadnet-dist bench step --shape 80x96x80 --k 32",
    subcommands: [Step.self, Conv.self, Predict.self, Allreduce.self])

  static func printJSON(_ value: some Encodable) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    Output.print(String(decoding: try encoder.encode(value), as: UTF8.self))
  }

  struct Options: ParsableArguments {
    @Option(help: "Voxels along z, y and x, each a multiple of 16.")
    var shape = Size(80, 96, 80)
    @Option(
      help: "Channels of the networks at full size; for uhemis and uhved their published 8 is the width.")
    var k = 32
    @OptionGroup var measuring: Measuring
    @OptionGroup var threads: ThreadOptions
    var repeats: Int { measuring.repeats }
    var json: Bool { measuring.json }

    func validate() throws {
      guard shape.array.allSatisfy({ $0 % UNet.multiple == 0 }), min(shape.z, shape.y, shape.x) >= 32 else {
        throw ValidationError("--shape \(shape.asTyped): each side must be a multiple of 16, 32 at the least")
      }
      guard (1...1024).contains(k) else { throw ValidationError("--k is \(k); 1 to 1024 are possible") }
      // A layer's input, output and gradient at full size: less than any of them takes.
      do {
        try AvailableMemory.check(12 * k * shape.voxels, "--shape \(shape.asTyped) with k = \(k)")
      } catch { throw ValidationError(error.description) }
    }
  }

  /// What all of them have.
  struct Measuring: ParsableArguments {
    @Option(help: "Repetitions; the median counts, and one run before is not counted.")
    var repeats = 3
    @Flag(help: "Print JSON; a shape in it is [z, y, x], as --shape has it.")
    var json = false
    @OptionGroup var log: LogOption

    func validate() throws {
      guard (1...1000).contains(repeats) else {
        throw ValidationError("--repeats is \(repeats); 1 to 1000 are possible")
      }
    }
  }

  struct Step: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract:
        "One whole step, data in memory, a case a rank: HAD-Net's with discriminator update, or another's.",
      discussion: "Example: hadnet-dist bench step --shape 80x96x80 --k 32 --threads 2 --json")
    @OptionGroup var options: Options
    @Option(help: "Which stage's step; uhemis and uhved see a window of --shape.")
    var stage = Method.hadnet

    func validate() throws {
      if stage.hasOwnWidth, options.k % 2 != 0 {
        throw ValidationError("--k is \(options.k); \(stage.rawValue) needs an even number")
      }
    }

    func run() throws {
      runInWorld { communicator in
        let layout = BatchLayout(Slots(communicator.size, over: communicator.size), over: communicator)
        let workers = try options.threads.workers(communicator)
        try options.threads.warnOfCores(workers, communicator)
        let result = try StepBenchmark(stage, size: options.shape, k: options.k, repeats: options.repeats)
          .run(layout, workers)
        guard communicator.rank == 0 else { return }
        if options.json { return try BenchCommand.printJSON(result) }
        Output.print(
          "\(result.stage.title), \(result.shape) (x, y, z), k = \(result.k), \(result.ranks) rank(s) × "
            + "\(result.threads) thread(s), \(result.kernels)"
        )
        Output.print(String(format: "%.3f s a step, peak %.2f GiB", result.seconds, result.peakGiB))
        if result.ranks > 1 {
          Output.print(
            String(
              format: "exposed communication %.3f s (%.1f %%), %.1f MB sent a step", result.exposed,
              100 * result.exposed / result.seconds, result.megabytesSent))
        }
        BenchCommand.printPhases(result.phases, result.order)
      }
    }
  }

  /// A table of milliseconds: phases down, kinds of work across.
  static func printPhases(_ phases: [String: [String: Double]], _ order: [String]) {
    let kinds = Profile.Kind.allCases.map(\.rawValue).filter { kind in
      phases.values.contains { $0[kind] != nil }
    }
    func row(_ name: String, _ cells: [String]) -> String {
      name.padding(toLength: 28, withPad: " ", startingAt: 0)
        + cells.map { String(repeating: " ", count: max(1, 11 - $0.count)) + $0 }.joined()
    }
    func cells(_ seconds: [Double]) -> [String] {
      (seconds + [seconds.reduce(0, +)]).map { $0 > 0 ? String(format: "%.0f", 1000 * $0) : "–" }
    }
    Output.print(
      row("milliseconds", kinds.map { $0.replacingOccurrences(of: " gradient", with: "") } + ["all"]))
    for phase in order {
      guard let seconds = phases[phase] else { continue }
      Output.print(row(phase, cells(kinds.map { seconds[$0] ?? 0 })))
    }
    Output.print(row("all", cells(kinds.map { kind in phases.values.reduce(0) { $0 + ($1[kind] ?? 0) } })))
  }

  struct Conv: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Every distinct convolution of the networks: forward, data gradient, weight gradient.",
      discussion: "Example: hadnet-dist bench conv --shape 80x96x80 --k 32 --threads 2")
    @OptionGroup var options: Options
    @Option(help: "Only layers with this in their names.") var layer: String?
    @Option(help: "uhemis or uhved for the layers of those.") var stage = Method.hadnet

    func run() throws {
      let workers = try options.threads.workers(nil)
      let rows = try ConvolutionBenchmark(stage, size: options.shape, k: options.k, repeats: options.repeats)
        .run(
          workers, only: layer)
      if rows.isEmpty, let layer { throw ValidationError("No layer has '\(layer)' in its name.") }
      if options.json { return try BenchCommand.printJSON(rows) }
      guard let first = rows.first else { return }
      Output.print(
        String(
          format: "GFLOP/s on %d thread(s): multiply-adds alone %.0f (the peak), small products of %@ %.0f",
          workers.count, first.peak, first.kernels, first.products))
      Output.print(
        "voxels (x, y, z), channels in and out; effective GFLOP/s, in brackets as multiples of the peak; seconds below"
      )
      for row in rows {
        func rate(_ value: Double?) -> String {
          value.map { String(format: "%7.1f (%4.2f)", $0, $0 / row.peak) } ?? "      –       "
        }
        func seconds(_ value: Double?) -> String {
          value.map { String(format: "%7.4f s     ", $0) } ?? "              "
        }
        let name = row.layer.padding(toLength: 22, withPad: " ", startingAt: 0)
        let shape = row.shape.description.padding(toLength: 12, withPad: " ", startingAt: 0)
        Output.print(
          "\(name) \(shape)" + String(format: "%5d%5d", row.inputs, row.outputs)
            + "  \(row.kernel)³/\(row.stride)  \(rate(row.forward)) \(rate(row.dataGradient)) "
            + "\(rate(row.weightGradient))")
        let method = (row.method == row.dataMethod ? row.method : "\(row.method); data \(row.dataMethod)")
          .padding(toLength: 52, withPad: " ", startingAt: 0)
        Output.print(
          "  \(method)\(seconds(row.forwardSeconds)) \(seconds(row.dataGradientSeconds)) "
            + seconds(row.weightGradientSeconds))
      }
    }
  }

  struct Predict: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "A forward pass of a student for inference, plain and with dropout on.",
      discussion: "Example: hadnet-dist bench predict --shape 80x96x80 --k 32 --threads 2")
    @OptionGroup var options: Options
    @Option(help: "Monte-Carlo samples: passes with dropout on.")
    var samples = 4

    func validate() throws {
      guard (1...1000).contains(samples) else {
        throw ValidationError("--samples is \(samples); 1 to 1000 are possible")
      }
    }

    func run() throws {
      let workers = try options.threads.workers(nil)
      let result = PredictionBenchmark(
        size: options.shape, k: options.k, repeats: options.repeats, samples: samples
      ).run(workers)
      if options.json { return try BenchCommand.printJSON(result) }
      Output.print(
        "\(result.shape) (x, y, z), k = \(result.k), \(result.threads) thread(s), \(result.kernels)")
      Output.print(
        String(
          format: "%.3f s a pass, %.3f s a sample with dropout, peak %.2f GiB", result.seconds,
          result.sampleSeconds,
          result.peakGiB))
    }
  }

  struct Allreduce: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Sums over ranks: the tree against the MPI library's ways, whole and in buckets.",
      discussion: "Example: mpirun -n 2 hadnet-dist bench allreduce --largest 420")
    @Option(help: "Megabytes of the longest vector.")
    var largest = 420
    @OptionGroup var measuring: Measuring

    func validate() throws {
      guard (1...2000).contains(largest) else {
        throw ValidationError("--largest is \(largest); 1 to 2000 MB are possible")
      }
    }

    func run() throws {
      runInWorld { communicator in
        let rows = try AllreduceBenchmark(largest: largest * 1_000_000, repeats: measuring.repeats).run(
          over: communicator)
        guard communicator.rank == 0 else { return }
        if measuring.json { return try BenchCommand.printJSON(rows) }
        Output.print(
          "\(communicator.size) rank(s), \(mpiLibrary()); GB of the vector a second, and share of a copy in memory"
        )
        for row in rows {
          let bytes = row.bytes < 1_000_000 ? "\(row.bytes / 1024) KiB" : "\(row.bytes / 1_000_000) MB"
          let name = (row.method + (row.bucketed ? ", buckets" : "")).padding(
            toLength: 46, withPad: " ", startingAt: 0)
          Output.print(
            bytes.padding(toLength: 9, withPad: " ", startingAt: 0) + name
              + String(format: "%9.3f ms %7.2f GB/s  %5.2f", 1000 * row.seconds, row.gigabytes, row.share))
        }
      }
    }
  }
}
