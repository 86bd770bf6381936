// Each `unsafe` here stays within a worker's scratch memory, of as many floats as are asked for.

/// What this machine's cores can do at best, to measure kernels by: GFLOP/s of all workers together.
package enum Peak {
  /// Fused multiply-adds of eight lanes that wait for nothing (AVX2 or NEON, as this program is built).
  package static func multiplyAdd(_ workers: Workers) -> Double {
    let rounds = 4_000_000, scratch = unsafe workers.scratch(lanes)
    return best(operations: Double(rounds) * 12 * Double(2 * lanes), workers) { worker in
      let x = Lanes(repeating: 0.999), y = Lanes(repeating: 0.001)
      var a0 = y, a1 = x, a2 = y, a3 = x, a4 = y, a5 = x, a6 = y, a7 = x, a8 = y, a9 = x, a10 = y, a11 = x
      for _ in 0..<rounds {
        a0 = y.addingProduct(a0, x)
        a1 = y.addingProduct(a1, x)
        a2 = y.addingProduct(a2, x)
        a3 = y.addingProduct(a3, x)
        a4 = y.addingProduct(a4, x)
        a5 = y.addingProduct(a5, x)
        a6 = y.addingProduct(a6, x)
        a7 = y.addingProduct(a7, x)
        a8 = y.addingProduct(a8, x)
        a9 = y.addingProduct(a9, x)
        a10 = y.addingProduct(a10, x)
        a11 = y.addingProduct(a11, x)
      }
      unsafe store(a0 + a1 + a2 + a3 + a4 + a5 + a6 + a7 + a8 + a9 + a10 + a11, scratch[worker])
    }
  }

  /// Products of 64 × 64 matrices by OpenBLAS, which chooses its instructions when it runs.
  package static func products(_ workers: Workers) -> Double {
    let n = 64, rounds = 4000, scratch = unsafe workers.scratch(3 * n * n)
    for i in 0..<workers.count { unsafe scratch[i].update(repeating: 0.5, count: 3 * n * n) }
    return best(operations: Double(rounds) * Double(2 * n * n * n), workers) { worker in
      let a = unsafe scratch[worker], b = unsafe a + n * n
      for _ in 0..<rounds { unsafe Gemm.product(m: n, n: n, k: n, a, n, b, n, beta: 0, b + n * n, n) }
    }
  }

  /// The best of five rates of `body` on every worker, `operations` each.
  private static func best(operations: Double, _ workers: Workers, _ body: (_ worker: Int) -> Void) -> Double
  {
    (0..<5).map { _ in
      let start = ContinuousClock.now
      workers.forEach(workers.count) { item, _ in body(item) }
      return operations * Double(workers.count) / ((ContinuousClock.now - start) / .seconds(1)) / 1e9
    }.max() ?? 0
  }
}
