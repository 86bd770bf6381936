// cblas, and the things about a CPU and its memory that Swift has no word for.
#pragma once
#include <cblas.h>
#include <stdlib.h>
#include <sys/mman.h>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

// Asks for the cache line at an address that will soon be read; harmless for any address.
static inline void cblas_prefetch(const void *address) { __builtin_prefetch(address); }

// Memory of so many bytes and more goes back to the system when it is freed.
static inline void cblas_return_memory(int bytes) {
#if defined(__GLIBC__)
  mallopt(M_MMAP_THRESHOLD, bytes);
#endif
}

// Whether the CPU has the instructions that x86-64-v3 code uses. Of its features only these are asked for: older
// libraries of compilers do not know the others, and no CPU has these without them.
static inline int cblas_cpu_runs_v3(void) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
         __builtin_cpu_supports("bmi2");
#else
  return 1;
#endif
}

// Whether the CPU has what OpenBLAS's kernels for SkylakeX use.
static inline int cblas_cpu_runs_skylakex(void) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512cd") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#else
  return 0;
#endif
}

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
