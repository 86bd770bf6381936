import Collective
import Compute
import Evaluation
import Files
import Foundation
import Imaging
import Learning
import Methods
import Study
import Terminal

/// Tells what happens in a run: to the journal always, to a person as a bar or as lines. Rank 0 alone speaks.
final class Narrator {
  let isFirst: Bool
  private var journal: Journal?
  /// Of the whole run, while `journal` is that of one seed.
  private var outer: Journal?
  private let start: [(String, JournalValue)]
  /// Where a stage's place is not enough: `seed 2, `.
  private var prefix = ""
  private let bar: ProgressBar
  private let isVerbose: Bool
  /// Whether a program reads what is told.
  private let isJSON: Bool
  private var isJournalLost = false
  private var epochs = 0

  init(
    _ run: RunFolder, _ recipe: Recipe, _ communicator: Communicator, _ workers: Workers,
    _ messages: MessageOptions, isVerbose: Bool
  ) throws {
    isFirst = communicator.rank == 0
    self.isVerbose = isVerbose
    isJSON = isFirst && messages.isJSON && !messages.quiet
    bar = messages.bar(rank: communicator.rank)
    let hosts = try communicator.gather(communicator.host)
    start = [
      ("version", .text(HADNetDist.version)), ("recipe", .text(recipe.name)),
      ("ranks", .whole(communicator.size)),
      ("hosts", .whole(Set(hosts).count)), ("threads", .whole(workers.count)),
      ("batch", .whole(recipe.batch ?? communicator.size)), ("mpi", .text(mpiLibrary())),
      ("blas", .text(BLAS.name)),
    ]
    journal = isFirst ? try Journal(run.log) : nil
    try journal?.write("start", start)
    announce("start", start)
    say(
      "\(communicator.size) rank\(communicator.size == 1 ? "" : "s") × \(workers.count) "
        + "thread\(workers.count == 1 ? "" : "s"), batch \(recipe.batch ?? communicator.size), \(BLAS.name)")
    if isFirst, let choice = Startup.kernelChoice { say(choice) }
    if isFirst, let warning = Startup.kernelWarning { tell(.warning(warning)) }
    for text in try Cores.warnings(threads: workers.count, communicator) { tell(.warning(text)) }
  }

  /// What follows is of one seed, and noted in its own folder.
  func begin(seed: UInt64, _ run: RunFolder) throws {
    prefix = "seed \(seed), "
    guard isFirst else { return }
    outer = outer ?? journal
    try outer?.write("seed", ["run": .text(run.path)])
    announce("seed", [("run", .text(run.path))])
    journal = try Journal(run.log)
    try journal?.write("start", start)
    say("seed \(seed): \(run.path)")
  }

  /// Where a program reads standard error, it is told what the journal is told.
  private func announce(_ event: String, _ fields: [(String, JournalValue)]) {
    guard isJSON else { return }
    StandardError.write(jsonEvent(event, fields.map { ($0.0, $0.1.json) }) + "\n")
  }

  /// A line for a person.
  func say(_ text: String) { bar.line(text) }

  func finish() { bar.finish() }

  /// The run ends before its end.
  func stopped(_ place: String, by cause: String) {
    for journal in [journal, outer] {
      try? journal?.write("stop", ["place": .text(prefix + place), "cause": .text(cause)])
    }
    guard isFirst else { return }
    StandardError.say(
      "stopped by \(cause) in \(prefix)\(place): run again with --resume", event: "stop",
      [("place", jsonString(prefix + place)), ("cause", jsonString(cause))])
  }

  /// `aloud`: whether a person hears it too; else it goes to the journal alone.
  func tell(_ event: TrainingEvent, aloud: Bool) {
    guard isFirst, !aloud else { return tell(event) }
    let (name, fields) = entry(event)
    try? journal?.write(name, fields)
    announce(name, fields)
  }

  func tell(_ event: TrainingEvent) {
    guard isFirst else { return }
    let (name, fields) = entry(event)
    // A journal that cannot be written (a full disk) must not end training; the checkpoint will say so.
    do {
      try journal?.write(name, fields)
    } catch {
      if !isJournalLost { bar.warn("\(error); training goes on without it") }
      isJournalLost = true
    }
    if isJSON { announce(name, fields) } else { show(event) }
  }

