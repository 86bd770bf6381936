import Foundation
import Testing

@testable import Compute
@testable import TestSupport

/// The code behind a convolution.
enum Kernel: Sendable {
  case narrow, gathered, unfolded, pointwise, winograd, strided
  /// Winograd for the upsampled source of a layer of stride 2.
  case folded

  /// A sum of n products in floats is off by about 3e-8·√n of its size, n up to 400 before OpenBLAS starts another.
  /// F(3, 2) along three axes multiplies that by about 3, F(4, 3) by about 10.
  var bound: Bound {
    switch self {
    case .narrow, .gathered, .unfolded: Bound(relative: 1e-6, most: 1e-5)
    // So few values that one which nearly cancels is all there is.
    case .pointwise: Bound(relative: 5e-6, most: 5e-5)
    case .strided: Bound(relative: 2e-6, most: 2e-5)
    case .winograd, .folded: Bound(relative: 5e-6, most: 5e-5)
    }
  }

  func reads(_ look: Look, _ form: Form) -> Bool {
    switch self {
    case .unfolded, .pointwise: !look.isUpsampled
    case .folded: look.isUpsampled
    default: !look.isUpsampled || form.isEven
    }
  }

  /// The row of the table.
  private var row: any ConvolutionKernel.Type {
    switch self {
    case .narrow: NarrowConvolution.self
    case .gathered: GatheredConvolution.self
    case .unfolded: UnfoldedConvolution.self
    case .pointwise: PointwiseConvolution.self
    case .strided: StridedConvolution.self
    case .winograd, .folded: WinogradConvolution.self
    }
  }

  func forward(
    _ layer: Convolution, _ source: LayerInput, first: Int, _ p: Parameters, into y: Volume,
    bias: UnsafePointer<Float>?, _ workers: Workers
  ) {
    let input = ConvolutionInput(layer: layer, source: source, first: first)
    _ = row.forward([([input], y)], p, bias: bias, moments: false, workers)
  }

  func addWeightGradient(
    _ layer: Convolution, _ dy: Volume, _ source: LayerInput, first: Int, into dp: ParameterVector,
    _ workers: Workers
  ) {
    let input = ConvolutionInput(layer: layer, source: source, first: first)
    row.addWeightGradient([([input], dy)], into: dp, workers)
  }

  func dataGradient(
    _ layer: Convolution, _ dy: Volume, _ p: Parameters, first: Int, _ mask: [Float]?, upsampled: Bool,
    into dx: Volume, adding: Bool, _ workers: Workers
  ) {
    row.dataGradient(
      layer, [(dy, dx)], p, first: first, mask, upsampled: upsampled, adding: adding, workers)
  }
}

/// A convolution and the volume it reads.
struct Form: Sendable, CustomTestStringConvertible {
  let size: Size
  let inputs, outputs, kernel, stride, padding: Int

  init(_ size: Size, _ inputs: Int, _ outputs: Int, _ kernel: Int = 3, stride: Int = 1, padding: Int = 1) {
    self.size = size
    self.inputs = inputs
    self.outputs = outputs
    self.kernel = kernel
    self.stride = stride
    self.padding = padding
  }

  /// Of 4³ and stride 2.
  static func strided(_ size: Size, _ inputs: Int, _ outputs: Int) -> Form {
    Form(size, inputs, outputs, 4, stride: 2)
  }

  var isEven: Bool { [size.z, size.y, size.x].allSatisfy { $0 % 2 == 0 } }
  var testDescription: String { "\(size), \(inputs)→\(outputs), \(kernel)³, stride \(stride)" }

  func layer(inputs: Int, bias: Bool, in layout: inout ParameterLayout) -> Convolution {
    Convolution(
      "conv", inputs, outputs, kernel: kernel, stride: stride, padding: padding, bias: bias, in: &layout)
  }

  /// Every way of seeing the source; some of them where the reference would take long.
  var looks: [Look] {
    let products = size.voxels * kernel * kernel * kernel * inputs * outputs / (stride * stride * stride)
    return products < 2_000_000 ? Look.allCases : [.activated, .masked, .upsampledMasked]
  }

  /// A bias as kernels read it, in whole vectors; what stands behind it is no one's business.
  func bias(_ part: Int) -> (values: [Float], memory: Buffer) {
    let values = normals(outputs, part), memory = Buffer(zeros: outputs + lanes)
    for i in 0..<memory.count { memory.base[i] = i < outputs ? values[i] : .nan }
    return (values, memory)
  }
}

