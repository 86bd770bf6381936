// A program for mpirun: each check fills its buffers from rank and slot, so that the answer is a formula.
//
//   Ranks              every check; prints "ok N" or the first mismatch
//   Ranks fail R CODE  throws on rank R while the others wait
//   Ranks courier R CODE  has no communication thread on rank R
//   Ranks agree        throws on all ranks: each has another value
//   Ranks root         asks for a broadcast from a rank that does not exist
//   Ranks return CODE  ends in the usual way with CODE

import Collective
import Foundation

struct Failure: Error, CustomStringConvertible {
  let description: String
  var code: Int32 = 1
}

let arguments = Array(CommandLine.arguments.dropFirst())

func exitCode(_ error: any Error) -> Int32 { (error as? Failure)?.code ?? 1 }

/// What the fault of a rank is made of.
func makeCourier(_ communicator: Communicator) throws -> Courier {
  if arguments.first == "courier", communicator.rank == Int(arguments[1]) {
    throw Failure(description: "no communication thread", code: Int32(arguments[2])!)
  }
  return try Courier(communicator, .init())
}

let code = World.run(exitCode: exitCode, courier: makeCourier) { communicator in
  switch arguments.first {
  case nil:
    try checkMessages(communicator)
    try checkDecisions(communicator)
    try checkSums(communicator)
    try checkLibrarySums(communicator)
    try checkShards(communicator)
    try checkDenormals(communicator)
    if communicator.rank == 0 { print("ok \(communicator.size)") }
  case "fail":
    if communicator.rank == Int(arguments[1]) {
      throw Failure(description: "case 7 is damaged", code: Int32(arguments[2])!)
    }
    try communicator.barrier()
  case "courier":
    try communicator.barrier()
  case "agree":
    try communicator.agree(on: "recipe", communicator.rank == 1 ? "b" : "a")
  case "root":
    _ = try communicator.broadcast([Int64(1)], from: 99)
  case "return":
    return Int32(arguments[1])!
  default:
    throw Failure(description: "unknown arguments \(arguments)", code: 64)
  }
  return 0
}
exit(code)
