import Evaluation
import Networks

/// All methods. To add one, add its folder and its line here.
extension Method: CaseIterable {
  package static let allCases: [Method] = [
    .teacher, .student, .hadnet, .control, .adnet, .kdnet, .uhemis, .uhved,
  ]
}

extension Method {
  /// The method that the others are compared with.
  package static let subject = Method.hadnet

  /// What trained networks' files are called, each once.
  package static let networks = allCases.reduce(into: [String]()) { known, method in
    if !known.contains(method.network) { known.append(method.network) }
  }

  /// For help: each with what it begins with.
  package static var help: String {
    allCases.map { method in
      let needs = method.needs.map(\.key).joined(separator: " and ")
      return method.key + (needs.isEmpty ? "" : " (starts from \(needs) of the same run)")
    }.joined(separator: ", ")
  }
}

extension TableColumns {
  /// The paper's columns, then the others.
  package static let methods = TableColumns(
    order: (Method.allCases.filter { $0.remark == nil } + Method.allCases.filter { $0.remark != nil }).map(
      \.title),
    subject: Method.subject.title,
    informed: Set(
      Method.allCases.filter { $0.inputs == .all && Method.subject.inputs == .present }.map(\.title)),
    remarks: Method.allCases.compactMap { method in method.remark.map { (method.title, $0) } })
}
