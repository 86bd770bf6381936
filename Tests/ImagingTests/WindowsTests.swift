import Testing

@testable import Compute
@testable import Imaging
@testable import TestSupport

@Suite struct DataWindowsTests {
  // MARK: The grid

  @Test(arguments: [
    // Volumes that a window of 128 fits once, twice, thrice and more often.
    (128, 128, [0]), (129, 128, [0, 1]), (131, 128, [0, 3, 2]), (133, 128, [0, 5, 2]),
    (148, 128, [0, 20, 10]),
    (200, 128, [0, 72, 36]), (236, 128, [0, 108, 54]), (250, 128, [0, 108, 122]),
    (344, 128, [0, 108, 216]), (345, 128, [0, 108, 216, 217]), (170, 140, [0, 30, 15]),
    // Windows hardly larger than their borders.
    (23, 21, [0, 1, 2]), (23, 22, [0, 1]),
  ])
  func windowsStartAsWorkedByHand(side: Int, window: Int, expected: [Int]) {
    #expect(WindowGrid.starts(side, window: window, border: 10) == expected)
  }

  /// The loop as the method has it, written out.
  func plain(_ side: Int, _ window: Int, _ border: Int) -> [Int] {
    var found: [Int] = [], start = 0
    while start + window <= side {
      found.append(start)
      start += window - 2 * border
    }
    found.append(side - window)
    found = Set(found).sorted()
    if found.count == 2 {
      let sum = found[0] + found[1], half = sum / 2
      let middle = sum % 2 == 0 || half % 2 == 0 ? half : half + 1
      if !found.contains(middle) { found.append(middle) }
    }
    return found
  }

