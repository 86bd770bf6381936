import Foundation

/// The golden files' folder.
let parityFolder = URL(fileURLWithPath: #filePath).appending(path: "../../Fixtures/parity").standardized
  .path
