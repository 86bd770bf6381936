import Foundation
import Testing

@testable import HADNet

@Suite struct DataPhantomTests {
  @Test func look() throws {
    guard let out = ProcessInfo.processInfo.environment["PHANTOM_LOOK"] else { return }
    let t = Date()
    try Phantom.write(to: out + "/small", cases: 40, shape: Size(48, 48, 48), seed: 1, layout: .brats2019)
    print("small", Date().timeIntervalSince(t))
    let u = Date()
    try Phantom.write(to: out + "/large", cases: 2, shape: Size(155, 240, 240), seed: 1, layout: .brats2019)
    print("large", Date().timeIntervalSince(u))
  }
}
