import Testing

@testable import Compute

@Suite struct MemoryVolumeTests {
  @Test func viewsAreOfTheVolumesOwnValues() {
    let buffer = Buffer(zeros: 20), volume = Volume(Shape(Size(2, 1, 3), 2), in: buffer, at: 4)
    var values = volume.mutableValues
    for i in values.indices { values[i] = Float(i + 1) }
    var part = volume.mutableValues(3..<5)
    part[0] *= 10
    #expect(volume.array == [1, 2, 3, 40, 5, 6, 7, 8, 9, 10, 11, 12])
    #expect(volume.values.count == 12 && volume.values[3] == 40)
    #expect(Array(buffer.values[..<4]) == [0, 0, 0, 0] && Array(buffer.values[16...]) == [0, 0, 0, 0])
  }

  /// Nobody writes into a neighbour in the same buffer.
  @Test func noViewIsLargerThanItsVolume() async {
    await #expect(processExitsWith: .failure) {
      var values = Volume(Shape(Size(1, 1, 2), 1), in: Buffer(zeros: 8), at: 2).mutableValues(0..<3)
      values[2] = 1
    }
  }
}
