/// Float memory with one owner: 64-byte aligned, zeroed when made, freed with its last reference.
///
/// The memory is shared by all who hold the reference. Who writes what and when is the plan of the network
/// that owns it (`WorkspacePlan`); parallel writers keep to disjoint ranges.
public final class Buffer: @unchecked Sendable {
  public let base: UnsafeMutablePointer<Float>
  public let count: Int

  public init(zeros count: Int) {
    precondition(count >= 0, "a buffer of \(count) values")
    let memory = UnsafeMutableRawPointer.allocate(byteCount: max(count, 1) * 4, alignment: 64)
    base = memory.bindMemory(to: Float.self, capacity: max(count, 1))
    self.count = count
    base.initialize(repeating: 0, count: max(count, 1))
  }

  deinit { base.deallocate() }

  public var values: UnsafeMutableBufferPointer<Float> {
    UnsafeMutableBufferPointer(start: base, count: count)
  }
}
