// A kernel's bias has all outputs, in whole vectors.

/// A way to compute convolutions: a row of the table `Convolution.kernels`, through which all of them are called.
///
/// A further kernel is a type that has all of this, in a file of its own, and its row.
protocol ConvolutionKernel: SendableMetatype {
  /// As benchmarks and `doctor` show it.
  static var name: String { get }

  /// Whether this kernel is meant for a shape, if none before it in the table is.
  static func fits(_ shape: ConvolutionShape) -> Bool

  /// Floats of the transformed weights or volumes that the workers share for some inputs of a layer.
  static func transforms(_ layer: Convolution, inputs: Int) -> Int

  /// Whether it computes inputs of several layers as one sum, of which it then has Σ y and Σ y² at hand. It comes after
  /// all others.
  static var sumsLayers: Bool { get }

  /// Adds the convolutions of each sample's inputs up in its y, starting from `bias` (whole vectors), or from what y
  /// holds (nil). Inputs are neighbours in a layer if the kernel does not sum several.
  static func forward(
    _ samples: [(inputs: [ConvolutionInput], y: Volume)], _ p: Parameters, bias: UnsafePointer<Float>?,
    moments: Bool, _ workers: Workers
  ) -> [Moments?]

  /// Adds ∂L/∂weight of the samples' inputs, neighbours in a layer.
  static func addWeightGradient(
    _ samples: [(inputs: [ConvolutionInput], dy: Volume)], into dp: ParameterVector, _ workers: Workers
  )

  /// Writes, or with `adding` adds, ∂L/∂(stored values before dropout and upsampling) of the layer's input channels
  /// from `first` on, as many as each dx has.
  static func dataGradient(
    _ layer: Convolution, _ samples: [(dy: Volume, dx: Volume)], _ p: Parameters, first: Int,
    _ mask: [Float]?, upsampled: Bool, adding: Bool, _ workers: Workers
  )
}

/// A source of a layer, and the first of the layer's input channels that it has.
struct ConvolutionInput {
  let layer: Convolution
  let source: LayerInput
  let first: Int
}

/// What a kernel is chosen by.
struct ConvolutionShape: CustomStringConvertible {
  let kernel, stride, padding: Int
  /// Channels read and written: of a data gradient, the layer's outputs and inputs.
  let inputs, outputs: Int
  /// Voxels of a row of the larger volume.
  let width: Int
  /// Of the volume that is cut into tiles, the layer's output.
  let tiled: Size
  /// Whether the layer's input is stored at half its size.
  let upsampled: Bool
  let isDataGradient: Bool

  /// Winograd's tiles of the output.
  var tiles: Int { WinogradConvolution.Blocks(tiled, most: 1).tiles.voxels }

  /// Whether this is a 4³ layer of stride 2 with enough channels for transforms.
  var isWideStrided: Bool {
    kernel == 4 && stride == 2 && padding == 1 && outputs >= (inputs < 16 ? 64 : 16)
  }

  var description: String {
    "\(isDataGradient ? "data gradient" : "forward") \(inputs)→\(outputs), \(kernel)³, stride \(stride), padding \(padding), "
      + "\(tiled) voxels\(upsampled ? ", upsampled" : "")"
  }
}

extension Convolution {
  /// The table. The first row that fits a shape computes it.
  static let kernels: [any ConvolutionKernel.Type] = [
    PointwiseConvolution.self, NarrowConvolution.self, UnfoldedConvolution.self, WinogradConvolution.self,
    StridedConvolution.self, GatheredConvolution.self,
  ]

  static func kernel(for shape: ConvolutionShape) -> any ConvolutionKernel.Type {
    guard let kernel = kernels.first(where: { $0.fits(shape) }) else {
      preconditionFailure("no kernel for a convolution's \(shape)")
    }
    return kernel
  }
}

/// A kernel that takes one sample's data gradient after the other.
protocol SampleKernel: ConvolutionKernel {
  static func dataGradient(
    _ layer: Convolution, _ dy: Volume, _ p: Parameters, first: Int, _ mask: [Float]?, upsampled: Bool,
    into dx: Volume, adding: Bool, _ workers: Workers
  )
}

extension SampleKernel {
  static func dataGradient(
    _ layer: Convolution, _ samples: [(dy: Volume, dx: Volume)], _ p: Parameters, first: Int,
    _ mask: [Float]?, upsampled: Bool, adding: Bool, _ workers: Workers
  ) {
    for (dy, dx) in samples {
      dataGradient(
        layer, dy, p, first: first, mask, upsampled: upsampled, into: dx, adding: adding, workers)
    }
  }
}

/// A kernel that takes one source after the other and transforms nothing.
protocol SourceKernel: SampleKernel {
  static func forward(
    _ layer: Convolution, _ source: LayerInput, first: Int, _ p: Parameters, into y: Volume,
    bias: UnsafePointer<Float>?, _ workers: Workers
  )
  static func addWeightGradient(
    _ layer: Convolution, _ dy: Volume, _ source: LayerInput, first: Int, into dp: ParameterVector,
    _ workers: Workers
  )
}

extension SourceKernel {
  static func transforms(_ layer: Convolution, inputs: Int) -> Int { 0 }

  static var sumsLayers: Bool { false }

  static func forward(
    _ samples: [(inputs: [ConvolutionInput], y: Volume)], _ p: Parameters, bias: UnsafePointer<Float>?,
    moments: Bool, _ workers: Workers
  ) -> [Moments?] {
    for (inputs, y) in samples {
      for (i, input) in inputs.enumerated() {
        unsafe forward(
          input.layer, input.source, first: input.first, p, into: y, bias: i == 0 ? bias : nil, workers)
      }
    }
    return samples.map { _ in nil }
  }

  static func addWeightGradient(
    _ samples: [(inputs: [ConvolutionInput], dy: Volume)], into dp: ParameterVector, _ workers: Workers
  ) {
    for (inputs, dy) in samples {
      for input in inputs {
        addWeightGradient(input.layer, dy, input.source, first: input.first, into: dp, workers)
      }
    }
  }
}
