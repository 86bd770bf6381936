import Compute
import Foundation

/// A head of ellipses with a round tumour: sequences and truth, for pictures.
func exampleCase(size: Size = Size(40, 64, 48), tumour: Size = Size(22, 40, 17)) -> (
  images: Volume, truth: LabelVolume
) {
  let images = Volume(zeros: Shape(size, 4))
  var classes = [UInt8](repeating: 0, count: size.voxels)
  for z in 0..<size.z {
    for y in 0..<size.y {
      for x in 0..<size.x {
        func distance(_ z0: Float, _ y0: Float, _ x0: Float, _ rz: Float, _ ry: Float, _ rx: Float) -> Float {
          let a = (Float(z) - z0) / rz, b = (Float(y) - y0) / ry, c = (Float(x) - x0) / rx
          return (a * a + b * b + c * c).squareRoot()
        }
        let head = distance(
          Float(size.z) / 2, Float(size.y) / 2, Float(size.x) / 2, Float(size.z) * 0.45, Float(size.y) * 0.45,
          Float(size.x) * 0.42)
        guard head < 1 else { continue }
        let voxel = (z * size.y + y) * size.x + x
        let wave = 0.06 * (sin(Float(x) * 0.9 + Float(y) * 0.4) + cos(Float(y) * 0.7 - Float(z) * 0.5))
        var values: [Float] = head > 0.85 ? [0.45, 0.42, 0.4, 0.5] : [0.5, 0.52, 0.55, 0.45]
        let ventricle = distance(Float(size.z) / 2, Float(size.y) / 2, Float(size.x) / 2, 6, 9, 4)
        if ventricle < 1 { values = [0.2, 0.2, 0.2, 0.9] }
        let lesion = distance(Float(tumour.z), Float(tumour.y), Float(tumour.x), 9, 10, 9)
        let index: UInt8 = lesion < 0.4 ? 1 : lesion < 0.62 ? 3 : lesion < 1 ? 2 : 0
        classes[voxel] = index
        if index == 1 { values = [0.5, 0.25, 0.3, 0.8] }
        if index == 2 { values = [0.9, 0.4, 0.4, 0.85] }
        if index == 3 { values = [0.8, 0.95, 0.42, 0.75] }
        for channel in 0..<4 { images.base[voxel * 4 + channel] = max(0.02, values[channel] + wave) }
      }
    }
  }
  return (images, LabelVolume(size, classes))
}
