/// A number that a method's steps tell beside their loss.
package struct Term: Hashable, Sendable {
  /// What a number is a measure of: who shows it chooses the chart by it.
  package enum Kind: Sendable {
    /// A part of a loss, or a loss of its own.
    case loss
    /// The share of judgements that are right, from 0 to 1.
    case accuracy
    /// The share of steps in which something was done, from 0 to 1.
    case share
    /// How far two networks' features are apart.
    case distance
  }

  /// In histories and JSON.
  package let name: String
  package let kind: Kind
  /// "nat" for cross-entropies, else "1".
  package let unit: String
  /// In a message to a person.
  let spoken: String
  /// Beside its curve.
  package let label: String

  /// `spoken` and `label` follow from the name where they are nil.
  package init(_ name: String, _ kind: Kind, unit: String = "1", spoken: String? = nil, label: String? = nil)
  {
    self.name = name
    self.kind = kind
    self.unit = unit
    self.spoken = spoken ?? name
    self.label = label ?? name.replacing("_", with: "-")
  }
}

/// The loss and the terms of a case, or their means over the cases of a step.
package struct StepValues: Equatable, Sendable {
  package let terms: [Term]
  package private(set) var loss: Double
  private var numbers: [Double]

  /// Terms that are not known yet are 0.
  package init(_ terms: [Term], loss: Double, _ known: [Term: Double]) {
    self.terms = terms
    self.loss = loss
    numbers = terms.map { known[$0] ?? 0 }
    assert(known.keys.allSatisfy(terms.contains), "\(known)")
  }

  /// The loss, then the terms in their order.
  package init(_ terms: [Term], all: [Double]) {
    precondition(all.count == 1 + terms.count, "\(all.count) numbers of \(terms.count) terms")
    self.terms = terms
    loss = all[0]
    numbers = Array(all[1...])
  }

  /// The loss, then the terms in their order.
  package var all: [Double] { [loss] + numbers }

  /// `term` must be one of the method's.
  package subscript(term: Term) -> Double {
    get { numbers[index(term)] }
    set { numbers[index(term)] = newValue }
  }

  private func index(_ term: Term) -> Int {
    guard let index = terms.firstIndex(of: term) else {
      preconditionFailure("\(term.name) is no term of this method")
    }
    return index
  }
}
