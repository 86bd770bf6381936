import Files

/// Scores of many cases, a row a case, and their mean, standard deviation (n − 1) and median by column. NaN is left out of
/// all three.
package struct ScoreTable: Equatable, Sendable {
  /// What a column is called, and a case's value in it.
  package typealias Value = (name: String, value: Double)

  /// A case's row, or one over all cases.
  package struct Row: Equatable, Sendable {
    package let name: String
    /// In the order of columns.
    package let values: [Double]
  }

  package let columns: [String]
  package private(set) var rows: [Row] = []

  package init(columns: [String]) { self.columns = columns }

  /// Adds a case; of columns that it does not have it has NaN, and values of unknown columns are left out.
  package mutating func add(_ name: String, _ values: [Value]) {
    let known = Dictionary(values.map { ($0.name, $0.value) }, uniquingKeysWith: { first, _ in first })
    rows.append(Row(name: name, values: columns.map { known[$0] ?? .nan }))
  }

  /// Adds a case without a prediction: 0, and `InstanceScores.penalty` for distances.
  package mutating func addMissing(_ name: String) {
    rows.append(
      Row(
        name: name,
        values: columns.map {
          $0.contains("hd95") && !$0.contains("std") ? InstanceScores.penalty : 0
        }))
  }

  /// With a number for every infinite distance, so that means stay numbers.
  package func bounded(_ most: Double = InstanceScores.penalty) -> ScoreTable {
    var table = self
    table.rows = rows.map { row in
      Row(name: row.name, values: row.values.map { $0 == .infinity ? most : $0 })
    }
    return table
  }

  /// `mean`, `std` and `median` over all rows.
  package var summary: [Row] {
    let known = columns.indices.map { column in
      rows.map { $0.values[column] }.filter { !$0.isNaN }
    }
    return [
      Row(name: "mean", values: known.map(mean)), Row(name: "std", values: known.map(ScoreTable.deviation)),
      Row(name: "median", values: known.map(ScoreTable.median)),
    ]
  }

  /// As the program of 2026 writes it: a line a case, then mean, std and median; NaN is an empty field.
  package var csv: String {
    let lines = (rows + summary).map { row in
      [row.name] + row.values.map { $0.isNaN ? "" : "\($0)" }
    }
    return ([["subject_id"] + columns] + lines).map { $0.map(csvField).joined(separator: ",") + "\n" }
      .joined()
  }

  private static func deviation(_ values: [Double]) -> Double {
    // Infinities are no numbers apart.
    values.contains { $0.isInfinite } ? .nan : standardDeviation(values)
  }

  private static func median(_ values: [Double]) -> Double {
    if values.isEmpty { return .nan }
    let sorted = values.sorted(), middle = sorted.count / 2
    // No difference of values, which of infinite ones would be NaN.
    return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
  }
}

extension InstanceScores {
  /// HD95 of what has no counterpart, mm, where an infinite one would spoil a mean.
  package static let penalty = 373.0

  /// The region's columns in the tables of 2026. As the program has them, HD95 of the whole masks is in voxels, and only
  /// there an infinite one is `penalty`.
  package func official(_ region: String) -> [ScoreTable.Value] {
    named(
      instances + wholeColumns + lesionColumns("dsc", lesionDSC) + lesionColumns("nsd", lesionNSD)
        + lesionColumns("hd95", lesionHD95), region)
  }

  /// The region's columns in the table of metastases, by the same program.
  package func official(_ region: String, _ own: MetastasisScores) -> [ScoreTable.Value] {
    let large = own.large, small = own.small
    return named(
      instances + [
        ("large_instance_tp", large.tp), ("large_instance_fp", large.fp), ("large_instance_fn", large.fn),
        ("large_instance_prec", large.precision), ("large_instance_rec", large.recall),
        ("large_instance_f1", large.f1),
      ] + lesionColumns("dsc", own.dsc) + lesionColumns("hd95", own.hd95) + lesionColumns("nsd", own.nsd) + [
        ("small_instance_tp", small.tp), ("small_instance_fn", small.fn), ("small_instance_fp", small.fp),
        ("small_instance_prec", small.precision), ("small_instance_rec", small.recall),
        ("small_instance_f1", small.f1),
      ] + wholeColumns, region)
  }

  private var instances: [ScoreTable.Value] {
    [
      ("all_instance_tp", Double(tp)), ("all_instance_fp", Double(fp)), ("all_instance_fn", Double(fn)),
      ("all_instance_prec", precision), ("all_instance_rec", recall), ("all_instance_f1", f1),
    ]
  }

  private var wholeColumns: [ScoreTable.Value] {
    [
      ("global_dsc", whole.dsc), ("global_nsd", whole.nsd),
      ("global_hd95", wholeHD95Voxels.isInfinite ? InstanceScores.penalty : wholeHD95Voxels),
    ]
  }

  private func lesionColumns(_ metric: String, _ spread: LesionSpread) -> [ScoreTable.Value] {
    [("lesionwise_\(metric)_mean", spread.mean), ("lesionwise_\(metric)_std", spread.sd)]
  }

  private func named(_ columns: [ScoreTable.Value], _ region: String) -> [ScoreTable.Value] {
    columns.map { ("\($0.name)_\(region.lowercased())", $0.value) }
  }
}
