import Files

/// What a split holds, for a person: cases, patients and grades of each set, and what lies outside or in two of them.
package struct SplitTable: Equatable, Sendable {
  /// A set of the split in numbers.
  package struct Row: Equatable, Sendable {
    /// `training`, `validation`, `test`.
    package let name: String
    package let cases, patients, highGrade, lowGrade: Int
    /// How many cases have each of the table's regions; empty where that is not known.
    package let present: [Int]

    /// `HGG 155, LGG 45`; `no grades known` where there are none.
    package var grades: String {
      let unknown = cases - highGrade - lowGrade
      if cases > 0, unknown == cases { return "no grades known" }
      return "HGG \(highGrade), LGG \(lowGrade)" + (unknown > 0 ? ", unknown \(unknown)" : "")
    }
  }

  /// Training, validation, test.
  package let rows: [Row]
  /// Cases that are in no set.
  package let leftOut: Int
  /// What is counted in each set, in order; empty where it is not known.
  package let regions: [String]
  /// Patients with cases in two sets, in words; none, unless that was asked for.
  package let leaks: [String]

  /// `cases`: all of the data set, in any order. `regions`: names, and the cases that have voxels of them.
  package init(
    _ split: Split, of cases: some Sequence<(id: String, patient: String, grade: Grade?)>,
    regions: [(name: String, cases: Set<String>)] = []
  ) {
    self.regions = regions.map(\.name)
    var known: [String: (patient: String, grade: Grade?)] = [:]
    for one in cases { known[one.id] = (one.patient, one.grade) }
    rows = zip(split.sets, ["training", "validation", "test"]).map { set, name in
      Row(
        name: name, cases: set.ids.count,
        patients: Set(set.ids.map { known[$0]?.patient ?? $0 }).count,
        highGrade: set.ids.count { known[$0]?.grade == .hgg },
        lowGrade: set.ids.count { known[$0]?.grade == .lgg },
        present: regions.map { region in set.ids.count { region.cases.contains($0) } })
    }
    leftOut = known.count - rows.reduce(0) { $0 + $1.cases }
    leaks = split.leaks(patients: known.mapValues(\.patient))
  }

  /// The same of the files of a data set.
  package init(_ split: Split, of cases: [CaseFiles], regions: [(name: String, cases: Set<String>)] = []) {
    self.init(split, of: cases.lazy.map { ($0.id, $0.patient, $0.grade) }, regions: regions)
  }

  /// The regions of a task with the cases that have voxels of them, as far as their truths were counted.
  package static func regions(
    of task: SegmentationTask, _ surveys: [CaseSurvey]
  ) -> [(name: String, cases: Set<String>)] {
    let counted = surveys.filter { $0.classVoxels?.count == task.classCount }
    if counted.isEmpty { return [] }
    return task.regions.map { region in
      let own = counted.filter { survey in
        region.classes.contains { survey.classVoxels?[Int($0)] ?? 0 > 0 }
      }
      return (region.name, Set(own.map(\.id)))
    }
  }

  /// A line a set, and what else a person should know.
  package var lines: [String] {
    var lines = rows.map { row in
      "\(row.name): \(row.cases.named("case")) of \(row.patients.named("patient"))"
        + (row.cases == 0 ? "" : ", \(row.grades)\(present(row).map { "; with \($0)" } ?? "")")
    }
    if leftOut > 0 { lines.append("in no set: \(leftOut.named("case"))") }
    return lines
  }

  /// `WT 8, TC 8, ET 5`: how many of a set's cases have each region; nil where that is not known.
  package func present(_ row: Row) -> String? {
    regions.isEmpty ? nil : zip(regions, row.present).map { "\($0) \($1)" }.joined(separator: ", ")
  }

  /// What is said aloud of patients in two sets; nil where there are none.
  package var leak: String? {
    leaks.first.map {
      "\($0)\(leaks.count > 1 ? " (and \((leaks.count - 1).named("more patient")))" : ""): scores are too good where a "
        + "network has seen the patient (data.allow_leak is set)"
    }
  }
}

extension Split {
  /// Patients with cases in two sets, in words, in their order.
  func leaks(patients: [String: String]) -> [String] {
    var first: [String: (set: String, id: String)] = [:]
    var found: [String: String] = [:]
    for (name, ids) in sets {
      for id in ids {
        let patient = patients[id] ?? id
        guard let other = first[patient] else {
          first[patient] = (name, id)
          continue
        }
        if other.set != name, found[patient] == nil {
          found[patient] =
            "patient \(patient) is in two sets: \(other.id) in \(other.set), \(id) in \(name)"
        }
      }
    }
    return found.keys.sorted().compactMap { found[$0] }
  }

  /// Refuses a split that parts a patient; `file` is where it was read from.
  package func refuseLeaks(of cases: [CaseFiles], file: String) throws(Fault) {
    let leaks = leaks(patients: Dictionary(cases.map { ($0.id, $0.patient) }) { first, _ in first })
    guard let first = leaks.first else { return }
    throw Fault(
      .invalid,
      "\(file): \(first)\(leaks.count > 1 ? " (and \((leaks.count - 1).named("more patient")))" : "");\n"
        + "keep a patient's cases in one set, or set data.allow_leak: true")
  }
}