  @Test func windowsStartWhereThePlainLoopSays() {
    for window in [5, 6, 9, 16] {
      for side in window...70 {
        #expect(
          WindowGrid.starts(side, window: window, border: 2) == plain(side, window, 2),
          "\(window) in \(side)")
      }
    }
  }

  @Test func windowsRunZThenXThenY() {
    let grid = WindowGrid(Size(9, 12, 8), window: Size(7, 7, 8), border: 1)
    #expect(grid.windows.allSatisfy { $0.size == Size(7, 7, 8) })
    #expect(
      grid.windows.map(\.origin.array) == [
        [0, 0, 0], [2, 0, 0], [1, 0, 0], [0, 5, 0], [2, 5, 0], [1, 5, 0], [0, 2, 0], [2, 2, 0], [1, 2, 0],
      ])
    let wide = WindowGrid(Size(8, 7, 9), window: Size(7, 7, 7), border: 1)
    #expect(
      wide.windows.map(\.origin.array) == [
        [0, 0, 0], [1, 0, 0], [0, 0, 2], [1, 0, 2], [0, 0, 1], [1, 0, 1],
      ])
  }

  @Test func aWindowShrinksToTheVolume() {
    let grid = WindowGrid(Size(30, 200, 128), window: Size(128, 128, 128))
    #expect(grid.windows.map(\.size) == [Size](repeating: Size(30, 128, 128), count: 3))
    #expect(grid.windows.map(\.origin.y) == [0, 72, 36])
  }

  @Test(arguments: [Size(9, 12, 8), Size(7, 7, 7), Size(5, 21, 6), Size(4, 9, 9), Size(1, 9, 9)])
  func laterWindowsOverwriteAllButTheBorder(size: Size) {
    let border = 2, grid = WindowGrid(size, window: Size(7, 8, 6), border: border)
    var result = LabelVolume(size, [UInt8](repeating: 255, count: size.voxels))
    var expected = result.classes
    for (i, window) in grid.windows.enumerated() {
      grid.write(
        LabelVolume(window.size, [UInt8](repeating: UInt8(i), count: window.size.voxels)), ofWindow: i,
        into: &result)
      for z in 0..<size.z {
        for y in 0..<size.y {
          for x in 0..<size.x {
            let inside = zip([z, y, x], zip(window.origin.array, window.size.array)).allSatisfy {
              $0 >= $1.0 + border && $0 < $1.0 + $1.1 - border
            }
            if inside { expected[(z * size.y + y) * size.x + x] = UInt8(i) }
          }
        }
      }
    }
    #expect(result.classes == expected)
    for z in 0..<size.z {
      for y in 0..<size.y {
        for x in 0..<size.x {
          let isBorder = zip([z, y, x], size.array).contains { $0 < border || $0 >= $1 - border }
          #expect((expected[(z * size.y + y) * size.x + x] == 255) == isBorder)
        }
      }
    }
  }

  @Test func whatIsWrittenComesFromItsPlaceInTheWindow() {
    let size = Size(9, 12, 8), grid = WindowGrid(size, window: Size(7, 7, 7), border: 1)
    let labels = LabelVolume(size, (0..<size.voxels).map { UInt8($0 % 251) })
    var result = LabelVolume(size, [UInt8](repeating: 255, count: size.voxels))
    for (i, window) in grid.windows.enumerated() {
      grid.write(labels.crop(window), ofWindow: i, into: &result)
    }
    for i in result.classes.indices where result.classes[i] != 255 {
      #expect(result.classes[i] == labels.classes[i])
    }
    #expect(result.classes.count { $0 != 255 } == 7 * 10 * 6)
  }

  // MARK: Cutting out

  @Test func aBoxIsCutOutOfImagesAndLabels() throws {
    let size = Size(4, 5, 6), images = Volume(Shape(size, 4), (0..<480).map(Float.init))
    let labels = LabelVolume(size, (0..<120).map { UInt8($0) })
    let placement = try preparedPlacement()
    let whole = PreparedCase(
      id: "A", images: images, labels: labels, mask: [UInt8](repeating: 1, count: 120), placement: placement)
    let box = VoxelBox(origin: Size(1, 2, 3), size: Size(3, 2, 3))
    for channels in [nil, [0, 1, 2, 3], [2], [0, 2, 3], [3, 0]] as [[Int]?] {
      let part = whole.crop(box, channels: channels), chosen = channels ?? [0, 1, 2, 3]
      #expect(part.images.shape == Shape(box.size, chosen.count))
      for z in 0..<3 {
        for y in 0..<2 {
          for x in 0..<3 {
            let from = ((z + 1) * 5 + y + 2) * 6 + x + 3, to = (z * 2 + y) * 3 + x
            #expect(part.labels?.classes[to] == UInt8(from))
            for (c, channel) in chosen.enumerated() {
              #expect(part.images.base[to * chosen.count + c] == Float(from * 4 + channel))
            }
          }
        }
      }
    }
  }

  func preparedPlacement() throws -> Placement {
    let scratch = Scratch(), files = try SmallCase(scratch).files()
    return try Preparation().prepare(files, commonSize: Size(16, 16, 16)).placement
  }

  // MARK: Windows of training

  @Test func cornersAreUniformOverAllPlaces() {
    var counts = [[Int: Int]](repeating: [:], count: 3)
    let n = 6000
    for number in 0..<n {
      let box = VoxelBox.patch(
        Size(3, 5, 9), in: Size(5, 5, 4), seed: 1, epoch: 2, case: number / 32, window: number % 32)
      #expect(box.size == Size(3, 5, 4))
      for (axis, at) in box.origin.array.enumerated() { counts[axis][at, default: 0] += 1 }
    }
    #expect(counts[1] == [0: n] && counts[2] == [0: n])
    #expect(counts[0].keys.sorted() == [0, 1, 2])
    // Four standard errors.
    for count in counts[0].values { #expect(abs(Double(count) - 2000) < 4 * (6000.0 * 2 / 9).squareRoot()) }
  }

  @Test func aCornerDependsOnSeedEpochCaseAndNumberAlone() {
    func corner(_ seed: UInt64, _ epoch: Int, _ number: Int, _ window: Int) -> VoxelBox {
      VoxelBox.patch(
        Size(1, 1, 1), in: Size(900, 900, 900), seed: seed, epoch: epoch, case: number, window: window)
    }
    let places: [(UInt64, Int, Int, Int)] = [
      (1, 0, 0, 0), (2, 0, 0, 0), (1, 1, 0, 0), (1, 0, 1, 0), (1, 0, 0, 1),
    ]
    let origins = places.map { corner($0.0, $0.1, $0.2, $0.3).origin }
    #expect(Set(origins).count == places.count)
    #expect(places.map { corner($0.0, $0.1, $0.2, $0.3).origin } == origins)
  }

  @Test(arguments: [(5, 32, 30), (1, 4, 30), (3, 1, 2), (4, 3, 1), (0, 3, 5)])
  func everyWindowIsDrawnOnceAndTheLastOfALoadIsTold(loads: Int, windows: Int, capacity: Int) {
    let random = Philox(seed: 3, .windows, 1)
    let draws = Array(
      WindowQueue(loads: loads, windowsPerLoad: windows, capacity: capacity, random: random))
    #expect(
      draws.map { $0.load * windows + $0.window }.sorted() == Array(0..<(loads * windows)))
    for load in 0..<loads {
      let own = draws.filter { $0.load == load }
      #expect(own.map(\.isLastOfLoad) == (0..<windows).map { $0 == windows - 1 })
    }
    // A window can't be drawn before it has come into the queue.
    for (i, draw) in draws.enumerated() { #expect(draw.load * windows + draw.window < i + capacity) }
    #expect(
      Array(WindowQueue(loads: loads, windowsPerLoad: windows, capacity: capacity, random: random)) == draws)
  }

  @Test func theQueueShufflesWindowsOfSeveralLoads() {
    func order(_ epoch: Int) -> [Int] {
      WindowQueue(loads: 10, windowsPerLoad: 32, random: Philox(seed: 3, .windows, epoch))
        .map { $0.load * 32 + $0.window }
    }
    let first = order(1)
    #expect(first != order(2))
    #expect(first != first.sorted())
    // Waiting times in a queue of 30 are geometric: mean 30 draws, four standard errors of 320 of them.
    let delays = first.enumerated().map { Double($0.offset - $0.element) + 29 }.prefix(260)
    let mean = delays.reduce(0, +) / Double(delays.count)
    #expect(abs(mean - 29) < 4 * 30 / 260.0.squareRoot(), "\(mean)")
  }
}
