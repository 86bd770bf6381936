/// An MRI sequence, in the order of the networks' channels.
public enum Modality: String, CaseIterable, Codable, CodingKeyRepresentable, Sendable {
  case flair, t1ce, t1, t2

  /// What is there without contrast agent, and all that a student sees: FLAIR, T1, T2.
  public static let student: [Modality] = [.flair, .t1, .t2]

  /// The channel of `PreparedCase.images` that holds this sequence: 0 FLAIR, 1 T1ce, 2 T1, 3 T2.
  public var channel: Int {
    switch self {
    case .flair: 0
    case .t1ce: 1
    case .t1: 2
    case .t2: 3
    }
  }

  /// The sequences that one step of training sees, in channel order; the others are dropped: a number of them
  /// uniform in 1...4, then that many at random without replacement. Each is there in 62.5 % of the steps.
  ///
  /// Source: U-HVED's application.py, `set_iteration_update`.
  public static func present(random: inout Philox) -> [Modality] {
    let count = 1 + random.below(allCases.count)
    return random.permutation(allCases.count).prefix(count).sorted().map { allCases[$0] }
  }
}

/// Which value stands for enhancing tumour in a data set's label files: 4 up to BraTS 2021, 3 from 2023 on.
/// 0 background, 1 NET and 2 ED are common to all.
public enum LabelConvention: String, Codable, Sendable {
  case brats2019, brats2023

  /// The convention that a case's name tells: names from `BraTS-` on (BraTS-GLI-00000-000) are those of 2023.
  public init(caseName: String) { self = caseName.hasPrefix("BraTS-") ? .brats2023 : .brats2019 }

  /// The file value of enhancing tumour (class 3).
  public var enhancing: UInt8 { self == .brats2019 ? 4 : 3 }

  /// The file's value of a class index in 0...3.
  public func value(of classIndex: UInt8) -> UInt8 { classIndex == 3 ? enhancing : classIndex }

  /// `0, 1, 2 and 4`, for messages.
  var values: String { "0, 1, 2 and \(enhancing)" }
}
