// Feeds mutated inputs to every parser of what the program reads from outside. The first byte of an input names the
// parser (`Parser`), the rest is the file. Built by `make fuzz`, not by a plain build; CONTRIBUTING.md says how to repeat
// what it finds. `Fuzz seeds FOLDER` writes the seeds.

import Foundation

@testable import Files

/// libFuzzer's door for programs that have a `main` of their own.
@_silgen_name("LLVMFuzzerRunDriver")
private func runDriver(
  _ count: UnsafeMutablePointer<Int32>,
  _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>,
  _ body: @convention(c) (UnsafePointer<UInt8>, Int) -> Int32
) -> Int32

/// Anything but a `Fault` that tells a person in a few lines is a find.
private func run(_ parser: Parser, _ input: Data) {
  do {
    try parser.read(input)
  } catch let fault as Fault {
    precondition(
      fault.description.utf8.count < 2000 && fault.description.split(separator: "\n").count < 5,
      "a message of \(fault.description.utf8.count) bytes: \(fault.description.prefix(300))")
  } catch {
    preconditionFailure("an error that is no Fault: \(error)")
  }
}

/// The name that libFuzzer asks for.
@_cdecl("LLVMFuzzerTestOneInput")
public func takeOneInput(_ bytes: UnsafePointer<UInt8>, _ count: Int) -> Int32 {
  guard count > 0, let parser = Parser(rawValue: bytes[0]) else { return -1 }
  run(parser, Data(bytes: bytes + 1, count: count - 1))
  return 0
}

if CommandLine.arguments.count == 3, CommandLine.arguments[1] == "seeds" {
  for (parser, name, content) in try seeds() {
    let path = "\(CommandLine.arguments[2])/\(parser)-\(name)"
    try (Data([parser.rawValue]) + content).write(to: URL(fileURLWithPath: path))
  }
} else {
  var count = CommandLine.argc, arguments = CommandLine.unsafeArgv
  exit(runDriver(&count, &arguments) { takeOneInput($0, $1) })
}
