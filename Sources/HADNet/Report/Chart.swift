import Foundation

/// A line chart: curves against epochs, or against anything else.
package struct Chart: Sendable {
  /// A curve and its name in the legend.
  package struct Series: Sendable {
    package let name: String
    package let points: [(x: Double, y: Double)]

    /// Points by rising x.
    package init(_ name: String, _ points: [(x: Double, y: Double)]) {
      self.name = name
      self.points = points
    }
  }

  /// Told apart also by the colour-blind, on white and on black (after Okabe and Ito).
  static let palette = [
    Color(0, 130, 200), Color(213, 94, 0), Color(0, 158, 115), Color(204, 121, 167), Color(205, 145, 0),
    Color(86, 180, 233), Color(140, 140, 140),
  ]

  package let title: String
  package let xLabel: String
  package let series: [Series]
  /// Whether y is drawn by its logarithm; values not above 0 are left out.
  package let logarithmic: Bool

  package init(
    _ title: String, xLabel: String = "epoch", _ series: [Series], logarithmic: Bool = false
  ) {
    self.title = title
    self.xLabel = xLabel
    self.logarithmic = logarithmic
    self.series = series
  }

  // MARK: - The plan, the same for both forms

  struct Tick {
    let at: Double
    let text: String
  }

  /// Where things stand in a frame whose plot is `width` × `height`, from the upper left.
  struct Plan {
    var xTicks: [Tick] = []
    var yTicks: [Tick] = []
    /// Unbroken lines; a value that can't be drawn breaks one.
    var lines: [(series: Int, points: [(x: Double, y: Double)])] = []
  }

  /// Not NaN, and not so large that ticks and places lose their meaning.
  private static func canDraw(_ value: Double) -> Bool { abs(value) < 1e15 }

  func plan(width: Double, height: Double) -> Plan {
    func value(_ y: Double) -> Double {
      guard Chart.canDraw(y) else { return .nan }
      return logarithmic ? (y > 0 ? log10(y) : .nan) : y
    }
    let all = series.flatMap(\.points).map { (x: $0.x, y: value($0.y)) }.filter {
      Chart.canDraw($0.x) && Chart.canDraw($0.y)
    }
    var xs = Chart.range(all.map(\.x)), ys = Chart.range(all.map(\.y))
    if ys.lowerBound == ys.upperBound {
      let space = logarithmic ? 0.5 : max(abs(ys.lowerBound) * 0.1, 1e-12)
      ys = (ys.lowerBound - space)...(ys.upperBound + space)
    }
    let rows = max(2, Int(height / 40))
    if !logarithmic {
      // From one tick to another, so that every curve lies between two numbers.
      let step = Chart.step(ys, about: rows)
      let low = (ys.lowerBound / step + 1e-9).rounded(.down) * step
      ys = low...((ys.upperBound / step - 1e-9).rounded(.up) * step)
    }
    if xs.lowerBound == xs.upperBound { xs = (xs.lowerBound - 1)...(xs.upperBound + 1) }
    func place(x: Double) -> Double { (x - xs.lowerBound) / (xs.upperBound - xs.lowerBound) * width }
    func place(y: Double) -> Double {
      height - (y - ys.lowerBound) / (ys.upperBound - ys.lowerBound) * height
    }

    var plan = Plan()
    plan.xTicks = Chart.ticks(xs, about: max(2, Int(width / 80))).map {
      Tick(at: place(x: $0), text: Chart.text($0))
    }
    let levels = logarithmic ? Chart.decades(ys) : Chart.ticks(ys, about: rows)
    plan.yTicks = levels.map { Tick(at: place(y: $0), text: Chart.text(logarithmic ? pow(10, $0) : $0)) }
    for (i, one) in series.enumerated() {
      var run: [(x: Double, y: Double)] = []
      for point in one.points {
        let y = value(point.y)
        if Chart.canDraw(point.x), Chart.canDraw(y) {
          run.append((place(x: point.x), place(y: y)))
        } else if !run.isEmpty {
          plan.lines.append((i, run))
          run = []
        }
      }
      if !run.isEmpty { plan.lines.append((i, run)) }
    }
    return plan
  }

  private static func range(_ values: [Double]) -> ClosedRange<Double> {
    (values.min() ?? 0)...(values.max() ?? 1)
  }

  /// 1, 2 or 5 times a power of ten: the distance of about so many ticks in a range.
  private static func step(_ range: ClosedRange<Double>, about count: Int) -> Double {
    let rough = (range.upperBound - range.lowerBound) / Double(count)
    let power = pow(10, log10(rough).rounded(.down))
    return [1, 2, 5, 10].map { $0 * power }.first { $0 >= rough * 0.999 } ?? rough
  }

  /// Round values inside a range.
  static func ticks(_ range: ClosedRange<Double>, about count: Int) -> [Double] {
    let step = step(range, about: count)
    let first = (range.lowerBound / step - 1e-9).rounded(.up),
      last = (range.upperBound / step + 1e-9).rounded(.down)
    guard last >= first else { return [] }
    // By division where the step is below 1, so that 3 steps of 0.1 are 0.3 to the last digit.
    return stride(from: first, through: last, by: 1).map { step < 1 ? $0 / (1 / step).rounded() : $0 * step }
  }

  /// Powers of ten in a range of logarithms, with their 2- and 5-folds where there would be few.
  private static func decades(_ range: ClosedRange<Double>) -> [Double] {
    let decades = Int(range.lowerBound.rounded(.down))...Int(range.upperBound.rounded(.up))
    for factors in [[1.0], [1, 2, 5], [1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9]] {
      let found = decades.flatMap { decade in factors.map { Double(decade) + log10($0) } }
        .filter { range.lowerBound - 1e-9 <= $0 && $0 <= range.upperBound + 1e-9 }
      if found.count >= 3 {
        return found.count > 8 ? found.indices.filter { $0 % 2 == 0 }.map { found[$0] } : found
      }
    }
    return ticks(range, about: 3)
  }

  /// A tick's number, as short as can be.
  static func text(_ value: Double) -> String {
    if value == 0 { return "0" }
    let size = abs(value)
    if size >= 1e5 || size < 1e-3 {
      let exponent = Int((log10(size) + 1e-9).rounded(.down))
      return String(format: "%.3g", value / pow(10, Double(exponent))) + "e\(exponent)"
    }
    return String(format: "%.4g", value)
  }

  /// The series in the lines of a legend, each with its place from the left, where a name takes `width(name)` and a
  /// line ends at `end`.
  func legend(end: Double, width: (String) -> Double) -> [[(series: Int, x: Double)]] {
    var lines: [[(series: Int, x: Double)]] = [[]]
    var x = 0.0
    for (i, one) in series.enumerated() {
      let wide = 24 + width(one.name)
      if x + wide > end, !lines[lines.count - 1].isEmpty {
        lines.append([])
        x = 0
      }
      lines[lines.count - 1].append((i, x))
      x += wide + 20
    }
    return lines
  }

  // MARK: - SVG

  /// An `<svg>` element that takes text and grid from the page's colour, so that it reads on light and dark.
  package func svg(width: Int = 560, height: Int = 300) -> String {
    let left = 56.0, right = 20.0, top = 34.0
    let legend = legend(end: Double(width) - left - right) { Double($0.count) * 7 }
    let bottom = 62.0 + 18 * Double(legend.count - 1)
    let w = Double(width) - left - right, h = Double(height) - top - bottom
    let plan = plan(width: w, height: h)
    func f(_ value: Double) -> String { String(format: "%.1f", value) }
    var out = """
      <svg class="chart" viewBox="0 0 \(width) \(height)" role="img" aria-label="\(escaped(title))" \
      font-family="system-ui, sans-serif" font-size="12" fill="currentColor">
      <text x="\(f(left))" y="18" font-size="14" font-weight="600">\(escaped(title))</text>

      """
    for tick in plan.yTicks {
      let y = f(top + tick.at)
      out += """
        <line x1="\(f(left))" x2="\(f(left + w))" y1="\(y)" y2="\(y)" stroke="currentColor" stroke-opacity="0.15"/>\
        <text x="\(f(left - 6))" y="\(f(top + tick.at + 4))" text-anchor="end" opacity="0.75">\(tick.text)</text>

        """
    }
    for tick in plan.xTicks {
      let x = f(left + tick.at)
      out += """
        <line x1="\(x)" x2="\(x)" y1="\(f(top + h))" y2="\(f(top + h + 4))" stroke="currentColor" \
        stroke-opacity="0.5"/>\
        <text x="\(x)" y="\(f(top + h + 18))" text-anchor="middle" opacity="0.75">\(tick.text)</text>

        """
    }
    out += """
      <line x1="\(f(left))" x2="\(f(left + w))" y1="\(f(top + h))" y2="\(f(top + h))" stroke="currentColor" \
      stroke-opacity="0.5"/>
      <text x="\(f(left + w))" y="\(f(top + h + 34))" text-anchor="end" opacity="0.75">\(escaped(xLabel))</text>

      """
    for line in plan.lines {
      let color = Chart.palette[line.series % Chart.palette.count].hex
      if line.points.count == 1 {
        out += """
          <circle cx="\(f(left + line.points[0].x))" cy="\(f(top + line.points[0].y))" r="3" fill="\(color)"/>

          """
      } else {
        let points = line.points.map { "\(f(left + $0.x)),\(f(top + $0.y))" }.joined(separator: " ")
        out += """
          <polyline points="\(points)" fill="none" stroke="\(color)" stroke-width="1.8" stroke-linejoin="round"/>

          """
      }
    }
    for (row, line) in legend.enumerated() {
      let y = height - 12 - 18 * (legend.count - 1 - row)
      for (i, at) in line {
        let color = Chart.palette[i % Chart.palette.count].hex, x = left + at
        out += """
          <line x1="\(f(x))" x2="\(f(x + 18))" y1="\(y)" y2="\(y)" stroke="\(color)" \
          stroke-width="3"/><text x="\(f(x + 24))" y="\(y + 4)">\(escaped(series[i].name))</text>

          """
      }
    }
    return out + "</svg>"
  }

  // MARK: - Pixels

  /// The same chart as a picture, on white.
  package func picture(width: Int = 640, height: Int = 360) -> Picture {
    let left = 76, right = 26, top = 40, label = Picture.width(of: xLabel)
    // The axis's name stands at the right of it.
    let legend = legend(end: Double(width - left - right - label - 30)) { Double(Picture.width(of: $0)) }
    let bottom = 66 + 22 * (legend.count - 1)
    let ink = Color(40, 44, 52), faint = Color(226, 228, 232)
    let w = width - left - right, h = height - top - bottom
    let plan = plan(width: Double(w), height: Double(h))
    var picture = Picture(width: width, height: height, background: .white)
    picture.text(title, x: left, y: 12, ink)
    for tick in plan.yTicks {
      let y = top + Int(tick.at.rounded())
      picture.fill(x: left, y: y, width: w, height: 1, faint)
      picture.text(tick.text, x: left - 8 - Picture.width(of: tick.text), y: y - 7, ink)
    }
    picture.fill(x: left, y: top + h, width: w, height: 1, ink)
    for tick in plan.xTicks {
      let x = left + Int(tick.at.rounded())
      picture.fill(x: x, y: top + h, width: 1, height: 5, ink)
      picture.text(tick.text, x: x - Picture.width(of: tick.text) / 2, y: top + h + 9, ink)
    }
    for line in plan.lines {
      let color = Chart.palette[line.series % Chart.palette.count]
      let points = line.points.map { (x: Double(left) + $0.x, y: Double(top) + $0.y) }
      if points.count == 1 { picture.line(from: points[0], to: points[0], width: 6, color) }
      for (a, b) in zip(points, points.dropFirst()) { picture.line(from: a, to: b, width: 1.8, color) }
    }
    let foot = height - 25 - 22 * (legend.count - 1)
    for (row, line) in legend.enumerated() {
      for (i, at) in line {
        let x = left + Int(at), y = foot + 22 * row
        picture.fill(x: x, y: y + 5, width: 18, height: 4, Chart.palette[i % Chart.palette.count])
        picture.text(series[i].name, x: x + 24, y: y, ink)
      }
    }
    picture.text(xLabel, x: width - right - label, y: foot, ink)
    return picture
  }

  /// Rows of charts as one picture: a run's `curves.png`. nil leaves a place empty.
  package static func picture(_ rows: [[Chart?]]) -> Picture {
    guard let first = rows.joined().lazy.compactMap({ $0?.picture() }).first else {
      return Picture(width: 1, height: 1)
    }
    var sheet = Picture(
      width: first.width * (rows.map(\.count).max() ?? 1), height: first.height * rows.count,
      background: .white)
    for (row, charts) in rows.enumerated() {
      for (column, chart) in charts.enumerated() {
        if let chart { sheet.draw(chart.picture(), x: column * first.width, y: row * first.height) }
      }
    }
    return sheet
  }
}
