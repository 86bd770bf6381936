import Glibc

/// Runs `body` on a thread of its own; false where there is none to be had, of which Foundation would say nothing.
package func detachThread(_ body: @escaping @Sendable () -> Void) -> Bool {
  final class Body: Sendable {
    let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
  }
  // The object's one reference goes to the thread, which gives it back; or comes back here where there is no thread.
  let box = unsafe Unmanaged.passRetained(Body(body))
  var thread = pthread_t()
  let code = unsafe pthread_create(
    &thread, nil,
    { raw in
      // What pthread_create was given.
      unsafe Unmanaged<Body>.fromOpaque(raw!).takeRetainedValue().body()
      return nil
    }, box.toOpaque())
  guard code == 0 else {
    unsafe box.release()
    return false
  }
  pthread_detach(thread)
  return true
}
