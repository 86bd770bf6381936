import Foundation
import Synchronization
import Terminal

/// The signals that ask a run to stop with a checkpoint.
// The calls read and write variables of ours, and are done with them when they return; the handler captures nothing.
enum Interrupts {
  private static let caught = Atomic<Int32>(0)
  private static let names: [(number: Int32, name: String)] = [
    (SIGTERM, "SIGTERM"), (SIGINT, "SIGINT"), (SIGHUP, "SIGHUP"), (SIGUSR1, "SIGUSR1"), (SIGUSR2, "SIGUSR2"),
  ]

  /// Before MPI starts: it leaves handlers alone that are there.
  static func watch() {
    // Made now, so that a handler finds it.
    caught.store(0, ordering: .relaxed)
    for (number, _) in names {
      var action = sigaction()
      // With nohup a run outlives its terminal.
      if number == SIGHUP, unsafe sigaction(number, nil, &action) == 0, isIgnored(action) { continue }
      unsafe action.__sigaction_handler.sa_handler = { Interrupts.caught.store($0, ordering: .relaxed) }
      // A second ^C ends the program at once.
      action.sa_flags = SA_RESTART | (number == SIGINT ? Int32(bitPattern: UInt32(SA_RESETHAND)) : 0)
      unsafe sigaction(number, &action, nil)
    }
    // Who started the program may have blocked them.
    var all = sigset_t()
    unsafe sigemptyset(&all)
    for (number, _) in names { unsafe sigaddset(&all, number) }
    unsafe pthread_sigmask(SIG_UNBLOCK, &all, nil)
  }

  private static func isIgnored(_ action: sigaction) -> Bool {
    // SIG_IGN, as a number: functions cannot be compared.
    unsafe unsafeBitCast(action.__sigaction_handler.sa_handler, to: Int.self) == 1
  }

  static var isCaught: Bool { caught.load(ordering: .relaxed) != 0 }

  /// The name of the last one.
  static var name: String? {
    let number = caught.load(ordering: .relaxed)
    return names.first { $0.number == number }?.name
  }
}

/// A time as `sbatch --time` takes it: minutes, minutes:seconds, hours:minutes:seconds, days-hours,
/// days-hours:minutes, days-hours:minutes:seconds.
struct TimeLimit: Equatable {
  let seconds: Double

  init?(_ text: String) {
    let parts = text.split(separator: "-", omittingEmptySubsequences: false)
    guard (1...2).contains(parts.count), let clock = parts.last else { return nil }
    let numbers = clock.split(separator: ":", omittingEmptySubsequences: false).map { part -> Int? in
      part.allSatisfy(\.isNumber) && part.count <= 6 ? Int(part) : nil
    }
    guard (1...3).contains(numbers.count), numbers.allSatisfy({ $0 != nil }) else { return nil }
    let values = numbers.compactMap { $0 }
    var units: [Int]
    if parts.count == 2 {
      units = [3600, 60, 1]
    } else {
      units = values.count == 3 ? [3600, 60, 1] : [60, 1]
    }
    var total = 0
    if parts.count == 2 {
      guard let days = Int(parts[0]), (0...36500).contains(days) else { return nil }
      total = 86400 * days
    }
    for value in values { total += value * units.removeFirst() }
    seconds = Double(total)
  }

  /// Seconds until the end of the Slurm job this process belongs to; nil outside of one, or where nobody says. What is
  /// no time is told to `warn` and ignored.
  static func ofSlurmJob(warn: (String) -> Void) -> Double? {
    let environment = ProcessInfo.processInfo.environment
    guard let job = environment["SLURM_JOB_ID"] else { return nil }
    if let text = environment["SLURM_JOB_END_TIME"] {
      if let left = left(until: text) { return left }
      warn("SLURM_JOB_END_TIME=\(excerpt(text)) is no time at which this job ends: it is ignored")
    }
    // One process asks for all: any rank's wish to stop is every rank's.
    guard ["OMPI_COMM_WORLD_RANK", "SLURM_PROCID"].lazy.compactMap({ environment[$0] }).first ?? "0" == "0"
    else {
      return nil
    }
    let process = Process(), pipe = Pipe()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = ["scontrol", "--oneliner", "show", "job", job]
    process.standardOutput = pipe
    process.standardError = FileHandle.nullDevice
    process.standardInput = FileHandle.nullDevice
    guard (try? process.run()) != nil else { return nil }
    let text = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    return end(text).map { min($0.timeIntervalSinceNow, 86400 * 36500) }
  }

  /// Seconds from `now` until a time in seconds since 1970; nil where it is no time, or one that no job of today ends at:
  /// more than a day ago, or in a hundred years.
  static func left(until text: String, now: Double = Date().timeIntervalSince1970) -> Double? {
    Double(text).map { $0 - now }.flatMap { (-86400...86400 * 36500).contains($0) ? $0 : nil }
  }

  /// The end in what `scontrol show job` prints, in this machine's time zone.
  static func end(_ text: String) -> Date? {
    guard let word = text.split(whereSeparator: \.isWhitespace).first(where: { $0.hasPrefix("EndTime=") })
    else {
      return nil
    }
    let form = DateFormatter()
    form.locale = Locale(identifier: "en_US_POSIX")
    form.dateFormat = "yyyy-MM-dd'T'HH:mm:ss"
    return form.date(from: String(word.dropFirst("EndTime=".count)))
  }
}
