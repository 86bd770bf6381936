// Each `unsafe` here stays within a voxel of two volumes of one shape, or within the factors, one a channel.

/// How far a student's feature maps are from the teacher's at one scale: √(Σ (s − t)² / Σ t²) over encoder and decoder
/// maps as they are read. It is watched, not minimised.
package enum FeatureDistance {
  /// Of pairs of maps of one shape, [z, y, x, C]; 0 where the teacher's are 0 everywhere.
  package static func of(_ pairs: [(student: LayerInput, teacher: LayerInput)], _ workers: Workers) -> Double
  {
    var difference = 0.0, norm = 0.0
    for (student, teacher) in pairs {
      precondition(
        student.volume.shape == teacher.volume.shape, "\(student.volume.shape) and \(teacher.volume.shape)")
      let rows = student.volume.size.z * student.volume.size.y, width = student.volume.size.x
      let channels = student.channels, pieces = Pieces(rows, least: 4, limit: 64)
      let partial = workers.sums(pieces.count, width: 2) { piece, total in
        for row in pieces[piece] {
          for voxel in row * width..<(row + 1) * width {
            let (d, n) = sums(student, teacher, voxel, channels)
            total[0] += Double(d)
            total[1] += Double(n)
          }
        }
      }
      for piece in 0..<pieces.count {
        difference += partial[2 * piece]
        norm += partial[2 * piece + 1]
      }
    }
    return norm > 0 ? (difference / norm).squareRoot() : 0
  }

  /// Of one voxel.
  @inline(__always)
  private static func sums(
    _ student: LayerInput, _ teacher: LayerInput, _ voxel: Int, _ channels: Int
  ) -> (difference: Float, norm: Float) {
    guard channels % lanes == 0, let ss = student.scale, let sh = student.shift, let ts = teacher.scale,
      let th = teacher.shift
    else {
      var difference: Float = 0, norm: Float = 0
      for c in 0..<channels {
        let s = student.value(voxel, c), t = teacher.value(voxel, c)
        difference += (s - t) * (s - t)
        norm += t * t
      }
      return (difference, norm)
    }
    let x = unsafe student.volume.base + voxel * channels, y = unsafe teacher.volume.base + voxel * channels
    let leak = Lanes(repeating: student.slope), otherLeak = Lanes(repeating: teacher.slope)
    var difference = Lanes.zero, norm = Lanes.zero
    unsafe ss.withUnsafeBufferPointer { ss in
      unsafe sh.withUnsafeBufferPointer { sh in
        unsafe ts.withUnsafeBufferPointer { ts in
          unsafe th.withUnsafeBufferPointer { th in
            // There are channels.
            let a = ss.baseAddress!, b = sh.baseAddress!, c = ts.baseAddress!, d = th.baseAddress!
            var i = 0
            while i < channels {
              let v = unsafe load(b + i).addingProduct(load(a + i), load(x + i))
              let w = unsafe load(d + i).addingProduct(load(c + i), load(y + i))
              let s = v.replacing(with: v * leak, where: v .< .zero)
              let t = w.replacing(with: w * otherLeak, where: w .< .zero)
              difference = difference.addingProduct(s - t, s - t)
              norm = norm.addingProduct(t, t)
              i &+= lanes
            }
          }
        }
      }
    }
    return (difference.sum(), norm.sum())
  }
}
