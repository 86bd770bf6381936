// Each `unsafe` here stays within a voxel of two volumes of one shape.

/// How far a student's latent maps are from the teacher's: KL(softmax(teacher) ‖ softmax(student)) over channels, the mean
/// over voxels.
///
/// Source: Hu et al., MICCAI 2020 (KD-Net); the direction, the softmax over channels and the mean are this project's
/// reading.
package enum LatentDivergence {
  /// The divergence of two maps [z, y, x, C] as they are read; writes `weight` times its gradient by the student's values
  /// as they are read into `gradient`.
  package static func loss(
    student: LayerInput, teacher: LayerInput, weight: Float, gradient: Volume?, _ workers: Workers
  ) -> Double {
    precondition(
      student.volume.shape == teacher.volume.shape, "\(student.volume.shape) and \(teacher.volume.shape)")
    let voxels = student.volume.shape.voxels, channels = student.channels
    let pieces = Pieces(voxels, least: 16, limit: 64), share = Double(weight) / Double(voxels)
    let partial = workers.sums(pieces.count) { piece, sums in
      var sum = 0.0
      for voxel in pieces[piece] {
        let s = logSoftmax(student, voxel), t = logSoftmax(teacher, voxel)
        for c in 0..<channels {
          let p = Portable.exp(t[c])
          sum += p * (t[c] - s[c])
          unsafe gradient?.base[voxel * channels + c] = Float(share * (Portable.exp(s[c]) - p))
        }
      }
      sums[0] = sum
    }
    return partial.reduce(0, +) / Double(voxels)
  }

  private static func logSoftmax(_ source: LayerInput, _ voxel: Int) -> [Double] {
    let channels = source.channels
    var values = (0..<channels).map { c in Double(source.value(voxel, c)) }
    let largest = values.max() ?? 0
    let all = values.reduce(0) { $0 + Portable.exp($1 - largest) }
    // What is not a number stays none: the step's guard finds it.
    let logarithm = all.isNaN ? all : largest + Portable.log(all)
    for c in 0..<channels { values[c] -= logarithm }
    return values
  }
}