/// Judges a kernel's three functions against the plain reference: channels 1… of a layer that has one more on each
/// side, so that offsets count; scratch memory and all neighbours full of NaN.
func expectThePlainReference(_ kernel: Kernel, _ form: Form) {
  var layout = ParameterLayout()
  _ = layout.add("before", 3)
  let layer = form.layer(inputs: form.inputs + 2, bias: false, in: &layout)
  _ = layout.add("behind", 3)
  let channels = 1..<form.inputs + 1, first = channels.lowerBound
  let taps = layer.kernel * layer.kernel * layer.kernel
  let plain = PlainConvolution(layer: layer, channels: channels, size: form.size), bound = kernel.bound
  let isMeant = (0..<layout.count).map {
    layer.weight.range.contains($0)
      && channels.contains(($0 - layer.weight.range.lowerBound) / taps % layer.inputs)
  }
  let p = ParameterVector(normal: layout, 1), workers = Workers(2)
  for i in 0..<layout.count where !isMeant[i] { p.values[i] = .nan }
  let own = form.inputs * form.outputs > 300 ? 1 << 20 : 1 << 18
  let shared = min(1 << 22, max(1 << 16, 250 * form.inputs * form.outputs))
  let out = Shape(layer.outputSize(form.size), form.outputs)
  let dy = Island(out, normals(out.count, 2)).volume, gradient = dy.array.map(Double.init)
  let before = normals(out.count, 3), bias = form.bias(4), start = normals(layout.count, 5)

  for look in form.looks where kernel.reads(look, form) {
    let input = Input(form.size, form.inputs, look, 6), upsampled = look.isUpsampled
    func judge(_ values: [Double], _ expected: [Double], _ what: String) {
      let deviation = Deviation(values, expected)
      #expect(deviation.isWithin(bound), "\(kernel), \(form.testDescription), \(look), \(what): \(deviation)")
    }
    func judge(_ island: Island, _ expected: [Double], _ what: String) {
      judge(island.volume.array.map(Double.init), expected, what)
      #expect(
        island.isAlone, "\(kernel), \(form.testDescription), \(look), \(what): a neighbour is written to")
    }

    let product = plain.forward(input.read, p)
    var y = Island(out, filled: .nan, surroundings: 1e6)
    workers.poison(own, shared: shared)
    kernel.forward(
      layer, input.source, first: first, p, into: y.volume, bias: UnsafePointer(bias.memory.base), workers)
    judge(y, product.indices.map { product[$0] + Double(bias.values[$0 % form.outputs]) }, "forward")
    y = Island(out, before)
    workers.poison(own, shared: shared)
    kernel.forward(layer, input.source, first: first, p, into: y.volume, bias: nil, workers)
    judge(y, zip(product, before).map { $0 + Double($1) }, "forward, adding")

    let dp = ParameterVector(normal: layout, 5)
    workers.poison(own, shared: shared)
    kernel.addWeightGradient(layer, dy, input.source, first: first, into: dp, workers)
    judge(
      layer.weight.range.map { Double(dp.values[$0]) - Double(start[$0]) },
      plain.weightGradient(gradient, input.read), "weight gradient")
    #expect(
      isMeant.indices.allSatisfy { isMeant[$0] || dp.values[$0] == start[$0] },
      "\(kernel), \(form.testDescription), \(look): another parameter's gradient is written to")

    // The data gradient knows no activation.
    guard look != .activated && look != .activatedMasked else { continue }
    let shape = input.source.volume.shape, held = normals(shape.count, 7)
    let expected = plain.dataGradient(gradient, p, input.mask, upsampled: upsampled)
    var dx = Island(shape, filled: .nan, surroundings: 1e6)
    workers.poison(own, shared: shared)
    kernel.dataGradient(
      layer, dy, p, first: first, input.mask, upsampled: upsampled, into: dx.volume, adding: false, workers)
    judge(dx, expected, "data gradient")
    dx = Island(shape, held)
    workers.poison(own, shared: shared)
    kernel.dataGradient(
      layer, dy, p, first: first, input.mask, upsampled: upsampled, into: dx.volume, adding: true, workers)
    judge(dx, zip(expected, held).map { $0 + Double($1) }, "data gradient, adding")
  }
}

/// Expects the same bits of a kernel's three functions from any number of threads.
func expectSameBits(_ kernel: Kernel, _ form: Form) {
  var layout = ParameterLayout()
  let layer = form.layer(inputs: form.inputs, bias: true, in: &layout)
  let p = ParameterVector(normal: layout, 1), out = Shape(layer.outputSize(form.size), form.outputs)
  let bias = form.bias(2)
  let look: Look = kernel.reads(.upsampledMasked, form) ? .upsampledMasked : .activatedMasked
  let input = Input(form.size, form.inputs, look, 3), dy = Volume(normal: out, 4)
  let shapes =
    look.isUpsampled
    ? [input.source.volume.shape, Shape(form.size, form.inputs)]
    : [
      Shape(form.size, form.inputs)
    ]
  expectSameBits(["y", "y, adding", "weight gradient", "data gradient", "data gradient of the full size"]) {
    workers in
    let y = Volume(zeros: out), z = Volume(normal: out, 5), dp = ParameterVector(normal: layout, 6)
    kernel.forward(
      layer, input.source, first: 0, p, into: y, bias: UnsafePointer(bias.memory.base), workers)
    kernel.forward(layer, input.source, first: 0, p, into: z, bias: nil, workers)
    kernel.addWeightGradient(layer, dy, input.source, first: 0, into: dp, workers)
    var results = [y.array, z.array, dp.array]
    for (i, shape) in shapes.enumerated() where kernel != .folded || i == 0 {
      let dx = Volume(normal: shape, 7)
      kernel.dataGradient(
        layer, dy, p, first: 0, input.mask, upsampled: look.isUpsampled && i == 0, into: dx, adding: i == 0,
        workers)
      results.append(dx.array)
    }
    return results
  }
}
