import Testing

@testable import Collective

struct ShardsTests {
  @Test(arguments: [0, 1, 2, 7, 64, 1009], [1, 2, 3, 4, 8])
  func everyNumberIsInOneBucketAndOneShardOfIt(count: Int, ranks: Int) {
    for bucketLength in [1, 3, 64, 5000] {
      let shards = Shards(count, over: ranks, bucketLength: bucketLength)
      #expect(shards.buckets.reversed().flatMap { Array($0) } == Array(0..<count))
      for bucket in shards.buckets {
        let parts = (0..<ranks).map { shards.shard(of: bucket, rank: $0) }
        #expect(parts.flatMap { Array($0) } == Array(bucket))
        let lengths = parts.map(\.count)
        #expect((lengths.max() ?? 0) - (lengths.min() ?? 0) <= 1)
      }
      let owned = (0..<ranks).map { shards.owned(by: $0) }
      #expect(owned.allSatisfy { $0.allSatisfy { !$0.isEmpty } })
      // From the vector's start to its end.
      #expect(owned.allSatisfy { zip($0, $0.dropFirst()).allSatisfy { $0.upperBound <= $1.lowerBound } })
      #expect(owned.flatMap { $0 }.flatMap { Array($0) }.sorted() == Array(0..<count))
    }
  }

  @Test func bucketsAreAsFewAndAsEvenAsTheirLengthAllows() {
    #expect(Shards(10, over: 2, bucketLength: 4).buckets == [6..<10, 3..<6, 0..<3])
    #expect(Shards(8, over: 2, bucketLength: 4).buckets == [4..<8, 0..<4])
    #expect(Shards(0, over: 2, bucketLength: 4).buckets == [0..<0])
    // The discriminator at k = 32, in buckets of 25 MB at most.
    let buckets = Shards(88_250_000, over: 4).buckets
    #expect(buckets.count == 14 && buckets.allSatisfy { $0.count <= Shards.bucketLength })
  }

  @Test func oneRankHasOneBucketSinceItExchangesNothing() {
    let shards = Shards(1009, over: 1, bucketLength: 10)
    #expect(shards.buckets == [0..<1009] && shards.owned(by: 0) == [0..<1009])
  }

  @Test func aShardsBordersFollowTheBucketsStart() {
    let shards = Shards(20, over: 3, bucketLength: 10)
    #expect((0..<3).map { shards.shard(of: 10..<20, rank: $0) } == [10..<13, 13..<16, 16..<20])
    #expect(shards.owned(by: 2) == [6..<10, 16..<20])
  }
}
