import Foundation

/// What SciPy, statsmodels and a second program of the bootstrap give; the file says which versions.
struct StatisticsGolden: Decodable {
  struct SignedRank: Decodable {
    let differences: [Double]
    let statistic, p: Double
  }
  struct Holm: Decodable { let p, adjusted: [Double] }
  struct Bootstrap: Decodable {
    let values: [Double]
    let lower, upper: Double
  }

  let signedRank: [String: SignedRank]
  let holm: [Holm]
  let bootstrap: [Bootstrap]

  static func load() throws -> StatisticsGolden {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    let file = URL(fileURLWithPath: #filePath)
      .appending(path: "../../Fixtures/statistics/expected.json").standardized
    return try decoder.decode(StatisticsGolden.self, from: Data(contentsOf: file))
  }
}
