/// Numbers along a direction: sets `values` to start + distance · direction.
func move(
  _ values: UnsafeMutableBufferPointer<Float>, from start: [Float], along direction: [Double],
  _ distance: Double
) {
  for i in start.indices { values[i] = Float(Double(start[i]) + distance * direction[i]) }
}

/// The slopes of a loss along its gradient, which claims its own norm.
struct Slopes: CustomStringConvertible {
  let claimed: Double
  /// For each step.
  let found: [Double]

  /// Of the step that comes nearest: long ones cross kinks of the activations, short ones drown in the rounding of
  /// the loss. A wrong factor or a missing term meets none of them.
  var error: Double { found.map { abs($0 / claimed - 1) }.min() ?? .infinity }
  var description: String { "slopes \(found), expected \(claimed)" }
}

/// Central differences of `loss` over `values` along `gradient`, over these shares of the values' norm.
func slopes(
  _ values: UnsafeMutableBufferPointer<Float>, _ gradient: [Double], shares: [Double], _ loss: () -> Double
) -> Slopes {
  let start = Array(values), norm = gradient.reduce(0) { $0 + $1 * $1 }.squareRoot()
  let size = start.reduce(0) { $0 + Double($1) * Double($1) }.squareRoot()
  let direction = gradient.map { $0 / norm }
  let found = shares.map { share in
    let h = share * max(size, 1)
    move(values, from: start, along: direction, h)
    let above = loss()
    move(values, from: start, along: direction, -h)
    return (above - loss()) / (2 * h)
  }
  _ = values.update(fromContentsOf: start)
  return Slopes(claimed: norm, found: found)
}
