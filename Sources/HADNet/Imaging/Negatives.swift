import Files

/// The negative voxels of a sequence: how many, how large, and what they look like. Magnitude images have none of their
/// own, so each has a cause, and what helps depends on it.
struct Negatives {
  /// Voxels that are not 0, and those of them below 0.
  let others, negative: Int
  let least, largest: Float
  /// Of the voxels that are not 0.
  let mean, sd: Double
  /// Whether all that are negative have one value.
  let areAlike: Bool

  init(_ voxels: [Float]) {
    var others = 0, negative = 0, least = Float.infinity, largest = -Float.infinity, below = -Float.infinity
    var sum = 0.0, squares = 0.0
    for value in voxels where value != 0 {
      others += 1
      least = min(least, value)
      largest = max(largest, value)
      sum += Double(value)
      squares += Double(value) * Double(value)
      if value < 0 {
        negative += 1
        below = max(below, value)
      }
    }
    self.others = others
    self.negative = negative
    self.least = least
    self.largest = largest
    mean = others == 0 ? 0 : sum / Double(others)
    sd = others == 0 ? 0 : max(0, squares / Double(others) - mean * mean).squareRoot()
    areAlike = below == least
  }

  var share: Double { others == 0 ? 0 : Double(negative) / Double(others) }

  /// Few and small, as an interpolation with splines leaves them beside edges.
  var isRinging: Bool { share < 0.05 && least >= -0.02 * max(largest, 0) }

  /// What a person is told of a file that is refused for them.
  var words: String {
    let percent = 100 * share, share = "\(Negatives.shown(percent)) % of those that are not 0"
    let option = "(data.negative of a recipe, --negative of inspect and predict)"
    if isRinging {
      return
        "\(negative.named("negative voxel")), \(share), the least \(Negatives.shown(least)), as an interpolation leaves them; "
        + "negative: zero makes them 0, abs takes their absolute values \(option)"
    }
    if areAlike, percent > 5 {
      return
        "\(negative.named("negative voxel")), \(share), all \(Negatives.shown(least)), as of a background; negative: zero makes it 0 "
        + option
    }
    if percent > 5, abs(mean) < 0.1 * sd {
      return
        "\(negative.named("negative voxel")), \(share), mean \(Negatives.shown(mean)), sd \(Negatives.shown(sd)): "
        + "already normalised? Give the images from before that"
    }
    let values = "values from \(Negatives.shown(least)) to \(Negatives.shown(largest))"
    if percent > 5 {
      return
        "\(negative.named("negative voxel")), \(share), \(values): already normalised? Give the images from before that"
    }
    return
      "\(negative.named("negative voxel")), \(share), \(values); where 0 is meant, negative: zero makes them 0 \(option)"
  }

  private static func shown(_ value: Float) -> String { Int(exactly: value).map(String.init) ?? "\(value)" }

  /// Two significant digits.
  private static func shown(_ value: Double) -> String {
    guard value != 0, value.isFinite else { return "0" }
    var unit = 1.0
    while value.magnitude / unit >= 100 { unit *= 10 }
    while value.magnitude / unit < 10, unit > 1e-6 { unit /= 10 }
    let rounded = (value / unit).rounded()
    let value = unit >= 1 ? rounded * unit : rounded / (1 / unit).rounded()
    return Int(exactly: value).map(String.init) ?? "\(value)"
  }
}
