import ArgumentParser
import HADNet

@main
struct HADNetDist: ParsableCommand {
  static let configuration = CommandConfiguration(commandName: "hadnet-dist")
}
