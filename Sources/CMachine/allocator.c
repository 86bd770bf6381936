// glibc's allocator with a word for the case that it has nothing to give. The language's runtime would end the program
// without one a person understands, and OpenBLAS would ask again for ever.
#include "CMachine.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

static _Atomic(void (*)(size_t)) handler;
static _Atomic(void *) reserve;
static atomic_flag isTelling = ATOMIC_FLAG_INIT;

// The sanitizers have an allocator of their own.
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define FOREIGN_ALLOCATOR
#endif
#endif

#ifdef FOREIGN_ALLOCATOR
void cmachine_on_lack(void (*lack)(size_t)) {}
#else

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

void cmachine_on_lack(void (*lack)(size_t)) {
  // Small enough to come from the heap, where what is freed can be taken again in pieces.
  reserve = __libc_malloc(1 << 18);
  handler = lack;
}

// Gives `memory` back, or does not return.
static void *checked(void *memory, size_t bytes) {
  void (*lack)(size_t) = handler;
  if (memory || !lack || bytes == 0) return memory;
  if (!atomic_flag_test_and_set(&isTelling)) {
    free(atomic_exchange(&reserve, NULL));
    lack(bytes);
  } else {
    // By another thread, or while it is told: a moment for that.
    usleep(500000);
  }
  static const char text[] = "out of memory\n";
  if (write(STDERR_FILENO, text, sizeof text - 1) < 0) _exit(1);
  _exit(1);
}

void *malloc(size_t bytes) { return checked(__libc_malloc(bytes), bytes); }

void *calloc(size_t count, size_t bytes) {
  size_t all = 0;
  if (__builtin_mul_overflow(count, bytes, &all)) all = (size_t)-1;
  return checked(__libc_calloc(count, bytes), all);
}

void *realloc(void *old, size_t bytes) { return checked(__libc_realloc(old, bytes), bytes); }

int posix_memalign(void **memory, size_t alignment, size_t bytes) {
  if (alignment == 0 || alignment % sizeof(void *) != 0 || (alignment & (alignment - 1)) != 0) return EINVAL;
  void *found = checked(__libc_memalign(alignment, bytes), bytes);
  if (!found && bytes > 0) return ENOMEM;
  *memory = found;
  return 0;
}
#endif
