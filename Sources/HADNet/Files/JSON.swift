/// A number as JSON: the shortest digits that read back as the same; what JSON has no number for is null.
package func jsonNumber(_ value: Double) -> String { value.isFinite ? "\(value)" : "null" }
