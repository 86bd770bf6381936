import ArgumentParser
import Compute
import Files
import Foundation
import Imaging
import Study
import Terminal

extension Phantom.Layout: ExpressibleByArgument {}

struct PhantomCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "phantom", abstract: "Write a synthetic data set in BraTS form.",
    discussion: "Example: hadnet-dist phantom data --cases 40 --shape 48x48x48 --seed 1 --layout brats2019")

  @Argument(help: "Folder to write; it must not exist or be empty.", completion: .directory)
  var out: String
  @Option(help: "Number of cases.")
  var cases = 40
  @Option(help: "Voxels of a case along z, y and x; 1 mm each.")
  var shape = Size(155, 240, 240)
  @Option(help: "Seed; the same seed gives the same bits on every machine.")
  var seed: UInt64 = 1
  @Option(help: "Names, folders and labels: brats2019, brats2021 or brats2023.")
  var layout = Phantom.Layout.brats2019
  @Option(help: "How much the rim differs from the core without contrast agent; 1: a few percent.")
  var rimContrast: Float = 1
  @Option(help: "How much of the rim is missing: 0 little, 0.3 more than half.")
  var rimGaps: Float = 0
  @OptionGroup var messages: MessageOptions

  func run() throws {
    if let names = try? FileManager.default.contentsOfDirectory(atPath: out), !names.isEmpty {
      throw Fault(.usage, "\(out) is not empty; choose another folder")
    }
    let bar = messages.bar()
    bar.start("phantom", total: cases)
    try Phantom.write(
      to: out, cases: cases, shape: shape, seed: seed, layout: layout,
      rim: .init(contrast: rimContrast, gaps: rimGaps)
    ) { _ in bar.advance() }
    bar.finish()
    bar.line("\(cases.named("case")) of \(shape) voxels (x, y, z) in \(out)")
  }
}
