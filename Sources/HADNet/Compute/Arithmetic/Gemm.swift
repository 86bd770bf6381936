// OpenBLAS follows pointers as far as m, n, k and the distances of rows say: whoever calls has such matrices there.

import CMachine
import COpenBLAS
import Files

/// The one caller of `cblas_sgemm`. All matrices are row-major.
enum Gemm {
  /// C[m×n] = A[m×k] · B[k×n] + `beta` · C. `transposedA`: A is stored as [k×m]; `transposedB`: B as [n×k].
  static func product(
    m: Int, n: Int, k: Int, _ a: UnsafePointer<Float>, _ lda: Int, transposedA: Bool = false,
    _ b: UnsafePointer<Float>, _ ldb: Int, transposedB: Bool = false, beta: Float,
    _ c: UnsafeMutablePointer<Float>, _ ldc: Int
  ) {
    unsafe cblas_sgemm(
      CblasRowMajor, transposedA ? CblasTrans : CblasNoTrans,
      transposedB ? CblasTrans : CblasNoTrans, Int32(m), Int32(n), Int32(k), 1,
      a, Int32(lda), b, Int32(ldb), beta, c, Int32(ldc))
  }
}

/// The BLAS library behind `Gemm`.
package enum BLAS {
  /// E.g. `OpenBLAS 0.3.21 SkylakeX`: the kernel it chose for this CPU decides the last bits.
  package static var name: String { "\(version) \(core)" }
  package static var core: String { unsafe String(cString: openblas_get_corename()) }
  /// The core type that suits this CPU better than the one OpenBLAS runs, if that has kernels without AVX2: an OpenBLAS
  /// older than the CPU does not know it and falls back to the oldest.
  package static var betterCore: String? {
    let old = [
      "Prescott", "Core2", "Penryn", "Dunnington", "Nehalem", "Sandybridge", "Barcelona", "Bobcat",
      "Bulldozer",
    ]
    guard old.contains(core), cmachine_cpu_runs_v3() != 0 else { return nil }
    return cmachine_cpu_runs_skylakex() != 0 ? "SkylakeX" : "Haswell"
  }
  package static var version: String {
    let words = unsafe String(cString: openblas_get_config()).split(separator: " ")
    return words.prefix(2).joined(separator: " ")
  }
}

extension BLAS {
  /// Takes the memory that products of so many threads need, once and on this thread. Throws where it is not there:
  /// OpenBLAS would wait for it for ever, deaf to signals.
  package static func reserve(threads: Int) throws(Fault) {
    // And the threads themselves.
    let stack = 8 << 20, bytes = Int(cblas_buffer_bytes())
    if cblas_take_buffers(Int32(threads), bytes + stack) != 0 { return }
    throw Fault(
      .other,
      "no memory for \(threads) thread\(threads == 1 ? "" : "s"): OpenBLAS needs \(bytes >> 20) MiB of address space for "
        + "each; \(threads == 1 ? "raise the limit (ulimit -v)" : "take fewer --threads, or raise the limit (ulimit -v)")"
    )
  }
  /// The largest relative error of products made by all workers at once, against a plain loop: some builds of
  /// OpenBLAS are wrong when called from several threads, or on some CPUs.
  package static func selfTest(_ workers: Workers) -> Double {
    let n = 96, rounds = 64
    func matrix(_ seed: Int) -> [Float] {
      var random = Philox(seed: 1, .test, seed)
      return (0..<n * n).map { _ in random.uniform(-1, 1) }
    }
    let a = matrix(1), b = matrix(2)
    var expected = [Double](repeating: 0, count: n * n)
    for i in 0..<n {
      for k in 0..<n {
        for j in 0..<n { expected[i * n + j] += Double(a[i * n + k]) * Double(b[k * n + j]) }
      }
    }
    let results = Buffer(zeros: rounds * n * n)
    unsafe a.withUnsafeBufferPointer { a in
      unsafe b.withUnsafeBufferPointer { b in
        guard let a = a.baseAddress, let b = b.baseAddress else { return }
        nonisolated(unsafe) let (left, right) = unsafe (a, b)
        workers.forEach(rounds) { round, _ in
          unsafe Gemm.product(m: n, n: n, k: n, left, n, right, n, beta: 0, results.base + round * n * n, n)
        }
      }
    }
    var worst = 0.0
    for i in 0..<rounds * n * n {
      worst = unsafe max(worst, abs(Double(results.base[i]) - expected[i % (n * n)]) / Double(n).squareRoot())
    }
    return worst
  }
}
