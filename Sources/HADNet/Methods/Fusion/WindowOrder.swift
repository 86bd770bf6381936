import Compute
import Dispatch
import Files
import Imaging
import Learning
import Synchronization

/// Windows of augmented cases. Every slot has a stream of its own: with a batch of B, in each epoch slot i sees the cases
/// i, i + B, … of the epoch's order, each cut into windows that mix with those of the cases before and after in a queue.
/// With one slot this is what U-HVED's code does; with several, each rank still reads only its own cases.
final class WindowOrder: CaseOrder {
  struct Settings: Sendable {
    /// Windows in all.
    var windows: Int
    var perCase, queue, patch: Int
    var augmentation: ScalingAugmentation
  }

  let epochs: Int
  private let ids: [String]
  private let slots: Int
  private let seed: UInt64
  let store: CaseStore
  /// Others than those of the step, which goes on while the next case is augmented.
  private let workers: Workers
  private let settings: Settings
  private var streams: [Int: Stream] = [:]

  init(
    _ ids: [String], _ settings: Settings, slots: Int, seed: UInt64, _ store: CaseStore,
    _ workers: Workers
  ) {
    self.ids = ids
    self.settings = settings
    self.slots = slots
    self.seed = seed
    self.store = store
    self.workers = workers
    let perEpoch = ids.count * settings.perCase
    epochs = (settings.windows + perEpoch - 1) / perEpoch
  }

  /// Slots have as many cases each, but for the first ones, which may have one more.
  private var rounds: (whole: Int, rest: Int) { (ids.count / slots, ids.count % slots) }

  func filled(_ epoch: Int, _ step: Int) -> Int {
    step < rounds.whole * settings.perCase ? slots : rounds.rest
  }

  func steps(_ epoch: Int) -> Int {
    let (whole, rest) = rounds, perCase = settings.perCase
    let all = (whole + (rest > 0 ? 1 : 0)) * perCase
    // Of the last epoch only as many as are still wanted.
    let left = settings.windows - epoch * ids.count * perCase
    guard left < ids.count * perCase else { return all }
    let inWhole = (left + slots - 1) / slots
    if inWhole <= whole * perCase { return inWhole }
    return whole * perCase + (left - whole * perCase * slots + rest - 1) / rest
  }

  func seen(_ epoch: Int, _ step: Int) -> Int {
    let whole = rounds.whole * settings.perCase, done = step + 1
    return epoch * ids.count * settings.perCase + min(done, whole) * slots
      + max(0, done - whole) * rounds.rest
  }

  func load(_ epoch: Int, _ step: Int, slot: Int, of run: Range<Int>, note: (String) -> Void) throws
    -> SlotCase
  {
    let stream: Stream
    if let known = streams[slot], known.epoch == epoch {
      stream = known
    } else {
      stream = Stream(epoch: epoch, slot: slot, slots: slots, ids, settings, seed: seed)
      streams[slot] = stream
    }
    let draw = stream.draws[step], number = stream.cases[draw.load]
    note("reading \(ids[number])")
    stream.fetch(draw.load, ids[number], number, store, workers)
    guard let arrival = stream.held[draw.load] else { preconditionFailure("a load that was not begun") }
    let whole = try arrival.value()
    if draw.isLastOfLoad { stream.held[draw.load] = nil }
    // The next one begins to come while there is time; one at a time, since each takes memory.
    if let next = stream.next(after: step, within: settings.perCase) {
      let number = stream.cases[next]
      stream.fetch(next, ids[number], number, store, workers)
    }
    let side = Size(settings.patch, settings.patch, settings.patch)
    let box = VoxelBox.patch(
      side, in: whole.labels.size, seed: seed, epoch: epoch, case: number, window: draw.window)
    return SlotCase(
      slot: slot, id: ids[number], images: whole.images.crop(box), truth: whole.labels.crop(box))
  }

  /// What a slot sees in an epoch.
  private final class Stream {
    let epoch: Int
    /// The cases' numbers, load by load.
    let cases: [Int]
    let draws: [WindowQueue.Draw]
    var held: [Int: Promise<Augmented>] = [:]
    /// When a window of each load is first drawn, in order.
    private let firsts: [(step: Int, load: Int)]
    private let settings: Settings
    private let seed: UInt64
    private static let background = DispatchQueue(label: "hadnet.windows")

    struct Augmented: Sendable {
      let images: Volume
      let labels: LabelVolume
    }

    init(epoch: Int, slot: Int, slots: Int, _ ids: [String], _ settings: Settings, seed: UInt64) {
      self.epoch = epoch
      self.settings = settings
      self.seed = seed
      var order = Philox(seed: seed, .permutation, epoch)
      let all = order.permutation(ids.count)
      cases = stride(from: slot, to: ids.count, by: slots).map { all[$0] }
      draws = Array(
        WindowQueue(
          loads: cases.count, windowsPerLoad: settings.perCase, capacity: settings.queue,
          random: Philox(seed: seed, .windows, epoch, slot)))
      var firsts: [Int: Int] = [:]
      for (step, draw) in draws.enumerated() where firsts[draw.load] == nil { firsts[draw.load] = step }
      self.firsts = firsts.map { (step: $0.value, load: $0.key) }.sorted { $0.step < $1.step }
    }

    /// The next load that is first needed within so many steps, if it has not begun and no other is on its way.
    func next(after step: Int, within: Int) -> Int? {
      guard held.values.allSatisfy(\.isThere) else { return nil }
      guard let next = firsts.first(where: { $0.step > step && held[$0.load] == nil }),
        next.step <= step + within
      else { return nil }
      return next.load
    }

    func fetch(_ load: Int, _ id: String, _ number: Int, _ store: CaseStore, _ workers: Workers) {
      guard held[load] == nil else { return }
      let arrival = Promise<Augmented>(), settings = settings, seed = seed, epoch = epoch
      held[load] = arrival
      Stream.background.async {
        arrival.finish(
          Result {
            let prepared = try store.load(id)
            guard let truth = prepared.labels else { throw Fault(.missing, "\(id) has no truth") }
            var random = Philox(seed: seed, .augmentation, epoch, number)
            let (images, labels) = settings.augmentation.apply(
              images: prepared.images, labels: truth, random: &random, workers)
            return Augmented(images: images, labels: labels)
          })
      }
    }
  }
}
