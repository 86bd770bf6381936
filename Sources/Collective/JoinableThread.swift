import Glibc

/// A thread that runs one closure, and can be waited for.
struct JoinableThread: Sendable {
  private let id: pthread_t

  /// Starts it; throws where the system has no more threads.
  init(_ body: @escaping @Sendable () -> Void) throws(MPIError) {
    final class Body: Sendable {
      let body: @Sendable () -> Void
      init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }
    // Retained here, and released once: by the thread, or here if there is none.
    let box = unsafe Unmanaged.passRetained(Body(body))
    var id = pthread_self()
    // `id` is only written, and the box is the thread's from now on.
    let code = unsafe pthread_create(
      &id, nil,
      { raw in
        // What pthread_create was given below.
        unsafe Unmanaged<Body>.fromOpaque(raw!).takeRetainedValue().body()
        return nil
      }, box.toOpaque())
    guard code == 0 else {
      // No thread has it.
      unsafe box.release()
      throw MPIError(
        "no thread for communication is to be had (\(systemText(code))): raise the limit of processes "
          + "(ulimit -u) or of memory (ulimit -v, the job's memory)")
    }
    self.id = id
  }

  /// Whether it is the one that asks.
  var isCurrent: Bool { pthread_equal(id, pthread_self()) != 0 }

  /// Waits for its end, once.
  func join() {
    pthread_join(id, nil)
  }
}

/// The system's text for an error number.
private func systemText(_ code: Int32) -> String {
  // A C string of the library's that stays until the thread's next call.
  unsafe String(cString: strerror(code))
}
