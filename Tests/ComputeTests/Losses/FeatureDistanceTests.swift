import Testing

@testable import Compute
@testable import TestSupport

@Suite struct FeatureDistanceTests {
  /// Against plain Doubles; channels that fill whole vectors and others.
  @Test(arguments: [3, 8, 12, 16]) func isTheRelativeDistanceOfWhatIsRead(channels: Int) {
    var pairs: [(student: LayerInput, teacher: LayerInput)] = [], difference = 0.0, norm = 0.0
    for (i, size) in [Size(3, 4, 5), Size(2, 2, 3)].enumerated() {
      func source(_ seed: Int) -> LayerInput {
        let volume = Volume(normal: Shape(size, channels), seed)
        return LayerInput(
          volume,
          Norm(
            scale: normals(channels, seed + 1), shift: normals(channels, seed + 2),
            mean: [], rstd: []), slope: 0.01)
      }
      let student = source(10 * i), teacher = source(10 * i + 5)
      pairs.append((student, teacher))
      for v in 0..<size.voxels {
        for c in 0..<channels {
          let s = Double(student.value(v, c)), t = Double(teacher.value(v, c))
          difference += (s - t) * (s - t)
          norm += t * t
        }
      }
    }
    let expected = (difference / norm).squareRoot(), found = FeatureDistance.of(pairs, Workers(1))
    // Sums of floats within a voxel.
    #expect(abs(found - expected) < 1e-6 * expected)
    for threads in 2...3 { #expect(FeatureDistance.of(pairs, Workers(threads)) == found) }
    #expect(FeatureDistance.of(pairs.map { ($0.student, $0.student) }, Workers(2)) == 0)
  }
}
