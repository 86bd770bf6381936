/// Holm's correction of a family of p values for being many, in their order: the chance of any false discovery in the
/// family stays below the level that the corrected values are held against.
///
/// The smallest of m is multiplied by m, the next one by m − 1, and so on; none is below the one before it or above 1.
/// NaN is no test: it stays NaN and does not count.
///
/// Source: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6, 1979.
func holm(_ p: [Double]) -> [Double] {
  let order = p.indices.filter { !p[$0].isNaN }.sorted { p[$0] < p[$1] }
  var adjusted = p, largest = 0.0
  for (i, index) in order.enumerated() {
    largest = max(largest, min(1, Double(order.count - i) * p[index]))
    adjusted[index] = largest
  }
  return adjusted
}
