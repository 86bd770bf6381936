import ArgumentParser
import HADNet

@main
struct HADNetDist: ParsableCommand {
  static let configuration = CommandConfiguration(commandName: "hadnet-dist")
  @Option var k = 4
  @Option var z = 48
  @Option var repeats = 5
  @Option var threads = 2
  func run() throws {
    print(try StepBenchmark(size: Size(z, z, z), k: k, repeats: repeats).run(.single(), Workers(threads)))
  }
}