  /// Its name and fields in the journal.
  private func entry(_ event: TrainingEvent) -> (String, [(String, JournalValue)]) {
    switch event {
    case .began(let stage, let epochs, let done, let steps, let updates):
      return (
        "stage",
        [
          ("stage", .text(stage.rawValue)), ("epochs", .whole(epochs)), ("done", .whole(done)),
          ("steps", .whole(steps)), ("batch", .whole(updates.batch)), ("updates", .whole(updates.all)),
          ("updates_batch_1", .whole(updates.alone)),
        ]
      )
    case .step(let stage, let epoch, let step, _, let means, let times):
      var fields: [(String, JournalValue)] = [
        ("stage", .text(stage.rawValue)), ("epoch", .whole(epoch)), ("step", .whole(step)),
        ("loss", .number(means.loss)),
      ]
      fields += means.terms.map { ($0.name, .number(means[$0])) }
      fields += [
        ("compute_s", .number(times.compute)), ("exposed_s", .number(times.exposed)),
        ("data_wait_s", .number(times.dataWait)), ("bytes_sent", .whole(times.bytesSent)),
      ]
      return ("step", fields)
    case .epoch(let stage, let record, let seconds, let isBest):
      var fields: [(String, JournalValue)] = [("stage", .text(stage.rawValue))]
      for (name, value) in record.numbers(stage) {
        fields.append((name, name == "epoch" ? .whole(Int(value)) : .number(value)))
      }
      fields += [("best", .flag(isBest)), ("seconds", .number(seconds))]
      return ("epoch", fields)
    case .found(let stage, let epochs):
      return ("found", [("stage", .text(stage.rawValue)), ("epochs", .whole(epochs))])
    case .evaluating(let stage, let set, let cases):
      return (
        "evaluate",
        [("stage", .text(stage.rawValue)), ("set", .text(set.rawValue)), ("cases", .whole(cases))]
      )
    case .sampling(let stage, let set, let samples, let cases):
      return (
        "sample",
        [
          ("stage", .text(stage.rawValue)), ("set", .text(set.rawValue)), ("samples", .whole(samples)),
          ("cases", .whole(cases)),
        ]
      )
    case .split(let table):
      return (
        "split",
        table.rows.flatMap {
          [($0.name, .whole($0.cases)), ("\($0.name)_patients", .whole($0.patients))]
        } + [("left_out", .whole(table.leftOut)), ("patients_in_two_sets", .whole(table.leaks.count))]
      )
    case .warning(let text): return ("warning", [("text", .text(text))])
    case .note(let text): return ("note", [("text", .text(text))])
    }
  }

  private func show(_ event: TrainingEvent) {
    switch event {
    case .began(let stage, let epochs, let done, let steps, let updates):
      self.epochs = epochs
      say(
        "\(stage.title): \(epochs.named("epoch")) of \(updates.perEpoch.named("step")), "
          + updates.all.named("update")
          + (updates.batch > 1 ? "; the paper's batch of 1 makes \(updates.alone)" : "")
          + (done > 0 ? "; \(steps.named("step")) to go after epoch \(done)" : ""))
      bar.start(stage.title, total: steps)
    case .step(_, let epoch, let step, let of, let means, let times):
      bar.advance(detail: "epoch \(epoch), loss " + String(format: "%.4f", means.loss))
      if isVerbose {
        say(
          "epoch \(epoch) step \(step)/\(of): loss " + String(format: "%.6f", means.loss)
            + String(
              format: ", compute %.3f s, exposed communication %.3f s, data wait %.3f s", times.compute,
              times.exposed, times.dataWait))
      }
    case .epoch(let stage, let record, let seconds, let isBest):
      var text = "\(stage.title) \(record.epoch)/\(epochs): loss " + String(format: "%.4f", record.loss)
      func first(_ kind: Term.Kind) -> Double? {
        stage.terms.first { $0.kind == kind }.flatMap { record.terms[$0.name] }
      }
      if let accuracy = first(.accuracy), let updated = first(.share) {
        text += String(
          format: ", discriminator %.0f %% right, updated in %.0f %%", 100 * accuracy, 100 * updated)
      }
      if !record.dice.isEmpty {
        let parts = record.dice.map { $0.region + String(format: " %.1f", 100 * $0.dice) }
        text += ", Dice \(parts.joined(separator: " ")) %"
      }
      say(text + String(format: ", %.1f s", seconds) + (isBest ? ", best" : ""))
    case .found(let stage, let epochs): say("\(stage.title): done before, \(epochs.named("epoch"))")
    case .evaluating(let stage, let set, let cases):
      say("\(stage.title): segmenting \(EvaluatedSet.count(cases, set))")
    case .sampling(let stage, let set, let samples, let cases):
      say("\(stage.title): \(samples) dropout samples of \(EvaluatedSet.count(cases, set))")
    case .split(let table):
      for line in table.lines { say(line) }
      if let leak = table.leak { bar.warn(leak) }
    case .warning(let text): bar.warn(text)
    case .note(let text): say("note: \(text)")
    }
  }
}
