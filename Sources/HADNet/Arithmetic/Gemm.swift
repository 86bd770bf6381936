import COpenBLAS

/// The one caller of `cblas_sgemm`. All matrices are row-major.
enum Gemm {
  /// C[m×n] = A[m×k] · B[k×n] + `beta` · C. `transposedA`: A is stored as [k×m].
  static func product(
    m: Int, n: Int, k: Int, _ a: UnsafePointer<Float>, _ lda: Int, transposedA: Bool = false,
    _ b: UnsafePointer<Float>, _ ldb: Int, beta: Float, _ c: UnsafeMutablePointer<Float>, _ ldc: Int
  ) {
    cblas_sgemm(
      CblasRowMajor, transposedA ? CblasTrans : CblasNoTrans, CblasNoTrans, Int32(m), Int32(n), Int32(k), 1,
      a, Int32(lda), b, Int32(ldb), beta, c, Int32(ldc))
  }
}

/// The BLAS library behind `Gemm`.
public enum BLAS {
  /// E.g. `OpenBLAS 0.3.21 SkylakeX`: the kernel it chose for this CPU decides the last bits.
  public static var name: String { "\(version) \(core)" }
  public static var core: String { String(cString: openblas_get_corename()) }
  public static var version: String {
    let words = String(cString: openblas_get_config()).split(separator: " ")
    return words.prefix(2).joined(separator: " ")
  }
}
