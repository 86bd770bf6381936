/// The one-to-one pairs of rows and columns with the largest sum of weights; what has no edge has no pair.
///
/// Of equal sums the one found first is taken, so the answer depends on nothing but the edges and their order.
///
/// Source: the Hungarian method by shortest augmenting paths (Jonker and Volgenant 1987), on the edges alone.
struct Matching: Equatable, Sendable {
  /// An edge of a row. Weights are above 0.
  struct Edge: Equatable, Sendable {
    let column: Int
    let weight: Double
  }

  /// The column of each row; nil where it has none.
  let columns: [Int?]

  /// `edges`: those of each row.
  init(columns count: Int, _ edges: [[Edge]]) {
    var search = Search(columns: count, rows: edges.count)
    // A column of its own, without weight, lets a row stay alone.
    let all = edges.enumerated().map { row, edges in edges + [Edge(column: count + row, weight: 0)] }
    for row in all.indices { search.add(row, all) }
    var columns = [Int?](repeating: nil, count: edges.count)
    for column in 0..<count {
      if let row = search.owners[column] { columns[row] = column }
    }
    self.columns = columns
  }

  private struct Search {
    /// The row of each column, and the column of each row.
    var owners: [Int?]
    var held: [Int?]
    /// What makes each edge's cost, −weight − u − v, at least 0, and 0 for pairs.
    var u, v: [Double]
    /// Of one search: the shortest way to a column, the row that it comes from, and whether it is final.
    var distances: [Double]
    var origins: [Int]
    var isDone: [Bool]

    init(columns: Int, rows: Int) {
      owners = .init(repeating: nil, count: columns + rows)
      held = .init(repeating: nil, count: rows)
      u = .init(repeating: 0, count: rows)
      v = .init(repeating: 0, count: columns + rows)
      distances = .init(repeating: .infinity, count: columns + rows)
      origins = .init(repeating: -1, count: columns + rows)
      isDone = .init(repeating: false, count: columns + rows)
    }

    /// Gives a row a column: the shortest way to a free one, along which pairs are exchanged.
    mutating func add(_ root: Int, _ edges: [[Edge]]) {
      var open: [Int] = [], done: [Int] = []
      var row = root, length = 0.0
      while true {
        for edge in edges[row] where !isDone[edge.column] {
          let distance = length - edge.weight - u[row] - v[edge.column]
          if distances[edge.column].isInfinite { open.append(edge.column) }
          if distance < distances[edge.column] {
            distances[edge.column] = distance
            origins[edge.column] = row
          }
        }
        // There is always one: the row's own.
        let nearest = open.indices.min { distances[open[$0]] < distances[open[$1]] } ?? 0
        let column = open.remove(at: nearest)
        done.append(column)
        isDone[column] = true
        length = distances[column]
        guard let owner = owners[column] else {
          settle(root, length, done)
          take(column, root)
          break
        }
        row = owner
      }
      for column in open + done {
        distances[column] = .infinity
        isDone[column] = false
      }
    }

    /// The costs after a search that went as far as `length`.
    private mutating func settle(_ root: Int, _ length: Double, _ done: [Int]) {
      u[root] += length
      for column in done {
        let rest = length - distances[column]
        if let owner = owners[column] { u[owner] += rest }
        v[column] -= rest
      }
    }

    /// Back along the way, each row takes the column that it led to and leaves its own to the row before.
    private mutating func take(_ end: Int, _ root: Int) {
      var column: Int? = end
      while let taken = column {
        let row = origins[taken]
        column = row == root ? nil : held[row]
        owners[taken] = row
        held[row] = taken
      }
    }
  }
}
