import Compute
import Evaluation
import Foundation
import Imaging

/// One patient as a row of pictures: the sequences, the truth, and what each method made of it.
package struct CaseFigure: Sendable {
  /// By class index; the background's is never drawn.
  package static let colors = [
    Color.black, Color(230, 60, 50), Color(60, 180, 90), Color(250, 215, 60), Color(70, 120, 230),
    Color(200, 100, 220), Color(80, 210, 220), Color(240, 140, 40), Color(160, 110, 60), Color(250, 160, 190),
    Color(150, 220, 60), Color(110, 90, 200), Color(0, 150, 140), Color(180, 180, 60), Color(200, 60, 120),
    Color(120, 160, 190), Color(230, 200, 160),
  ]

  let task: SegmentationTask
  package let id: String
  /// The axial slice that is shown.
  package let z: Int
  let images: Volume
  let truth: LabelVolume
  let segmentations: [(method: String, labels: LabelVolume)]

  /// `images` are [z, y, x, sequences] in the task's order, 0 outside the brain, as prepared (y forward, x to the patient's
  /// left). Without a `z` it is the slice with most of the region of detection, or of all classes where there is none.
  package init(
    _ task: SegmentationTask, id: String, images: Volume, truth: LabelVolume,
    segmentations: [(method: String, labels: LabelVolume)],
    z: Int? = nil
  ) {
    precondition(
      images.channels == task.sequences.count && images.size == truth.size,
      "\(images.shape) with \(truth.size)")
    for segmentation in segmentations {
      precondition(segmentation.labels.size == truth.size, "\(segmentation.labels.size) with \(truth.size)")
    }
    self.task = task
    self.id = id
    self.images = images
    self.truth = truth
    self.segmentations = segmentations
    self.z = z ?? CaseFigure.slice(truth, task)
  }

  /// The slice with most of the region of detection, else of all classes, else the middle one.
  static func slice(_ labels: LabelVolume, _ task: SegmentationTask) -> Int {
    let area = labels.size.y * labels.size.x
    func most(_ contains: (UInt8) -> Bool) -> Int? {
      let counts = (0..<labels.size.z).map { z in
        labels.classes[(z * area)..<((z + 1) * area)].reduce(0) { $0 + (contains($1) ? 1 : 0) }
      }
      guard let best = counts.max(), best > 0 else { return nil }
      return counts.firstIndex(of: best)
    }
    return most(task.detect.contains) ?? most { $0 != 0 && $0 != LabelVolume.ignored } ?? labels.size.z / 2
  }

  /// The most pictures side by side that are still large enough on a page.
  private static let across = 8

  /// A case a row with a legend: the paper's figure 2. All cases show the same methods; where there are many, they
  /// stand on lines of their own under the sequences and the truth. Cases of a `set` that methods are not to be judged by
  /// are called so below.
  package static func picture(_ cases: [CaseFigure], of set: EvaluatedSet = .test) -> Picture {
    guard let first = cases.first else { return Picture(width: 1, height: 1) }
    let sequences = first.shown.map(\.title) + ["truth"]
    let captions = sequences + first.segmentations.map(\.method)
    var lines = [captions.indices]
    if captions.count > across {
      lines = [sequences.indices]
      while let last = lines.last, last.upperBound < captions.count {
        lines.append(last.upperBound..<min(last.upperBound + across, captions.count))
      }
    }
    let gap = 4, head = 30, foot = 34
    let margin = 12 + (cases.flatMap(\.lines).map { Picture.width(of: $0) }.max() ?? 0)
    let panels = cases.map { $0.panels() }
    // A caption may be wider than a narrow brain.
    let columns = (0..<(lines.map(\.count).max() ?? 0)).map { column in
      lines.filter { column < $0.count }.map { line in
        let i = line.lowerBound + column
        return max(Picture.width(of: captions[i]) + 12, panels.map { $0[i].width }.max() ?? 0)
      }.max() ?? 0
    }
    let heights = panels.map { $0.map(\.height).max() ?? 0 }
    // One line of captions is enough for all cases, unless their pictures stand on several lines.
    let heads = lines.count > 1 ? lines.count * cases.count : 1
    let space = lines.count > 1 ? 14 : 0
    var picture = Picture(
      width: margin + columns.reduce(0, +) + gap * columns.count,
      height: head * heads + (heights.reduce(0, +) + gap * heights.count) * lines.count
        + space * (cases.count - 1) + foot)
    var y = 0
    for (row, panels) in panels.enumerated() {
      for line in lines {
        if row == 0 || lines.count > 1 {
          var x = margin
          for (i, width) in zip(line, columns) {
            picture.text(captions[i], x: x + (width - Picture.width(of: captions[i])) / 2, y: y + 9)
            x += width + gap
          }
          y += head
        }
        if line.lowerBound == 0 { cases[row].name(on: &picture, y: y + heights[row] / 2) }
        var x = margin
        for (panel, width) in zip(panels[line], columns) {
          picture.draw(panel, x: x + (width - panel.width) / 2, y: y + (heights[row] - panel.height) / 2)
          x += width + gap
        }
        y += heights[row] + gap
      }
      if row + 1 < cases.count { y += space }
    }
    var x = margin
    for (name, color) in legend(first.task) {
      picture.fill(x: x, y: y + 9, width: 14, height: 14, color)
      picture.text(name, x: x + 20, y: y + 9)
      x += 40 + Picture.width(of: name)
    }
    return picture.noted(set.pictured)
  }

  /// Writes ID and slice into the margin, `y` in their middle.
  private func name(on picture: inout Picture, y: Int) {
    for (i, line) in lines.enumerated() {
      picture.text(line, x: 6, y: y - 10 * lines.count + 20 * i, i == lines.count - 1 ? .grey : .white)
    }
  }

  /// The ID in pieces short enough for the margin, and the slice.
  private var lines: [String] {
    var lines: [String] = []
    for piece in id.split(separator: "_", omittingEmptySubsequences: false) {
      if let last = lines.last, last.count + piece.count < 12 {
        lines[lines.count - 1] = last + "_" + piece
      } else {
        lines.append(String(piece))
      }
    }
    return lines + ["z = \(z)"]
  }

  /// The classes' names and colours.
  static func legend(_ task: SegmentationTask) -> [(name: String, color: Color)] {
    zip(task.classes.map(\.name), colors.dropFirst()).map { (name: $0, color: $1) }
  }

  /// The sequences as they stand side by side: what is missing at inference last.
  private var shown: [Modality] { task.present + task.missing }

  private func panels() -> [Picture] {
    let view = SliceView(images, z: z)
    // Classes are drawn on the sequence that shows most, the last of those that will be missing.
    var panels = shown.compactMap(task.channel).map(view.grey)
    let ground = panels[panels.count - 1]
    panels.append(view.overlay(truth, on: ground))
    for segmentation in segmentations {
      var panel = view.overlay(segmentation.labels, on: ground)
      let overlaps = Overlaps(truth: truth, prediction: segmentation.labels, regions: [task.detect])
      panel.note(task.detect.name + String(format: " %.2f", overlaps.values[0].dice))
      panels.append(panel)
    }
    return panels
  }
}
