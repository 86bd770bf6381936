import ArgumentParser
import Methods

struct StagesCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "stages",
    abstract: "List the stages of a study in their order.",
    discussion: "A line is a stage, and behind it those whose best networks it begins with.")

  func run() {
    for stage in Method.allCases {
      Output.print(([stage] + stage.needs).map(\.rawValue).joined(separator: " "))
    }
  }
}
