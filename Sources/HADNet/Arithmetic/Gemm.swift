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
