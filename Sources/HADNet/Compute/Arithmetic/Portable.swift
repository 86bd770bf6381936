/// Functions built from + − × ÷ alone, so that their last bits are the same on every CPU and C library.
package enum Portable {
  /// Natural logarithm of x > 0, relative error below 1e-15.
  package static func log(_ x: Double) -> Double {
    precondition(x > 0, "the logarithm of \(x)")
    var mantissa = x.significand, exponent = Double(x.exponent)
    if mantissa > 1.414_213_562_373_095_1 {
      mantissa /= 2
      exponent += 1
    }
    // ln m = 2·artanh(t), t = (m − 1)/(m + 1), |t| < 0.172.
    let t = (mantissa - 1) / (mantissa + 1), t2 = t * t
    var sum = 0.0
    for k in stride(from: 23, through: 1, by: -2) { sum = sum * t2 + 1 / Double(k) }
    return exponent * 0.693_147_180_559_945_3 + 2 * t * sum
  }

  /// The exponential of x, relative error below 1e-14; 0 below −708, infinite above 709, of what is not a number none.
  package static func exp(_ x: Double) -> Double {
    if x.isNaN { return x }
    if x < -708 { return 0 }
    if x > 709 { return .infinity }
    let k = (x * 1.442_695_040_888_963_4).rounded()
    let r = (x - k * 0.693_147_180_369_123_8) - k * 1.908_214_929_270_587_7e-10
    var sum = 1.0
    for i in stride(from: 14, through: 1, by: -1) { sum = 1 + r * sum / Double(i) }
    return sum * Double(sign: .plus, exponent: Int(k), significand: 1)
  }

  /// Sine and cosine of |x| < 1000 radians, absolute error below 1e-13.
  package static func sineAndCosine(_ x: Double) -> (sine: Double, cosine: Double) {
    precondition(x.magnitude < 1000, "the sine of \(x)")
    let quarter = (x * 0.636_619_772_367_581_3).rounded()
    // π/2 in two parts, so that the remainder keeps its digits; it is within ±π/4.
    let r = (x - quarter * 1.570_796_326_734_125_6) - quarter * 6.077_100_506_506_192e-11, r2 = r * r
    var sine = 1.0, cosine = 1.0
    for k in stride(from: 16, through: 2, by: -2) {
      sine = 1 - sine * r2 / Double(k * (k + 1))
      cosine = 1 - cosine * r2 / Double((k - 1) * k)
    }
    sine *= r
    switch Int(quarter) & 3 {
    case 0: return (sine, cosine)
    case 1: return (cosine, -sine)
    case 2: return (-sine, -cosine)
    default: return (-cosine, sine)
    }
  }
}
