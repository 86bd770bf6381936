// cblas, and the memory that OpenBLAS works in.
#pragma once
#include <cblas.h>
#include <sys/mman.h>

// OpenBLAS's own door to the buffers that its products work in; not every build shows it.
extern void *blas_memory_alloc(int) __attribute__((weak));
extern void blas_memory_free(void *) __attribute__((weak));

// Bytes of address space that OpenBLAS takes for each thread that multiplies at the same time: what its builds for
// x86-64 take, as those for others do or less.
static inline long cblas_buffer_bytes(void) { return 128l << 20; }

// Lets OpenBLAS take the buffers of so many threads, which it keeps; 0 where there is no room for them. OpenBLAS itself
// would ask again and again, for ever.
static inline int cblas_take_buffers(int threads, long bytes_of_a_thread) {
  void *room = mmap(0, threads * bytes_of_a_thread, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (room == MAP_FAILED) return 0;
  munmap(room, threads * bytes_of_a_thread);
  if (!blas_memory_alloc || !blas_memory_free) return 1;
  // It has places for twice as many as the cores it was built for, 64 or more.
  void *taken[32];
  int count = threads < 32 ? threads : 32;
  for (int i = 0; i < count; i++) taken[i] = blas_memory_alloc(0);
  for (int i = 0; i < count; i++) blas_memory_free(taken[i]);
  return 1;
}
