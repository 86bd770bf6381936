import Files
import Foundation
import Methods
import Networks

extension Model {
  /// The model file or checkpoint folder that `path` stands for: itself, or the best network of a stage's folder
  /// (RUN/hadnet), of its checkpoints, or of a run with a single stage.
  ///
  /// Throws `.usage` where a folder holds several networks, naming them, `.missing` where it holds none.
  package static func resolve(_ path: String) throws(Fault) -> String {
    guard AtomicFile.isFolder(path), !isCheckpoint(path) else { return path }
    let path = path.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
    for folder in [CheckpointFolder(path), CheckpointFolder("\(path)/checkpoints")] {
      if let best = folder.best, isCheckpoint(best) { return best }
    }
    let run = RunFolder(path), found = bests(of: run), stages = found.map(\.stage)
    switch stages.count {
    case 0: break
    case 1: return found[0].folder
    default:
      throw Fault(
        .usage,
        "\(path): a run with \(stages.count) networks; give one of them, such as "
          + "\(run.stage(stages.max { $0.needs.count < $1.needs.count } ?? stages[0])), of "
          + stages.map(\.rawValue).joined(separator: ", "))
    }
    // A run of several seeds or folds has a run in each of its folders.
    let parts = ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).sorted()
      .filter { $0.hasPrefix("seed-") || $0.hasPrefix("fold-") }
    for part in parts {
      let run = RunFolder("\(path)/\(part)")
      if let stage = bests(of: run).first?.stage {
        throw Fault(
          .usage,
          "\(path): \(parts.count) runs (\(part) for one); give a network of one, such as \(run.stage(stage))"
        )
      }
    }
    throw Fault(
      .missing,
      "\(path): no network is in this folder: give a model file, a run's stage such as RUN/hadnet, or its "
        + "RUN/hadnet/checkpoints/best")
  }

  /// The stages of a run that have a best network, and where.
  private static func bests(of run: RunFolder) -> [(stage: Method, folder: String)] {
    Method.allCases.compactMap { stage in
      run.checkpoints(stage).best.flatMap { isCheckpoint($0) ? (stage, $0) : nil }
    }
  }

  /// Whether a folder is a checkpoint: it has a network.
  private static func isCheckpoint(_ folder: String) -> Bool {
    AtomicFile.isFolder(folder)
      && Method.networks.contains {
        FileManager.default.fileExists(atPath: "\(folder)/\($0).safetensors")
      }
  }
}
