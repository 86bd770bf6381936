import Testing

@testable import Collective

struct VectorViewTests {
  @Test func aViewKeepsTheMemoryOfItsOwner() {
    weak var owner: VectorMemory<Float>?
    var view: VectorView<Float>?
    do {
      let memory = VectorMemory<Float>(5, of: 3)
      owner = memory
      // A part of a part keeps it too.
      view = memory.view[1..<5][2..<4]
    }
    #expect(owner != nil && view.map(numbers) == [3, 3])
    view = nil
    #expect(owner == nil)
  }

  @Test func partsAreTheSameMemory() {
    let memory = VectorMemory<Double>(6, of: 1)
    memory.view[2..<5].fill(2)
    #expect(numbers(memory.view) == [1, 1, 2, 2, 2, 1])
    memory.view[3..<5].copy([7, 8])
    memory.view[0..<2].copy(memory.view[3..<5])
    #expect(numbers(memory.view) == [7, 8, 2, 7, 8, 1])
    memory.view[4..<6].add(memory.view[0..<2])
    // A vector added to itself.
    memory.view[0..<1].add(memory.view[0..<1])
    #expect(numbers(memory.view) == [14, 8, 2, 7, 15, 9])
    #expect(memory.view[3..<3].count == 0 && memory.view[1..<2].begins(with: memory.view[1..<6]))
  }

  @Test func emptyMemoriesHaveAddressesOfTheirOwn() {
    let a = VectorMemory<Float>(0, of: 0), b = VectorMemory<Float>(0, of: 0)
    #expect(a.view.count == 0 && !a.view.begins(with: b.view))
    a.view.copy(b.view)
    a.view.add(b.view)
  }

  @Test(arguments: [0, 1, 3]) func whatAnArrayIsFilledWithIsAllOfIt(count: Int) throws {
    let array = try [Int32](count: count) { view throws(MPIError) in view.copy((0..<count).map { Int32($0) })
    }
    #expect(array == (0..<count).map { Int32($0) })
    #expect(throws: MPIError.self) {
      _ = try [Int32](count: count) { _ throws(MPIError) in throw MPIError("no message") }
    }
  }

  @Test func accessBeyondTheEndEndsTheProgram() async {
    await #expect(processExitsWith: .failure) { _ = VectorMemory<Float>(3, of: 0).view[1..<4] }
    await #expect(processExitsWith: .failure) { VectorMemory<Float>(3, of: 0).view.copy([1, 2]) }
    await #expect(processExitsWith: .failure) {
      VectorMemory<Float>(3, of: 0).view.add(VectorMemory<Float>(4, of: 0).view)
    }
  }

  private func numbers<Scalar: BitwiseCopyable>(_ view: VectorView<Scalar>) -> [Scalar] { Array(view.memory) }
}
