// Both volumes have one shape, and the pieces lie in it.

/// y = x for x > 0, slope · x elsewhere. Forward is part of reading (`LayerInput`), but where a norm follows.
package enum LeakyReLU {
  /// Turns x into y in place.
  package static func forward(_ x: Volume, slope: Float, _ workers: Workers) {
    let pieces = Pieces(x.shape.count, least: 1 << 14, limit: 256)
    workers.forEach(pieces.count) { piece, _ in
      let v = unsafe x.base
      for i in pieces[piece] { unsafe v[i] = v[i] > 0 ? v[i] : slope * v[i] }
    }
  }

  /// Turns `gradient`, ∂L/∂y, into ∂L/∂x in place; y serves for x, since it has its sign.
  package static func backward(_ gradient: Volume, _ x: Volume, slope: Float, _ workers: Workers) {
    let pieces = Pieces(x.shape.count, least: 1 << 14, limit: 256)
    workers.forEach(pieces.count) { piece, _ in
      let g = unsafe gradient.base, v = unsafe x.base
      for i in pieces[piece] { unsafe g[i] = v[i] > 0 ? g[i] : slope * g[i] }
    }
  }
}
