@testable import HADNet

extension ShardedVector {
  var array: [Float] { Array(values) }
}
