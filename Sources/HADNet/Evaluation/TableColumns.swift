/// The methods of a table by their names in it: in which order they stand, and which of them it is about.
package struct TableColumns: Sendable {
  /// From left to right; a method that is not named follows, as it came.
  package let order: [String]
  /// The one that is compared with each other one, and whose cells have stars.
  package let subject: String
  /// Those that see what the subject does not: they take no part in its stars.
  let informed: Set<String>
  /// What those see, in words.
  package var unseen = "T1ce"
  /// What is said below a table that has the method.
  let remarks: [(method: String, text: String)]

  package init(
    order: [String], subject: String, informed: Set<String>, remarks: [(method: String, text: String)]
  ) {
    self.order = order
    self.subject = subject
    self.informed = informed
    self.remarks = remarks
  }

  /// Those of the columns' order first and in it, the others behind them as they came.
  package func arranged<T>(_ items: [T], by method: (T) -> String) -> [T] {
    order.compactMap { name in items.first { method($0) == name } }
      + items.filter { !order.contains(method($0)) }
  }

  /// The remarks on those methods, each with a space in front.
  func remarks(on methods: [String]) -> String {
    remarks.filter { methods.contains($0.method) }.map { " \($0.method): \($0.text)." }.joined()
  }
}
