import Compute
import Evaluation
import Foundation
import Imaging
import Methods

/// The paper's figure 3: what filtering by uncertainty leaves of a method's region of detection, at falling thresholds: of enhancing tumour in
/// BraTS's sets.
package struct UncertaintyFigure: Sendable {
  /// A method's segmentation of the case and its uncertainty of the region, 0…100.
  package struct Method: Sendable {
    let name: String
    let labels: LabelVolume
    let map: [Float]

    /// `map`: a value for each voxel of `labels`, in its order.
    package init(_ name: String, _ labels: LabelVolume, map: [Float]) {
      self.name = name
      self.labels = labels
      self.map = map
    }
  }

  /// What a voxel counts as once those above the threshold are taken out.
  enum Category: Int, CaseIterable {
    case truePositive, falseNegative, falsePositive, uncertain

    var name: String {
      switch self {
      case .truePositive: "true positive"
      case .falseNegative: "false negative"
      case .falsePositive: "false positive"
      case .uncertain: "uncertain, taken out"
      }
    }

    /// None is a class's colour.
    var color: Color {
      switch self {
      case .truePositive: Color(50, 205, 215)
      case .falseNegative: Color(240, 80, 200)
      case .falsePositive: Color(250, 140, 30)
      case .uncertain: Color(70, 100, 230)
      }
    }

    /// nil for what is of the region neither in truth nor in the prediction.
    init?(truth: Bool, prediction: Bool, uncertainty: Float, threshold: Float) {
      guard truth || prediction else { return nil }
      if uncertainty > threshold {
        self = .uncertain
      } else {
        self = truth ? (prediction ? .truePositive : .falseNegative) : .falsePositive
      }
    }
  }

  static let thresholds: [Float] = [100, 75, 50, 25]

  let task: SegmentationTask
  let id: String
  let images: Volume
  let truth: LabelVolume
  let methods: [Method]
  private let z: Int

  /// `images` and the slice as in `CaseFigure`.
  package init(
    _ task: SegmentationTask, id: String, images: Volume, truth: LabelVolume, methods: [Method]
  ) {
    precondition(
      images.channels == task.sequences.count && images.size == truth.size
        && methods.allSatisfy { $0.labels.size == truth.size && $0.map.count == truth.size.voxels },
      "figure 3 of \(images.shape) and \(truth.size)")
    self.task = task
    self.id = id
    self.images = images
    self.truth = truth
    self.methods = methods
    z = CaseFigure.slice(truth, task)
  }

  /// A method a row: a sequence, truth, prediction, and the prediction's region at each threshold. A case of a `set` that methods are
  /// not to be judged by is called so below.
  package func picture(of set: EvaluatedSet = .test) -> Picture {
    let ground = task.missing[task.missing.count - 1]
    let view = SliceView(images, z: z), grey = view.grey(task.channel(ground) ?? 0)
    let reference = view.overlay(truth, on: grey)
    let captions =
      [ground.title, "truth", "prediction"] + UncertaintyFigure.thresholds.map { "T = \(Int($0))" }
    let rows = methods.map { method in
      [grey, reference, view.overlay(method.labels, on: grey)]
        + UncertaintyFigure.thresholds.map { threshold in
          panel(view, grey, method, threshold)
        }
    }
    let gap = 4, head = 30, foot = 34
    let margin = 12 + (methods.map { Picture.width(of: $0.name) } + [Picture.width(of: id)]).reduce(0, max)
    let width = max(grey.width, captions.map { Picture.width(of: $0) + 12 }.reduce(0, max))
    var picture = Picture(
      width: margin + (width + gap) * captions.count,
      height: head + (grey.height + gap) * rows.count + foot)
    for (column, caption) in captions.enumerated() {
      let x = margin + column * (width + gap)
      picture.text(caption, x: x + (width - Picture.width(of: caption)) / 2, y: 9)
    }
    picture.text(id, x: 6, y: 9, .grey)
    for (row, panels) in rows.enumerated() {
      let y = head + row * (grey.height + gap)
      picture.text(methods[row].name, x: 6, y: y + grey.height / 2 - 8)
      for (column, panel) in panels.enumerated() {
        picture.draw(panel, x: margin + column * (width + gap) + (width - panel.width) / 2, y: y)
      }
    }
    var x = margin
    let y = picture.height - foot
    for (name, color) in CaseFigure.legend(task)
      + Category.allCases.map({ ($0.name, $0.color) })
    {
      picture.fill(x: x, y: y + 9, width: 14, height: 14, color)
      picture.text(name, x: x + 20, y: y + 9)
      x += 40 + Picture.width(of: name)
    }
    return picture.noted(set.pictured)
  }

  private func panel(_ view: SliceView, _ grey: Picture, _ method: Method, _ threshold: Float) -> Picture {
    func category(_ voxel: Int) -> Category? {
      Category(
        truth: task.detect.contains(truth.classes[voxel]),
        prediction: task.detect.contains(method.labels.classes[voxel]),
        uncertainty: method.map[voxel], threshold: threshold)
    }
    var panel = view.tinted(grey) { category($0)?.color }
    // Dice of the whole case, not of the slice alone.
    var counts = [Int](repeating: 0, count: Category.allCases.count)
    for voxel in truth.classes.indices {
      if let category = category(voxel) { counts[category.rawValue] += 1 }
    }
    let overlap = Overlap(tp: counts[0], fp: counts[2], fn: counts[1], tn: 0)
    panel.note(task.detect.name + String(format: " %.2f", overlap.dice))
    return panel
  }
}
