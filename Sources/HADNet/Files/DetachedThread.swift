import Glibc

/// Runs `body` on a thread of its own; false where there is none to be had, of which Foundation would say nothing.
package func detachThread(_ body: @escaping @Sendable () -> Void) -> Bool {
  final class Body: Sendable {
    let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
  }
  let box = Unmanaged.passRetained(Body(body))
  var thread = pthread_t()
  let code = pthread_create(
    &thread, nil,
    { raw in
      // What pthread_create was given.
      Unmanaged<Body>.fromOpaque(raw!).takeRetainedValue().body()
      return nil
    }, box.toOpaque())
  guard code == 0 else {
    box.release()
    return false
  }
  pthread_detach(thread)
  return true
}
