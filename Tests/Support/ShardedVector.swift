@testable import Learning

extension ShardedVector {
  var array: [Float] { Array(values) }
}
